"""A Starlette application that does not depend on how it is served."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

HOME = """<!doctype html>
<title>Guestbook</title>
<link rel="stylesheet" href="{style}">
<p>Hello from Starlette, at <a href="{home}">{home}</a>.</p>
"""


async def home(request: Request) -> Response:
    style = request.url_for("static", path="guestbook.css").path
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
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static"),
    ],
    exception_handlers={404: not_found, 500: mistake},
)
