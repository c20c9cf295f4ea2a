"""A Socket.IO server that answers each message with who has it, and how many this client has sent."""

import os
from typing import Any

import socketio

server = socketio.AsyncServer(async_mode="asgi")
engine = socketio.ASGIApp(server)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Take the prefix off the path: Engine.IO would not find itself behind it."""
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    await engine(scope | {"path": path}, receive, send)


@server.event
async def message(client: str, text: str) -> dict[str, Any]:
    """Return the text, the replica, and the number of this client's messages: a session is in the replica's memory."""
    async with server.session(client) as session:
        session["count"] = session.get("count", 0) + 1
        return {"text": text, "replica": os.uname().nodename, "count": session["count"]}
