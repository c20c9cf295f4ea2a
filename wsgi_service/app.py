"""The WSGI demonstration, in Flask. Replace this file, or set WSGI_APP to another callable."""

import hashlib
import json
import logging
import os
import platform
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from flask import Flask, Response, abort, request, url_for
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnprocessableEntity
from werkzeug.sansio.response import Response as BaseResponse

INSTANCE = os.environ.get("INSTANCE") or socket.gethostname()
BODY_LIMIT = 10 * 1024 * 1024  # bytes
REPLAY_LIMIT = 1000  # events
HEARTBEAT_SECONDS = 1.0  # a stream holds a thread, so detect a disconnect soon

app = Flask(__name__)
log = logging.getLogger("app")


class OutOfRangeError(UnprocessableEntity):
    """A field is not a number or is out of range."""

    def __init__(self, field: str, kind: type, low: int, high: int) -> None:
        noun = "a whole number" if kind is int else "a number"
        super().__init__(f"{field} must be {noun} from {low} to {high}")
        self.extra = {"field": field, "minimum": low, "maximum": high}


def number(field: str, kind: type[int] | type[float], default: float, low: int, high: int) -> Any:
    """Return the number in query parameter `field`, or raise OutOfRangeError."""
    text = request.args.get(field)
    if text is None:
        return default
    try:
        value = kind(text)
    except ValueError:
        raise OutOfRangeError(field, kind, low, high) from None
    if not low <= value <= high:  # also catches nan
        raise OutOfRangeError(field, kind, low, high)
    return value


@app.errorhandler(HTTPException)
def problem(error: HTTPException) -> BaseResponse:
    """Return every error as RFC 9457 problem details."""
    response = error.get_response()
    if response.status_code < 400:
        return response
    status = HTTPStatus(response.status_code)
    content = {"type": "about:blank", "title": status.phrase, "status": status, "detail": error.description}
    response.data = app.json.dumps(content | getattr(error, "extra", {}))
    response.content_type = "application/problem+json"
    return response


@app.get("/whoami")
def whoami() -> dict[str, Any]:
    """Return which replica responds, and the request as the application sees it."""
    return {
        "service": "wsgi",
        "interface": "WSGI",
        "server": f"gunicorn {version('gunicorn')}",
        "framework": f"Flask {version('flask')}",
        "python": platform.python_version(),
        "instance": INSTANCE,
        "pid": os.getpid(),
        "request_id": request.headers.get("X-Request-ID"),
        "client": request.remote_addr,
        "url": url_for("whoami", _external=True),
    }


@app.get("/plaintext")
def plaintext() -> Response:
    return Response("Hello, World!", mimetype="text/plain")


@app.get("/json")
def json_message() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/wait")
def wait() -> dict[str, float]:
    """Wait, as for a database: this holds the thread but not the CPU."""
    seconds = number("seconds", float, 0.1, 0, 15)
    time.sleep(seconds)
    return {"waited": seconds}


@app.get("/work")
def work() -> dict[str, int | str]:
    """Compute: hash a digest with SHA-256 again, `rounds` times."""
    rounds = number("rounds", int, 1000, 0, 1_000_000)
    digest = b""
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return {"rounds": rounds, "digest": digest.hex()}


@app.post("/echo")
def echo() -> dict[str, int | str]:
    """Read the body as it arrives and return its size and SHA-256."""
    too_large = RequestEntityTooLarge(f"the body must not exceed {BODY_LIMIT} bytes")
    if (request.content_length or 0) > BODY_LIMIT:
        raise too_large
    size, digest = 0, hashlib.sha256()
    try:
        while chunk := request.stream.read(65536):
            size += len(chunk)
            if size > BODY_LIMIT:
                raise too_large
            digest.update(chunk)
    except OSError:
        abort(400, "the body ended early")
    if request.content_length not in (None, size):  # a WSGI server may end a body early without an error
        abort(400, "the body ended early")
    log.info("echoed %d bytes", size)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/events")
def events() -> Response:
    """Stream Server-Sent Events. Event n is due when the clock reaches n x interval, on every replica."""
    interval = number("interval_ms", int, 1000, 100, 60_000) / 1000
    now = int(time.time() / interval)
    first = resume_after(request.headers.get("Last-Event-ID"), now)
    return Response(
        event_stream(first, now, interval), mimetype="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


def resume_after(last_id: str | None, now: int) -> int:
    """Return the number of the first event to send to a client whose last event was `last_id`."""
    if not last_id:
        return now
    last = int(last_id) if last_id.isdecimal() and len(last_id) < 20 else -1
    if not 0 <= last <= now + 1:  # 1: another replica's clock may be ahead
        raise OutOfRangeError("Last-Event-ID", int, 0, now)
    return last + 1


def event_stream(first: int, now: int, interval: float) -> Iterator[str]:
    """Yield events from number `first` on, and a comment when no event is due."""
    oldest = now - REPLAY_LIMIT + 1
    if first < oldest:
        yield f"event: gap\ndata: {json.dumps({'from': first, 'to': oldest - 1})}\n\n"
        first = oldest
    n = first
    while True:
        while (due_in := n * interval - time.time()) > 0:
            time.sleep(min(due_in, HEARTBEAT_SECONDS))
            if due_in > HEARTBEAT_SECONDS:
                yield ":\n\n"
        yield f"id: {n}\ndata: {json.dumps({'n': n, 'instance': INSTANCE})}\n\n"
        n += 1


@app.get("/ws")
@app.route("/ws", websocket=True, endpoint="upgrade")
def websocket() -> Response:
    abort(501, "WSGI has no WebSocket: one call returns one response. Use /ws of the ASGI service")
