"""./scripts/soak: that it runs, and its judgement: what has grown, and what has only settled."""

import pytest

from soak import growth
from stack import Stack, run
from ways import ComposeStack


@pytest.mark.full
def test_a_minute_of_it_is_told_process_by_process(any_stack: Stack) -> None:
    any_stack.down()
    way = () if isinstance(any_stack, ComposeStack) else ("--local",)
    done = run("./scripts/soak", "--minutes", "1", *way, check=False)
    assert done.returncode in (0, 1), done.stderr  # what has grown in so short a time may only be settling
    assert "or 404 where that was asked for: {}" in done.stdout
    for process in ("haproxy", "gunicorn", "python"):
        assert process in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("what", "values", "grows"),
    [
        ("memory", [30_000 + 200 * n for n in range(120)], True),
        ("memory", [30_000 + 20_000 * (n > 30) for n in range(120)], False),  # a step while it warms up
        ("memory", [21_000 + 5_000 * (n > 70) for n in range(120)], False),  # and one later: a burst's buffers
        ("memory", [21_000 + 5_000 * (n > 90) for n in range(120)], False),
        ("memory", [30_000 + 900 * (n % 7) for n in range(120)], False),
        ("descriptors", [40 + n // 3 for n in range(120)], True),
        ("descriptors", [40 + n % 6 for n in range(120)], False),
        ("threads", [12 + n // 10 for n in range(120)], True),
        ("threads", [12] * 120, False),
        ("threads", [12] * 20, False),
    ],
)
def test_what_grows_is_told_from_what_settles(what: str, values: list[int], grows: bool) -> None:
    samples = {("wsgi-1", "memory"): [1000] * 120, ("asgi-1", what): values}
    assert bool(growth(samples)) == grows
    assert set(growth(samples)) <= {("asgi-1", what)}
