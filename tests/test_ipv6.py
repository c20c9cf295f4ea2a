"""addons/ipv6: IPv6 beside IPv4."""

import httpx
import pytest

from handle import run, wait_until
from secure import PORT
from stack import Stack
from ways import LocalStack

BOTH = {"COMPOSE_FILE": "compose.yaml:addons/https/compose.yaml:addons/ipv6/compose.yaml", "BIND_IPV6": "::1"}


@pytest.fixture(scope="module")
def both(any_stack: Stack, certificate: tuple[str, ...]) -> Stack:
    """The stack with HTTPS on both families."""
    run(*certificate, "--development")
    any_stack.ensure(**BOTH, HTTPS_PORT=str(PORT))
    return any_stack


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_http_and_https_are_served_on_both(both: Stack, service: str, host: str) -> None:
    secure = f"https://{host}:{PORT}/{service}/json"
    answer = httpx.get(f"http://{host}:{httpx.URL(both.url).port}/{service}/json")
    assert (answer.status_code, answer.headers["location"]) == (308, secure)
    identity = httpx.get(secure).raise_for_status().headers["x-request-id"]
    (line,) = wait_until(
        lambda: [line for line in both.access_log() if line["request_id"] == identity], "the request is logged"
    )
    if isinstance(both, LocalStack):  # in containers, clients on this machine come from Docker's gateway
        assert line["client"] == host.strip("[]")


def test_an_address_that_is_none_is_named(any_stack: Stack) -> None:
    for wrong in ("", "[::]", "0.0.0.0", "localhost"):
        ended = run(*any_stack.up_command, env=BOTH | {"BIND_IPV6": wrong}, check=False)
        assert ended.returncode == 2
        assert f"BIND_IPV6 must be IPv6 address, not '{wrong}'" in ended.stderr.splitlines()[-1]
