"""Whether the application has the endpoints that the scenarios load: another than the demonstration may lack them."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from urllib.parse import urlsplit

from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from runner.scenario import Scenario
from users.addresses import at
from users.connections import connect
from users.event_streams import EventStream
from users.websockets import WebSocket

HEADERS = {
    EventStream: "Accept: text/event-stream\r\n",
    WebSocket: "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
}
FINE = (200, 101, 502, 503, 504, 0)  # beside success, what HAProxy or nobody answers: a matter of the measurement


def missing(names: Iterable[str], host: str, addresses: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each scenario and endpoint of it that the application at the host does not have."""
    known: dict[str, int] = {}
    for name in names:
        scenario: Scenario = importlib.import_module(f"scenarios.{name}").SCENARIO
        through_haproxy = (variant for variant in scenario.variants.values() if not variant.direct)
        for user in dict.fromkeys(users.user for variant in through_haproxy for users in variant.users):
            path = at(user.path, addresses)  # type: ignore[attr-defined]
            if path not in known:
                known[path] = status(host, path, user)
            if known[path] not in FINE:
                yield f"{name} needs {path}, which answers {known[path]}"


def status(host: str, path: str, user: type) -> int:
    """Return the status of a request such as these users send, or 0 if there is no response."""
    url = urlsplit(host)
    headers = next((more for kind, more in HEADERS.items() if issubclass(user, kind)), "")
    with suppress(OSError, HTTPParseError), closing(connect(url, 20)) as connection:
        connection.sendall(f"GET {url.path}{path} HTTP/1.1\r\nHost: {url.netloc}\r\n{headers}\r\n".encode())
        return int(HTTPSocketResponse(connection).status_code)
    return 0
