"""Why load tests cannot go on."""


class LoadError(Exception):
    """The load tests cannot go on; the message is one line."""


class EndpointError(LoadError):
    """The application lacks an endpoint that a scenario needs, so nothing was measured."""
