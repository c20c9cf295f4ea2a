"""The first process of a container: runs server.py, passes signals on to it, and says so if it ran out of memory.

It is small: it imports nothing of the application. (In the WSGI service, gunicorn's master does this for its worker.)
"""

import os
import signal
import sys

import oom

PASSED_ON = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Exit as server.py does."""
    before = oom.kills()
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is somebody to pass them on to
    server = os.posix_spawn(sys.executable, [sys.executable, "server.py"], os.environ, setsigmask=[])
    for sent in PASSED_ON:
        signal.signal(sent, lambda number, _: os.kill(server, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    ended, status = os.wait()
    while ended != server:  # a process that the application has started, and whose parent has gone
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL and oom.kills() > before:
        import logging

        import jsonlog

        logging.basicConfig(handlers=[jsonlog.handler])
        logging.getLogger("pid1").error(oom.REASON, server)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
