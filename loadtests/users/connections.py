"""Connections to what is loaded, with or without TLS."""

import functools
import ipaddress
import random
import ssl
from urllib.parse import SplitResult

from gevent import socket

# Looked up once per process: a lookup blocks and must not be measured. Looked up again after a failed connection.
_addresses: dict[tuple[str | None, int], list[tuple[str, int]]] = {}


def connect(url: SplitResult, timeout: float) -> socket.socket:
    """Open a connection to one of the host's addresses, with TLS for https; `timeout` is in seconds."""
    secure = url.scheme == "https"
    host = (url.hostname, url.port or (443 if secure else 80))
    known = _addresses.get(host)
    try:
        connection = socket.create_connection(random.choice(known) if known else host, timeout)
    except OSError:
        _addresses.pop(host, None)
        raise
    if not known:
        found = socket.getaddrinfo(*host, connection.family, socket.SOCK_STREAM)
        _addresses[host] = [address[:2] for *_, address in found]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not secure:
        return connection
    try:
        return tls(is_internal(url.hostname)).wrap_socket(connection, server_hostname=url.hostname)
    except BaseException:
        connection.close()
        raise


def is_internal(host: str | None) -> bool:
    """Tell whether it is an IP address or a container's name, which the stack's certificate need not name."""
    try:
        return bool(ipaddress.ip_address(host or ""))
    except ValueError:
        return "." not in (host or "")


@functools.cache
def tls(unverified: bool) -> ssl.SSLContext:
    """Return the context that all connections share: loading the trusted certificates is slow."""
    context = ssl.create_default_context()
    if unverified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
