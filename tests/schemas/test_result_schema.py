from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from schemas.errors import MessageError
from schemas.message import Message
from schemas.metrics import METRIC_NAME
from schemas.result import Flag, Method, PathResult, ResultStatus
from tests.messages import messages
from tests.receiver.paths import composed, lacking, pending, result, unanswered, usual

SCHEMA = json.loads((files("schemas") / "result.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
COMPLETE = result((usual(0), usual(1)))
NOTHING = replace(COMPLETE.composed["loss"], value=math.nan)


def is_valid(document: object) -> bool:
    return VALIDATOR.is_valid(json.loads(json.dumps(document)))


def test_the_schema_is_one_and_knows_every_metric() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["metric"]["pattern"] == f"^{METRIC_NAME.pattern.replace('(?:', '(')}$"
    of_composed = SCHEMA["$defs"]["composed"]["properties"]
    assert of_composed["method"]["enum"] == [str(method) for method in Method]
    assert of_composed["flags"]["items"]["enum"] == [str(flag) for flag in Flag]
    assert SCHEMA["properties"]["status"]["enum"] == [str(status) for status in ResultStatus]


@pytest.mark.parametrize(
    "answer",
    [
        COMPLETE,
        result((usual(0), pending(1), lacking(2, "loss"))),
        result(()),
        unanswered(),
        unanswered(status=ResultStatus.FAILED),
    ],
    ids=lambda answer: str(answer.status),
)
def test_every_kind_of_answer_is_valid_and_reads_back(answer: PathResult) -> None:
    document = json.loads(json.dumps(answer.to_json()))
    assert list(VALIDATOR.iter_errors(document)) == []
    assert PathResult.from_json(document) == answer
    assert answer.to_text() == json.dumps(answer.to_json(), separators=(",", ":"))


def test_a_number_that_is_none_has_no_text() -> None:
    for broken in (replace(COMPLETE, elapsed_ms=math.inf), replace(COMPLETE, composed={"loss": NOTHING})):
        with pytest.raises(ValueError, match="Out of range"):
            broken.to_text()


@given(messages())
@settings(max_examples=30)
def test_every_answer_that_can_be_composed_is_valid(sent: Message) -> None:
    try:
        composition = composed(sent.request.metrics, sent.records, waited_ms=0.5)
    except MessageError:
        return
    answer = replace(
        COMPLETE,
        status=composition.status,
        metrics=sent.request.metrics,
        segments=composition.segments,
        composed=composition.composed,
        warnings=composition.warnings,
    )
    assert list(VALIDATOR.iter_errors(json.loads(json.dumps(answer.to_json())))) == []


def test_each_key_is_required_and_no_other_is_allowed() -> None:
    document = COMPLETE.to_json()
    for key in document:
        assert not is_valid({name: value for name, value in document.items() if name != key}), key
    assert not is_valid({**document, "more": 1})


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(COMPLETE.to_json()))
    change(document)
    return document


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.update(id="xyz"),
        lambda it: it.update(status="done"),
        lambda it: it.update(source="10.0.0.256"),
        lambda it: it.update(metrics=["delay", "delay"]),
        lambda it: it.update(metrics=["Speed"]),
        lambda it: it.update(requested_at="2026-01-01 12:00"),
        lambda it: it.update(elapsed_ms=-1),
        lambda it: it.update(elapsed_ms=None),
        lambda it: it.update(segments=[]),
        lambda it: it.update(warnings=[""]),
        lambda it: it.update(status="pending"),
        lambda it: it["segments"][0].update(state="pending"),
        lambda it: it["segments"][0].update(measured_at=None),
        lambda it: it["segments"][0].pop("upstream"),
        lambda it: it["segments"][0]["metrics"]["delay"].pop("count"),
        lambda it: it["segments"][0]["metrics"]["delay"].update(count=1.5),
        lambda it: it["segments"][0]["metrics"]["delay"].update(unit=""),
        lambda it: it["segments"][0]["metrics"]["delay"].update(minimum_ms="2"),
        lambda it: it["segments"][0]["metrics"]["delay"].update(state="unsupported"),
        lambda it: it["composed"]["delay"].update(value=None),
        lambda it: it["composed"]["delay"].update(binding_segment=["10.0.0.1", "10.0.0.2"]),
        lambda it: it["composed"]["loss"].update(value=1.5),
        lambda it: it["composed"]["loss"].update(high=1.01),
        lambda it: it["composed"]["loss"].update(unit="ms"),
        lambda it: it["composed"].update(Speed=it["composed"]["delay"]),
        lambda it: it["composed"]["delay"].update(method="guess"),
        lambda it: it["composed"]["delay"].update(method="listed"),
        lambda it: it["composed"]["delay"].update(flags=["partial"]),
        lambda it: it["composed"]["delay"].update(flags=["stale", "stale"]),
        lambda it: it["composed"]["delay"]["quantiles"].pop("p95"),
        lambda it: it["composed"]["reordering"].update(method="sum"),
        lambda it: it["composed"]["reordering"].update(low=0.5),
    ],
)
def test_a_wrong_answer_is_not_valid(change: Callable[[dict[str, Any]], object]) -> None:
    assert is_valid(COMPLETE.to_json())
    assert not is_valid(changed(change))
