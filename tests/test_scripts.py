"""The scripts, called wrongly: one clear line, exit status 2, and nothing left half started."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from handle import ROOT, run, wait_until
from stack import Stack

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and "." not in path.name)
PROJECT = os.environ.get("COMPOSE_PROJECT_NAME", "wsgi-asgi-haproxy")


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that the script gave the reason in one line, changed nothing and exited with 2."""
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    for word in words:
        assert word in line


@pytest.fixture
def up(any_stack: Stack) -> tuple[str, ...]:
    """The command that starts the way of running under test, which is stopped."""
    any_stack.down()
    return any_stack.up_command


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PORT", "abc"),
        ("HTTP_PORT", "0"),
        ("ADMIN_PORT", "65536"),
        ("BIND", "everywhere"),
        ("ACCESS_LOG", "some"),
        ("DRAIN_SECONDS", "-1"),
        ("DRAIN_SECONDS", "60"),
        ("WSGI_MAXCONN", "0"),
        ("WSGI_STREAMS", "many"),
        ("WSGI_STREAMS", "4"),
        ("DRAIN_SECONDS", "1"),
        ("WSGI_REPLICAS", "9"),
        ("START_SECONDS", "4"),
        ("ASGI_STREAMS", "8001"),
        ("BALANCE", "source"),
        ("WSGI_APP", "no_colon"),
        ("ASGI_APP", "os; rm -rf"),
        ("WSGI_WORKER", "sync"),
        ("ASGI_PROTOCOL", "h11"),
    ],
)
def test_up_refuses_a_bad_setting(up: tuple[str, ...], variable: str, value: str) -> None:
    assert_refused(run(*up, env={variable: value}, check=False), variable)


def test_up_names_the_file_in_which_a_bad_setting_stands(up: tuple[str, ...], copy: Path) -> None:
    (copy / ".env").write_text("WSGI_MAXCONN=99  # too many\n")
    settings = {name: value for name, value in os.environ.items() if name != "WSGI_MAXCONN"}
    result = subprocess.run(up, cwd=copy, env=settings, capture_output=True, text=True, check=False)
    assert_refused(result, "WSGI_MAXCONN must be 2 to 40, not '99'", "set in .env", "compose.yaml")


def test_up_names_a_setting_that_has_no_effect_for_want_of_its_addon(up: tuple[str, ...]) -> None:
    unread = {"https": ("HTTPS_PORT", "9443"), "ipv6": ("BIND_IPV6", "::1"), "acme": ("ACME_NAMES", "a.test")}
    said = run(*up, env=dict(unread.values()) | {"HTTP_PORT": "9000", "ADMIN_PORT": "9000"}, check=False).stderr
    for addon, (name, _) in unread.items():
        assert f"{name} has no effect: COMPOSE_FILE does not name addons/{addon}/compose.yaml\n" in said


@pytest.mark.compose
def test_up_refuses_a_compose_file_that_is_not_there_which_dot_env_names(up: tuple[str, ...], copy: Path) -> None:
    (copy / ".env").write_text("COMPOSE_FILE=compose.yaml:nowhere.yaml  # a comment\n")
    settings = {name: value for name, value in os.environ.items() if name != "COMPOSE_FILE"}
    result = subprocess.run(up, cwd=copy, env=settings, capture_output=True, text=True, check=False)
    assert_refused(result, "nowhere.yaml: no such file")


@pytest.mark.compose
def test_up_dev_refuses_an_application_in_a_folder_of_its_own(up: tuple[str, ...]) -> None:
    settings = {"COMPOSE_FILE": "compose.yaml:examples/django/compose.yaml"}
    assert_refused(run(*up, "--dev", env=settings, check=False), "folder of its own")


def test_up_refuses_one_port_for_both(up: tuple[str, ...]) -> None:
    assert_refused(run(*up, env={"HTTP_PORT": "9000", "ADMIN_PORT": "9000"}, check=False), "HTTP_PORT")


