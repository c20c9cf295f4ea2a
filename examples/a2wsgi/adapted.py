"""The same WSGI application, adapted to ASGI: each request holds a thread of a pool."""

from a2wsgi import WSGIMiddleware
from hello import app as wsgi_app

app = WSGIMiddleware(wsgi_app, workers=8)
