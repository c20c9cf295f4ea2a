"""What compose.yaml promises about each container, checked on the running ones."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from handle import SERVICES, run
from stack import Stack, locust_page

pytestmark = pytest.mark.compose


@pytest.fixture(scope="module")
def locust(stack: Stack) -> Iterator[None]:
    """Locust's containers, in addition to the others."""
    with locust_page():
        yield


LOCUST = [pytest.param(name, marks=pytest.mark.full) for name in ("locust", "locust-worker")]


@pytest.fixture(params=["haproxy", "wsgi", "asgi", *LOCUST])
def container(stack: Stack, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A running container of each service, as `docker inspect` shows it."""
    if request.param.startswith("locust"):
        request.getfixturevalue("locust")
    name = run("docker", "compose", "ps", "--quiet", request.param).stdout.split()[0]
    inspected: dict[str, Any] = json.loads(run("docker", "inspect", name).stdout)[0]
    return inspected


def service_of(container: dict[str, Any]) -> str:
    """Return the container's service."""
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def is_locusts(container: dict[str, Any]) -> bool:
    """Return whether the container generates load."""
    return service_of(container).startswith("locust")


def test_no_container_runs_as_root(container: dict[str, Any]) -> None:
    user = run("docker", "exec", container["Id"], "id", "-u").stdout.strip()
    group = run("docker", "exec", container["Id"], "id", "-g").stdout.strip()
    assert user != "0"
    assert group != "0"
    assert container["Config"]["User"], "the image names its user"


def test_the_root_is_read_only(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["ReadonlyRootfs"]
    for path in ("/x", "/etc/x", "/srv/x", "/usr/local/etc/haproxy/x"):
        written = run("docker", "exec", container["Id"], "touch", path, check=False)
        assert written.returncode != 0
        assert "Read-only file system" in written.stderr or "No such file or directory" in written.stderr


def test_a_program_finds_its_user_a_home_and_a_folder_for_data(container: dict[str, Any]) -> None:
    if service_of(container) not in SERVICES:
        pytest.skip("it runs no application")
    code = (
        "import getpass, os, pathlib; home = pathlib.Path.home(); (home / 'cache').mkdir(exist_ok=True);"
        "print(getpass.getuser(), os.stat('/data').st_uid == os.getuid(), os.access('/tmp', os.W_OK))"
    )
    assert run("docker", "exec", container["Id"], "python", "-c", code).stdout == "app True True\n"
    volume = ["docker", "run", "--rm", "--volume", "/data", "--entrypoint", "touch", container["Image"], "/data/x"]
    run(*volume)


def test_no_capability_is_left_and_none_can_be_gained(container: dict[str, Any]) -> None:
    status = run("docker", "exec", container["Id"], "cat", "/proc/self/status").stdout
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{kind}:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert not container["HostConfig"]["Privileged"]


def test_resources_are_limited(container: dict[str, Any]) -> None:
    host = container["HostConfig"]
    assert 0 < host["NanoCpus"] <= 1_000_000_000
    assert 0 < host["Memory"] <= (1024 if is_locusts(container) else 768) * 1024**2
    assert 0 < host["PidsLimit"] <= 512
    assert {"Name": "nofile", "Hard": 20000, "Soft": 20000} in host["Ulimits"]
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


def test_it_is_restarted_and_given_time_to_stop(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert container["Config"]["StopTimeout"] >= (30 if service_of(container) in SERVICES else 5)
    if service_of(container) != "locust-worker":  # it has no port
        assert container["State"]["Health"]["Status"] == "healthy"


def test_no_container_sees_the_docker_socket(container: dict[str, Any]) -> None:
    assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"])


def test_only_haproxy_and_locusts_page_publish_ports_and_only_on_loopback(container: dict[str, Any]) -> None:
    published = {
        p: [b["HostIp"] for b in bindings] for p, bindings in container["NetworkSettings"]["Ports"].items() if bindings
    }
    expected = {"haproxy": ["8080/tcp", "8404/tcp"], "locust": ["8089/tcp"]}
    assert published == {port: ["127.0.0.1"] for port in expected.get(service_of(container), [])}


def test_the_replicas_reach_no_outside_network(container: dict[str, Any]) -> None:
    networks = list(container["NetworkSettings"]["Networks"])
    if service_of(container) not in SERVICES:
        assert len(networks) == 2
        return
    (network,) = networks
    assert json.loads(run("docker", "network", "inspect", network).stdout)[0]["Internal"]


def test_a_replicas_start_compiles_nothing(container: dict[str, Any]) -> None:
    """It could not store bytecode, and would take CPU from the serving replicas."""
    if service_of(container) not in SERVICES:
        pytest.skip("it is no application's")
    loaded = run("docker", "exec", container["Id"], "python", "-v", "-c", "import app, serving").stderr
    codes = re.findall(r"code object from '?([^'\s]+\.pyc?)", loaded)
    assert any(code.startswith("/srv/__pycache__/app.") for code in codes)
    assert not [code for code in codes if code.endswith(".py")]


def test_the_images_hold_no_compiler_cache_or_test(container: dict[str, Any]) -> None:
    if service_of(container) not in SERVICES:
        pytest.skip("HAProxy's image is not built here, and Locust's is no application's")
    wanted, known = (
        "-path */bin/*cc -o -path /srv/*test* -o -path */.cache/pip -o -path /root/.cache",
        "/srv/serving.py",
    )
    find = f"docker run --rm --user 0 --entrypoint find {container['Image']} / -xdev ( {wanted} -o -path {known} )"
    assert run(*find.split()).stdout.split() == [known]
    history = run("docker", "history", "--format", "{{.Size}}\t{{.CreatedBy}}", "--human=false", container["Image"])
    ours = [line for line in history.stdout.splitlines() if "COPY" in line or "compileall" in line]
    assert 0 < sum(int(line.split("\t")[0]) for line in ours) < 60_000_000
