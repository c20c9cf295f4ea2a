"""Where the services are: the scenarios have them at /wsgi/ and /asgi/."""

from collections.abc import Mapping


def at(path: str, addresses: Mapping[str, str]) -> str:
    """Return a scenario's path as it is if the services are at these addresses, such as `{"wsgi": "/"}`."""
    _, service, rest = f"{path}//".split("/", 2)
    return addresses[service] + rest[:-2] if service in addresses else path