@pytest.mark.parametrize("variable", ["HTTP_PORT", "ADMIN_PORT"])
def test_up_refuses_a_busy_port(up: tuple[str, ...], variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert_refused(run(*up, env={variable: port}, check=False), f"port {port}")


def test_up_refuses_a_file_that_cannot_be_read(up: tuple[str, ...], copy: Path) -> None:
    (copy / "haproxy/haproxy.cfg").unlink()
    (copy / "haproxy/haproxy.cfg").symlink_to("/nonexistent")
    result = subprocess.run(up, cwd=copy, capture_output=True, text=True, check=False)
    assert_refused(result, "haproxy/haproxy.cfg")
    assert not (copy / ".run").exists()


def test_up_refuses_a_bad_configuration(up: tuple[str, ...], copy: Path) -> None:
    with (copy / "haproxy/haproxy.cfg").open("a") as config:
        config.write("\nnonsense\n")
    (copy / ".venv").symlink_to(ROOT / ".venv")
    result = subprocess.run(up, cwd=copy, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "haproxy/*.cfg" in result.stderr.splitlines()[-1]
    assert "nonsense" in result.stderr
    assert not (copy / ".run").exists()


def test_local_processes_are_not_mistaken_for_another_program_of_their_number(copy: Path) -> None:
    """After a reboot, the stored process id may belong to another process."""
    (copy / ".run").mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        (copy / ".run/supervisord.pid").write_text(str(other.pid))
        settings = os.environ | {"COMPOSE_PROJECT_NAME": "nobodys"}
        subprocess.run(["./scripts/down"], cwd=copy, env=settings, check=True, capture_output=True)
        assert other.poll() is None
        other.kill()
    assert not (copy / ".run").exists()


@pytest.mark.parametrize("missing", ["Python 3.11", "haproxy"])
def test_up_names_the_program_that_is_missing(copy: Path, tmp_path: Path, missing: str) -> None:
    common = copy / "scripts/common.sh"
    if missing == "haproxy":
        common.write_text(re.sub("^PATH=.*", "", common.read_text(), flags=re.MULTILINE))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "dirname", "id", "uname", "find", "rm", "mkdir", "sed", "awk", "cksum"):
        (programs / name).symlink_to(shutil.which(name) or name)
    env = {"PATH": str(programs)} | {name: os.environ[name] for name in ("HTTP_PORT", "ADMIN_PORT")}
    result = subprocess.run(["./scripts/up", "--local"], cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert_refused(result, f"needs {missing}", "install")


def test_up_refuses_a_python_that_is_too_old(any_stack: Stack, copy: Path, tmp_path: Path) -> None:
    any_stack.down()
    old = tmp_path / "python3.10"
    old.write_text(f"#!{sys.executable}\nimport sys; sys.version_info = (3, 10, 9); exec(sys.argv[2])\n")
    old.chmod(0o755)
    result = run(str(copy / "scripts/up"), "--local", env={"PYTHON": str(old)}, check=False)
    assert_refused(result, "Python 3.11")


@pytest.mark.full
def test_up_says_which_way_it_takes_and_down_leaves_nothing(up: tuple[str, ...], any_stack: Stack) -> None:
    way = "local processes, as --local asks" if "--local" in up else "containers: a Docker engine answers"
    assert run(*up).stdout.startswith(f"up: {way}")
    assert httpx.get(f"{any_stack.url}/wsgi/json").status_code == 200
    if "--local" not in up:  # as a service leaves it that has since been taken out
        run("docker", "network", "create", "--label", f"com.docker.compose.project={PROJECT}", f"{PROJECT}_default")
    any_stack.down()
    assert not (ROOT / ".run").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(any_stack.url)
    if "--local" not in up:
        project = f"label=com.docker.compose.project={PROJECT}"
        for what in ("container ls --all", "network ls", "volume ls", "image ls"):
            assert run("docker", *what.split(), "--quiet", "--filter", project).stdout == "", what


DATABASE = """
services:
  database:
    image: ${HAPROXY_IMAGE:-haproxy:3.2}
    command: [sleep, infinity]
    stop_grace_period: 1s
    volumes: ["data:/data"]
volumes:
  data:
"""


@pytest.mark.compose
def test_down_keeps_a_users_volume_until_it_is_told_to_remove_it(any_stack: Stack, copy: Path) -> None:
    any_stack.down()
    (copy / "database.yaml").write_text(DATABASE)
    settings = os.environ | {"COMPOSE_FILE": "compose.yaml:database.yaml"}
    kept = []
    for arguments in ([], ["--volumes"]):
        for command in (["docker", "compose", "up", "--detach", "database"], ["./scripts/down", *arguments]):
            subprocess.run(command, cwd=copy, env=settings, check=True, capture_output=True)
        kept.append(run("docker", "volume", "ls", "--quiet", "--filter", f"name=^{PROJECT}_data$").stdout.split())
    assert kept == [[f"{PROJECT}_data"], []]


@pytest.mark.compose
def test_neither_up_nor_docker_compose_replaces_what_the_other_has_started(
    up: tuple[str, ...], any_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WSGI_APP", "ASGI_APP"):  # the tests set them to an empty string, unlike users
        monkeypatch.delenv(variable, raising=False)
    containers = ("docker", "compose", "ps", "--quiet", "haproxy", "wsgi", "asgi")
    by_compose = ("docker", "compose", "up", "--detach", "--build", "--scale=wsgi=4")
    run(*up)
    started = set(run(*containers).stdout.split())
    assert len(started) == 7
    run(*by_compose)
    assert set(run(*containers).stdout.split()) > started
    run(*up)
    assert len(started & set(run(*containers).stdout.split())) >= 6  # compose chooses which of four to stop
    run(*by_compose[:-1])
    assert len(set(run(*containers).stdout.split())) == 7
    any_stack.down()


@pytest.mark.full
def test_up_dev_restarts_a_service_whose_code_changes(
    up: tuple[str, ...], any_stack: Stack, copy: Path, service: str
) -> None:
    (copy / ".venv").symlink_to(ROOT / ".venv")
    application = copy / f"{service}_service/app.py"
    good, page = application.read_text(), f"{any_stack.url}/{service}/plaintext"
    said = copy / "said"
    with said.open("w") as output:
        process = subprocess.Popen([*up, "--dev"], cwd=copy, stdout=output, stderr=output)
        try:
            wait_until(lambda: "watching the code" in said.read_text(), "it watches")
            application.write_text(good.replace("Hello, World!", "Hello, Developer!"))
            wait_until(lambda: f"{service} restarted" in said.read_text(), "it restarts")
            wait_until(lambda: httpx.get(page, timeout=30).text == "Hello, Developer!", "the new code answers")
            application.write_text(good + "\n1 / 0\n")
            wait_until(lambda: "ZeroDivisionError" in said.read_text(), "it says what is wrong")
            application.write_text(good)
            wait_until(lambda: said.read_text().count(f"{service} restarted") == 2, "it restarts again")
            wait_until(lambda: httpx.get(page, timeout=30).text == "Hello, World!", "the old code answers")
        finally:
            process.terminate()
            process.wait()
            subprocess.run(["./scripts/down"], cwd=copy, check=True, capture_output=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_and_refuses_what_it_does_not_know(script: str) -> None:
    told = run(f"./scripts/{script}", "--help").stdout
    assert "USAGE" in told
    there = subprocess.run([f"./{script}", "--help"], cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert "USAGE" in there.stdout
    assert_refused(run(f"./scripts/{script}", "--nonsense", check=False), "--nonsense")


def test_a_test_that_is_not_there_is_refused_before_anything_is_ended(stack: Stack) -> None:
    assert_refused(run("./scripts/test", "nowhere.py", check=False), "nowhere.py")
    stack.wait_whole()
