"""Why load tests cannot go on."""


class LoadError(Exception):
    """The load tests cannot go on; the message is one line."""
