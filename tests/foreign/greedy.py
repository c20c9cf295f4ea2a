"""Applications that need more memory than a container has."""

from foreign.asgi import application as asgi
from foreign.wsgi import application as wsgi

MODEL = [b"x" * 2**20 for _ in range(2**10)]
__all__ = ["asgi", "wsgi"]
