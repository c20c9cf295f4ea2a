"""Locust's own page: what a person can choose there. The measurements use the scenarios as they are."""

import os

from scenarios import churn, computing, events, latency, price, throughput, waiting, websockets
from users.addresses import at

ADDRESSES = {service: os.environ.get(f"{service.upper()}_AT") or f"/{service}/" for service in ("wsgi", "asgi")}

CHOICES = {
    "WSGI: /json, as fast as it is answered": throughput.WsgiJson,
    "ASGI: /json, as fast as it is answered": throughput.AsgiJson,
    "WSGI: /json, 10 a second per user, whether answered or not": latency.WsgiArrivals,
    "ASGI: /json, 10 a second per user, whether answered or not": latency.AsgiArrivals,
    "WSGI: /json, 10 a second per user, each on a new connection": churn.WsgiVisits,
    "ASGI: /json, 10 a second per user, each on a new connection": churn.AsgiVisits,
    "WSGI: /json, 10 a second per user, past HAProxy": price.WsgiDirect,
    "ASGI: /json, 10 a second per user, past HAProxy": price.AsgiDirect,
    "WSGI: /wait, 0.1 s in a thread, as for a database": waiting.WsgiWait,
    "ASGI: /wait, 0.1 s in the event loop, as for a database": waiting.AsgiWait,
    "ASGI: /wait, 0.1 s in a thread": waiting.AsgiWaitInThread,
    "ASGI: /wait, 0.1 s blocking the event loop, which is a mistake": waiting.AsgiWaitBlocking,
    "WSGI: /work, a few milliseconds of CPU time": computing.WsgiWork,
    "ASGI: /work, a few milliseconds of CPU time": computing.AsgiWork,
    "WSGI: /events, a stream with an event a second; only a few are admitted": events.WsgiEvents,
    "ASGI: /events, a stream with an event a second": events.AsgiEvents,
    "ASGI: /ws, a WebSocket with a tick every 5 s and an echo every 10 s": websockets.AsgiWebSocket,
}
for sentence, user in CHOICES.items():
    globals()[sentence] = type(sentence, (user,), {"path": at(user.path, ADDRESSES)})  # type: ignore[attr-defined]
del sentence, user  # Locust would list the last one twice
