"""The project's settings. What differs between its deployments, and secrets, come from the environment."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

DATA = Path("/data")  # a volume that all replicas share


def secret_key() -> str:
    """Return the key of all replicas, as sessions need one. `migrate`, which runs first and alone, makes it."""
    file = DATA / "secret_key"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(get_random_secret_key())
    return file.read_text()


SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or secret_key()
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
# Needed only if another proxy in front of HAProxy ends TLS: https://shop.example
CSRF_TRUSTED_ORIGINS = os.environ.get("DJANGO_CSRF_TRUSTED_ORIGINS", "").split()

# The prefix that HAProxy strips. Each request carries it, but Django reads STATIC_URL before the first request, and
# caches it: a relative one would lack the prefix.
FORCE_SCRIPT_NAME = f"/{os.environ.get('DJANGO_AT', '/').partition('/')[2]}".rstrip("/")  # of host/path/, the /path
STATIC_URL = f"{FORCE_SCRIPT_NAME}/static/"
MEDIA_URL = f"{FORCE_SCRIPT_NAME}/media/"
# Another Django application on this host would overwrite the cookies.
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = f"{FORCE_SCRIPT_NAME}/"

INSTALLED_APPS = [
    "guestbook",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "guestbook.urls"
# build.sh gives each file a name that holds a hash of it, so browsers may keep it for ever. WhiteNoise tells them so.
STATIC_ROOT = Path(__file__).parent.parent / "collected"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "db.sqlite3",
        # By default, a transaction that reads first fails at once if another replica writes. This one waits.
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = DATA / "media"
TIME_ZONE = "UTC"
USE_TZ = True
