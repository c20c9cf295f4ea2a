"""The examples: applications that do not depend on how they are served, in the same images."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from handle import run, wait_until
from load import Load
from sse import Event, stream
from stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.full]

GUESTBOOKS = {"django": ("wsgi", "asgi"), "starlette": ("asgi",), "quart": ("asgi",)}
DJANGO = pytest.mark.parametrize("guestbook", [("django", name) for name in GUESTBOOKS["django"]], indirect=True)
PORTS = {"wsgi": 8001, "asgi": 8002}
SECONDS = 9  # longer than a drain


def compose_file(example: str) -> str:
    """Return the COMPOSE_FILE in the comment of the example's compose.yaml."""
    return f"compose.yaml:examples/{example}/compose.yaml"


def start(stack: Stack, example: str) -> Stack:
    """Start the stack with an example."""
    settings = {"COMPOSE_FILE": compose_file(example)}
    if stack.settings != settings:
        stack.up(**settings)
        stack.wait_whole()
    return stack


@pytest.fixture(scope="module", autouse=True)
def no_data_stays(any_stack: Stack) -> Iterator[None]:
    """Remove Django's volume: to remove one, Compose must read the file that names it."""
    yield
    any_stack.down()
    run("docker", "compose", "down", "--volumes", env={"COMPOSE_FILE": compose_file("django")})


