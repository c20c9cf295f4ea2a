"""A WSGI application not written for this stack: no framework, a generator, a stream at an unexpected path."""

import io
import json
import os
import signal
import sys
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return map(open, ["/nowhere"])  # lazy: fails at the first chunk
    if environ["PATH_INFO"] == "/breaks":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return Broken()
    if environ["PATH_INFO"] == "/writes":
        write = start_response("200 OK", [("Content-Type", "text/event-stream")])
        for _ in range(1000):
            write(b"data: x\n\n")
            time.sleep(0.2)
        return []
    if environ["PATH_INFO"] == "/begins-anew":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        try:
            raise RuntimeError("a bad day")
        except RuntimeError:
            headers = [("Content-Type", "text/html"), ("Content-Length", "5")]
            start_response("500 Internal Server Error", headers, sys.exc_info())
        return [b"sorry"]
    if environ["PATH_INFO"] == "/exits":
        sys.exit("enough")
    if environ["PATH_INFO"] == "/hollow":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
        return []
    if environ["PATH_INFO"] == "/refuses":
        start_response("413 Content Too Large", [("Content-Type", "text/plain"), ("Content-Length", "9")])
        return [b"too large"]
    if environ["PATH_INFO"] == "/short":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "100")])
        return [b"x" * 50]
    if environ["PATH_INFO"] == "/short-file":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1000000")])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if environ["PATH_INFO"] == "/empty-file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open("/dev/null", "rb"))
    if environ["PATH_INFO"] == "/file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 100_000))
    if environ["PATH_INFO"].startswith("/sleeps/"):
        time.sleep(float(environ["PATH_INFO"].removeprefix("/sleeps/")))
    if environ["PATH_INFO"] == "/complains":
        environ["wsgi.errors"].write("something is wrong\n" + "x" * 1000 + "\n")
    return answer(environ, start_response)


class Broken:
    """An event stream that fails at its first event, and again on close."""

    def __iter__(self):
        return self

    def __next__(self):
        raise RuntimeError("a bad day")

    def close(self):
        raise RuntimeError("a worse one")


def answer(environ, start_response):
    if environ["PATH_INFO"] == "/fails-late":
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b""
        raise RuntimeError("a bad day")
    if environ["PATH_INFO"] == "/loses-its-database":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        yield b""
        raise ConnectionResetError("the database has gone")
    if environ["PATH_INFO"] == "/dies":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        yield b""
        os.kill(os.getpid(), signal.SIGKILL)
    if environ["PATH_INFO"] == "/feed":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        for n in range(1000):
            yield f"id: {n}\n".encode()
            yield b"data: x\n\n"
            time.sleep(0.2)
        return
    if environ["PATH_INFO"] == "/quiet":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        yield b"data: x\n\n"
        for _ in range(1000):
            yield b":\n"
            time.sleep(0.2)
        return
    size = len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "application/json")])
    told = {
        "client": environ["REMOTE_ADDR"],
        "scheme": environ["wsgi.url_scheme"],
        "prefix": environ["SCRIPT_NAME"],
        "path": environ["PATH_INFO"],
        "size": size,
    }
    yield json.dumps(told).encode()
