"""The routes."""

from django.contrib import admin
from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.home, name="home"),
    path("request", views.request_seen, name="request"),
    path("events", views.events, name="events"),
    path("broken", views.broken, name="broken"),
    path("media/<path:name>", views.attachment, name="attachment"),
    path("admin/", admin.site.urls),
]
