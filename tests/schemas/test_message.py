from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from schemas.errors import MessageError
from schemas.message import MeasureRequest, Message, SegmentRecord, SegmentState, check_consistency
from tests.messages import messages
from tests.statistics import loss_of

REQUEST = MeasureRequest(
    source="10.0.0.1",
    destination="10.0.0.3",
    id="0" * 32,
    metrics=("loss",),
    created_at_ms=0,
    lifetime_ms=1000,
    max_age_ms=0,
)
LOSS = loss_of(10, 0)
FIRST = SegmentRecord(
    upstream="10.0.0.1",
    current="10.0.0.2",
    state=SegmentState.MEASURED,
    recorded_at_ms=1,
    metrics={"loss": LOSS},
)


@given(messages())
def test_the_latest_point_is_where_the_chain_ends(message: Message) -> None:
    expected = (
        message.records[-1].current if message.records else message.request.last_point or message.request.source
    )
    assert message.latest_point == expected


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(request=replace(REQUEST, metrics=("loss", "loss"))), "each metric once"),
        (Message(request=replace(REQUEST, part=1)), "expected lp"),
        (Message(request=replace(REQUEST, last_point="10.0.0.2")), "expected lp"),
        (Message(request=REQUEST, records=(replace(FIRST, upstream="10.0.0.7"),)), "expected 10.0.0.1"),
        (Message(request=REQUEST, records=(FIRST, FIRST)), "expected 10.0.0.2"),
        (Message(request=REQUEST, records=(replace(FIRST, metrics={}),)), r"expected \['loss'\]"),
        (
            Message(request=REQUEST, records=(replace(FIRST, unsupported=("loss",)),)),
            r"got metrics \['loss', 'loss'\]",
        ),
        (Message(request=REQUEST, records=(replace(FIRST, state=SegmentState.PENDING),)), r"expected \[\]"),
    ],
)
def test_a_contradiction_is_refused_by_name(message: Message, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        check_consistency(message)
