"""A WSGI application that knows nothing of this stack: no framework, a generator, a stream at a path of its own."""

import json
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return map(open, ["/nowhere"])  # lazy: fails at the first chunk
    if environ["PATH_INFO"] == "/breaks":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return Broken()
    return answer(environ, start_response)


class Broken:
    """An event stream that fails at its first event, and again when it is closed."""

    def __iter__(self):
        return self

    def __next__(self):
        raise RuntimeError("a bad day")

    def close(self):
        raise RuntimeError("a worse one")


def answer(environ, start_response):
    if environ["PATH_INFO"] == "/feed":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        for n in range(1000):
            yield f"id: {n}\n".encode()
            yield b"data: x\n\n"
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
