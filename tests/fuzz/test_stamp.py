from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.stamp import mutate_for, one_input

SECONDS = 2.0


def test_mutated_packets_cause_nothing_but_probe_errors() -> None:
    assert mutate_for(SECONDS, random.Random(8762)) > 100


@given(st.integers(0, 63), st.integers(0, 255), st.binary(max_size=300))
def test_any_octets_cause_nothing_but_probe_errors(control: int, kept: int, data: bytes) -> None:
    one_input(bytes((control, kept)) + data)
