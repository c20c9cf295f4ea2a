"""What the admin edits."""

from django.contrib import admin

from guestbook.models import Greeting

admin.site.register(Greeting)
