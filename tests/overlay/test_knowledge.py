"""Points that tell each other what they measured answer for each other, within an area and across its border."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.points import point_files
from requestor.client import Client
from requestor.query import DEFAULT_METRICS, PathQuery
from schemas.message import MEASUREMENT_PORT
from schemas.result import PathResult, ResultStatus
from tests.overlay.capture import Interface, capturing
from tests.overlay.network import Network, eventually, network, points_of, start
from tests.overlay.point_configuration import configure

pytestmark = pytest.mark.netns

MAX_AGE_S = 30.0
KNOWN_S = 60.0
"""First samples, hellos along the path, and two advertisements of each point on a busy machine."""
TWO_AREAS = {
    "nodes": {
        "a": {"point": True, "area": "north"},
        "b": {"point": True, "area": "north"},
        "c": {"point": True, "area": "south"},
        "d": {"point": True, "area": "south"},
    },
    "links": [
        {"a": "a", "b": "b", "delay_ms": 5},
        {"a": "b", "b": "c", "delay_ms": 5},
        {"a": "c", "b": "d", "delay_ms": 30},
        {"a": "b", "b": "d", "delay_ms": 90, "cost": 100},
    ],
}
"""a and b are in the north, c and d in the south; the link from b to d is of use when that from c fails."""
SHARING = {"knowledge": {"refresh_s": 1, "lifetime_s": 20}, "discovery": {"interval_s": 30}}


@pytest.fixture(scope="module")
def areas() -> Iterator[Network]:
    with network(TWO_AREAS) as net:
        for node, borders in (("a", ""), ("b", "c"), ("c", "b"), ("d", "")):
            configure(net, node, SHARING)
            configure(net, node, {"knowledge": {"borders": [net.address(one) for one in borders]}})
        start(net)
        yield net


def ask(net: Network, source: str, destination: str, *, max_age_s: float) -> PathResult:
    query = PathQuery(
        source=net.address(source),
        destination=net.address(destination),
        metrics=DEFAULT_METRICS,
        timeout_s=5.0,
        max_age_s=max_age_s,
    )
    with Client(point_files(net.lab.directory, source).control) as client:
        return client.path(query)


def tellers(net: Network, result: PathResult) -> list[str | None]:
    """Who told each segment, by name; None where its own point did."""
    names = {net.address(node): node for node in "abcd"}
    return [None if one.told_by is None else names[one.told_by] for one in result.segments]


def await_told(net: Network, source: str, destination: str, by: list[str | None]) -> PathResult:
    def told() -> PathResult | None:
        result = ask(net, source, destination, max_age_s=MAX_AGE_S)
        return result if tellers(net, result) == by and result.status is ResultStatus.COMPLETE else None

    return eventually(told, f"{source} - {destination} told by {by}", within_s=KNOWN_S)


def test_a_border_point_answers_for_the_other_area_and_no_request_goes_there(
    areas: Network, tmp_path: Path
) -> None:
    told = await_told(areas, "a", "d", [None, "b", "b"])
    with capturing(areas, [Interface("c", "d")], f"port {MEASUREMENT_PORT}", tmp_path) as captures:
        again = ask(areas, "a", "d", max_age_s=MAX_AGE_S)
        walked = ask(areas, "a", "d", max_age_s=0)
        captures.await_packets()
        ids = [frame["udp.payload"] for _, frame in captures.frames("udp")]
    assert points_of(told) == points_of(again) == points_of(walked)
    assert tellers(areas, walked) == [None, None, None]
    seen = b"".join(bytes.fromhex(payload.replace(":", "")) for payload in ids)
    assert walked.id.encode() in seen
    assert again.id.encode() not in seen
    assert again.composed["delay"].value == pytest.approx(walked.composed["delay"].value, rel=0.2)


def test_a_point_answers_itself_for_a_path_inside_its_area(areas: Network) -> None:
    await_told(areas, "b", "d", ["b", "b"])
    status = areas.status("b")
    assert status["requests"]["from_cache"] >= 1
    status = status["knowledge"]
    assert status["peers"][areas.address("c")] == "border"
    assert areas.address("d") in status["asked"]


def test_after_a_link_has_failed_no_answer_names_it(areas: Network) -> None:
    await_told(areas, "a", "d", [None, "b", "b"])
    old, new = (tuple(areas.address(node) for node in path) for path in ("abcd", "abd"))
    for node, gateway in (("b", areas.link_address("d", "b")), ("d", areas.link_address("b", "d"))):
        far = areas.address("d" if node == "b" else "a")
        areas.run(node, "ip", "route", "replace", f"{far}/32", "via", gateway)
    changed = ask(areas, "a", "d", max_age_s=MAX_AGE_S)
    assert points_of(changed) != old

    def is_new() -> bool:
        result = ask(areas, "a", "d", max_age_s=MAX_AGE_S)
        assert points_of(result) != old
        return points_of(result) == new and result.status is ResultStatus.COMPLETE

    eventually(is_new, "a complete answer over the new path", within_s=KNOWN_S)
