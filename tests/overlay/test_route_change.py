"""A link breaks and comes back: requests follow the routes at once, and each change is kept as an event."""

from __future__ import annotations

import pytest

from schemas.rfc3339 import us_from_rfc3339
from tests.overlay.network import network, points_of
from tests.overlay.route_change import (
    ASK_TIMEOUT_S,
    BETTER,
    OTHER,
    TWO_WAYS,
    Change,
    change_link,
    route_events,
    start_strangers,
)

pytestmark = [pytest.mark.netns, pytest.mark.slow]

MEET_S = 6.0
LEARN_S = 6.0
"""The new neighbors are challenged, then probed until there are samples enough; on a busy machine."""


def assert_followed_at_once(change: Change, wanted: tuple[str, ...]) -> None:
    """Whoever asked when the routes were there got no answer over any other path, and the first was over this."""
    after = [result for asked_s, _, result in change.answers if asked_s > change.converged_s]
    assert {points_of(result) for result in after if result.segments} <= {wanted}
    assert change.followed_s - change.converged_s < ASK_TIMEOUT_S
    assert change.complete_s - change.followed_s < LEARN_S


def test_a_link_that_breaks_and_comes_back_is_followed_at_once_and_kept_as_two_events() -> None:
    with network(TWO_WAYS) as net:
        start_strangers(net)
        better, other = (tuple(map(net.address, path)) for path in (BETTER, OTHER))
        net.await_answer("a", "b", BETTER, within_s=MEET_S)
        assert net.status("n")["neighbors"] == [], "nobody knows the segments of the other path"
        broken = change_link(net, up=False)
        assert_followed_at_once(broken, other)
        learned = {neighbor["address"] for neighbor in net.status("n")["neighbors"]}
        assert learned == {net.address("a"), net.address("b")}

        repaired = change_link(net, up=True)
        assert_followed_at_once(repaired, better)
        net.lab.stop_point("a")
        events = route_events(net, "a", "b")
        assert [(event.old_points, event.new_points) for event in events] == [(better, other), (other, better)]
        completes = [us_from_rfc3339(change.answers[-1][2].requested_at) for change in (broken, repaired)]
        assert [event.at_us for event in events] == completes
        assert [event.duration_us for event in events] == [None, completes[1] - completes[0]]
