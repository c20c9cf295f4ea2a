"""Views that work on both interfaces. Only a stream must know which one serves it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator

from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from guestbook.models import Greeting


def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


@csrf_exempt  # not for browsers
def request_seen(request: HttpRequest) -> JsonResponse:
    """Return the request as the application sees it."""
    return JsonResponse(
        {
            "client": request.META["REMOTE_ADDR"],
            "scheme": request.scheme,
            "url": request.build_absolute_uri(reverse("home")),
            "size": len(request.body),
        }
    )


def attachment(request: HttpRequest, name: str) -> FileResponse:
    """Send an uploaded file, as a download: a browser would run an uploaded page as one of this site's own."""
    greeting = get_object_or_404(Greeting, attachment=name)
    return FileResponse(greeting.attachment.open(), as_attachment=True)


def events(request: HttpRequest) -> StreamingHttpResponse:
    """Stream an event every half second."""
    stream = later() if isinstance(request, ASGIRequest) else now()
    return StreamingHttpResponse(stream, content_type="text/event-stream")


def now() -> Iterator[str]:
    for n in itertools.count():
        yield f"id: {n}\ndata: {n}\n\n"
        time.sleep(0.5)


async def later() -> AsyncIterator[str]:
    for n in itertools.count():
        yield f"id: {n}\ndata: {n}\n\n"
        await asyncio.sleep(0.5)


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this view is broken")
