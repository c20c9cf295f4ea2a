"""./scripts/lock: each requirements.in by itself, and only those that have changed or are named."""

import re
import subprocess
from pathlib import Path

import pytest

from handle import ROOT
from test_scripts import assert_refused


@pytest.fixture
def cloned(copy: Path) -> Path:
    """A copy of the repository that has the tools installed."""
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


def lock(folder: Path, *arguments: str) -> list[str]:
    """Run ./scripts/lock and return the files that it has locked."""
    done = subprocess.run(["./scripts/lock", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return re.findall(r"^lock: (\S+\.txt)$", done.stdout, re.MULTILINE)


def add(folder: Path, service: str, requirement: str) -> None:
    """Add a line to a service's requirements.in."""
    with (folder / f"{service}_service/requirements.in").open("a") as file:
        file.write(f"{requirement}\n")


def locked(folder: Path, service: str) -> str:
    """Return a service's lock file."""
    return (folder / f"{service}_service/requirements.txt").read_text()


def test_what_has_changed_is_locked_and_nothing_else(cloned: Path) -> None:
    assert lock(cloned) == []
    before = {file: file.read_bytes() for file in cloned.rglob("requirements*.txt")}
    add(cloned, "wsgi", "python-slugify")
    assert lock(cloned) == ["wsgi_service/requirements.txt"]
    changed = {file for file in before if file.read_bytes() != before[file]}
    assert changed == {cloned / "wsgi_service/requirements.txt"}
    assert re.search(r"^python-slugify==\S+ \\\n +--hash=sha256:", locked(cloned, "wsgi"), re.MULTILINE)
    assert "://" not in locked(cloned, "wsgi")
    assert lock(cloned) == []


def test_two_services_may_need_versions_that_conflict(cloned: Path) -> None:
    add(cloned, "wsgi", "markupsafe<3")
    add(cloned, "asgi", "markupsafe>=3")
    assert lock(cloned) == ["asgi_service/requirements.txt", "wsgi_service/requirements.txt"]
    assert "markupsafe==2." in locked(cloned, "wsgi")
    assert "markupsafe==3." in locked(cloned, "asgi")
    tools = (cloned / "requirements-dev.txt").read_text()
    assert not re.search("^(fastapi|flask|gunicorn|markupsafe|uvicorn)==", tools, re.MULTILINE)


def test_what_is_named_is_locked_and_keeps_its_versions_unless_they_are_to_be_upgraded(cloned: Path) -> None:
    add(cloned, "wsgi", "markupsafe<3")
    lock(cloned)
    source = cloned / "wsgi_service/requirements.in"
    source.write_text(source.read_text().replace("markupsafe<3", "markupsafe"))
    assert lock(cloned, "wsgi_service/", "requirements-dev.in") == [
        "wsgi_service/requirements.txt",
        "requirements-dev.txt",
    ]
    assert "markupsafe==2." in locked(cloned, "wsgi")
    assert lock(cloned, "--upgrade", "wsgi_service") == ["wsgi_service/requirements.txt"]
    assert "markupsafe==3." in locked(cloned, "wsgi")


@pytest.mark.parametrize("name", ["nowhere_service", "docs", "README.md"])
def test_what_cannot_be_locked_is_refused(cloned: Path, name: str) -> None:
    command = ["./scripts/lock", name]
    assert_refused(subprocess.run(command, cwd=cloned, capture_output=True, text=True, check=False), name)
