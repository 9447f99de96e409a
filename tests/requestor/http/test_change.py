from __future__ import annotations

from dataclasses import replace

from requestor.http.change import Change, changes
from requestor.query import PathQuery
from schemas.result import ResultStatus
from tests.requestor.http.fake_point import FAR, OWN, composed, result_of

QUERY = PathQuery(source=OWN, destination=FAR, metrics=("delay", "loss"), timeout_s=5, max_age_s=5)
BEFORE = result_of(QUERY, 1)


def told(after: object = BEFORE, *verdicts: str | None) -> tuple[Change, ...]:
    return changes(BEFORE, after, *(verdicts or (None, None)))  # type: ignore[arg-type]


def test_the_first_answer_is_always_told() -> None:
    assert changes(None, BEFORE, None, "yes") == (Change.FIRST,)


def test_the_same_again_is_not_told() -> None:
    assert told(replace(BEFORE, id="f" * 32, elapsed_ms=99.0)) == ()


def test_a_value_is_told_once_it_leaves_the_interval_that_was_told() -> None:
    within = {**BEFORE.composed, "delay": composed(13.1)}  # told were 10.8 to 13.2
    beyond = {**BEFORE.composed, "delay": composed(13.3)}
    assert told(replace(BEFORE, composed=within)) == ()
    assert told(replace(BEFORE, composed=beyond)) == (Change.VALUE,)


def test_a_value_that_becomes_unknown_or_known_is_told() -> None:
    unknown = replace(BEFORE.composed["delay"], value=None, low=None, high=None)
    after = replace(BEFORE, composed={**BEFORE.composed, "delay": unknown})
    assert told(after) == (Change.VALUE,)
    assert changes(after, BEFORE, None, None) == (Change.VALUE,)
    assert changes(after, after, None, None) == ()


def test_status_route_and_verdict_are_told_in_this_order() -> None:
    after = replace(BEFORE, status=ResultStatus.PARTIAL, segments=BEFORE.segments[:1])
    assert told(after, "yes", "no") == (Change.STATUS, Change.ROUTE, Change.VERDICT)
