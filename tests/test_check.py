"""./scripts/check holds this project's files to its style, and an application to what its owner has chosen."""

import re
import subprocess
from pathlib import Path

import pytest

from handle import ROOT, run

SLOPPY = "from os import *\nimport json,sys\ndef Handler( x, y = {} ) :\n  return y['a'] + undefined;\nx: int = 'a'\n"


@pytest.fixture
def checked(copy: Path) -> Path:
    """A clone of the repository that has what the checks need, so that they are quick."""
    for kept in (".venv", ".mypy_cache"):
        if (ROOT / kept).exists():
            (copy / kept).symlink_to(ROOT / kept)
    subprocess.run("git init --quiet && git add --all", shell=True, cwd=copy, check=True)
    return copy


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ./scripts/check."""
    return subprocess.run(["./scripts/check"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.full
def test_an_application_is_held_to_what_its_owner_has_chosen(checked: Path) -> None:
    (checked / "asgi_service/app.py").write_text(SLOPPY)
    shop, backend = checked / "wsgi_service/shop", checked / "backend"
    for package in (shop, backend):
        package.mkdir()
        (package / "wsgi.py").write_text(SLOPPY)
    (checked / "README.md").write_text("# The shop\n")
    done = check(checked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("check: all is well\n")
    (shop / "ruff.toml").write_text('lint.select = ["F821"]\n')
    done = check(checked)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "undefined" in said
    assert "wsgi_service/shop/wsgi.py" in said
    assert not any(other in said for other in ("backend/", "asgi_service/app.py", "unused"))


@pytest.mark.full
def test_this_projects_files_are_held_to_its_style(checked: Path) -> None:
    names = ("wsgi_service/app.py", "asgi_service/serving.py", "tests/stack.py")
    for name in names:
        with (checked / name).open("a") as file:
            file.write("\n\nBROKEN: int = 'not a number'\n")
    done = check(checked)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    for name in names:
        assert re.search(rf"would be reformatted\n +--> {name}:", said)
        assert re.search(rf"^{name}:\d+: error: Incompatible types", said, re.MULTILINE)


def test_every_file_of_the_servers_is_held_to_its_style() -> None:
    shown = run(".venv/dev/bin/ruff", "check", "--show-files", ".").stdout.split()
    ours = {str(file) for file in ROOT.glob("*_service/*.py") if file.name != "app.py"}
    assert ours <= set(shown)
