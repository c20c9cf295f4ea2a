"""The stack on the stock servers: what still holds, as the same tests say it of ours. docs/servers.md has the rest."""

import pytest

from stack import Stack
from test_contract import (  # noqa: F401 - to be run once more, on the stack below
    test_a_wrong_method_gets_405_and_the_right_ones,
    test_an_unknown_path_gets_404,
    test_echo_tells_size_and_digest_of_a_body,
    test_plaintext_and_json_are_techempowers,
    test_whoami_tells_who_answers,
)
from test_draining import (  # noqa: F401
    drained,
    test_at_a_drain_an_event_stream_ends_cleanly_and_resumes_elsewhere,
    test_at_a_drain_websockets_are_closed_with_1012_and_come_back_elsewhere,
    test_stopping_a_replica_under_load_loses_nothing,
)
from test_edge import test_health_paths_are_not_reached_from_outside  # noqa: F401
from test_stock_servers import STOCK
from test_streams import (  # noqa: F401
    test_a_stream_resumes_on_another_replica_with_no_event_lost_or_repeated,
    test_events_come_at_their_time_and_not_200_ms_later,
    test_head_of_a_stream_holds_nothing,
    test_one_wsgi_stream_more_than_its_limit_gets_503_and_the_rest_goes_on,
    test_websocket_echoes_and_ticks_at_the_clocks_numbers,
)


@pytest.fixture(scope="module")
def stack(any_stack: Stack) -> Stack:
    """The stack on the stock servers, whole."""
    any_stack.ensure(**STOCK)
    return any_stack


def test_it_is_the_stock_servers_that_run(stack: Stack) -> None:
    assert "Using worker: gthread" in stack.log("wsgi")
    assert ", httptools" in stack.log("asgi")
