"""The balancer's price: the same requests directly to the replicas and through HAProxy, at the same rate."""

from urllib.parse import urlsplit

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Open


class Direct(Open):
    """Requests directly to the replicas that the host names, separated by commas, or to this service's."""

    abstract = True
    path = "/json"
    replicas = ""

    def on_start(self) -> None:
        """Replace HAProxy, the default host of Locust's page, by the replicas."""
        if urlsplit(self.host).hostname == "haproxy":
            self.host = self.replicas
        super().on_start()


class WsgiDirect(Direct):
    """Requests directly to the WSGI replicas."""

    replicas = "http://wsgi:8001"


class AsgiDirect(Direct):
    """Requests directly to the ASGI replicas."""

    replicas = "http://asgi:8002"


class WsgiBalanced(Open):
    """The same requests to the WSGI replicas, through HAProxy."""

    path = "/wsgi/json"


class AsgiBalanced(Open):
    """The same requests to the ASGI replicas, through HAProxy."""

    path = "/asgi/json"


SCENARIO = Scenario(
    place=5,
    question="What does the balancer add to a request, in CPU time and in latency?",
    axis="requests a second to each of three replicas",
    points=(150,),
    all_points=(50, 150, 300),
    variants={
        "WSGI, direct": Variant((Users(WsgiDirect, 3, rate=POINT),), "wsgi", direct=True),
        "WSGI, through HAProxy": Variant((Users(WsgiBalanced, 3, rate=POINT),), "wsgi"),
        "ASGI, direct": Variant((Users(AsgiDirect, 3, rate=POINT),), "asgi", direct=True),
        "ASGI, through HAProxy": Variant((Users(AsgiBalanced, 3, rate=POINT),), "asgi"),
    },
    thresholds=(
        Threshold("failed", at_most=0, point=150),
        Threshold("p50", at_most=3, variant="ASGI, through HAProxy", point=150, times=("ASGI, direct", 150)),
        Threshold("cpu_us", at_most=2.5, variant="ASGI, through HAProxy", point=150, times=("ASGI, direct", 150)),
    ),
    seconds=(2.5, 5),
    drawn="price",
    needs="stack",
)
