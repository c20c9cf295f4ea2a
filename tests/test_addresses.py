"""Where the services are: at the root, at a path, or at a host's name."""

from typing import Any

import httpx
import pytest
import websockets.sync.client
from playwright.sync_api import Browser

from handle import run
from stack import Stack
from test_contract import assert_problem

PATHS = {"WSGI_AT": "/", "ASGI_AT": "/api/v2/", "PAGE_AT": "/stack/"}
NAMES = {"WSGI_AT": "shop.test/", "ASGI_AT": "shop.test/v2/", "PAGE_AT": "none", "HOSTS": "shop.test 127.0.0.1"}


@pytest.fixture(scope="module")
def at_paths(any_stack: Stack) -> Stack:
    """The stack with WSGI at the root and ASGI at a path below."""
    any_stack.ensure(**PATHS)
    return any_stack


@pytest.fixture(scope="module")
def at_names(any_stack: Stack) -> Stack:
    """The stack with both services at a host's name."""
    any_stack.ensure(**NAMES)
    return any_stack


def whoami(url: str, host: str = "") -> dict[str, Any]:
    """Return what the service there says of itself."""
    said: dict[str, Any] = httpx.get(f"{url}whoami", headers={"Host": host} if host else {}).json()
    return said


def test_the_longest_address_that_fits_gets_the_request(at_paths: Stack) -> None:
    assert whoami(f"{at_paths.url}/")["interface"] == "WSGI"
    assert whoami(f"{at_paths.url}/api/v2/")["interface"] == "ASGI"
    assert httpx.get(f"{at_paths.url}/stack/").headers["content-type"].startswith("text/html")
    assert httpx.get(f"{at_paths.url}/stack/status").json()["wsgi"]["up"] == 3
    # The root's application answers for all that only looks like an address of the others.
    for path in ("/api/v20/", "/api/v2x", "/api/", "/stackx", "/wsgi/whoami"):
        answer = httpx.get(at_paths.url + path)
        assert_problem(answer, 404)
        assert answer.headers["server"] == "gunicorn", path


def test_an_address_without_its_slash_is_redirected_to_it(at_paths: Stack) -> None:
    for path in ("/api/v2", "/stack"):
        answer = httpx.get(f"{at_paths.url}{path}?a=%26")
        assert (answer.status_code, answer.headers["location"]) == (308, f"{path}/?a=%26")


def test_urls_that_an_application_makes_are_where_it_is(at_paths: Stack) -> None:
    for address in ("/", "/api/v2/"):
        assert whoami(at_paths.url + address)["url"] == f"{at_paths.url}{address}whoami"
    assert "url: '/api/v2/openapi.json'" in httpx.get(f"{at_paths.url}/api/v2/docs").text


def test_health_paths_are_for_haproxy_alone_at_every_address(at_paths: Stack) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/%6Civez", "/api/v2/livez", "/api/v2/readyz/x"):
        assert_problem(httpx.get(at_paths.url + path), 404)
        assert httpx.get(at_paths.url + path).headers.get("server") is None, path


def test_streams_work_at_every_address(at_paths: Stack) -> None:
    for path in ("/events", "/api/v2/events"):
        with httpx.stream("GET", f"{at_paths.url}{path}?interval_ms=100") as answer:
            assert "data:" in next(chunk for chunk in answer.iter_text() if "data:" in chunk)
    with websockets.sync.client.connect(f"{at_paths.url.replace('http', 'ws')}/api/v2/ws") as socket:
        socket.send("hello")
        assert any("hello" in str(socket.recv(5)) for _ in range(3))


def test_the_front_page_works_where_it_is(at_paths: Stack, browser: Browser) -> None:
    page = browser.new_page()
    failures: list[str] = []
    page.on("requestfailed", lambda request: failures.append(request.url))
    page.on("response", lambda answer: failures.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{at_paths.url}/stack/")
    for service in ("wsgi", "asgi"):
        card = page.locator(f'[data-requests="{service}"]')
        card.locator("button").click()
        card.locator("tbody tr").nth(2).wait_for()  # a lane for each of three replicas
        card.locator("button").click()
    page.locator("#health", has_text="3 WSGI and 3 ASGI").wait_for()
    assert page.locator("#endpoints ~ .wide a").first.get_attribute("href") == "/whoami"
    page.close()
    assert not failures


def test_a_host_gets_what_is_at_its_name(at_names: Stack) -> None:
    for host in ("shop.test", "SHOP.test", "shop.test:8080"):
        assert whoami(f"{at_names.url}/", host)["interface"] == "WSGI"
        assert whoami(f"{at_names.url}/v2/", host)["interface"] == "ASGI"
        assert whoami(f"{at_names.url}/v2/", host)["url"] == f"http://{host}/v2/whoami"
    answer = httpx.get(f"{at_names.url}/v2", headers={"Host": "shop.test"})
    assert (answer.status_code, answer.headers["location"]) == (308, "/v2/")


def test_a_host_at_which_nothing_is_gets_404_and_an_unknown_one_421(at_names: Stack) -> None:
    for path in ("/", "/v2/whoami", "/status", "/page/page.css"):
        assert_problem(httpx.get(at_names.url + path), 404)
        for host in ("other.test", "shop.test.evil.test", "xshop.test", "shop.test.", "127.0.0.1.evil.test"):
            assert_problem(httpx.get(at_names.url + path, headers={"Host": host}), 421)


def test_one_application_alone_at_the_root(any_stack: Stack) -> None:
    any_stack.down()
    said = run(*any_stack.up_command, env=any_stack.defaults | {"WSGI_AT": "/", "ASGI_REPLICAS": "0"}).stdout
    any_stack.settings = {"WSGI_AT": "/", "ASGI_REPLICAS": "0"}
    assert f"{any_stack.url}/whoami" in said
    assert "the front page" not in said
    assert whoami(f"{any_stack.url}/")["interface"] == "WSGI"
    assert httpx.get(f"{any_stack.admin}/readyz").status_code == 200


def test_an_address_that_is_none_is_refused_with_its_name(any_stack: Stack) -> None:
    cases = {
        "WSGI_AT must be /path/ or host/path/, not '/shop'": {"WSGI_AT": "/shop"},
        "ASGI_AT must be /path/ or host/path/, not 'api.test'": {"ASGI_AT": "api.test"},
        "PAGE_AT must be none or /path/ or host/path/, not 'off'": {"PAGE_AT": "off"},
        "WSGI_AT and ASGI_AT must differ, and are both /": {"WSGI_AT": "/", "ASGI_AT": "/"},
        "HOSTS must be any or host names, not 'a.test,b.test'": {"HOSTS": "a.test,b.test"},
    }
    for why, settings in cases.items():
        ended = run(*any_stack.up_command, env=settings, check=False)
        assert ended.returncode == 2
        assert why in ended.stderr.splitlines()[-1]


@pytest.mark.compose
def test_compose_alone_refuses_an_address_without_its_slash(any_stack: Stack) -> None:
    any_stack.down()
    command = ("docker", "compose", "run", "--rm", "--no-deps", "-T", "haproxy-can-read-its-files")
    for setting in ("WSGI_AT", "ASGI_AT", "PAGE_AT"):
        ended = run(*command, env={setting: "/shop"}, check=False)
        assert ended.returncode != 0
        assert "must be /path/ or host/path/" in ended.stdout + ended.stderr
    assert run(*command, env={"PAGE_AT": "none"}, check=False).returncode == 0
    run("./scripts/down")
