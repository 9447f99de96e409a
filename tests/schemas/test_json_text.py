from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.json_text import JsonText, json_object, json_text

values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.text(), values), st.sets(st.integers(0, 20)))
def test_members_that_are_text_already_make_no_difference(members: dict[str, object], texts: set[int]) -> None:
    mixed = {
        name: json_text(value) if number in texts else value
        for number, (name, value) in enumerate(members.items())
    }
    assert json_object(mixed) == json.dumps(members, separators=(",", ":"))


def test_text_is_taken_as_json_only_where_it_says_so() -> None:
    assert json_object({"plain": "[]", "made": JsonText("[]")}) == '{"plain":"[]","made":[]}'


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_text([number])
    with pytest.raises(ValueError, match="Out of range"):
        json_object({"made": json_text(1), "other": number})
