"""addons/https: the same answers over TLS, by HTTP/1.1 and HTTP/2; certificates that change, and bad ones."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from handle import ROOT, run, wait_until
from http2 import HTTP2
from http3 import HTTP3
from load import Load
from secure import HTTPS, PORT
from stack import Stack, load, locust_page
from test_clients import HERE
from test_contract import (  # noqa: F401 - to be run once more, over HTTPS
    test_a_value_out_of_range_or_no_number_gets_422_with_field_and_range,
    test_a_wrong_method_gets_405_and_the_right_ones,
    test_an_unknown_path_gets_404,
    test_asgi_can_wait_in_three_ways,
    test_echo_tells_size_and_digest_of_a_body,
    test_plaintext_and_json_are_techempowers,
    test_the_api_description_works_behind_the_prefix,
    test_urls_that_an_application_makes_carry_the_prefix,
    test_wait_waits_at_least_as_long_as_asked,
    test_websocket_on_wsgi_gets_501_that_says_why,
    test_websocket_path_without_upgrade_gets_426,
    test_whoami_tells_who_answers,
    test_work_computes_the_same_digest_on_both_services,
)
from test_load import answered
from test_streams import (  # noqa: F401
    test_a_stream_resumes_on_another_replica_with_no_event_lost_or_repeated,
    test_an_event_stream_whose_client_has_left_ends_at_once,
    test_events_come_at_their_time_and_not_200_ms_later,
    test_websocket_echoes_and_ticks_at_the_clocks_numbers,
)

USERS = [
    "WSGI: /json, as fast as it is answered",
    "ASGI: /events, a stream with an event a second",
    "ASGI: /ws, a WebSocket with a tick every 5 s and an echo every 10 s",
]
NAMES = ("other.example", "10.1.2.3")


@pytest.fixture(scope="module")
def stack(secure: Stack) -> Stack:
    """The stack with HTTPS: its tests are no others."""
    return secure


@pytest.fixture(params=["HTTP/1.1", "HTTP/2", "HTTP/3"])
def client(request: pytest.FixtureRequest, stack: Stack) -> Iterator[httpx.Client]:
    """A client of each version of HTTP."""
    version = request.param
    if version == "HTTP/3" and stack.haproxy_is_old():
        pytest.skip("HAProxy 2 has no QUIC")
    transport = HTTP3("localhost", PORT) if version == "HTTP/3" else None
    with httpx.Client(base_url=stack.url, timeout=30, http2=version == "HTTP/2", transport=transport) as client:
        assert client.get("/status").http_version == version
        yield client


def served() -> bytes:
    """Return the certificate that is presented, in DER."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with context.wrap_socket(socket.create_connection(("127.0.0.1", PORT), timeout=10)) as connection:
        found = connection.getpeercert(binary_form=True)
    assert found
    return found


def plain(stack: Stack) -> str:
    """Return the address of the port without TLS."""
    assert stack.settings is not None
    return type(stack).url


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_plain_port_sends_everything_to_https(stack: Stack, service: str, method: str) -> None:
    url = httpx.URL(f"{plain(stack)}/{service}/echo?a=b%20c")
    answer = httpx.request(method, url, headers={"Host": f"shop.example.com:{url.port}"})
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://shop.example.com:{PORT}/{service}/echo?a=b%20c"
    assert "strict-transport-security" not in answer.headers


def test_browsers_are_told_to_stay_with_https(client: httpx.Client, service: str) -> None:
    for path in ("/", f"/{service}/json", "/nothing"):
        assert client.get(path).headers["strict-transport-security"] == "max-age=600"


