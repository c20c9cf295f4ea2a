"""Loads variants in turns with wrk, and prints what each costs: CPU time of a request, rate and times."""

import math
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from engine import HAPROXY, PROJECT, address, container, cpu_seconds, nginx_image, proxy, stack
from handle import ROOT, run

HERE = Path(__file__).parent
SECONDS = 1
# Of a container that opens a connection for each request: else its ports run out, each being kept for a minute.
MANY_CONNECTIONS = ("--sysctl=net.ipv4.tcp_tw_reuse=1", "--sysctl=net.ipv4.ip_local_port_range=1024 65535")


def milliseconds(figure: str) -> float:
    """Return wrk's `1.23ms`, `45.6us` or `1.2s` as milliseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", figure).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def load(url: str, clients: int, within: Sequence[str]) -> tuple[int, float, float, float]:
    """Load with keep-alive clients, POST for /echo; return requests, requests a second, and p50 and p99 in ms."""
    script = ["-s", str(HERE / "post.lua")] if url.endswith("/echo") else []
    said = run(*within, "wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--latency", *script, url).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"measure: not every request was answered with 200:\n{said}")
    percentiles = dict(re.findall(r"(50|99)%\s+(\S+)", said))
    requests, rate = (re.findall(pattern, said)[0] for pattern in (r"(\d+) requests in", r"Requests/sec:\s+([\d.]+)"))
    return int(requests), float(rate), milliseconds(percentiles["50"]), milliseconds(percentiles["99"])


def compare(
    title: str,
    variants: dict[str, tuple[str, list[str]]],
    clients: Sequence[int],
    rounds: int,
    within: Sequence[str] = (),
) -> None:
    """Load the variants (name: URL, containers) in turns, by wrk here or `within`; print a table of the medians."""
    figures: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    for number in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            url, containers = variants[name]
            for count in clients:
                print(f"  {title}: round {number + 1} of {rounds}: {name}, {count} clients", file=sys.stderr)
                before = cpu_seconds(containers)
                requests, rate, p50, p99 = load(url, count, within)
                cost = (cpu_seconds(containers) - before) / requests * 1e6
                figures.setdefault((count, name), []).append((cost, rate, p50, p99))
    print(f"\n{title}, {rounds} rounds of {SECONDS} s\n")
    print("| clients | variant | CPU us/request | against the first | requests/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|")
    for count in clients:
        first = figures[count, next(iter(variants))]
        for name in variants:
            values = figures[count, name]
            cost, rate, p50, p99 = (statistics.median(column) for column in zip(*values, strict=True))
            # By logarithms: the plain mean of ratios of two noisy figures is above the ratio of their means.
            ratios = [math.log(value[0] / base[0]) for value, base in zip(values, first, strict=True)]
            ratio = math.exp(statistics.mean(ratios))
            against = f"{ratio:.2f} ± {ratio * statistics.stdev(ratios) / rounds**0.5:.2f}"
            print(f"| {count} | {name} | {cost:.0f} | {against} | {rate:.0f} | {p50:.1f} | {p99:.1f} |")
    print(flush=True)


def proxies(
    title: str,
    rounds: int,
    variants: dict[str, dict[str, str]],
    clients: Sequence[int] = (32,),
    path: str = "/asgi/json",
) -> None:
    """Compare proxies in front of the same replicas: HAProxy with settings, nginx, or a changed haproxy.cfg."""
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        running.enter_context(stack(PROJECT))
        ready: dict[str, tuple[str, list[str]]] = {}
        for number, (name, settings) in enumerate(variants.items()):
            if log := settings.get("nginx"):
                running.enter_context(nginx_image())
                config = Path(folder, f"{number}.conf")
                config.write_text((HERE / "nginx-as-haproxy.conf").read_text().replace("ACCESS_LOG", log))
                container = proxy(str(number), f"{PROJECT}-nginx", f"{config}:/etc/nginx/nginx.conf")
            else:
                mount = ROOT / "haproxy"
                if change := settings.pop("change", ""):
                    mount = Path(folder, str(number))
                    run("cp", "-r", str(ROOT / "haproxy"), str(mount))
                    run("chmod", "-R", "a+rX", folder)
                    before, after = change.split("=")
                    text = (mount / "haproxy.cfg").read_text()
                    if before not in text:
                        sys.exit(f"measure: there is no {before!r} in haproxy.cfg any more")
                    (mount / "haproxy.cfg").write_text(text.replace(before, after))
                container = proxy(str(number), HAPROXY, f"{mount}:/usr/local/etc/haproxy", **settings)
            container_name = running.enter_context(container)
            ready[name] = (f"http://{address(container_name, f'{PROJECT}_edge')}:8080{path}", [container_name])
        run("sleep", "3")
        compare(title, ready, clients, rounds)


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


def bare(service: str, rounds: int, command: list[str]) -> None:
    """Compare the whole stack with what is usually run: three workers of one server, alone and behind nginx."""
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        ours = running.enter_context(stack(PROJECT, ACCESS_LOG="problems"))
        running.enter_context(nginx_image())
        alone, behind = (
            running.enter_context(container(name, f"{PROJECT}-{service}", *command)) for name in ("alone", "behind")
        )
        config = Path(folder, "nginx.conf")
        config.write_text((HERE / "nginx-plain.conf").read_text().replace("APPLICATION", behind))
        mount = f"--volume={config}:/etc/nginx/nginx.conf:ro"
        nginx = running.enter_context(container("nginx", *MANY_CONNECTIONS, mount, f"{PROJECT}-nginx"))
        wrk = running.enter_context(container("wrk", *MANY_CONNECTIONS, f"{PROJECT}-nginx", "sleep", "infinity"))
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
