"""What the database holds."""

from django.db import models


class Greeting(models.Model):
    """What a guest has written, perhaps with a file."""

    text = models.CharField(max_length=200)
    attachment = models.FileField(upload_to="attachments/", blank=True)

    def __str__(self) -> str:
        return self.text
