"""The front page with an application of one's own: it names it, and offers what works with any application."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from handle import ROOT, wait_until
from stack import Stack
from test_page import count, figure, lanes

SHOP = """
PAGE = b"<!doctype html><title>Fruit &amp; <b>Veg</title>"
HEADERS = [("Content-Type", "text/html; charset=utf-8")]

def wsgi(environ, start_response):
    start_response("200 OK" if environ["PATH_INFO"] == "/" else "404 Not Found", HEADERS)
    return [PAGE]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    status = 200 if scope["path"] == scope["root_path"] + "/" else 404
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})
"""


@pytest.fixture
def page(any_stack: Stack, copy: Path, browser: Browser, service: str) -> Iterator[Page]:
    """The page of a stack whose one service has an application of one's own, and the other the demonstration."""
    any_stack.down()
    (copy / ".venv").symlink_to(ROOT / ".venv")
    (copy / f"{service}_service/shop.py").write_text(SHOP)
    settings = os.environ | {f"{service.upper()}_APP": f"shop:{service}"}
    try:
        subprocess.run(any_stack.up_command, cwd=copy, env=settings, check=True, capture_output=True)
        page = browser.new_page(base_url=any_stack.url)
        page.goto("/")
        yield page
        page.close()
    finally:
        subprocess.run(["./scripts/down"], cwd=copy, check=True, capture_output=True)


def test_an_application_of_ones_own_is_named_and_gets_what_works_with_any(page: Page, service: str) -> None:
    (other,) = {"wsgi", "asgi"} - {service}
    introduced = page.locator(f'[data-application="{service}"]')
    expect(introduced).to_have_text(f"“Fruit & <b>Veg”, your application at /{service}/,")
    expect(page.locator(f'[data-application="{other}"]')).to_contain_text({"wsgi": "Flask", "asgi": "FastAPI"}[other])

    requests = f'article[data-requests="{service}"]'
    for name in (service, other):
        page.get_by_role("button", name=f"Send requests to {name.upper()}").click()
    wait_until(lambda: lanes(page, service).get("200 OK", 0) > 5, "its front page is answered")
    page.get_by_label(f"Path of the requests to {service.upper()}").fill("nothing")
    wait_until(lambda: lanes(page, service).get("404 Not Found", 0) > 5, "the path is asked for")
    assert figure(page, requests, "failed") == "0"
    wait_until(lambda: len(lanes(page, other)) == 3, "the demonstration has a lane for each replica")

    page.locator("#wait button").click()
    wait_until(lambda: count(page, f'article[data-waiting="{other}"]', "answered") == 36, "the demonstration waits")
    assert [text for text in page.locator(".bad").all_inner_texts() if text] == []
    paths = page.locator("a:visible, code:visible, [data-path]:visible").evaluate_all(
        "all => all.map(one => one.dataset.path ?? one.getAttribute('href') ?? one.textContent)"
    )
    assert [path for path in paths if path.startswith(f"/{service}/")] == [f"/{service}/"]
    assert f"/{other}/work?rounds=100000" in paths
