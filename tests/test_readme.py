"""The README and the documentation: their steps work, and what they point to is there."""

import re
import subprocess
from pathlib import Path

import httpx
import pytest

from stack import ROOT, Stack

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOP = """
from slugify import slugify

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [slugify("Fresh Fruit").encode()]
"""


def steps() -> list[str]:
    """Return the steps of `Put your own application in`."""
    section = (ROOT / "README.md").read_text().split("\n## Put your own application in\n")[1].strip().split("\n\n")[0]
    return re.findall(r"^\d\. ((?:.|\n   )*)", section, re.MULTILINE)


@pytest.mark.full
def test_its_steps_put_another_application_in(any_stack: Stack, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    any_stack.down()
    for variable in ("WSGI_APP", "ASGI_APP"):
        monkeypatch.delenv(variable, raising=False)  # the tests' own stack says: the demonstration
    first, second, third = steps()
    assert "beside `wsgi_service/app.py`" in first
    (copy / "wsgi_service/shop").mkdir()
    (copy / "wsgi_service/shop/wsgi.py").write_text(SHOP)
    assert "`requirements.in`" in first
    with (copy / "wsgi_service/requirements.in").open("a") as requirements:
        requirements.write("python-slugify\n")
    follow(copy, first)
    assert "in `.env`" in second
    (copy / ".env").write_text(re.findall(r"`(WSGI_APP=\S+)`", second)[0] + "\n")
    try:
        follow(copy, third, *any_stack.up_command[1:])
        assert httpx.get(f"{any_stack.url}/wsgi/").text == "fresh-fruit"
        assert httpx.get(f"{any_stack.url}/asgi/json").json() == {"message": "Hello, World!"}
    finally:
        subprocess.run(["./scripts/down"], cwd=copy, check=True, capture_output=True)


def follow(copy: Path, step: str, *arguments: str) -> None:
    """Run the first command that a step names."""
    command = re.findall(r"`(\./scripts/[^`]*)`", step)[0].split()
    subprocess.run([*command, *arguments], cwd=copy, check=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith(("https://", "http://")) or (page.parent / target).exists(), target
    tests = "".join(file.read_text() for file in (ROOT / "tests").glob("*.py"))
    for name in re.findall(r"`(test_\w+)(?:\.\.\.)?`", text):
        assert f"def {name}" in tests, name
    folders = "haproxy|wsgi_service|asgi_service|loadtests|scripts|tests|examples|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./]+)`", text):
        assert path.endswith(".env") or (ROOT / path).exists(), path  # which each user makes
