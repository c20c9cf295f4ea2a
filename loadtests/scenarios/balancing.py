"""One replica has a tenth of a CPU: how each balancing algorithm copes.

None sends a replica more than WSGI_MAXCONN requests at once, so the slow replica's share differs little; the
difference is how long its requests wait.
"""

from runner.scenario import POINT, Scenario, Threshold, Users, Variant
from users.clients import Open


class Requests(Open):
    """Requests that compute a little."""

    path = "/wsgi/work?rounds=5000"


SCENARIO = Scenario(
    place=6,
    question="Which requests stay fast when one replica of three is slow?",
    axis="requests a second",
    points=(100,),
    all_points=(60, 100),
    variants={
        "round robin": Variant((Users(Requests, rate=POINT),), "wsgi", balance="roundrobin"),
        "leastconn": Variant((Users(Requests, rate=POINT),), "wsgi", balance="leastconn"),
        "random(2)": Variant((Users(Requests, rate=POINT),), "wsgi", balance="random(2)"),
    },
    thresholds=(
        Threshold("failed", at_most=0, variant="leastconn"),
        Threshold("p95", at_most=0.8, variant="leastconn", point=100, times=("round robin", 100)),
    ),
    seconds=(4, 8),
    drawn="shares",
    needs="containers",
    slowed=True,
)
