"""A third service is a copy: docs/another-service.md is followed to the letter, and the service is like the others."""

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from handle import ROOT, wait_until
from load import Load
from stack import Stack

pytestmark = pytest.mark.full

APPLICATION = """
from fastapi import FastAPI, WebSocket
from slugify import slugify

app = FastAPI()


@app.get("/")
def report() -> dict[str, str]:
    return {"title": slugify("Annual Report")}


@app.websocket("/ws")
async def websocket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
"""


def steps() -> list[str]:
    """Return the numbered steps of the page."""
    text = (ROOT / "docs/another-service.md").read_text()
    return [textwrap.dedent(step) for step in re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]]


def blocks(step: str, language: str) -> list[str]:
    """Return the code blocks of a step."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", step, re.MULTILINE | re.DOTALL)


def call(folder: Path, *command: str, text: str | None = None) -> str:
    """Run a command in the folder; a failure shows what it printed."""
    done = subprocess.run(
        command, cwd=folder, input=text, capture_output=True, text=True, env=os.environ | {"REPORTS_REPLICAS": "3"}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def reports(any_stack: Stack, copy: Path) -> Iterator[Path]:
    """A copy of the repository with the third service, which is added to its running stack."""
    any_stack.down()
    if "--local" not in any_stack.up_command:  # local processes are not brought up to date: `up` refuses
        call(copy, *any_stack.up_command)
    folder, service, requests, start = steps()
    made, locked = (textwrap.dedent(block) for block in blocks(folder, "sh"))
    call(copy, "bash", "-ec", made)
    (copy / "reports_service/app.py").write_text(APPLICATION)
    with (copy / "reports_service/requirements.in").open("a") as requirements:
        requirements.write("python-slugify\n")
    call(copy, "bash", "-ec", locked)
    for step in (service, requests):
        (patch,) = blocks(step, "diff")
        call(copy, "git", "apply", "-", text=textwrap.dedent(patch))
    (commands,) = blocks(start, "sh")
    assert "./scripts/up\n" in commands
    try:
        said = call(copy, *any_stack.up_command)
        assert f"{any_stack.url}/reports/ " in said
        yield copy
    finally:
        call(copy, "./scripts/down")


def test_it_takes_its_places_and_no_more() -> None:
    _, service, requests, _ = steps()
    hunks = re.findall(r"^ *@@ ", service + requests, re.MULTILINE)
    assert 1 + len(hunks) <= 5  # with the folder
    page = (ROOT / "docs/another-service.md").read_text()
    assert len(page.splitlines()) <= 130


def test_a_third_service_answers_scales_rolls_and_drains(reports: Path, any_stack: Stack) -> None:
    assert httpx.get(f"{any_stack.url}/reports/").json() == {"title": "annual-report"}
    assert httpx.get(f"{any_stack.url}/reports").headers["location"] == "/reports/"
    assert httpx.get(f"{any_stack.url}/reports/livez").status_code == 404
    assert httpx.get(f"{any_stack.url}/asgi/json").json() == {"message": "Hello, World!"}
    wait_until(lambda: any_stack.up_servers("reports", "streams") == 3, "three replicas of the third service are up")
    if "--local" in any_stack.up_command:
        return
    with Load(f"{any_stack.url}/reports/") as load:
        call(reports, "docker", "compose", "up", "--detach", "--no-recreate", "--scale", "reports=5")
        wait_until(lambda: any_stack.up_servers("reports") == 5, "five replicas are up")
        said = call(reports, "./scripts/roll", "reports")
        assert "reports: 5 of 5" in said
    assert not load.failures, load.failures
    assert load.outcomes["200"] > 100
