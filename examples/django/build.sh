# Run as the image is built.
DJANGO_SECRET_KEY=unused python manage.py collectstatic --no-input
