"""The same WSGI application as an ASGI one: each request takes a thread of a pool for as long as it lasts."""

from a2wsgi import WSGIMiddleware
from hello import app as wsgi_app

app = WSGIMiddleware(wsgi_app, workers=8)
