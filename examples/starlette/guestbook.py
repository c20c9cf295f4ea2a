"""A Starlette application that does not depend on how it is served."""

import asyncio
import functools
import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from starlette.websockets import WebSocket

HOME = """<!doctype html>
<title>Guestbook</title>
<link rel="stylesheet" href="{style}">
<p>Hello from Starlette, at <a href="{home}">{home}</a>.</p>
"""
STATIC = Path(__file__).parent / "static"


@functools.cache
def version(file: Path) -> str:
    """Return what tells this version of a static file from others."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


class Versioned(StaticFiles):
    """Static files that browsers may keep for ever."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Allow that if the URL asks for the version that is here. Else browsers ask again each time."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        kept = scope["query_string"].decode() == f"v={version(Path(full_path))}"
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        return response


async def home(request: Request) -> Response:
    style = f"{request.url_for('static', path='guestbook.css').path}?v={version(STATIC / 'guestbook.css')}"
    return HTMLResponse(HOME.format(style=style, home=request.url_for("home").path))


async def request_seen(request: Request) -> Response:
    """Return the request as the application sees it."""
    return JSONResponse(
        {
            "client": request.client.host if request.client else None,
            "scheme": request.url.scheme,
            "url": str(request.url_for("home")),
            "size": len(await request.body()),
        }
    )


async def events(request: Request) -> Response:
    """Stream an event every half second."""
    return StreamingResponse(ticks(), media_type="text/event-stream")


async def ticks() -> AsyncIterator[str]:
    for n in itertools.count():
        yield f"id: {n}\ndata: {n}\n\n"
        await asyncio.sleep(0.5)


async def echo(socket: WebSocket) -> None:
    """Send back every message."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def broken(request: Request) -> Response:
    raise RuntimeError("this endpoint is broken")


async def not_found(request: Request, error: Exception) -> Response:
    return HTMLResponse("<!doctype html><title>Not found</title><p>This guestbook has no such page.</p>", 404)


async def mistake(request: Request, error: Exception) -> Response:
    return HTMLResponse("<!doctype html><title>Error</title><p>The guestbook failed to handle this request.</p>", 500)


app = Starlette(
    routes=[
        Route("/", home, name="home"),
        Route("/request", request_seen, methods=["GET", "POST"]),
        Route("/events", events),
        WebSocketRoute("/echo", echo),
        Route("/broken", broken),
        Mount("/static", Versioned(directory=STATIC), name="static"),
    ],
    exception_handlers={404: not_found, 500: mistake},
)
