"""Loads variants in turns with wrk, and prints what each costs: CPU time of a request, rate and tail."""

import math
import random
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import cpu_seconds
from handle import run

HERE = Path(__file__).parent
SECONDS = 1


def milliseconds(figure: str) -> float:
    """Return wrk's `1.23ms`, `45.6us` or `1.2s` as milliseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", figure).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def load(url: str, clients: int, within: Sequence[str]) -> tuple[int, float, float]:
    """Load with keep-alive clients, POST for /echo; return requests, requests a second, and the p99 in ms."""
    script = ["-s", str(HERE / "post.lua")] if url.endswith("/echo") else []
    said = run(*within, "wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "--latency", *script, url).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"measure: not every request was answered with 200:\n{said}")
    patterns = (r"(\d+) requests in", r"Requests/sec:\s+([\d.]+)", r"\n +99%\s+(\S+)")
    requests, rate, p99 = (re.findall(pattern, said)[0] for pattern in patterns)
    return int(requests), float(rate), milliseconds(p99)


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
                requests, rate, p99 = load(url, count, within)
                cost = (cpu_seconds(containers) - before) / requests * 1e6
                figures.setdefault((count, name), []).append((cost, rate, p99))
    print(f"\n{title}, {rounds} rounds of {SECONDS} s, {'/'.join(map(str, clients))} clients\n")
    print("| variant | CPU us/request | ratio | requests/s | p99 ms |")
    print("|---|---|---|---|---|")
    base = next(iter(variants))
    for name in variants:
        columns = [[], [], []]  # type: list[list[str]]
        for count in clients:
            cost, rate, p99 = (statistics.median(column) for column in zip(*figures[count, name], strict=True))
            for column, figure in zip(columns, (f"{cost:.0f}", f"{rate:.0f}", f"{p99:.1f}"), strict=True):
                column.append(figure)
        costs, rates, p99s = map("/".join, columns)
        found = [ratio(figures[count, name], figures[count, base]) for count in clients]
        against = "/".join(f"{mean:.2f}" for mean, _ in found) + f" ± {max(error for _, error in found):.2f}"
        print(f"| {name} | {costs} | {'1' if name == base else against} | {rates} | {p99s} |")
    print(flush=True)


def ratio(ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]]) -> tuple[float, float]:
    """Return the mean ratio of CPU times in the same rounds, and its standard error.

    The mean is geometric: the arithmetic mean of ratios of two noisy figures is above the ratio of their means.
    """
    logarithms = [math.log(one[0] / other[0]) for one, other in zip(ours, theirs, strict=True)]
    mean = math.exp(statistics.mean(logarithms))
    return mean, mean * statistics.stdev(logarithms) / len(logarithms) ** 0.5
