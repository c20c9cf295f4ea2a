"""The steps of the database's schema: python manage.py makemigrations."""
