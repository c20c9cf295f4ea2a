"""The log: one JSON object per line on standard error. No request ever waits for it.

Both services have the same file, so that you can use one without the other.
"""

import contextvars
import json
import logging
import os
import select
import sys
import time
from typing import TextIO

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON, with the id of the current request."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as a line: time (UTC), level, logger, message, and request id and exception if any."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if served := request_id.get():
            line["request_id"] = served
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error without blocking: if nobody reads the pipe, lines are dropped."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JSONFormatter())
        self._room = select.poll()
        self._room.register(self.stream, select.POLLOUT)
        self._cut = False  # whether the last line is incomplete

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` in pieces of PIPE_BUF, which a writable pipe takes whole, until the pipe is full."""
        try:
            line = (self.format(record) + self.terminator).encode(errors="replace")
            if self._cut:
                line = self.terminator.encode() + line
            for start in range(0, len(line), select.PIPE_BUF):
                if not self._room.poll(0):
                    return
                os.write(self.stream.fileno(), line[start : start + select.PIPE_BUF])
                self._cut = True
            self._cut = False
        except Exception:  # noqa: BLE001 - as in every handler: a failed write fails no request
            self.handleError(record)


handler = Handler()  # one for all loggers, so its lock keeps the pieces of a line together
