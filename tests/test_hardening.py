"""What compose.yaml promises of each container, read back from the running ones."""

import json
from typing import Any

import pytest

from stack import Stack, run

pytestmark = pytest.mark.compose


@pytest.fixture(params=["haproxy", "wsgi", "asgi"])
def container(stack: Stack, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A running container of each service, as `docker inspect` tells it."""
    name = run("docker", "compose", "ps", "--quiet", request.param).stdout.split()[0]
    inspected: dict[str, Any] = json.loads(run("docker", "inspect", name).stdout)[0]
    return inspected


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


def test_no_capability_is_left_and_none_can_be_gained(container: dict[str, Any]) -> None:
    status = run("docker", "exec", container["Id"], "cat", "/proc/self/status").stdout
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{kind}:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert not container["HostConfig"]["Privileged"]


def test_resources_are_limited(container: dict[str, Any]) -> None:
    host = container["HostConfig"]
    assert 0 < host["NanoCpus"] <= 1_000_000_000
    assert 0 < host["Memory"] <= 512 * 1024**2
    assert 0 < host["PidsLimit"] <= 160
    assert {"Name": "nofile", "Hard": 20000, "Soft": 20000} in host["Ulimits"]
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


def test_it_is_restarted_and_given_time_to_stop(container: dict[str, Any]) -> None:
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert container["Config"]["StopTimeout"] >= 30
    assert container["State"]["Health"]["Status"] == "healthy"


def test_no_container_sees_the_docker_socket(container: dict[str, Any]) -> None:
    assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"])


def test_only_haproxy_publishes_ports_and_only_on_loopback(container: dict[str, Any]) -> None:
    published = {
        p: [b["HostIp"] for b in bindings] for p, bindings in container["NetworkSettings"]["Ports"].items() if bindings
    }
    is_haproxy = container["Config"]["Labels"]["com.docker.compose.service"] == "haproxy"
    assert published == ({"8080/tcp": ["127.0.0.1"], "8404/tcp": ["127.0.0.1"]} if is_haproxy else {})


def test_the_replicas_reach_no_outside_network(container: dict[str, Any]) -> None:
    networks = list(container["NetworkSettings"]["Networks"])
    if container["Config"]["Labels"]["com.docker.compose.service"] == "haproxy":
        assert len(networks) == 2
        return
    (network,) = networks
    assert json.loads(run("docker", "network", "inspect", network).stdout)[0]["Internal"]


def test_the_images_hold_no_compiler_cache_or_test(container: dict[str, Any]) -> None:
    if container["Config"]["Labels"]["com.docker.compose.service"] == "haproxy":
        pytest.skip("HAProxy's image is not built here")
    find = "find / -xdev ( -path */bin/*cc -o -path /srv/*test* -o -path */.cache/pip -o -path /root/.cache )"
    assert run("docker", "exec", container["Id"], *find.split(), check=False).stdout == ""
    history = run("docker", "history", "--format", "{{.Size}}\t{{.CreatedBy}}", "--human=false", container["Image"])
    copied = [int(line.split("\t")[0]) for line in history.stdout.splitlines() if "COPY" in line]
    assert 0 < sum(copied) < 60_000_000
