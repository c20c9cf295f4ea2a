"""Measures what the settings rest on, side by side in one run, and prints tables for docs/measurements.md.

USAGE: measure [--rounds N] [NAME...]    these measurements, or all
       measure --help

  proxy       HAProxy with ACCESS_LOG=problems against nginx without a log; with smaller buffers, and with fewer retries
  logged      HAProxy with every request logged against nginx with its access log
  threads     HAProxy's nbthread 1 and 2
  passing     what it costs short requests that chunks pass at once, and that control characters in headers are refused
  wsgi        requests in flight per WSGI replica: WSGI_MAXCONN 1, 2, 4, 8
  worker      wsgi_service/worker.py and response.py against gunicorn's own gthread and sync
  protocol    asgi_service/protocol.py against uvicorn's own
  asgi        requests in flight per ASGI replica: ASGI_MAXCONN 10, 100, 1000
  bare-wsgi   the whole stack against gunicorn -w 3 alone, and behind nginx
  bare-asgi   the whole stack against uvicorn --workers 3 alone, and behind nginx
  a2wsgi      one WSGI application on gunicorn and, through a2wsgi, on uvicorn
  once        the cost of a connection for each POST, which makes a replica's death a 502 instead of an empty reply
  tls         HTTP/1.1, 2 and 3 over TLS, and handshakes, against nginx and Caddy
  limits      limits for each client: CPU, and the memory of 100,000 clients
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

from catalogue import MEASUREMENTS
from handle import StackError


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
