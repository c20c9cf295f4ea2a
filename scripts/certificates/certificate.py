"""Makes and checks certificates for ./scripts/certificate.

    certificate.py make FOLDER NAME...   print one for these names and addresses, signed by the CA in FOLDER, old or new
    certificate.py check CHAIN [KEY]     print the chain with its key, if they can be used
    certificate.py show                  say what the certificate on standard input is for

Exit status 2, with one line that says why, if a certificate cannot be used.
"""

import datetime
import ipaddress
import os
import sys
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

DAYS = 397  # the longest that browsers accept
CERTIFICATE, KEY = "ca.pem", "ca.key"


class UnusableError(Exception):
    """A certificate that cannot be used. The message says why."""


def make(folder: Path, names: list[str]) -> bytes:
    """Return a key and a certificate for these names and addresses, and keep the CA in the folder."""
    if (folder / KEY).exists():
        authority = trustme.CA.from_pem((folder / CERTIFICATE).read_bytes(), (folder / KEY).read_bytes())
    else:
        authority = trustme.CA(organization_name="Development", organization_unit_name=str(folder))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / CERTIFICATE).write_bytes(authority.cert_pem.bytes())
        os.close(os.open(folder / KEY, os.O_CREAT | os.O_WRONLY, 0o600))
        (folder / KEY).write_bytes(authority.private_key_pem.bytes())
    expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=DAYS)
    return authority.issue_cert(*names, not_after=expiry).private_key_and_cert_chain_pem.bytes()


def check(chain: Path, key: Path) -> bytes:
    """Return the certificates and the key in these PEM files, or raise UnusableError."""
    certificates = parsed(chain)
    try:
        private = serialization.load_pem_private_key(read(key), None)
    except (ValueError, TypeError) as error:
        raise UnusableError(f"{key} has no private key without a password in PEM form") from error
    own = certificates[0]
    public = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*public) != private.public_key().public_bytes(*public):
        raise UnusableError(f"the key in {key} does not belong to the first certificate in {chain}")
    now = datetime.datetime.now(datetime.UTC)
    if own.not_valid_after_utc < now:
        raise UnusableError(f"the certificate in {chain} expired on {own.not_valid_after_utc:%Y-%m-%d}")
    if own.not_valid_before_utc > now:
        raise UnusableError(f"the certificate in {chain} is not valid before {own.not_valid_before_utc:%Y-%m-%d}")
    if not names_of(own):
        raise UnusableError(f"the certificate in {chain} names no host (subjectAltName)")
    pem = serialization.Encoding.PEM
    unencrypted = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.private_bytes(*unencrypted) + b"".join(one.public_bytes(pem) for one in certificates)


def read(file: Path) -> bytes:
    """Return what is in the file, or raise UnusableError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnusableError(f"cannot read {file}: {error.strerror}") from error


def parsed(file: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file."""
    try:
        return x509.load_pem_x509_certificates(read(file))
    except ValueError as error:
        raise UnusableError(f"{file} has no certificate in PEM form") from error


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the hosts and addresses that it is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def is_name(name: str) -> bool:
    """Tell whether it is an address, or a host's name, perhaps with a wildcard."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.removeprefix("*.").split(".")
        return len(name) < 254 and all(
            label.isascii() and label.replace("-", "").isalnum() and label.strip("-") == label and len(label) < 64
            for label in labels
        )
    return True


def main(command: str, *arguments: str) -> None:
    """Do what the module's docstring says."""
    if command == "make":
        folder, *names = arguments
        for name in names:
            if not is_name(name):
                raise UnusableError(f"{name!r} is neither a host's name nor an address")
        sys.stdout.buffer.write(make(Path(folder), names))
    elif command == "check":
        sys.stdout.buffer.write(check(Path(arguments[0]), Path(arguments[-1])))
    else:
        own = x509.load_pem_x509_certificates(sys.stdin.buffer.read())[0]
        issuer = own.issuer.rfc4514_string()
        print(f"{', '.join(names_of(own))}: until {own.not_valid_after_utc:%Y-%m-%d}, issued by {issuer}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UnusableError as unusable:
        print(f"certificate: {unusable}", file=sys.stderr)
        sys.exit(2)
