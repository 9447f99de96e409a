from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.dialogue import (
    Blame,
    RemoteError,
    document_from_line,
    error_document,
    line_from_document,
    raise_error,
    shown,
)
from schemas.errors import MessageError, NoAnswerError, UsageError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_a_document_survives_its_line(document: dict[str, object]) -> None:
    line = line_from_document(document)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert document_from_line(line) == document


@given(st.binary(max_size=60))
def test_any_line_is_an_object_or_a_message_error(line: bytes) -> None:
    with contextlib.suppress(MessageError):
        assert isinstance(document_from_line(line), dict)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(MessageError):
        document_from_line(b"[" * 100_000)


@pytest.mark.parametrize(("error", "code"), [(UsageError("a", 1, "2"), 2), (NoAnswerError("late"), 3)])
def test_an_error_crosses_with_its_text_and_exit_code(error: UsageError, code: int) -> None:
    with pytest.raises(RemoteError) as caught:
        raise_error(document_from_line(line_from_document(error_document(error))))
    assert (str(caught.value), caught.value.exit_code) == (str(error), code)


@given(json_values)
def test_the_value_to_blame_crosses_in_a_form_that_can_be_shown(value: object) -> None:
    with pytest.raises(RemoteError) as caught:
        raise_error(document_from_line(line_from_document(error_document(UsageError("source", value, "mp1")))))
    assert caught.value.blame == Blame("source", shown(value), "mp1")


def test_a_value_that_fills_a_screen_is_shortened() -> None:
    for value in ("x" * 1000, ["x"] * 1000, 10**6000):
        assert len(str(shown(value))) <= 203


@pytest.mark.parametrize("error", [{}, {"field": 1, "expected": "a"}, {"exit_code": "x", "field": "f"}])
def test_an_error_without_a_whole_blame_has_none(error: dict[str, object]) -> None:
    with pytest.raises(RemoteError) as caught:
        raise_error({"error": error})
    assert caught.value.blame is None
    assert caught.value.exit_code == 1
