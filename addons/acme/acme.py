"""Has certbot get a certificate by ACME (RFC 8555), and HAProxy use it, now and whenever it is renewed.

certbot is asked at the start and every 12 hours; it orders a certificate if there is none for these names, or if only a
third of its time is left. HAProxy sends the authority's question, /.well-known/acme-challenge/, to certbot's port 8888.

Environment: ACME_NAMES, ACME_EMAIL, ACME_SERVER, as compose.yaml explains them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

SERVERS = {
    "staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "production": "https://acme-v02.api.letsencrypt.org/directory",
}
STATE = Path("/acme")
LOG = Path("/tmp/log")
USED = Path("/certificates/site.pem")  # what HAProxy reads when it starts
SOCKET = "/control/haproxy.sock"
EVERY = 12 * 3600  # seconds; as certbot recommends
FIRST_RETRY = 900  # seconds; doubled with each failure: Let's Encrypt allows five failures an hour


class AcmeError(Exception):
    """There is no new certificate, or HAProxy does not use it. The message says why, in one line."""


def certbot(names: list[str], email: str, server: str) -> Path:
    """Return the folder of a certificate for the names that is not to be renewed yet, after an order if need be.

    Raise AcmeError with what certbot says if there is none.
    """
    folder = urlsplit(server).hostname or "acme"  # a certificate of the staging server is none for production
    account = "--register-unsafely-without-email" if email == "none" else f"--email={email}"
    order = ("--keep-until-expiring", "--renew-with-new-domains", f"--cert-name={folder}")
    domains = (f"--domain={name}" for name in names)
    folders = (f"--config-dir={STATE}", "--work-dir=/tmp/work", f"--logs-dir={LOG}", "--max-log-backups=1")
    how = ("--standalone", "--http-01-port=8888", *order, *domains, f"--server={server}", "--agree-tos", account)
    command = ("certbot", "certonly", *how, "--non-interactive", *folders)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AcmeError(why(done.stdout, done.stderr) or f"certbot ended with {done.returncode}")
    return STATE / "live" / folder


def why(stdout: str, stderr: str) -> str:
    """Return what the authority says of each name, or else certbot's error, in one line."""
    told = [
        line.split(maxsplit=1)[1] for line in stdout.splitlines() if line.strip().startswith(("Domain:", "Detail:"))
    ]
    return " ".join(told or [line.strip() for line in stderr.splitlines() if line.strip() and "log" not in line])


def obtain(names: list[str], email: str, server: str) -> Path:
    """As `certbot`; an account that the server does not know any more is replaced."""
    try:
        return certbot(names, email, server)
    except AcmeError as error:
        if "acme:error:accountDoesNotExist" not in (LOG / "letsencrypt.log").read_text():
            raise
        print(f"acme: {error}; registering again", flush=True)
    accounts = STATE / "accounts" / server.removeprefix("https://").rstrip("/")
    accounts.rename(STATE / f"account-until-{time.time():.0f}")
    return certbot(names, email, server)


def use(pem: bytes) -> None:
    """Have the running HAProxy use a key and its certificates, and store them. Raise AcmeError if it does not."""
    for command, expected in (
        (f"set ssl cert {USED} <<\n{pem.decode()}\n", "ransaction"),
        (f"commit ssl cert {USED}\n", "Success"),
    ):
        answer = ask(command)
        if expected not in answer:
            raise AcmeError(f"HAProxy does not take the certificate: {answer.strip()}")
    new = USED.with_name(f".{USED.name}")  # HAProxy loads every file of the folder whose name has no dot in front
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    new.rename(USED)


def ask(command: str) -> str:
    """Return HAProxy's answer to a command of its management socket."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(SOCKET)
            connection.sendall(command.encode())
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    except OSError as error:
        return str(error)


def main() -> None:
    """Get and renew a certificate until the container is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    names, email = os.environ["ACME_NAMES"].split(), os.environ["ACME_EMAIL"]
    server = SERVERS.get(os.environ["ACME_SERVER"], os.environ["ACME_SERVER"])
    wait = FIRST_RETRY
    while True:
        try:
            folder = obtain(names, email, server)
            pem = b"".join((folder / part).read_bytes() for part in ("privkey.pem", "fullchain.pem"))
            if pem != USED.read_bytes():
                use(pem)
                print(f"acme: HAProxy uses a new certificate for {', '.join(names)}, by {server}", flush=True)
        except (AcmeError, OSError) as error:
            print(f"acme: {error}; next attempt in {wait // 60} minutes", flush=True)
            time.sleep(wait)
            wait = min(2 * wait, EVERY)
        else:
            wait = FIRST_RETRY
            time.sleep(EVERY)


if __name__ == "__main__":
    main()
