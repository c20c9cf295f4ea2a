"""The measurements by their names, as `measure --help` lists them."""

from collections.abc import Callable

from encrypted import encrypted
from idle_websockets import websockets
from variants import adapted, bare, limits, proxies, services

MEASUREMENTS: dict[str, Callable[[int], None]] = {
    "proxy": lambda rounds: proxies(
        "The balancer, problems logged",
        rounds,
        {
            "nginx, access_log off": {"nginx": "off"},
            "HAProxy, ACCESS_LOG=problems": {"ACCESS_LOG": "problems"},
            "the same with tune.bufsize 8192": {
                "ACCESS_LOG": "problems",
                "change": "nbthread 1=tune.bufsize 8192\n  nbthread 1",
            },
            "the same without retries of what was sent": {
                "ACCESS_LOG": "problems",
                "change": "retry-on conn-failure empty-response response-timeout=retry-on conn-failure",
            },
        },
    ),
    "logged": lambda rounds: proxies(
        "The balancer, everything logged",
        rounds,
        {"nginx, access_log to stdout": {"nginx": "/dev/stdout"}, "HAProxy, ACCESS_LOG=all": {}},
    ),
    "threads": lambda rounds: proxies(
        "HAProxy's threads",
        rounds,
        {f"nbthread {n}": {"ACCESS_LOG": "problems", "change": f"nbthread 1=nbthread {n}"} for n in "12"},
    ),
    "passing": lambda rounds: proxies(
        "Chunks at once, and no control characters",
        rounds,
        {
            "as shipped": {"ACCESS_LOG": "problems"},
            "without http-no-delay": {
                "ACCESS_LOG": "problems",
                "change": "option http-no-delay=no option http-no-delay",
            },
            "without the look into header values": {
                "ACCESS_LOG": "problems",
                "change": "http-request deny deny_status 400 if { req.hdrs=# { req.hdrs",
            },
        },
    ),
    "wsgi": lambda rounds: services(
        "Requests in flight per WSGI replica",
        rounds,
        "/wsgi/json",
        {f"WSGI_MAXCONN {n}": {"WSGI_MAXCONN": n} for n in ("1", "2", "4", "8")},
    ),
    "worker": lambda rounds: services(
        "The threads of a WSGI replica",
        rounds,
        "/wsgi/json",
        {
            "gunicorn's gthread": {"WSGI_WORKER": "gthread"},
            "gunicorn's sync": {"gunicorn": "--worker-class sync"},
            "as shipped: worker.py": {},
        },
    ),
    "protocol": lambda rounds: services(
        "The protocols of an ASGI replica",
        rounds,
        "/asgi/json",
        {"uvicorn's httptools": {"ASGI_PROTOCOL": "httptools"}, "as shipped: protocol.py": {}},
    ),
    "asgi": lambda rounds: proxies(
        "Requests in flight per ASGI replica",
        rounds,
        {f"ASGI_MAXCONN {n}": {"ACCESS_LOG": "problems", "ASGI_MAXCONN": n} for n in ("10", "100", "1000")},
        [64, 512],
    ),
    "bare-wsgi": lambda rounds: bare("wsgi", rounds),
    "bare-asgi": lambda rounds: bare("asgi", rounds),
    "a2wsgi": adapted,
    "once": lambda rounds: proxies(
        "POST on connections of its own",
        rounds,
        {
            "as shipped": {"ACCESS_LOG": "problems"},
            "without http-server-close": {
                "ACCESS_LOG": "problems",
                "change": "option http-server-close=option http-keep-alive",
            },
        },
        [16],
        "/wsgi/echo",
    ),
    "tls": encrypted,
    "limits": limits,
    "websockets": websockets,
}
