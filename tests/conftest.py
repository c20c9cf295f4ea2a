"""Starts the stack once for all tests, in the way that --stack names, and ends it."""

from collections.abc import Iterator

import httpx
import pytest

from stack import SERVICES, ComposeStack, LocalStack, Stack


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stack", choices=["local", "compose"], default="local", help="the way of running to test")
    parser.addoption("--full", action="store_true", help="the fault tests at full length")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about containers when there are none; scripts/test says so."""
    if config.getoption("--stack") == "local":
        outside = [item for item in items if item.get_closest_marker("compose")]
        config.hook.pytest_deselected(items=outside)
        items[:] = [item for item in items if item not in outside]
    # Those of the stack with default settings first: each other setting is a start of its own.
    items.sort(key=lambda item: "stack" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def any_stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """The chosen way of running, which a module starts with its own settings."""
    stack = LocalStack() if pytestconfig.getoption("--stack") == "local" else ComposeStack()
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def stack(any_stack: Stack) -> Stack:
    """The stack with default settings, whole; started where it does not run so yet."""
    if any_stack.settings != {}:
        any_stack.up()
    any_stack.wait_whole()
    return any_stack


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each of the two services in turn."""
    return str(request.param)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client of HAProxy's port."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client
