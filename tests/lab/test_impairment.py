from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.impairment import MAX_DELAY_MS, MAX_RATE_MBIT, MIN_RATE_MBIT, Impairment
from schemas.errors import UsageError


@st.composite
def impairments(draw: st.DrawFn) -> Impairment:
    delay_ms = draw(st.floats(0, MAX_DELAY_MS))
    return Impairment(
        delay_ms=delay_ms,
        jitter_ms=draw(st.floats(0, delay_ms)),
        loss_ratio=draw(st.floats(0, 1)),
        rate_mbit=draw(st.none() | st.floats(MIN_RATE_MBIT, MAX_RATE_MBIT)),
        up=draw(st.booleans()),
    )


@given(impairments())
def test_reading_json_reverses_writing_it(impairment: Impairment) -> None:
    assert Impairment.from_json(impairment.to_json()) == impairment


def test_the_default_is_a_perfect_link() -> None:
    assert Impairment.from_json({}) == Impairment(delay_ms=0, jitter_ms=0, loss_ratio=0, rate_mbit=None, up=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay_ms", -0.001),
        ("delay_ms", math.nan),
        ("delay_ms", math.inf),
        ("delay_ms", MAX_DELAY_MS * 1.001),
        ("delay_ms", "5"),
        ("delay_ms", True),
        ("delay_ms", None),
        ("jitter_ms", -1),
        ("jitter_ms", math.nan),
        ("loss_ratio", 1.001),
        ("loss_ratio", -0.1),
        ("loss_ratio", math.nan),
        ("rate_mbit", 0),
        ("rate_mbit", -1),
        ("rate_mbit", math.inf),
        ("rate_mbit", False),
        ("up", 1),
        ("up", None),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        Impairment.from_json({field: value})
    assert caught.value.field == field
    assert caught.value.value is value


def test_jitter_above_the_delay_is_refused_also_when_one_is_replaced() -> None:
    impairment = Impairment(delay_ms=5, jitter_ms=5)
    with pytest.raises(UsageError, match=r"jitter_ms: got 5, expected at most delay_ms \(4\)"):
        replace(impairment, delay_ms=4)


@pytest.mark.parametrize("document", [None, [], "delay_ms", 5])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(UsageError, match="impairment"):
        Impairment.from_json(document)


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="got 'delay', expected one of delay_ms, jitter_ms"):
        Impairment.from_json({"delay": 5})
