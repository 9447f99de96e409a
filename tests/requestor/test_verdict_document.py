from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from requestor.profile import BUILT_IN_PROFILES, Profile
from requestor.verdict import verdict_of
from schemas.errors import MessageError
from schemas.result import ComposedMetric, Flag, PathResult, ResultStatus
from schemas.verdict import BEST_FIRST, Answer, Doubt, Sense, Verdict
from tests.receiver.paths import (
    delay,
    jitter,
    lacking,
    loss,
    measured,
    pending,
    queue,
    result,
    rtt,
    unanswered,
    usual,
)
from tests.requestor.judged_paths import VOICE, least_delay, metric, path, voice_path

VALIDATOR = Draft202012Validator(json.loads((files("schemas") / "verdict.schema.json").read_text()))


BETTER = {
    **dict.fromkeys(("delay", "loss", "jitter", "rtt", "distribution"), -1.0),
    **dict.fromkeys(("mtu", "available-bandwidth"), 1.0),
}
"""The direction in which a metric is better."""


@st.composite
def numbers(draw: st.DrawFn, most: float) -> tuple[float, float, float]:
    low, value, high = sorted(draw(st.tuples(*[st.floats(0, most)] * 3)))
    return value, low, high


@st.composite
def measured_paths(draw: st.DrawFn) -> PathResult:
    times = {"delay": 300.0, "jitter": 100.0, "rtt": 300.0, "distribution": 100.0}
    scales = {**times, "loss": 1.0, "mtu": 3000.0, "available-bandwidth": 20.0}
    flags = st.sampled_from([(), (), (Flag.UNSYNCHRONIZED,), (Flag.STALE,)])
    whole = path(
        **{
            name: metric(name, *draw(numbers(most)), flags=draw(flags) if name == "delay" else ())
            for name, most in scales.items()
        }
    )
    return replace(whole, segments=(least_delay(0.0),))


def shifted(one: ComposedMetric, step: float) -> ComposedMetric:
    most = 1.0 if one.unit == "ratio" else 1e6

    def moved(value: float | None) -> float:
        assert value is not None
        return min(most, max(0.0, value + step))

    return replace(one, value=moved(one.value), low=moved(one.low), high=moved(one.high))


profiles = st.sampled_from([*BUILT_IN_PROFILES.values()])


@given(measured_paths(), profiles, st.sampled_from(list(BETTER)), st.floats(0, 100))
def test_a_better_value_never_makes_the_verdict_worse(
    answer: PathResult, profile: Profile, name: str, step: float
) -> None:
    step *= 0.01 if name == "loss" else 1.0
    better = {**answer.composed, name: shifted(answer.composed[name], BETTER[name] * step)}
    before, after = verdict_of(answer, profile), verdict_of(replace(answer, composed=better), profile)
    assert BEST_FIRST.index(after.answer) <= BEST_FIRST.index(before.answer)
    for old, new in zip(before.limits, after.limits, strict=True):
        assert BEST_FIRST.index(new.answer) <= BEST_FIRST.index(old.answer)


def is_valid(verdict: Verdict) -> bool:
    document = json.loads(json.dumps(verdict.to_json()))
    assert Verdict.from_json(document) == verdict
    return VALIDATOR.is_valid(document)


@given(measured_paths(), profiles)
@settings(max_examples=40)
def test_every_verdict_is_valid_and_reads_back(answer: PathResult, profile: Profile) -> None:
    assert is_valid(verdict_of(answer, profile))


@pytest.mark.parametrize(
    "answer",
    [
        result((usual(0), usual(1))),
        result((usual(0), pending(1), lacking(2, "loss"))),
        result((measured(0, delay=delay(2.0), loss=loss(0), jitter=jitter(0.1), rtt=rtt(4.0)),)),
        result(()),
        unanswered(status=ResultStatus.FAILED),
    ],
    ids=["complete", "partial", "without distribution", "empty", "failed"],
)
@pytest.mark.parametrize("profile", BUILT_IN_PROFILES.values(), ids=lambda profile: profile.name)
def test_every_kind_of_answer_has_a_verdict(answer: PathResult, profile: Profile) -> None:
    verdict = verdict_of(answer, profile)
    assert is_valid(verdict)
    assert verdict.request_id == answer.id
    if answer.status is ResultStatus.FAILED:
        assert verdict.unsure
        assert {limit.doubt for limit in verdict.limits} == {Doubt.UNDEFINED}


def test_a_composed_path_without_loss_gets_a_yes_for_voice() -> None:
    segments = [
        measured(index, delay=delay(5.0), loss=loss(0), jitter=jitter(0.1), rtt=rtt(10.0), distribution=queue(0.3))
        for index in range(3)
    ]
    asked = result([replace(one, unsupported=("reordering", "duplication", "hops", "mtu", "capacity",
                    "utilization", "available-bandwidth")) for one in segments])  # fmt: skip
    assert verdict_of(asked, VOICE).yes


def test_each_key_of_the_document_is_required_and_no_other_is_allowed() -> None:
    document = verdict_of(voice_path(), VOICE).to_json()
    for key in document:
        assert not VALIDATOR.is_valid({name: value for name, value in document.items() if name != key}), key
    assert not VALIDATOR.is_valid({**document, "more": 1})
    for limits in ([], [{**document["limits"][0], "more": 1}], [{**document["limits"][0], "doubt": "fog"}]):
        assert not VALIDATOR.is_valid({**document, "limits": limits})
    unsure = {**document["limits"][0], "answer": "unsure", "doubt": "straddles"}
    assert not VALIDATOR.is_valid({**document, "limits": [unsure]})


def test_the_schema_is_one_and_knows_every_choice() -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)
    definitions = VALIDATOR.schema["$defs"]  # type: ignore[index]
    assert definitions["answer"]["enum"] == ["yes", "no", "unsure"] == [str(answer) for answer in Answer]
    assert definitions["limit"]["properties"]["sense"]["enum"] == [str(sense) for sense in Sense]
    assert definitions["limit"]["properties"]["doubt"]["enum"] == [*map(str, Doubt), None]


@pytest.mark.parametrize(
    "change", [{"answer": "perhaps"}, {"limits": [{}]}, {"limits": 3}, {"voice_estimate": {}}]
)
def test_a_document_that_nobody_wrote_is_refused(change: dict[str, Any]) -> None:
    document = verdict_of(voice_path(), VOICE).to_json()
    with pytest.raises(MessageError, match="verdict: "):
        Verdict.from_json({**document, **change})
    del document["profile"]
    with pytest.raises(MessageError, match="verdict: KeyError"):
        Verdict.from_json(document)
