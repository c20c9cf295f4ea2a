"""addons/acme, from the order to the renewal, and what may go wrong, with Pebble as the authority."""

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from handle import SERVICES, run, wait_until
from load import Load
from secure import PORT
from stack import Stack

pytestmark = [
    pytest.mark.compose,
    pytest.mark.full,
    pytest.mark.skipif(not shutil.which("pebble"), reason="there is no pebble"),
]
FILES = ("compose.yaml", "addons/https/compose.yaml", "addons/acme/compose.yaml", "tests/acme/pebble.yaml")
USED = "HAProxy uses a new certificate for {}, by"
MADE = """
import sys, trustme
folder, authority = sys.argv[1], trustme.CA()
authority.cert_pem.write_to_path(f"{folder}/ca.pem")
own = authority.issue_cert("pebble")
own.private_key_pem.write_to_path(f"{folder}/key.pem")
own.cert_chain_pems[0].write_to_path(f"{folder}/cert.pem")
"""


class Authority:
    """The stack with the addon, and Pebble beside it."""

    def __init__(self, stack: Stack, folder: Path, settings: dict[str, str]) -> None:
        self.stack, self.folder, self.settings = stack, folder, settings

    def configure(self, seconds: int = 90 * 86400) -> None:
        """Have Pebble issue certificates for so long, from its next start on."""
        files = {"certificate": "/pebble/cert.pem", "privateKey": "/pebble/key.pem"}
        ports = {"listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000"}
        asked = {"httpPort": 8080, "tlsPort": 8443, "certificateValidityPeriod": seconds}
        (self.folder / "config.json").write_text(json.dumps({"pebble": files | ports | asked}))

    def compose(self, *arguments: str) -> str:
        """Return what docker compose says, with the settings."""
        return run("docker", "compose", *arguments, env=self.settings).stdout

    def said(self) -> str:
        """Return the addon's log."""
        return self.compose("logs", "--no-log-prefix", "acme")

    def says(self, what: str, times: int = 1) -> str:
        """Wait until the addon has said this so often; return its log."""
        try:
            wait_until(lambda: self.said().count(what) >= times, f"acme says {what}")
        finally:
            print(said := self.said())
        return said

    def again(self, **settings: str) -> None:
        """Have the addon try at once, with these settings from now on."""
        self.settings |= settings
        self.compose("up", "--detach", "--no-deps", "--force-recreate", "acme")


@pytest.fixture(scope="module")
def authority(
    any_stack: Stack, certificate: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Authority]:
    """The stack with a certificate from Pebble."""
    folder = tmp_path_factory.mktemp("pebble")
    run(".venv/certificates/bin/python", "-c", MADE, str(folder))
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    settings = {
        "COMPOSE_FILE": ":".join(FILES),
        "HTTPS_PORT": str(PORT),
        "ACME_NAMES": "shop.test",
        "ACME_SERVER": "https://pebble:14000/dir",
        "PEBBLE_FILES": str(folder),
    }
    authority = Authority(any_stack, folder, settings)
    authority.configure()
    any_stack.down()
    any_stack.up(**settings)
    yield authority
    any_stack.down()
    run("./scripts/down", "--volumes", env=settings)


def served(name: str = "shop.test") -> x509.Certificate:
    """Return the certificate that HAProxy presents."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", PORT), 10), server_hostname=name) as connection:
        found = connection.getpeercert(binary_form=True)
    assert found
    return x509.load_der_x509_certificate(found)


def names(certificate: x509.Certificate) -> set[str]:
    """Return the names that it is for."""
    return set(
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    )


def test_a_certificate_is_ordered_and_used_without_a_reload(authority: Authority) -> None:
    began = authority.stack.access_log()[0]["time"]
    authority.says(USED.format("shop.test"))
    certificate = served()
    assert "Pebble" in certificate.issuer.rfc4514_string()
    assert names(certificate) == {"shop.test"}
    assert authority.stack.access_log()[0]["time"] == began
    asked = [line for line in authority.stack.access_log() if "acme-challenge" in line["uri"]]
    assert {(line["status"], line["backend"]) for line in asked} == {(200, "acme")}


@contextmanager
def served_throughout(stack: Stack) -> Iterator[None]:
    """Check that no request fails meanwhile."""
    urls = [f"https://localhost:{PORT}/{service}/json" for service in SERVICES]
    with ExitStack() as running:
        loads = [running.enter_context(Load(url, clients=2, verify=False)) for url in urls]
        yield
    for load in loads:
        assert load.outcomes["200"] > 10
        assert not load.failures


def test_a_name_that_leads_elsewhere_and_no_directory_leave_the_certificate(authority: Authority) -> None:
    before = served()
    with served_throughout(authority.stack):
        authority.again(ACME_NAMES="shop.test elsewhere.test")
        assert "elsewhere.test" in authority.says("next attempt in 15 minutes")
        authority.compose("stop", "pebble")
        authority.again(ACME_NAMES="shop.test www.shop.test")
        authority.says("next attempt in 15 minutes")
        assert served() == before
        authority.compose("start", "pebble")


def test_an_account_that_is_forgotten_is_replaced_and_a_certificate_near_its_end_renewed(authority: Authority) -> None:
    """Pebble keeps accounts in memory."""
    authority.configure(seconds=40)
    both = "shop.test, www.shop.test"
    with served_throughout(authority.stack):
        authority.compose("restart", "pebble")
        authority.again(ACME_NAMES="shop.test www.shop.test")
        assert "not found.; registering again" in authority.says(USED.format(both))
        before = served()
        assert names(before) == {"shop.test", "www.shop.test"}
        wait_until(lambda: datetime.now(UTC) > before.not_valid_after_utc - timedelta(seconds=15), "it ends soon")
        authority.again()
        authority.says(USED.format(both))
        after = served()
        assert after.not_valid_after_utc > before.not_valid_after_utc
    authority.compose("restart", "haproxy")
    run("./scripts/up", env=authority.settings)
    assert served() == after, "it is stored"


def test_what_is_set_wrong_is_named(any_stack: Stack) -> None:
    files = {"COMPOSE_FILE": ":".join(FILES[:3])}
    cases = {
        "ACME_NAMES must be host names, not ''": {"ACME_NAMES": ""},
        "ACME_SERVER must be staging or production or https address, not 'http://a'": {"ACME_SERVER": "http://a"},
        "ACME_EMAIL must be none or e-mail address, not 'me'": {"ACME_EMAIL": "me"},
    }
    for why, settings in cases.items():
        ended = run("./scripts/up", env={"ACME_NAMES": "shop.test"} | files | settings, check=False)
        assert ended.returncode == 2
        assert why in ended.stderr.splitlines()[-1]
