"""Measures what the settings rest on, side by side in one run, and prints tables for docs/measurements.md.

USAGE: measure [--rounds N] [NAME...]    these measurements, or all
       measure --help

  proxy       HAProxy with ACCESS_LOG=problems against nginx without a log; with smaller buffers, and with fewer retries
  logged      HAProxy with every request logged against nginx with its access log
  threads     HAProxy's nbthread 1 and 2
  passing     what it costs short requests that chunks pass at once, and that control characters in headers are refused
  reuse       HAProxy's http-reuse safe and always
  wsgi        requests in flight per WSGI replica: WSGI_MAXCONN 1, 2, 4, 8
  worker      wsgi_service/worker.py and response.py against gunicorn's own gthread and sync
  protocol    asgi_service/protocol.py against uvicorn's own
  asgi        requests in flight per ASGI replica: ASGI_MAXCONN 10, 100, 1000
  bare-wsgi   the whole stack against gunicorn -w 3 alone, and behind nginx
  bare-asgi   the whole stack against uvicorn --workers 3 alone, and behind nginx
  a2wsgi      one WSGI application on gunicorn and, through a2wsgi, on uvicorn
  once        the cost of a connection for each POST, which makes a replica's death a 502 instead of an empty reply
  websockets  the memory of an idle WebSocket, with FastAPI, with Starlette and with plain ASGI

Each round loads every variant for a second in random order, so that noise affects all alike. CPU is the variant's own,
from /proc, over the requests answered. Figures are medians of the rounds; `ratio` is the geometric mean of CPU against
the first variant in the same round, with its standard error. Needs Docker Compose and wrk on Linux, and 20 s a round.
"""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable

from handle import StackError
from idle_websockets import websockets
from variants import adapted, bare, proxies, services

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
    "reuse": lambda rounds: proxies(
        "HAProxy's reuse of server connections",
        rounds,
        {
            f"http-reuse {way}": {
                "ACCESS_LOG": "problems",
                "change": f"option redispatch 1=option redispatch 1\n  http-reuse {way}",
            }
            for way in ("safe", "always")
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
    "websockets": websockets,
}


def main() -> None:
    """Run the measurements that are named, or all."""
    parser = argparse.ArgumentParser(
        prog="measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds: 2 at least")
    if unknown := set(arguments.names) - set(MEASUREMENTS):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))} (see measure --help)")
    if missing := [tool for tool in ("docker", "wrk") if not shutil.which(tool)]:
        sys.exit(f"measure: {' and '.join(missing)} must be installed")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, wrk -t1")
    for name in arguments.names or MEASUREMENTS:
        MEASUREMENTS[name](arguments.rounds)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("measure: interrupted")
    except StackError as error:
        sys.exit(f"measure: {error}")
