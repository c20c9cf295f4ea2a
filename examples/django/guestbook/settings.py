"""The project's settings. Secrets come from the environment."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

HERE = Path(__file__).parent

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()  # for sessions: one key for all replicas
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
ROOT_URLCONF = "guestbook.urls"
INSTALLED_APPS = ["django.contrib.staticfiles"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "whitenoise.middleware.WhiteNoiseMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [HERE / "templates"]}]
STATIC_URL = "static/"  # relative, so that Django adds the prefix
STATICFILES_DIRS = [HERE / "static"]
WHITENOISE_USE_FINDERS = True
USE_TZ = True
