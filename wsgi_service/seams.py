"""The internals of gunicorn that this service relies on.

`python seams.py [SETTING]` names the first one that an upgrade has moved, in one line, and fails. The build of the
image runs it, and each server does when it starts. docs/upstream.md says what would make each seam unnecessary.
"""

import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from types import CodeType

SETTING = "WSGI_WORKER"

# Which files run with each value of the setting; the first value is the default.
FILES = {
    "leader": ("gunicorn.conf.py", "serving.py", "worker.py", "response.py"),
    "gthread": ("gunicorn.conf.py", "serving.py"),
}

# The seams of each file, by module. "NAME (...)": NAME takes exactly these parameters. "NAME uses ...": its code
# mentions these names. "NAME self.x. ...": its source uses no other attribute of self.x. "NAME": it exists.
SEAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "gunicorn.conf.py": {
        "gunicorn.arbiter": (
            "Arbiter.run uses getattr handle_%s",
            "Arbiter.handle_term (self)",
            "Arbiter.handle_term uses StopIteration",
            "Arbiter.signal (self, sig, frame)",
        ),
        "gunicorn.glogging": (
            "Logger.setup (self, cfg)",
            "Logger.setup uses error_log",
            "Logger.exception (self, msg, args, kwargs)",
            "Logger.warning (self, msg, args, kwargs)",
        ),
        "gunicorn.workers.base": (
            "Worker.handle_error uses exception warning",
            "Worker.handle_abort uses worker_abort",
        ),
    },
    "serving.py": {
        "gunicorn.arbiter": ("Arbiter.reap_workers uses APP_LOAD_ERROR HaltServer",),
    },
    "worker.py": {
        "gunicorn.workers.base": (
            "Worker.init_process uses PIPE run",
            "Worker.init_signals uses set_wakeup_fd PIPE handle_exit",
            "Worker.notify (self)",
        ),
        "gunicorn.workers.gthread": (
            "ThreadWorker.__init__ uses worker_connections keepalived_conns",
            "ThreadWorker.init_process uses poller",
            "ThreadWorker.run (self)",
            "ThreadWorker.handle_exit uses alive",
            "ThreadWorker.is_parent_alive (self)",
            "ThreadWorker.set_accept_enabled (self, enabled)",
            "ThreadWorker.set_accept_enabled uses sockets poller register unregister accept",
            "ThreadWorker.accept (self, listener)",
            "ThreadWorker.handle (self, conn)",
            "ThreadWorker.handle uses data_ready parser handle_request _keepalive_after",
            "ThreadWorker.handle_request uses alive nr keepalived_conns force_close",
            "ThreadWorker._keepalive_after (self, conn, keepalive)",
            "TConn (cfg, sock, client, server)",
            "TConn.__init__ uses sock timeout parser data_ready",
            "TConn.close (self, graceful)",
        ),
        "gunicorn.http.parser": (
            "Parser.__init__ uses unreader",
            "Parser.finish_body (self, deadline, max_bytes)",
        ),
        "gunicorn.http.unreader": ("Unreader.__init__ uses buf",),
        "gunicorn.http.errors": ("ParseException",),
    },
    "response.py": {
        "gunicorn.workers.gthread": ("ThreadWorker.handle_request uses create write write_file close headers_sent",),
        "gunicorn.http.wsgi": (
            "create uses Response",
            "FileWrapper.__init__ uses filelike",
            "Response (req, sock, cfg)",
            "Response self.sock. sendall sendfile",
            "Response.__init__ uses headers headers_sent response_length sent chunked _omits_body",
            "Response.start_response (self, status, headers, exc_info)",
            "Response.start_response uses headers_sent process_headers chunked",
            "Response.process_headers uses headers response_length",
            "Response.default_headers (self)",
            "Response.send_headers (self)",
            "Response.write uses send_headers sent response_length _emit_body",
            "Response._emit_body (self, data)",
            "Response.write_file uses sendfile write",
            "Response.sendfile (self, respiter)",
            "Response.sendfile uses send_headers is_chunked response_length",
            "Response.close (self)",
        ),
    },
}


def check(setting: str) -> None:
    """Exit with one line if the setting is unknown, or if a seam that it needs has moved."""
    if setting not in FILES:
        sys.exit(f"{SETTING} must be {' or '.join(FILES)}, not '{setting}'")
    for file in FILES[setting]:
        for module, seams in SEAMS[file].items():
            for seam in seams:
                if moved := how_it_moved(module, *seam.partition(" ")[::2]):
                    package = module.partition(".")[0]
                    sys.exit(f"seams: {package} {version(package)}: {moved}, and {file} relies on it")


def how_it_moved(module: str, name: str, expected: str) -> str:
    """Return how the name differs from what is expected, or an empty string."""
    try:
        found = pkgutil.resolve_name(f"{module}:{name}")
        kind, *names = expected.split() or [""]
        if kind == "uses":
            lost = set(names) - set(names_in(getattr(inspect.unwrap(found), "__code__", None)))
            return f"{module}.{name} no longer uses {', '.join(sorted(lost))}" if lost else ""
        if kind.startswith("self."):
            more = set(re.findall(rf"\b{re.escape(kind)}(\w+)", inspect.getsource(found))) - set(names)
            return f"{module}.{name} uses {kind}{', '.join(sorted(more))} too" if more else ""
        takes = f"({', '.join(inspect.signature(found).parameters)})" if kind else ""
    except ImportError as error:
        return f"{module} cannot be imported ({error})"
    except AttributeError:
        return f"{module}.{name} is gone"
    except (OSError, TypeError, ValueError) as error:
        return f"{module}.{name} cannot be looked into ({error})"
    return f"{module}.{name} takes {takes}, no longer {expected}" if takes != expected else ""


def names_in(code: CodeType | None) -> Iterator[str]:
    """Yield the global names, attributes and strings in the code of a function."""
    if code is None:
        return
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
        elif isinstance(constant, str):
            yield constant


if __name__ == "__main__":
    check(sys.argv[1] if len(sys.argv) > 1 else next(iter(FILES)))
