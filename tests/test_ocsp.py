"""OCSP: what the authority says of the certificate is stapled, if the certificate names a responder."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from handle import run, wait_until
from secure import PORT
from stack import Stack
from test_scripts import PROJECT

pytestmark = [pytest.mark.compose, pytest.mark.full]
NOW = datetime.now(UTC)
SERVES = """
import http.server
class Responder(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.end_headers()
        self.wfile.write(open("/said/answer.der", "rb").read())
    do_POST = do_GET
http.server.HTTPServer(("", 8000), Responder).serve_forever()
"""


def issued(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """Begin a certificate for a name, to be signed with the issuer's key."""
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=9))
    )


@pytest.fixture
def revocable(tmp_path: Path) -> tuple[str, str]:
    """A chain and its key, and beside them what the responder at ocsp.test says of it."""
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    constraints, access = x509.BasicConstraints(ca=True, path_length=None), AuthorityInformationAccessOID.OCSP
    authority = issued("authority", name, root).add_extension(constraints, critical=True).sign(root, hashes.SHA256())
    responder = x509.AccessDescription(access, x509.UniformResourceIdentifier("http://ocsp.test:8000/"))
    leaf = (
        issued("shop.test", name, own)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.test")]), critical=False)
        .add_extension(x509.AuthorityInformationAccess([responder]), critical=False)
        .sign(root, hashes.SHA256())
    )
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            leaf, authority, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + timedelta(days=1), None, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, authority)
        .sign(root, hashes.SHA256())
    )
    (tmp_path / "answer.der").write_bytes(answer.public_bytes(Encoding.DER))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM))
    key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tmp_path.chmod(0o755)
    return str(chain), str(key)


@pytest.fixture
def responder(secure: Stack, revocable: tuple[str, str]) -> Iterator[None]:
    """A container that the stack's HAProxy knows as ocsp.test."""
    image, folder = os.environ.get("PYTHON_IMAGE") or "python:3.14-slim", Path(revocable[0]).parent
    network = ("--network", f"{PROJECT}_edge", "--network-alias", "ocsp.test")
    command = (
        "docker",
        "run",
        "--rm",
        "--detach",
        *network,
        f"--volume={folder}:/said:ro",
        image,
        "python",
        "-c",
        SERVES,
    )
    container = run(*command).stdout.strip()
    yield
    run("docker", "rm", "--force", container)


def stapled() -> str:
    """Return what openssl says of the handshake."""
    command = ("openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-servername", "shop.test", "-status")
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout


def test_what_the_authority_says_is_stapled(
    secure: Stack, responder: None, revocable: tuple[str, str], certificate: tuple[str, ...]
) -> None:
    assert "OCSP response: no response sent" in stapled(), "the development certificate names no responder"
    run(*certificate, *revocable)
    wait_until(lambda: "Cert Status: good" in stapled(), "it is stapled")
