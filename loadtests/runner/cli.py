"""The command line of ./scripts/load, whose header describes it."""

import argparse
import functools
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent

from handle import StackError
from report import comparison, page
from report.cross_check import cross_check
from report.results import Results
from runner.errors import LoadError
from runner.plan import listing, scenarios
from runner.run import RESULTS, Run

MET, FAILED, MISSED, INVALID = 0, 1, 3, 4  # exit statuses


def main() -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="load", usage=argparse.SUPPRESS, add_help=False)
    parser.add_argument("names", nargs="*")
    for flag in ("--full", "--smoke", "--list"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, metavar="DIR")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"))
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(listing()))
        return MET
    try:
        if arguments.report:
            print(f"load: {page.write(Results.read(arguments.report))}")
            return MET
        if arguments.compare:
            print(comparison.compare(*map(Results.read, arguments.compare)))
            return MET
    except ValueError as error:
        parser.error(str(error))
    if unknown := set(arguments.names) - set(scenarios()):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(scenarios())}")
    if arguments.target is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", arguments.target):
        parser.error(f"--target must be a URL such as http://127.0.0.1:8080, not {arguments.target!r}")
    size = "full" if arguments.full else "smoke" if arguments.smoke else "quick"
    with interruptible():
        results = Run(arguments.names, size, arguments.seed, arguments.target).results()
    return conclude(results)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have signals interrupt this `with`, so that it is undone; by default Python interrupts any greenlet."""
    throw = functools.partial(gevent.getcurrent().throw, KeyboardInterrupt)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    watchers = [gevent.signal_handler(number, gevent.get_hub().loop.run_callback, throw) for number in signals]
    try:
        yield
    finally:
        for number, watcher in zip(signals, watchers, strict=True):
            watcher.cancel()
            signal.signal(number, signal.default_int_handler)


def conclude(results: Results) -> int:
    """Write the report, print what matters of it, and return the exit status."""
    path = page.write(results)
    verdicts = results.verdicts()
    for line in cross_check(results):
        print(f"load: {line}")
    for verdict in verdicts:
        if not verdict.met:
            word = "not judged" if verdict.met is None else "missed"
            print(f"load: {word}: {verdict.scenario}: {verdict.threshold}; it was {verdict.measured}")
    if partial := results.conditions["partial"]:
        print(f"load: {partial}: the results are partial, of {len(results.cells)} measurements", file=sys.stderr)
    print(f"load: {path}")
    if partial:
        return FAILED
    if results.invalid():
        return INVALID
    return MET if all(verdict.met for verdict in verdicts) else MISSED


def run() -> None:
    """Run `main`, tell in one line why it could not go on, and exit."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("load: interrupted")
    except (LoadError, StackError) as error:
        sys.exit(f"load: {error}")
    except OSError as error:
        sys.exit(f"load: {f'{error.strerror}: {error.filename or RESULTS}' if error.strerror else error}")
