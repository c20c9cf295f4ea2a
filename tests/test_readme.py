"""The README and the docs: their steps work, and their links and paths exist."""

import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from handle import ROOT, SERVICES, run
from stack import Stack
from test_contract import assert_problem

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOP = {
    "wsgi": """
from slugify import slugify

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [slugify("Fresh Fruit").encode()]
""",
    "asgi": """
from slugify import slugify

async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": slugify("Fresh Fruit").encode()})
""",
}

PEEK = """
import json, os, time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(3)
    start_response("200 OK", [("Content-Type", "application/json")])
    routes = [line.split()[1] for line in open("/proc/net/route")]
    told = {"secret": os.environ.get("SECRET"), "way out": "00000000" in routes, "scheme": environ["wsgi.url_scheme"]}
    return [json.dumps(told).encode()]
"""


def steps() -> list[str]:
    """Return the steps of `Put your own application in`."""
    section = (ROOT / "README.md").read_text().split("\n## Put your own application in\n")[1].strip().split("\n\n")[0]
    return re.findall(r"^\d\. ((?:.|\n   )*)", section, re.MULTILINE)


def test_it_is_short_and_begins_with_what_to_run() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.strip().startswith("./scripts/up") for line in lines[:15])


@pytest.mark.full
def test_its_steps_put_another_application_in(
    any_stack: Stack, copy: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    any_stack.down()
    for variable in ("WSGI_APP", "WSGI_AT", "ASGI_APP", "ASGI_AT"):
        monkeypatch.delenv(variable, raising=False)  # the tests' own stack sets them to the demonstration
    first, second, third = steps()
    assert "beside `wsgi_service/app.py` or `asgi_service/app.py`" in first
    (copy / f"{service}_service/shop").mkdir()
    (copy / f"{service}_service/shop/{service}.py").write_text(SHOP[service])
    assert "`requirements.in`" in first
    with (copy / f"{service}_service/requirements.in").open("a") as requirements:
        requirements.write("python-slugify\n")
    follow(copy, first)
    assert second.startswith("In `.env`")
    assert "(`ASGI_APP` and `ASGI_AT` for ASGI)" in second
    lines = [line.replace("WSGI", service.upper()) for line in re.findall(r"`(WSGI_\S+=\S+)`", second)]
    (copy / ".env").write_text("\n".join(lines).replace("shop.wsgi", f"shop.{service}"))
    try:
        follow(copy, third, *any_stack.up_command[1:])
        assert httpx.get(f"{any_stack.url}/").text == "fresh-fruit"
        (other,) = set(SERVICES) - {service}
        assert httpx.get(f"{any_stack.url}/{other}/json").json() == {"message": "Hello, World!"}
    finally:
        subprocess.run(["./scripts/down"], cwd=copy, check=True, capture_output=True)


def follow(copy: Path, step: str, *arguments: str) -> None:
    """Run the first command that a step names."""
    command = re.findall(r"`(\./scripts/[^`]*)`", step)[0].split()
    subprocess.run([*command, *arguments], cwd=copy, check=True, stdin=subprocess.DEVNULL)


def change(file: Path, before: str, after: str) -> None:
    """Replace text that occurs once."""
    text = file.read_text()
    assert text.count(before) == 1, before
    file.write_text(text.replace(before, after))


@pytest.mark.compose
@pytest.mark.full
def test_secrets_the_way_out_tls_and_the_limit_of_time_are_as_it_says(
    any_stack: Stack, copy: Path, tmp_path: Path
) -> None:
    any_stack.down()
    (copy / "wsgi_service/peek.py").write_text(PEEK)
    (copy / "wsgi_service/.env").write_text("SECRET='a$b'\n")
    change(copy / "compose.yaml", "[backend]  # add `outside` for", "[backend, outside]  # add `outside` for")
    key, certificate, both = tmp_path / "key", tmp_path / "certificate", copy / "haproxy/both.pem"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost"
    run(*request.split(), "-keyout", str(key), "-out", str(certificate))
    both.write_text(key.read_text() + certificate.read_text())
    config = copy / "haproxy/haproxy.cfg"
    change(
        config,
        'bind "${HTTP_BIND-:8080}"',
        'bind "${HTTP_BIND-:8080}" ssl crt /usr/local/etc/haproxy/both.pem alpn http/1.1',
    )
    change(config, "timeout server          30s", "timeout server          1s")
    try:
        settings = os.environ | {"WSGI_APP": "peek:application"}
        subprocess.run(["./scripts/up"], cwd=copy, env=settings, check=True, capture_output=True)
        with httpx.Client(base_url=any_stack.url.replace("http", "https"), verify=False, timeout=30) as client:
            assert client.get("/wsgi/").json() == {"secret": "a$b", "way out": True, "scheme": "https"}
            assert client.get("/asgi/whoami").json()["url"].startswith("https://")
            assert_problem(client.get("/wsgi/slow"), 504)
        assert ".env" not in run("docker", "compose", "exec", "wsgi", "ls", "-A", "/srv").stdout.split()
    finally:
        subprocess.run(["./scripts/down"], cwd=copy, check=True, capture_output=True)


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
        assert path.endswith(".env") or (ROOT / path).exists(), path  # each user creates these


def test_no_command_that_is_offered_ends_the_stack_on_ctrl_c() -> None:
    """Without --detach or --wait, `docker compose up` keeps the terminal, and Ctrl-C there stops all containers."""
    files = run("git", "ls-files", "--", "*.md", "*.yaml", "*.html", ":!docs/load-tests/report.html").stdout.split()
    offered = [
        command
        for file in files
        for command in re.findall(r"docker compose(?: --profile \w+)? up\b[^`<;#\n]*", (ROOT / file).read_text())
    ]
    assert len(offered) >= 5
    named = "docker compose up"  # in a sentence about it
    assert not [one for one in offered if one != named and not re.search(r" (-d|--detach|--wait)\b", one)]
