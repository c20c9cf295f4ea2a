"""A Django project that does not depend on how it is served."""
