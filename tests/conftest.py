"""Starts the stack once for all tests, in the way that --stack selects, and stops it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from handle import ROOT, SERVICES
from journaled import Journaled, small_disk
from secure import certificate, secure  # noqa: F401 - fixtures
from stack import Stack
from ways import ComposeStack, LocalStack


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stack", choices=["local", "compose"], default="local", help="the way of running to test")
    parser.addoption("--full", action="store_true", help="the long tests too, and all at full length")
    parser.addoption(
        "--turn",
        type=turn,
        default=(0, 1),
        help="K/N: of the long tests every Nth, from the Kth on, and none at full length",
    )


def turn(text: str) -> tuple[int, int]:
    """Return K and N of `K/N`; raise ValueError if there is no such turn."""
    number, _, count = text.partition("/")
    if not 0 <= int(number) < int(count):
        raise ValueError(text)
    return int(number), int(count)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip container tests if there are no containers, and slow tests unless asked for; scripts/test says so."""
    left_out = {"compose"} if config.getoption("--stack") == "local" else set()
    if not config.getoption("--full"):
        left_out.add("full")
    outside = [item for item in items if any(map(item.get_closest_marker, left_out))]
    first, every = config.getoption("--turn")
    long = [item for item in items if item not in outside and item.get_closest_marker("full")]
    outside += [item for number, item in enumerate(long) if number % every != first]
    config.hook.pytest_deselected(items=outside)
    items[:] = [item for item in items if item not in outside]
    # Tests with default settings run first: every other setting needs another start.
    items.sort(key=lambda item: "stack" not in getattr(item, "fixturenames", ()))


@pytest.fixture
def often(pytestconfig: pytest.Config) -> bool:
    """Whether tests that repeat something do so at full length."""
    return bool(pytestconfig.getoption("--full")) and pytestconfig.getoption("--turn") == (0, 1)


@pytest.fixture(scope="session")
def any_stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """The chosen way of running; the module starts it with its own settings."""
    stack = LocalStack() if pytestconfig.getoption("--stack") == "local" else ComposeStack()
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def stack(any_stack: Stack) -> Stack:
    """The stack with default settings and all replicas."""
    any_stack.ensure()
    return any_stack


@pytest.fixture(scope="session")
def any_journaled(any_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journaled]:
    """The journal and its folder, for modules that start the stack with them."""
    folder = tmp_path_factory.mktemp("journal")
    with small_disk(folder):
        yield Journaled(any_stack, folder)
        any_stack.down()


@pytest.fixture(scope="module")
def journaled(any_journaled: Journaled) -> Iterator[Journaled]:
    """The stack with the journal on both services and all replicas."""
    with any_journaled.settings_in_the_environment():
        any_journaled.start()
        yield any_journaled


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each of the two services in turn."""
    return str(request.param)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client of HAProxy's port."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")  # not longer: Playwright keeps an event loop running, and other tests run one
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "needs Chromium: sudo apt-get install chromium"
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A disposable copy of the repository, in a folder with a space in its name."""
    target = tmp_path / "a copy"
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".venv", ".run", ".git", ".*_cache"), symlinks=True)
    return target