def test_the_application_knows_that_it_is_asked_over_https(client: httpx.Client, stack: Stack, service: str) -> None:
    assert client.get(f"/{service}/whoami").json()["url"] == f"{stack.url}/{service}/whoami"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(stack: Stack, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    session, resumed = None, []
    for _ in range(2):
        connection = context.wrap_socket(
            socket.create_connection(("127.0.0.1", PORT)), server_hostname="localhost", session=session
        )
        connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")  # TLS 1.3 sends its ticket before
        session = connection.session
        resumed.append(connection.session_reused)
        connection.close()
    assert resumed == [False, True]


def test_tls_before_1_2_is_refused(stack: Stack) -> None:
    offer = ("openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "alert protocol version" in run(*offer, check=False).stderr


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_over_http_2_a_body_of_unknown_length_is_sent_once(stack: Stack, service: str, method: str) -> None:
    """It has no Transfer-Encoding there. A retry would run the request twice, without its body."""
    with httpx.Client(base_url=stack.url, http2=True, timeout=30) as client:
        answer = client.request(method, f"/{service}/json", content=iter([b"a", b"b" * 1000]))
        assert answer.status_code in (200, 405)
        asked = answer.headers["x-request-id"]
    (line,) = wait_until(lambda: [line for line in stack.access_log() if line["request_id"] == asked], "it is logged")
    assert line["backend"] == f"{service}_sent_once"


@pytest.mark.parametrize("size", [11, 17], ids=["the application's limit", "HAProxy's limit"])
@pytest.mark.parametrize("length", ["with a length", "without"])
def test_over_http_2_a_body_that_is_too_large_is_cut_off_with_413(
    stack: Stack, service: str, size: int, length: str
) -> None:
    """By curl: httpx does not read a response before it has sent the whole body."""
    told = ["--header", "Content-Length:"] if length == "without" else []
    sent = ("--http2", "--request", "POST", "--data-binary", "@-", "--header", "Expect:", *told)
    ended = run(
        "curl",
        "--silent",
        "--cacert",
        os.environ["SSL_CERT_FILE"],
        "--write-out",
        " %{http_code} %{http_version}",
        *sent,
        f"{stack.url}/{service}/echo",
        text="x" * (size << 20),
        check=False,
    )
    if stack.haproxy_is_old() and (size, length) == (17, "with a length"):
        assert ended.returncode == 92, ended  # HAProxy 2 resets the stream, and its response is lost
    else:
        assert ended.stdout.endswith(" 413 2"), ended


def test_the_load_tests_load_the_https_port(stack: Stack) -> None:
    logged = len(stack.access_log())
    ended = load("--smoke", "latency", "websockets")
    assert ended.returncode in (0, 3, 4), ended.stdout + ended.stderr  # 4: the machine was busy
    seen = [line for line in stack.access_log()[logged:] if line["uri"] in ("/wsgi/json", "/asgi/json")]
    assert len(seen) > 100
    assert {line["status"] for line in seen} == {200}


def test_a_certificate_that_changes_is_used_at_once_and_costs_no_request(
    stack: Stack, certificate: tuple[str, ...]
) -> None:
    before = served()
    with Load(f"{stack.url}/asgi/json") as kept, Load(f"{stack.url}/wsgi/json") as other:
        for names in (NAMES, ()):
            said = run(*certificate, "--development", *names).stdout
            assert "HAProxy uses it" in said
            assert ("other.example" in said) == bool(names)
            assert served() != before
            before = served()
    assert not kept.failures
    assert not other.failures
    assert kept.outcomes["200"] > 10
    assert run("./scripts/reload").returncode == 0
    assert served() == before, "it is stored, too"


def made(folder: Path, *options: str, name: str = "site") -> tuple[str, str]:
    """Make a certificate with openssl; return the paths of it and of its key."""
    chain, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    run("openssl", "req", "-x509", *curve, "-subj", "/CN=site", "-keyout", key, "-out", chain, *options)
    return chain, key


EXPIRED = """
import datetime, sys, trustme
past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
trustme.CA().issue_cert("shop.example.com", not_after=past).private_key_and_cert_chain_pem.write_to_path(sys.argv[1])
"""
NAMED = ("-addext", "subjectAltName=DNS:shop.example.com")


def test_what_cannot_be_used_is_refused_in_one_line_and_changes_nothing(
    stack: Stack, certificate: tuple[str, ...], tmp_path: Path
) -> None:
    chain, key = made(tmp_path, *NAMED)
    _, other = made(tmp_path, *NAMED, name="other")
    expired = str(tmp_path / "expired.pem")
    run(str(ROOT / ".venv/certificates/bin/python"), "-c", EXPIRED, expired)
    nameless, key_of_nameless = made(tmp_path, name="nameless")
    (tmp_path / "text").write_text("nothing")
    refused = {
        (chain, other): f"the key in {other} does not belong to the first certificate in {chain}",
        (expired,): f"the certificate in {expired} expired on ",
        (nameless, key_of_nameless): f"the certificate in {nameless} names no host",
        (chain,): f"{chain} has no private key without a password in PEM form",
        (str(tmp_path / "text"), key): "text has no certificate in PEM form",
        (str(tmp_path / "none"), key): "none: No such file or directory",
        (chain, str(tmp_path)): f"cannot read {tmp_path}: Is a directory",
        (chain, key, key): "needs a file with the chain, and one with the key",
        ("--development", "no name"): "'no name' is neither a host's name nor an address",
        ("--wrong",): "unknown argument '--wrong'",
    }
    before = served()
    for arguments, why in refused.items():
        ended = run(*certificate, *arguments, check=False)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert why in ended.stderr, ended.stderr
    assert served() == before


def test_a_certificate_of_ones_own_is_taken_and_shown(
    stack: Stack, certificate: tuple[str, ...], tmp_path: Path
) -> None:
    chain, key = made(tmp_path, *NAMED)
    Path(key).chmod(0o600)
    assert "shop.example.com: until" in run(*certificate, chain, key).stdout
    assert re.match(r"shop\.example\.com: until [\d-]+, issued by CN=site\n$", run(*certificate).stdout)
    assert ssl.get_server_certificate(("127.0.0.1", PORT)).split() == Path(chain).read_text().split()
    run(*certificate, "--development")


def test_a_certificate_that_was_half_written_stops_no_reload(stack: Stack, certificate: tuple[str, ...]) -> None:
    if "--local" in certificate:
        Path(os.environ["SSL_CERT_FILE"]).parents[1].joinpath("certificates/.site.pem").write_text("half")
    else:
        into = ("docker", "compose", "--profile", "certificate", "run", "--rm", "--no-deps", "-T", "certificates")
        run(*into, "bash", "-c", "echo half >/var/lib/haproxy/.site.pem", env=HTTPS)
    run("./scripts/reload")
    run(*certificate, "--development")


@pytest.mark.compose
@pytest.mark.full
def test_locusts_own_page_loads_over_https(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HTTPS.items():
        monkeypatch.setenv(name, value)
    with locust_page() as url:
        page = httpx.get(url).text
        assert "https://haproxy:8443" in page, "the page begins with it"
        form = {"user_count": "40", "spawn_rate": "40", "host": "https://haproxy:8443", "user_classes": USERS}
        wait_until(lambda: len(httpx.get(f"{url}/stats/requests").json()["workers"]) == 2, "the workers join")
        assert httpx.post(f"{url}/swarm", data=form).json()["success"]
        wait_until(lambda: answered(url) > 500, "it loads")
        assert not httpx.get(f"{url}/stats/requests").json()["errors"]


def test_browsers_are_told_of_http_3(stack: Stack) -> None:
    told = None if stack.haproxy_is_old() else f'h3=":{PORT}"; ma=86400'
    assert httpx.get(f"{stack.url}/status").headers.get("alt-svc") == told
    assert "alt-svc" not in httpx.get(f"{plain(stack)}/status").headers


@pytest.fixture
def edge(stack: Stack) -> Stack:
    """The stack with HTTPS behind a proxy that is trusted, with affinity, and a limit on streams."""
    stack.ensure(**HTTPS, TRUSTED_PROXIES=HERE, WSGI_AFFINITY="on", ASGI_AFFINITY="on", CLIENT_STREAMS="5")
    return stack


def test_what_a_trusted_proxy_has_received_over_https_is_not_redirected(edge: Stack, service: str) -> None:
    url, headers = f"{plain(edge)}/{service}/whoami", {"Host": "shop.test", "X-Forwarded-Proto": "https"}
    assert httpx.get(url, headers=headers).json()["url"] == f"https://shop.test/{service}/whoami"
    assert httpx.get(url, headers={"Host": "shop.test"}).status_code == 308


def test_the_cookie_of_affinity_is_for_https_alone(edge: Stack, service: str) -> None:
    for url, headers in ((edge.url, {}), (plain(edge), {"X-Forwarded-Proto": "https"})):
        cookie = httpx.get(f"{url}/{service}/json", headers=headers).headers["set-cookie"]
        assert cookie.startswith(f"{service.upper()}_REPLICA=")
        assert cookie.endswith("; Secure")


def test_the_streams_of_one_connection_are_counted(edge: Stack) -> None:
    with HTTP2(PORT) as connection:
        streams = [connection.ask("/asgi/events") for _ in range(6)]
        connection.receive(lambda: len(connection.heads) == 6)
        statuses = [connection.heads[stream][":status"] for stream in streams]
    assert sorted(statuses) == ["200"] * 5 + ["429"]


def test_no_certificate_and_equal_ports_are_named_before_anything_starts(
    any_stack: Stack, certificate: tuple[str, ...], tmp_path: Path
) -> None:
    any_stack.down()
    run("./scripts/down", "--volumes", env=HTTPS)
    cases = {
        "HTTP_PORT and HTTPS_PORT must differ, and are both 8405": {"HTTPS_PORT": "8405", "HTTP_PORT": "8405"},
        "ADMIN_PORT and HTTPS_PORT must differ, and are both 8405": {"HTTPS_PORT": "8405", "ADMIN_PORT": "8405"},
        "there is no certificate for HTTPS": {"XDG_DATA_HOME": str(tmp_path)},
    }
    for why, settings in cases.items():
        ended = run(*any_stack.up_command, env=HTTPS | settings, check=False)
        assert ended.returncode == 2
        assert why in ended.stderr.splitlines()[-1]
        assert not (ROOT / ".run").exists()
