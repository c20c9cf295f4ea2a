"""The front page over HTTPS: what it shows over HTTP, it shows here."""

import pytest

from stack import Stack
from test_page import (  # noqa: F401 - to be run once more
    page,
    test_a_websocket_that_is_closed_is_opened_again,
    test_each_answer_falls_into_the_lane_of_its_replica,
    test_more_waiting_requests_than_threads_wait_in_rows_on_wsgi_alone,
)


@pytest.fixture(scope="module")
def stack(secure: Stack) -> Stack:
    """The stack with HTTPS: its tests are no others."""
    return secure
