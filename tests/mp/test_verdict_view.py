from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from mp.verdict_view import print_verdict
from requestor.profile import BUILT_IN_PROFILES
from requestor.verdict import verdict_of
from schemas.message import SegmentRecord
from schemas.verdict import Verdict
from tests.receiver.paths import delay, jitter, loss, measured, pending, queue, result, rtt

VOICE = BUILT_IN_PROFILES["voice"]
NAMES = {"10.0.0.1": "mp1", "10.0.0.2": "mp2", "10.0.0.3": "mp3", "10.9.9.9": "h9"}


def segment(index: int, lost: int = 0, *, synchronized: bool = True) -> SegmentRecord:
    return measured(
        index,
        delay=delay(20.0, synchronized=synchronized),
        loss=loss(lost),
        jitter=jitter(0.1),
        rtt=rtt(40.0),
        distribution=queue(0.3),
    )


def shown(verdict: Verdict) -> str:
    text = io.StringIO()
    print_verdict(verdict, NAMES, Console(file=text, width=80))
    return text.getvalue()


def judged(*records: SegmentRecord) -> Verdict:
    return verdict_of(result(records), VOICE)


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        (
            judged(segment(0), segment(1)),
            "voice: yes for mp1 -> h9, closest to its limit is delay, by mp1 -> mp2 ",
        ),
        (judged(segment(0), segment(1, 60)), "voice: no for mp1 -> h9, broken by loss, by mp2 -> mp3 "),
        (
            judged(segment(0), pending(1)),
            "voice: unsure for mp1 -> h9, because of delay: it has no value over the whole path, by mp2 -> mp3 ",
        ),
    ],
    ids=["yes", "no", "unsure"],
)
def test_the_headline_names_the_answer_the_binding_limit_and_its_segment(verdict: Verdict, headline: str) -> None:
    assert " ".join(shown(verdict).split()).startswith(headline)


def test_each_limit_is_a_row_within_eighty_columns() -> None:
    lines = shown(judged(segment(0), segment(1, 60))).splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line.split() for line in lines if line.startswith("loss"))
    assert (row[:3], row[-4:]) == (["loss", "%", "10.00"], ["<=", "1", "-9.00", "no"])
    (row,) = (line.split() for line in lines if line.startswith("delay"))
    assert row[-4:] == ["<=", "150", "+110.000", "yes"]


def test_voice_quality_is_called_an_estimate() -> None:
    text = shown(judged(segment(0), segment(1)))
    assert "estimated MOS 4." in text
    assert "E-model of ITU-T G.107" in text


def test_without_synchronized_clocks_there_is_no_value_and_the_bound_is_shown() -> None:
    text = shown(judged(segment(0, synchronized=False), segment(1)))
    (row,) = (line.split() for line in text.splitlines() if line.startswith("delay"))
    assert row[:3] == ["delay", "ms", "-"]
    assert row[-1] == "yes"
    assert "estimated MOS 4." in text


def test_a_metric_of_which_nothing_is_known_has_a_row_without_numbers() -> None:
    verdict = judged(segment(0))
    unknown = replace(verdict.limits[0], unit=None, value=None, low=None, high=None, margin=None)
    text = shown(replace(verdict, limits=(unknown, *verdict.limits[1:])))
    (row,) = (line.split() for line in text.splitlines() if line.startswith("delay"))
    assert row == ["delay", "-", "-", "<=", "150", "-", "yes"]
