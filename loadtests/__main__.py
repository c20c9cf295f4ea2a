"""Runs the load tests; see scripts/load."""

import locust  # isort: skip  # noqa: F401 - first: it makes the modules imported after it cooperative

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))  # handle.py

from runner.cli import run

run()
