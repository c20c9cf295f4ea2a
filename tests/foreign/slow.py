"""Applications that take longer to import than gunicorn's timeout and the default of START_SECONDS."""

import time

from foreign.asgi import application as asgi
from foreign.wsgi import application as wsgi

time.sleep(70)
__all__ = ["asgi", "wsgi"]
