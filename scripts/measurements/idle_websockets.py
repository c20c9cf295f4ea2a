"""Holds idle WebSockets with one application after the other, and prints what each costs in memory."""

import resource
import socket
import sys
import time
from contextlib import ExitStack

from engine import PROJECT, address, memory, stack


def websockets(_: int) -> None:
    """Hold idle WebSockets with one application after the other, and print what each costs."""
    applications = {
        "FastAPI, as shipped": ("", "/asgi/ws?interval_ms=60000"),
        "Starlette": ("examples/starlette/compose.yaml", "/asgi/echo"),
        "plain ASGI": ("tests/foreign/compose.yaml", "/asgi/"),
    }
    count = 3000
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 2 * count), limit))
    print(f"\nAn idle WebSocket of {count}, KiB\n\n| application | uvicorn | HAProxy |\n|---|---|---|")
    for name, (override, path) in applications.items():
        print(f"  websockets: {name}", file=sys.stderr)
        settings = {"COMPOSE_FILE": f"compose.yaml:{override}" if override else "compose.yaml"}
        if "foreign" in override:
            settings["ASGI_APP"] = "foreign.asgi:application"
        with stack(PROJECT, ACCESS_LOG="problems", **settings) as containers, ExitStack() as held:
            tiers = [[one for one in containers if f"-{tier}-" in one] for tier in ("asgi", "haproxy")]
            front = address(containers[0], f"{PROJECT}_edge"), 8080
            hold(held, front, path, count // 10)  # what is made once
            before = [memory(tier) for tier in tiers]
            hold(held, front, path, count)
            grown = [(memory(tier) - base) / count for tier, base in zip(tiers, before, strict=True)]
            print(f"| {name} | {grown[0]:.1f} | {grown[1]:.1f} |", flush=True)


def hold(held: ExitStack, front: tuple[str, int], path: str, count: int) -> None:
    """Open so many WebSockets, 200 a second."""
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: {front[0]}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    for _ in range(count):
        connection = held.enter_context(socket.create_connection(front))
        connection.sendall(handshake.encode())
        if b" 101 " not in connection.recv(4096):
            sys.exit("measure: a WebSocket was refused")
        time.sleep(0.005)
