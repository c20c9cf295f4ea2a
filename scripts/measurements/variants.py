"""What is compared: proxies before the same replicas, whole stacks, and the servers that are usually run."""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from comparison import HERE, compare
from engine import HAPROXY, MANY_CONNECTIONS, PROJECT, address, container, memory, others_image, proxy, stack
from handle import ROOT, run

SHOWN = "socat - /var/lib/haproxy/admin.sock <<<'show table client_requests' | head -n 1"
BARE = {
    "wsgi": ["gunicorn", "-w", "3", "-c", "/dev/null", "-b", "0.0.0.0:8080", "app:app"],
    "asgi": ["uvicorn", "--workers", "3", "--host", "0.0.0.0", "--port", "8080", "--no-access-log", "app:app"],
}


@contextmanager
def in_front(variants: dict[str, dict[str, str]], path: str) -> Iterator[dict[str, tuple[str, list[str]]]]:
    """Run proxies in front of the same replicas: HAProxy with settings, nginx, or a changed haproxy.cfg."""
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        running.enter_context(stack(PROJECT))
        ready: dict[str, tuple[str, list[str]]] = {}
        for number, (name, settings) in enumerate(variants.items()):
            if log := settings.get("nginx"):
                running.enter_context(others_image())
                config = Path(folder, f"{number}.conf")
                config.write_text((HERE / "nginx-as-haproxy.conf").read_text().replace("ACCESS_LOG", log))
                container = proxy(str(number), f"{PROJECT}-others", f"{config}:/etc/nginx/nginx.conf")
            else:
                mount = ROOT / "haproxy"
                if change := settings.pop("change", ""):
                    mount = Path(folder, str(number))
                    run("cp", "-r", str(ROOT / "haproxy"), str(mount))
                    run("chmod", "-R", "a+rX", folder)
                    before, after = change.split("=")
                    files = [file for file in mount.glob("*.cfg") if before in file.read_text()]
                    if not files:
                        sys.exit(f"measure: there is no {before!r} in haproxy/*.cfg any more")
                    for file in files:
                        file.write_text(file.read_text().replace(before, after))
                container = proxy(str(number), HAPROXY, f"{mount}:/usr/local/etc/haproxy", **settings)
            container_name = running.enter_context(container)
            ready[name] = (f"http://{address(container_name, f'{PROJECT}_edge')}:8080{path}", [container_name])
        run("sleep", "3")
        yield ready


def proxies(
    title: str,
    rounds: int,
    variants: dict[str, dict[str, str]],
    clients: Sequence[int] = (32,),
    path: str = "/asgi/json",
) -> None:
    """Compare the proxies that `in_front` runs."""
    with in_front(variants, path) as ready:
        compare(title, ready, clients, rounds)


def limits(rounds: int) -> None:
    """Compare HAProxy with and without limits for each client, and print what it costs to remember 100,000 of them."""
    most = dict.fromkeys(("CLIENT_REQUESTS", "CLIENT_CONNECTIONS", "CLIENT_STREAMS"), "1000000")
    many = most | {"TRUSTED_PROXIES": "0.0.0.0/0"}  # who let a load test name its clients
    variants = {
        "no limits": {"ACCESS_LOG": "problems"},
        "all three limits": {"ACCESS_LOG": "problems"} | most,
        "the same, behind a trusted proxy, 100,000 clients": {"ACCESS_LOG": "problems"} | many,
    }
    with in_front(variants, "/asgi/json") as ready:
        url, containers = list(ready.values())[-1]
        before = memory(containers)
        run("wrk", "-t1", "-c64", "-d25s", "-s", str(HERE / "clients.lua"), url)
        (used,) = re.findall(r"used:(\d+)", run("docker", "exec", containers[0], "bash", "-c", SHOWN).stdout)
        print(f"\n{used} clients are remembered, in {memory(containers) - before} KiB")
        compare("Limits for each client", ready, (32,), rounds)


def services(title: str, rounds: int, path: str, variants: dict[str, dict[str, str]]) -> None:
    """Compare whole stacks, one after the other in turns: CPU of all their containers together."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        ready = {}
        for number, (name, settings) in enumerate(variants.items()):
            if options := settings.pop("gunicorn", ""):
                override = Path(folder, f"{number}.yaml")
                override.write_text(f"services: {{wsgi: {{environment: {{GUNICORN_CMD_ARGS: '{options}'}}}}}}\n")
                settings["COMPOSE_FILE"] = f"compose.yaml:{override}"
            containers = running.enter_context(stack(f"{PROJECT}{number}", ACCESS_LOG="problems", **settings))
            ready[name] = (f"http://{address(containers[0], f'{PROJECT}{number}_edge')}:8080{path}", containers)
        compare(title, ready, [16, 64], rounds)


def bare(service: str, rounds: int) -> None:
    """Compare the whole stack with what is usually run: three workers of one server, alone and behind nginx."""
    command = BARE[service]
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        ours = running.enter_context(stack(PROJECT, ACCESS_LOG="problems"))
        running.enter_context(others_image())
        alone, behind = (
            running.enter_context(container(name, f"{PROJECT}-{service}", *command)) for name in ("alone", "behind")
        )
        config = Path(folder, "nginx.conf")
        config.write_text((HERE / "nginx-plain.conf").read_text().replace("APPLICATION", behind))
        mount = f"--volume={config}:/etc/nginx/nginx.conf:ro"
        nginx = running.enter_context(container("nginx", *MANY_CONNECTIONS, mount, f"{PROJECT}-others"))
        wrk = running.enter_context(container("wrk", *MANY_CONNECTIONS, f"{PROJECT}-others", "sleep", "infinity"))
        server = " ".join(command[:3])
        where = {
            "this stack, ACCESS_LOG=problems": (ours[0], f"/{service}/json", ours),
            server: (alone, "/json", [alone]),
            f"nginx + {server}": (nginx, "/json", [nginx, behind]),
        }
        run("sleep", "3")
        variants = {
            name: (f"http://{address(front, f'{PROJECT}_edge')}:8080{path}", containers)
            for name, (front, path, containers) in where.items()
        }
        compare(f"The whole stack, {service.upper()} /json", variants, [16, 64], rounds, ("docker", "exec", wrk))


def adapted(rounds: int) -> None:
    """Compare a WSGI application on gunicorn with the same on uvicorn: CPU of HAProxy and the service."""
    with stack(PROJECT, ACCESS_LOG="problems", COMPOSE_FILE="compose.yaml:examples/a2wsgi/compose.yaml") as containers:
        front = f"http://{address(containers[0], f'{PROJECT}_edge')}:8080"
        ways = {"WSGI on gunicorn": "wsgi", "WSGI on uvicorn, through a2wsgi": "asgi"}
        for path in ("/json", "/wait?seconds=0.05"):
            variants = {
                name: (
                    f"{front}/{service}{path}",
                    [one for one in containers if re.search(f"-(haproxy|{service})-", one)],
                )
                for name, service in ways.items()
            }
            compare(f"One WSGI application on two servers, {path}", variants, [16, 64], rounds)
