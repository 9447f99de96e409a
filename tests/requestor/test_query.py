from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.query import PathQuery, address_from_text, metrics_from_text
from schemas.errors import UsageError
from schemas.metrics import METRICS

NAMES = {"border-1": "192.0.2.1", "border-2": "192.0.2.2"}


def test_names_become_addresses_and_metrics_keep_the_order_of_the_registry() -> None:
    query = PathQuery.from_json(
        {"source": "border-1", "destination": "198.51.100.7", "metrics": ["rtt", "delay"]}, NAMES
    )
    request = query.to_request(identifier="0" * 32, now_ms=1)
    assert (request.source, request.destination) == ("192.0.2.1", "198.51.100.7")
    assert request.metrics == ("delay", "rtt")


def test_a_query_survives_its_document() -> None:
    query = PathQuery(source="192.0.2.1", destination="192.0.2.2", metrics=("loss",), timeout_s=2.5, max_age_s=0.0)
    assert PathQuery.from_json(query.to_json(), {}) == query


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "border-9"}, r"source: got 'border-9', expected .*did you mean border-"),
        ({"destination": "10.0.0"}, "destination: got '10.0.0', expected"),
        ({"destination": "224.0.0.1"}, "unicast"),
        ({"destination": 7}, "destination: got 7"),
        ({"destination": "border-1"}, "another address"),
        ({"metrics": ["dealy"]}, "metrics: got 'dealy', expected all, or one or more of delay,loss,jitter,rtt"),
        ({"metrics": ["loss", "loss"]}, "each metric once"),
        ({"metrics": []}, "metrics"),
        ({"metrics": "loss"}, "a list"),
        ({"timeout_s": 0}, "timeout: got 0"),
        ({"timeout_s": math.nan}, "timeout: got nan"),
        ({"timeout_s": 10**400}, "timeout: got a huge number"),
        ({"source": "x" * 100_000}, r"source: got 'x{200}', expected|source: got 'x+\.\.\., expected"),
        ({"timeout_s": True}, "timeout: got True"),
        ({"max_age_s": -1}, "max-age: got -1"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_named(change: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        PathQuery.from_json({"source": "border-1", "destination": "border-2", **change}, NAMES)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_document_gives_a_query_or_a_usage_error(document: object) -> None:
    with pytest.raises(UsageError):
        PathQuery.from_json(document, NAMES)


@given(st.text())
def test_any_text_is_metrics_or_a_usage_error(text: str) -> None:
    try:
        names = metrics_from_text(text)
    except UsageError as error:
        assert error.field == "metrics"
    else:
        assert set(names) <= set(METRICS)


def test_a_name_wins_over_nothing_else() -> None:
    assert address_from_text("source", "border-2", NAMES) == "192.0.2.2"
