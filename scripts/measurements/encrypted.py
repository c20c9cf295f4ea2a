"""What TLS costs HAProxy, nginx and Caddy with the same certificate in front of the same replicas."""

import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from comparison import HERE, ratio
from engine import HAPROXY, MANY_CONNECTIONS, PROJECT, address, container, cpu_seconds, others_image, proxy, stack
from handle import ROOT, run

CLIENTS = 16
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
    " -keyout /made/key.pem -out /made/chain.pem 2>/dev/null"
    " && cat /made/chain.pem /made/key.pem >/made/site.pem && chmod 644 /made/*"
)
TLS = (
    "listen 8443 ssl; listen 8443 quic reuseport; http2 on; keepalive_requests 1000000;"
    " ssl_session_cache shared:sessions:10m; ssl_certificate /made/chain.pem; ssl_certificate_key /made/key.pem;"
)
Load = Callable[[str, tuple[str, ...]], int]


def h2load(*options: str) -> Load:
    """Return a load of keep-alive clients with these options."""

    def load(server: str, within: tuple[str, ...]) -> int:
        url = f"https://{server}:8443/asgi/json"
        said = run(*within, "h2load", *options, f"-c{CLIENTS}", "-m1", "-D1", url).stdout
        done, good = map(int, re.findall(r"requests: .* (\d+) done, (\d+) succeeded", said)[0])
        if not done or done != good or " 0 3xx" not in said:
            sys.exit(f"measure: not every request was answered with 200:\n{said}")
        return done

    return load


def curl(count: int, *options: str) -> Load:
    """Return a load of so many requests with these options."""
    given = ("--silent", "--insecure", "--max-time=20", *options)
    tell = ("--write-out", "%{http_code}\\n", "--output", "/dev/null")

    def load(server: str, within: tuple[str, ...]) -> int:
        said = run(*within, "curl", *given, *tell, f"https://{server}:8443/asgi/json?[1-{count}]").stdout
        if said.split("\n").count("200") != count:
            sys.exit(f"measure: not every request was answered with 200:\n{said[:200]}")
        return count

    return load


ANEW = ("--http1.1", "--header", "Connection: close")
LOADS: dict[str, Load] = {
    "HTTP/1.1": h2load("--h1"),
    "HTTP/2": h2load(),
    "HTTP/3": curl(2000, "--http3-only", "--parallel", f"--parallel-max={CLIENTS}"),  # h2load cannot, here
    "connection and request, full handshake": curl(400, *ANEW, "--no-sessionid"),
    "connection and request, session resumed": curl(400, *ANEW),
}


def encrypted(rounds: int) -> None:
    """Print the CPU time of a request for each proxy and kind of load; ratios are against nginx in the same round."""
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        running.enter_context(stack(PROJECT))
        running.enter_context(others_image())
        image = f"{PROJECT}-others"
        Path(folder).chmod(0o755)
        run("docker", "run", "--rm", f"--volume={folder}:/made", image, "bash", "-c", CERTIFICATE)
        config = (HERE / "nginx-as-haproxy.conf").read_text().replace("ACCESS_LOG", "off").replace("listen 8080;", TLS)
        Path(folder, "nginx.conf").write_text(config)
        Path(folder, "Caddyfile").write_text((HERE / "Caddyfile").read_text())
        started = {
            "nginx": proxy(
                "nginx", image, f"{folder}:/made", command=["nginx", "-g", "daemon off;", "-c", "/made/nginx.conf"]
            ),
            "HAProxy": proxy(
                "haproxy",
                HAPROXY,
                f"{ROOT}/haproxy:/usr/local/etc/haproxy",
                f"{folder}/site.pem:/certificates/site.pem",
                HTTPS_PORT="8443",
                ACCESS_LOG="problems",
            ),
            "Caddy": proxy(
                "caddy",
                image,
                f"{folder}:/made",
                command=["caddy", "run", "--adapter", "caddyfile", "--config", "/made/Caddyfile"],
            ),
        }
        ready = {name: running.enter_context(container) for name, container in started.items()}
        loader = running.enter_context(container("load", *MANY_CONNECTIONS, image, "sleep", "infinity"))
        run("sleep", "3")
        costs: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        for number in range(rounds):
            for kind, load in LOADS.items():
                for name in random.sample(list(ready), len(ready)):
                    print(f"  TLS: round {number + 1} of {rounds}: {kind}: {name}", file=sys.stderr)
                    before = cpu_seconds([ready[name]])
                    count = load(address(ready[name], f"{PROJECT}_edge"), ("docker", "exec", loader))
                    spent = (cpu_seconds([ready[name]]) - before) / count * 1e6
                    costs.setdefault((kind, name), []).append((spent,))
    print(f"\nTLS, {rounds} rounds, {CLIENTS} clients\n")
    print("| CPU us/request | nginx | HAProxy | ratio | Caddy | ratio |")
    print("|---|---|---|---|---|---|")
    for kind in LOADS:
        medians = {name: statistics.median(cost for (cost,) in costs[kind, name]) for name in ready}
        line = [kind, f"{medians['nginx']:.0f}"]
        for name in ("HAProxy", "Caddy"):
            mean, error = ratio(costs[kind, name], costs[kind, "nginx"])
            line += [f"{medians[name]:.0f}", f"{mean:.2f} ± {error:.2f}"]
        print(f"| {' | '.join(line)} |")
    print(flush=True)
