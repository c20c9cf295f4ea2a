"""The stack with the journal on both services, and the folder that the journal commits to."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handle import ROOT, run
from ledger import Account, Ledger, account
from stack import Stack


class Journaled:
    """Starts the stack with the journal, which commits to `folder`."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self._settings = {
            "WSGI_APP": "journal:wsgi",
            "ASGI_APP": "journal:asgi",
            "PYTHONPATH": str(ROOT / "tests/journal"),
            "COMPOSE_FILE": "compose.yaml:tests/journal/compose.yaml",
            "ACCESS_LOG": "problems",
            "JOURNAL": str(folder),
        }

    def start(self, **settings: str) -> None:
        """Start the stack with these settings in addition to its own."""
        self.stack.ensure(**self._settings | settings)

    @contextmanager
    def settings_in_the_environment(self) -> Iterator[None]:
        """Make the settings visible to docker compose and the scripts that the tests call."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._settings.items():
                patch.setenv(name, value)
            yield

    def account(self, ledger: Ledger) -> Account:
        """Compare the ledger with the journal, late commits included."""
        if ledger.failures:  # acknowledged entries are committed already
            time.sleep(1)
        return account(ledger, self.folder)


@contextmanager
def small_disk(folder: Path, size: str = "64m") -> Iterator[None]:
    """Mount a small disk there to fill, if root rights are available."""
    prefix = ("sudo", "-n") if os.getuid() else ()
    folder.chmod(0o777)
    mounted = run(*prefix, "mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "journal", str(folder), check=False)
    try:
        yield
    finally:
        if mounted.returncode == 0:
            run(*prefix, "umount", str(folder))
