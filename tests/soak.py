"""The program behind ./scripts/soak: loads the stack with mixed traffic and fails if a process grows or ends.

Memory (KiB resident), descriptors and threads are sampled every five seconds. The first third of the time is warm-up.
The rest is split into three parts, whose medians are compared: a leak grows from each part to the next. A single step
is a burst, whose buffers HAProxy keeps for the next (up to tune.memory.hot-size).
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from crowd import Crowd
from handle import SERVICES, StackError
from held import Held
from ledger import Ledger
from load import Background
from sse import stream
from stack import Process, Stack
from ways import ComposeStack, LocalStack

EVERY_SECONDS = 5
# How much a process may grow from the first part to the last, as a share and as an amount; half of that from one part
# to the next. Smaller growth is noise: a settling heap, a health check's connection, a pool's thread.
ALLOWED = {"memory": (0.04, 2048), "descriptors": (0.1, 8), "threads": (0, 3)}

Samples = list[dict[str, Process]]  # in order of time


class Comers(Background):
    """Clients that open a stream or a WebSocket, read once and disconnect, one after the other."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.url
        super().__init__(self._streams, self._websockets)

    def _streams(self) -> None:
        while not self._end.is_set():
            for service in SERVICES:
                try:
                    with stream(f"{self._url}/{service}/events?interval_ms=100") as events:
                        next(events)
                except (httpx.HTTPError, AssertionError):
                    pass  # no free slot on the WSGI side
            self._end.wait(0.1)

    def _websockets(self) -> None:
        while not self._end.is_set():
            try:
                with connect(f"{self._url.replace('http', 'ws')}/asgi/ws") as socket:
                    socket.send("hello")
                    socket.recv(timeout=5)
            except (OSError, WebSocketException):
                pass
            self._end.wait(0.05)


def ended(samples: Samples) -> set[str]:
    """Return the processes that started or ended during the test."""
    return {
        name
        for name, first in samples[0].items()
        for one in samples
        if name not in one or one[name].started != first.started
    }


def warm(samples: Samples) -> dict[tuple[str, str], list[int]]:
    """Return each figure of each process after warm-up, in order of time: (process, figure) -> values."""
    warmed_up = samples[len(samples) // 3 :]
    return {
        (name, what): [getattr(one[name], what) for one in warmed_up if name in one]
        for name in samples[0]
        for what in ALLOWED
    }


def growth(samples: Samples) -> dict[tuple[str, str], tuple[float, float]]:
    """Return what grew more than allowed: (process, figure) -> the median after warm-up and at the end."""
    grown = {}
    for (process, what), values in warm(samples).items():
        third = len(values) // 3
        if not third:
            continue  # it has ended
        parts = values[:third], values[third:-third], values[-third:]
        first, middle, last = (statistics.median(part) for part in parts)
        share, amount = ALLOWED[what]
        if min(middle - first, last - middle) > (first * share + amount) / 2:
            grown[process, what] = (first, last)
    return grown


def soak(stack: Stack, minutes: float) -> tuple[Samples, dict[str, list[Ledger]]]:
    """Load the stack for that long; return the samples, and the requests sent by expected status."""
    samples: Samples = []
    ledgers: dict[str, list[Ledger]] = {"200": [], "404": []}
    for service in SERVICES:
        url = f"{stack.url}/{service}"
        ledgers["200"] += [Ledger(f"{url}/json", 50), Ledger(f"{url}/wait?seconds=0.2", 10), Ledger(f"{url}/work", 5)]
        ledgers["200"] += [Ledger(f"{url}/echo", 20, "POST"), Crowd(f"{url}/whoami", 20)]
        ledgers["404"] += [Ledger(f"{url}/nothing", 5)]
    sending = [*ledgers["200"], *ledgers["404"]]
    with ExitStack() as running:
        for each in (*sending, *(Held(stack.url, service) for service in SERVICES), Comers(stack)):
            running.enter_context(each)
        end = time.monotonic() + minutes * 60
        while (left := end - time.monotonic()) > 0:
            samples.append(stack.processes())
            sent = sum(len(ledger.sent) for ledger in sending)
            print(f"soak: {left:.0f} s left, {sent} requests sent", flush=True)
            time.sleep(min(EVERY_SECONDS, max(left, 0)))
    return samples, ledgers


def report(samples: Samples) -> None:
    """Print each process's range of each figure after warm-up."""
    print(f"\n{'process':<44} {'memory KiB':>19} {'descriptors':>13} {'threads':>9}")
    values = warm(samples)
    for name in sorted(samples[0]):
        ranges = [f"{min(v)}..{max(v)}" if (v := values[name, what]) else "ended" for what in ALLOWED]
        print(f"{name:<44}", *(text.rjust(width) for text, width in zip(ranges, (19, 13, 9), strict=True)))


def main() -> None:
    """Soak the chosen way of running and report what grew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--local", action="store_true")
    arguments = parser.parse_args()
    stack: Stack = LocalStack() if arguments.local else ComposeStack()
    try:
        try:
            stack.ensure()
        except StackError as failure:
            print(f"soak: {failure}", file=sys.stderr)
            sys.exit(2)
        samples, ledgers = soak(stack, arguments.minutes)
    finally:
        stack.down()
    report(samples)
    grown, gone = growth(samples), sorted(ended(samples))
    outcomes = [(status, seen) for status, many in ledgers.items() for one in many for seen in one.outcomes.values()]
    wrong = Counter(seen for status, seen in outcomes if seen != status)
    print(f"\n{len(outcomes)} requests, unexpected outcomes: {dict(wrong)}")
    for (process, what), (first, last) in grown.items():
        print(f"soak: {process}: {what} grew from {first:.0f} to {last:.0f}", file=sys.stderr)
    for process in gone:
        print(f"soak: {process}: ended", file=sys.stderr)
    if grown or gone or wrong:
        sys.exit(1)
    print("soak: nothing grew")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("soak: interrupted")
    except (AssertionError, StackError) as failure:
        sys.exit(f"soak: {failure}")
