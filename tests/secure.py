"""The stack with addons/https: the fixtures of the modules that ask it over TLS."""

import os
from collections.abc import Iterator

import pytest

from handle import run
from stack import Stack

PORT = int(os.environ.get("HTTPS_PORT") or 18443)
HTTPS = {"COMPOSE_FILE": "compose.yaml:addons/https/compose.yaml", "HTTPS_PORT": str(PORT)}


@pytest.fixture(scope="module")
def certificate(any_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The command ./scripts/certificate for this way of running, with a folder of its own, whose CA is trusted here."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        patch.setenv("SSL_CERT_FILE", str(folder / "wsgi-asgi-haproxy/ca/ca.pem"))
        local = [one for one in any_stack.up_command if one == "--local"]
        yield ("./scripts/certificate", *local)
    any_stack.down()
    run("./scripts/down", "--volumes", env=HTTPS)


@pytest.fixture(scope="module")
def secure(any_stack: Stack, certificate: tuple[str, ...]) -> Iterator[Stack]:
    """The stack with HTTPS, all replicas, at its https address."""
    run(*certificate, "--development")
    any_stack.ensure(**HTTPS, HSTS_SECONDS="600")
    plain, any_stack.url = any_stack.url, f"https://localhost:{PORT}"
    yield any_stack
    any_stack.url = plain
