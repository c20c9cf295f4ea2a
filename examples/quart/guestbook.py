"""A Quart application that does not depend on how it is served."""

import asyncio
import functools
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from quart import Quart, Response, render_template_string, request, url_for, websocket

HOME = """<!doctype html>
<title>Guestbook</title>
<link rel="stylesheet" href="{{ url_for('static', filename='guestbook.css') }}">
<p>Hello from Quart, at <a href="{{ url_for('home') }}">{{ url_for('home') }}</a>.</p>
"""

app = Quart(__name__)
STATIC = Path(__file__).parent / "static"


@functools.cache
def version(file: Path) -> str:
    """Return what tells this version of a static file from others."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


@app.url_defaults
def add_version(endpoint: str, values: dict[str, Any]) -> None:
    """Have `url_for` name the version of a static file."""
    if endpoint == "static":
        values["v"] = version(STATIC / values["filename"])


@app.after_request
async def keep(response: Response) -> Response:
    """Let browsers keep a static file for ever if its URL asks for the version that is here."""
    if request.endpoint == "static" and response.status_code == 200:
        kept = request.args.get("v") == version(STATIC / (request.view_args or {})["filename"])
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
    return response


@app.get("/")
async def home() -> str:
    return await render_template_string(HOME)


@app.route("/request", methods=["GET", "POST"])
async def request_seen() -> dict[str, Any]:
    """Return the request as the application sees it."""
    return {
        "client": request.remote_addr,
        "scheme": request.scheme,
        "url": url_for("home", _external=True),
        "size": len(await request.get_data()),
    }


@app.get("/events")
async def events() -> Response:
    """Stream an event every half second."""
    response = Response(ticks(), content_type="text/event-stream")
    response.timeout = None  # by default, Quart ends a response after a minute
    return response


async def ticks() -> AsyncIterator[str]:
    for n in itertools.count():
        yield f"id: {n}\ndata: {n}\n\n"
        await asyncio.sleep(0.5)


@app.websocket("/echo")
async def echo() -> None:
    """Send back every message."""
    while True:
        await websocket.send(await websocket.receive())


@app.get("/broken")
async def broken() -> str:
    raise RuntimeError("this endpoint is broken")


@app.errorhandler(404)
async def not_found(error: Exception) -> tuple[str, int]:
    return "<!doctype html><title>Not found</title><p>This guestbook has no such page.</p>", 404


@app.errorhandler(500)
async def mistake(error: Exception) -> tuple[str, int]:
    return "<!doctype html><title>Error</title><p>The guestbook failed to handle this request.</p>", 500
