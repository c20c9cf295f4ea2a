"""The internals of uvicorn and websockets that this service relies on.

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

SETTING = "ASGI_PROTOCOL"

# Which files run with each value of the setting; the first value is the default.
FILES = {
    "hardened": ("server.py", "protocol.py"),
    "httptools": ("server.py",),
}

# The seams of each file, by module. "NAME (...)": NAME takes exactly these parameters. "NAME uses ...": its code
# mentions these names. "NAME self.x. ...": its source uses no other attribute of self.x. "NAME": it exists.
SEAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "server.py": {
        "uvicorn.server": (
            "Server (config)",
            "Server.__init__ uses config server_state started",
            "Server._serve uses startup shutdown",
            "Server.startup (self, sockets)",
            "Server.capture_signals uses handle_exit raise_signal",
            "Server.handle_exit (self, sig, frame)",
            "Server.shutdown uses timeout_graceful_shutdown",
            "ServerState.__init__ uses tasks connections",
        ),
        "uvicorn.protocols.http.httptools_impl": ("HttpToolsProtocol.__init__ uses connections tasks transport",),
        "uvicorn.protocols.websockets.websockets_sansio_impl": (
            "WebSocketsSansIOProtocol.__init__ uses connections tasks transport",
        ),
    },
    "protocol.py": {
        "uvicorn.protocols.http.httptools_impl": (
            "HttpToolsProtocol.on_message_begin uses headers",
            "HttpToolsProtocol.on_header uses headers append",
            "HttpToolsProtocol.on_headers_complete (self)",
            "HttpToolsProtocol.on_headers_complete uses RequestResponseCycle scope",
            "RequestResponseCycle.__init__ uses transport response_started response_complete chunked_encoding",
            "RequestResponseCycle self.transport. write close is_closing",
            "RequestResponseCycle.run_asgi uses send response_started",
            "RequestResponseCycle.send (self, message)",
            "RequestResponseCycle.send uses transport response_started response_complete chunked_encoding scope",
            "RequestResponseCycle.send uses expected_content_length",
        ),
        "uvicorn.protocols.websockets.websockets_sansio_impl": (
            "WebSocketsSansIOProtocol.__init__ uses conn transport frames read_paused writable close_sent",
            "WebSocketsSansIOProtocol.pause_writing (self)",
            "WebSocketsSansIOProtocol.resume_writing (self)",
            "WebSocketsSansIOProtocol.receive (self)",
            "WebSocketsSansIOProtocol.receive uses read_paused resume_reading",
            "WebSocketsSansIOProtocol.send_receive_event_to_app uses frames read_paused pause_reading",
            "WebSocketsSansIOProtocol.handle_events uses handle_cont",
            "WebSocketsSansIOProtocol.handle_cont (self, event)",
            "WebSocketsSansIOProtocol.handle_cont uses frames",
            "WebSocketsSansIOProtocol.handle_parser_exception (self)",
        ),
        "websockets.protocol": ("Protocol.fail (self, code, reason)",),
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
