"""A WSGI application, in Flask."""

import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/json")
def json_message() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/wait")
def wait() -> dict[str, float]:
    """Wait, as for a database."""
    seconds = min(15.0, request.args.get("seconds", 0.1, float))
    time.sleep(seconds)
    return {"waited": seconds}