@pytest.fixture(params=[(name, service) for name, services in GUESTBOOKS.items() for service in services])
def guestbook(request: pytest.FixtureRequest, any_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> tuple[Stack, str]:
    """The stack and the service, for each framework on each of its interfaces."""
    example, service = request.param
    start(any_stack, example)
    monkeypatch.setenv("COMPOSE_FILE", compose_file(example))
    return any_stack, service


@contextmanager
def logged_in(stack: Stack, service: str) -> Iterator[httpx.Client]:
    """Create a user, and log in to Django's admin as a browser would."""
    name, password = f"user-{secrets.token_hex(4)}", secrets.token_hex(8)
    manage = (
        "docker",
        "compose",
        "exec",
        "-T",
        "-e",
        f"DJANGO_SUPERUSER_PASSWORD={password}",
        "wsgi",
        "python",
        "manage.py",
    )
    run(*manage, "createsuperuser", "--no-input", "--username", name, "--email", "user@example.com")
    with httpx.Client(headers={"Origin": stack.url}, follow_redirects=True, timeout=30) as client:
        login = client.get(f"{stack.url}/{service}/admin/")
        form = {"username": name, "password": password, "next": f"/{service}/admin/"}
        home = client.post(login.url, data=form | {"csrfmiddlewaretoken": csrf_token(login)})
        assert home.url == f"{stack.url}/{service}/admin/"
        yield client


def csrf_token(page: httpx.Response) -> str:
    """Return what the page's form must send."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def replicas(stack: Stack, answers: Iterable[httpx.Response]) -> set[str]:
    """Return the replicas that gave these answers, of which all must be 200."""
    assert {answer.status_code for answer in answers} == {200}
    identities = {answer.headers["x-request-id"] for answer in answers}

    def logged() -> list[str]:
        found = [line["server"] for line in stack.access_log() if line["request_id"] in identities]
        return found if len(found) == len(identities) else []

    return set(wait_until(logged, "all are logged"))


@DJANGO
def test_djangos_admin_has_its_styles_on_every_replica(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        pages = [client.get(f"{stack.url}/{service}/admin/") for _ in range(9)]
        assert len(replicas(stack, pages)) == 3
        assert {page.url.path for page in pages} == {f"/{service}/admin/login/"}
        styles = {link for page in pages for link in re.findall(r'href="([^"]*\.css)"', page.text)}
        assert any(re.fullmatch(rf"/{service}/static/admin/css/login\.\w{{12}}\.css", link) for link in styles)
        answers = [client.get(f"{stack.url}{link}") for link in sorted(styles) for _ in range(9)]
        assert len(replicas(stack, answers)) == 3
        assert {answer.headers["content-type"].partition(";")[0] for answer in answers} == {"text/css"}


@DJANGO
def test_a_login_to_djangos_admin_holds_on_every_replica(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    with logged_in(stack, service) as client:
        assert {cookie.path for cookie in client.cookies.jar} == {f"/{service}/"}
        pages = [client.get(f"{stack.url}/{service}/admin/") for _ in range(9)]
        assert len(replicas(stack, pages)) == 3
        assert all("Log out" in page.text for page in pages)
        form = {"csrfmiddlewaretoken": csrf_token(pages[0])}
        foreign = client.post(f"{stack.url}/{service}/admin/logout/", data=form, headers={"Origin": "http://6.6.6.6"})
        assert foreign.status_code == 403


@DJANGO
def test_every_replica_serves_a_file_uploaded_in_djangos_admin(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    content = os.urandom(3 * 1024**2)  # more than Django keeps in memory
    with logged_in(stack, service) as client:
        add = client.get(f"{stack.url}/{service}/admin/guestbook/greeting/add/")
        form = {"csrfmiddlewaretoken": csrf_token(add), "text": "Hello", "_continue": "Save and continue editing"}
        saved = client.post(add.url, data=form, files={"attachment": ("holiday.jpg", content)})
        assert "was added successfully" in saved.text
        (link,) = re.findall(r'href="([^"]*/holiday[^"]*)"', saved.text)
    path = link.removeprefix(f"/{service}/")
    assert path.startswith("media/")
    for name in GUESTBOOKS["django"]:
        downloads = [httpx.get(f"{stack.url}/{name}/{path}", timeout=30) for _ in range(9)]
        assert len(replicas(stack, downloads)) == 3
        assert all(answer.content == content for answer in downloads)
        assert {answer.headers["content-disposition"].partition(";")[0] for answer in downloads} == {"attachment"}


def test_it_sees_client_scheme_and_prefix_and_shows_its_own_pages(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=f"{stack.url}/{service}/") as client:
        answer = client.post("request", content=b"x" * 1000, headers=lies)
        identity = answer.headers["x-request-id"]
        (logged,) = wait_until(
            lambda: [line for line in stack.access_log() if line["request_id"] == identity], "it is logged"
        )
        assert answer.json() == {
            "client": logged["client"],
            "scheme": "http",
            "url": f"{stack.url}/{service}/",
            "size": 1000,
        }
        home = client.get("")
        assert home.status_code == 200
        links = re.findall(r'href="([^"]*)"', home.text)
        assert re.fullmatch(rf"/{service}/static/guestbook(\.\w{{12}}\.css|\.css\?v=\w{{8}})", links[0])
        assert links[1] == f"/{service}/"
        style, other = httpx.get(f"{stack.url}{links[0]}"), client.get("static/guestbook.css?v=other")
        assert (style.status_code, other.status_code) == (200, 200)
        assert style.headers["content-type"].startswith("text/css")
        assert "immutable" in style.headers["cache-control"]
        assert "immutable" not in other.headers["cache-control"]
        missing, broken = client.get("nowhere"), client.get("broken")
        assert (missing.status_code, broken.status_code) == (404, 500)
        assert "This guestbook has no such page" in missing.text
        assert "The guestbook failed to handle this request" in broken.text
        assert client.get("readyz").json()["status"] == 404  # HAProxy's own: not reachable from outside
    replica = run("docker", "compose", "ps", "--quiet", service).stdout.split()[0]
    for path in ("livez", "readyz"):
        code = (
            f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{PORTS[service]}/{path}').status)"
        )
        assert run("docker", "exec", replica, "python", "-c", code).stdout == "200\n"


def test_a_drain_loses_nothing_and_ends_its_streams(guestbook: tuple[Stack, str]) -> None:
    stack, service = guestbook
    base = f"{stack.url}/{service}"
    victim = run("docker", "compose", "ps", "--quiet", service).stdout.split()[0]
    # Django has none; the handshakes that it refuses would briefly take the streams' slots.
    has_websockets = "django" not in str(stack.settings)
    with ThreadPoolExecutor(12) as background:
        streams = [background.submit(end_of_stream, f"{base}/events") for _ in range(6)]
        sockets = [background.submit(close_code, f"{base}/echo") for _ in range(6 if has_websockets else 0)]
        loads = [Load(f"{base}/request", clients=2), Load(f"{base}/request", 2, "POST", b"x" * 1000)]
        with loads[0], loads[1]:
            wait_until(lambda: all(load.outcomes.total() > 50 for load in loads), "the load runs")
            stack.stop(victim)
    stack.start(victim)
    for load in loads:
        assert not load.failures
    ends = [end for each in streams if (end := each.result())]
    assert len(ends) in (1, 2, 3), "those of the replica that left end, and no other"
    assert all(end.retry is not None for end in ends)
    assert {code for each in sockets if (code := each.result())} == ({1012} if has_websockets else set())
    stack.wait_whole()


def end_of_stream(url: str) -> Event | None:
    """Hold an event stream, and return the last event if the stream ended early."""
    last = None
    with stream(url) as events:
        for last in events:
            if last.data is not None and last.data > 2 * SECONDS:
                return None
    return last


def close_code(url: str) -> int | None:
    """Hold a WebSocket, and return its close code, or None if it stayed open or was refused."""
    try:
        with connect(url.replace("http", "ws")) as socket:
            socket.send("hello")
            assert socket.recv(timeout=15) == "hello"
            socket.recv(timeout=SECONDS)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
    except (TimeoutError, OSError):
        return None
    return 0


def test_a_wsgi_application_runs_on_both_servers(any_stack: Stack) -> None:
    stack = start(any_stack, "a2wsgi")
    with httpx.Client(base_url=stack.url) as client:
        for service in ("wsgi", "asgi"):
            assert client.get(f"/{service}/json").json() == {"message": "Hello, World!"}
            assert client.get(f"/{service}/wait?seconds=0.1").json() == {"waited": 0.1}
