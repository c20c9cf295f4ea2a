"""A service's .env: local processes read it as containers do, which Docker Compose gives it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from handle import ROOT
from stack import Stack
from test_scripts import assert_refused

FILE = r"""
# a comment
PLAIN=two words  # a comment
export EXPORTED = yes
HASH=value#1
DOUBLE="a b # c"  # a comment
SINGLE='pa$word ${PLAIN} $$'
MULTIPLE="first
second"
ESCAPES="tab\t\"quote\" a\$b"
LITERAL='tab\t'
REFERENCES=$PLAIN, ${PLAIN}, [${NOWHERE}], ${NOWHERE:-a default}
DOLLARS=a$$b costs 5$
JSON={"a": "b=c"}
EMPTY=
FROM_THE_SHELL=file
DRAIN_SECONDS=7
WSGI_APP=nothing:here
ASGI_APP=nothing:here
"""
READ = {
    "PLAIN": "two words",
    "EXPORTED": "yes",
    "HASH": "value#1",
    "DOUBLE": "a b # c",
    "SINGLE": "pa$word ${PLAIN} $$",
    "MULTIPLE": "first\nsecond",
    "ESCAPES": 'tab\t"quote" a$b',
    "LITERAL": r"tab\t",
    "REFERENCES": "two words, two words, [], a default",
    "DOLLARS": "a$b costs 5$",
    "JSON": '{"a": "b=c"}',
    "EMPTY": "",
    "FROM_THE_SHELL": "file",
    "DRAIN_SECONDS": "3",  # compose.yaml sets this one and the next, so the file does not
}
PEEK = """
import json, os

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(dict(os.environ)).encode()]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(dict(os.environ)).encode()})
"""


@pytest.fixture
def peeked(any_stack: Stack, copy: Path) -> Iterator[Stack]:
    """The stack from a copy, whose applications tell their environment."""
    any_stack.down()
    (copy / ".venv").symlink_to(ROOT / ".venv")
    for service in ("wsgi", "asgi"):
        (copy / f"{service}_service/peek.py").write_text(PEEK)
        (copy / f"{service}_service/.env").write_text(FILE)
    settings = {"WSGI_APP": "peek:wsgi", "ASGI_APP": "peek:asgi", "DRAIN_SECONDS": "3", "FROM_THE_SHELL": "shell"}
    try:
        subprocess.run(any_stack.up_command, cwd=copy, env=os.environ | settings, check=True, capture_output=True)
        yield any_stack
    finally:
        subprocess.run(["./scripts/down"], cwd=copy, check=True, capture_output=True)


def test_it_is_read_alike_in_both_ways_of_running(peeked: Stack) -> None:
    for service in ("wsgi", "asgi"):
        seen = httpx.get(f"{peeked.url}/{service}/").json()
        assert {name: seen.get(name) for name in READ} == READ
        assert seen[f"{service.upper()}_APP"] == f"peek:{service}"


def test_a_line_that_is_no_variable_is_refused_before_anything_is_started(any_stack: Stack, copy: Path) -> None:
    any_stack.down()
    (copy / ".venv").symlink_to(ROOT / ".venv")
    (copy / "wsgi_service/.env").write_text('GOOD=1\n\nBAD="not closed\n')
    done = subprocess.run(any_stack.up_command, cwd=copy, capture_output=True, text=True, check=False)
    assert_refused(done, "wsgi_service/.env", "line")
