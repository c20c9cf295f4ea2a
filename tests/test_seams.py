"""What the services use of their servers' insides: a seam that has moved is named in one line, before it is served."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from handle import ROOT, SERVICES, run
from test_servers import start_server

HTTPTOOLS = "uvicorn.protocols.http.httptools_impl"
MOVED = {  # what moves it, and what is said
    "a method is gone": (
        "wsgi",
        "from gunicorn.workers.gthread import ThreadWorker\ndel ThreadWorker.handle",
        "gunicorn.workers.gthread.ThreadWorker.handle is gone, and worker.py relies on it",
    ),
    "a module is gone": (
        "wsgi",
        "import sys\nsys.modules['gunicorn.http.parser'] = None",
        " cannot be imported (import of gunicorn.http.parser halted; None in sys.modules), and gunicorn.conf.py relies"
        " on it",
    ),
    "a parameter more": (
        "wsgi",
        "from gunicorn.workers.gthread import ThreadWorker\n"
        "ThreadWorker._keepalive_after = lambda self, conn, keepalive, req: False",
        "gunicorn.workers.gthread.ThreadWorker._keepalive_after takes (self, conn, keepalive, req), "
        "no longer (self, conn, keepalive), and worker.py relies on it",
    ),
    "another class is made": (
        "wsgi",
        "from gunicorn.http import wsgi\nwsgi.create = lambda *args: wsgi.FastResponse(*args)",
        "gunicorn.http.wsgi.create no longer uses Response, and response.py relies on it",
    ),
    "another signal handler": (
        "wsgi",
        "from gunicorn.arbiter import Arbiter\nArbiter.run = lambda self: None",
        "gunicorn.arbiter.Arbiter.run no longer uses getattr, handle_%s, and gunicorn.conf.py relies on it",
    ),
    "fragments go elsewhere": (
        "asgi",
        "from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol\n"
        "del WebSocketsSansIOProtocol.handle_cont",
        "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol.handle_cont is gone, "
        "and protocol.py relies on it",
    ),
    "an answer is written in another way": (
        "asgi",
        f"from {HTTPTOOLS} import RequestResponseCycle as Before\nimport {HTTPTOOLS} as module\n"
        "class RequestResponseCycle(Before):\n    def push(self):\n        self.transport.writelines([])\n"
        "module.RequestResponseCycle = RequestResponseCycle",
        f"{HTTPTOOLS}.RequestResponseCycle uses self.transport.writelines too, and protocol.py relies on it",
    ),
    "another package's": (
        "asgi",
        "from websockets.protocol import Protocol\nProtocol.fail = lambda self, code: None",
        "websockets.protocol.Protocol.fail takes (self, code), no longer (self, code, reason), "
        "and protocol.py relies on it",
    ),
}


def test_no_seam_has_moved(service: str) -> None:
    assert_says(service, "")


@pytest.mark.parametrize("name", MOVED)
def test_a_seam_that_has_moved_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    service, moves, said = MOVED[name]
    (tmp_path / "sitecustomize.py").write_text(moves)
    assert_says(service, said, PYTHONPATH=str(tmp_path))


def assert_says(service: str, said: str, **env: str) -> None:
    """Check that seams.py says this alone, or succeeds where it is nothing."""
    command = [str(ROOT / f".venv/{service}/bin/python"), "seams.py"]
    folder = ROOT / f"{service}_service"
    result = subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False)
    assert (result.returncode != 0) == bool(said), result.stderr
    assert result.stderr.startswith("seams: " if said else "")
    assert len(result.stderr.splitlines()) == bool(said)
    assert said in result.stderr


@pytest.mark.parametrize(
    ("service", "moves", "stock"),
    [
        ("wsgi", "from gunicorn.workers.gthread import ThreadWorker as T\nT.set_accept_enabled = 0", "gthread"),
        ("asgi", f"from {HTTPTOOLS} import HttpToolsProtocol as T\ndel T.on_message_begin", "httptools"),
    ],
)
def test_a_server_whose_seam_has_moved_ends_at_its_start_with_that_line(
    tmp_path: Path, service: str, moves: str, stock: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(moves)
    server, _ = start_server(service, PYTHONPATH=str(tmp_path))
    _, said = server.communicate(timeout=60)
    assert server.returncode != 0
    (line,) = said.splitlines()
    assert line.startswith("seams: ")
    command = [str(ROOT / f".venv/{service}/bin/python"), "seams.py", stock]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run(command, cwd=ROOT / f"{service}_service", env=env, check=True)  # the stock server does without


def test_a_setting_that_there_is_not_is_refused_in_one_line(service: str) -> None:
    variable, values = {
        "wsgi": ("WSGI_WORKER", "leader or gthread"),
        "asgi": ("ASGI_PROTOCOL", "hardened or httptools"),
    }[service]
    server, _ = start_server(service, **{variable: "best"})
    _, said = server.communicate(timeout=60)
    assert server.returncode != 0
    assert said == f"{variable} must be {values}, not 'best'\n"


def test_both_services_look_in_the_same_way() -> None:
    wsgi, asgi = ((ROOT / f"{service}_service/seams.py").read_text().partition("def check(")[2] for service in SERVICES)
    assert wsgi == asgi


@pytest.mark.compose
def test_an_image_whose_server_has_moved_a_seam_is_not_built(tmp_path: Path, service: str) -> None:
    """As an application's own requirements may bring another version."""
    server = {"wsgi": "gunicorn", "asgi": "uvicorn"}[service]
    (tmp_path / server).mkdir()
    (tmp_path / server / "__init__.py").touch()
    built = run("docker", "build", "--build-context", f"application={tmp_path}", f"{service}_service", check=False)
    assert built.returncode != 0
    (said,) = set(re.findall("seams: .*", built.stderr))  # the engine repeats it at the end
    assert said.startswith(f"seams: {server} ")
    assert " cannot be imported " in said
