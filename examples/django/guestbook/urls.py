"""The routes."""

from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.home, name="home"),
    path("request", views.request_seen, name="request"),
    path("events", views.events, name="events"),
    path("broken", views.broken, name="broken"),
]
