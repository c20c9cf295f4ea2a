"""A Django project that knows nothing of how it is served."""
