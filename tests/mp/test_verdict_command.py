"""`inpath request --profile` against a service over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from mp.request_command import request
from schemas.errors import UsageError
from schemas.message import SegmentRecord
from schemas.result import PathResult, ResultStatus
from tests.receiver.paths import delay, jitter, lacking, loss, measured, pending, queue, result, rtt, unanswered
from tests.requestor.answering import Desk, serving

SCHEMAS = {
    name: Draft202012Validator(json.loads((files("schemas") / f"{name}.schema.json").read_text()))
    for name in ("result", "verdict")
}


def segment(index: int, lost: int = 0) -> SegmentRecord:
    return measured(
        index,
        delay=delay(20.0),
        loss=loss(lost),
        jitter=jitter(0.1),
        rtt=rtt(40.0),
        distribution=queue(0.3),
    )


GOOD, BAD = result((segment(0), segment(1))), result((segment(0), segment(1, 60)))
UNKNOWN = result((segment(0), pending(1)))
FAILED = unanswered(status=ResultStatus.FAILED)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk()
    with serving(tmp_path / "s.sock", desk):
        yield desk


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "inpath.toml"
    file.write_text(
        f"""
        [point]
        address = "10.0.0.1"
        [service]
        socket = "{tmp_path / "s.sock"}"
        [profiles.trading]
        rtt = {{ at_most = 20 }}
        mtu = {{ at_least = 1400 }}
        [names]
        mp1 = "10.0.0.1"
        h9 = "10.9.9.9"
        """
    )
    return file


def run(desk: Desk, configuration: Path, forward: PathResult, *options: str, back: PathResult = GOOD) -> Result:
    desk.answers["path"] = {"result": forward.to_json(), "return": back.to_json()}
    return CliRunner().invoke(
        request, ["mp1", "h9", "--config", str(configuration), *options], env={"COLUMNS": "100"}
    )


@pytest.mark.parametrize(
    ("answer", "exit_code", "headline"),
    [
        (GOOD, 0, "voice: yes for mp1 -> h9"),
        (BAD, 4, "voice: no for mp1 -> h9, broken by loss"),
        (UNKNOWN, 5, "voice: unsure for mp1 -> h9"),
    ],
    ids=["yes", "no", "unsure"],
)
def test_the_verdict_is_shown_under_the_result_and_is_the_exit_code(
    desk: Desk, configuration: Path, answer: PathResult, exit_code: int, headline: str
) -> None:
    done = run(desk, configuration, answer, "--profile", "voice")
    assert done.exit_code == exit_code
    assert 0 < done.stdout.index("The whole path, composed") < done.stdout.index(headline)


def test_without_an_answer_there_is_no_verdict(desk: Desk, configuration: Path) -> None:
    done = run(desk, configuration, FAILED, "--profile", "voice")
    assert done.exit_code == 3
    assert "voice" not in done.stdout


def asked(desk: Desk) -> dict[str, Any]:
    (question,) = desk.asked
    query: dict[str, Any] = question["query"]
    return query


def test_what_the_profile_needs_is_asked_for(desk: Desk, configuration: Path) -> None:
    run(desk, configuration, GOOD, "--profile", "trading")
    assert (asked(desk)["metrics"], asked(desk)["max_age_s"]) == (["rtt", "mtu"], 3600.0)


def test_metrics_and_ages_that_are_given_are_asked_for_besides(desk: Desk, configuration: Path) -> None:
    run(desk, configuration, GOOD, "--profile", "trading", "--metrics", "hops,rtt", "--max-age", "7")
    assert (asked(desk)["metrics"], asked(desk)["max_age_s"]) == (["rtt", "hops", "mtu"], 7.0)


def test_without_a_profile_the_usual_metrics_are_asked_for(desk: Desk, configuration: Path) -> None:
    done = run(desk, configuration, GOOD)
    assert "voice" not in done.stdout
    assert (asked(desk)["metrics"], asked(desk)["max_age_s"]) == (["delay", "loss", "jitter", "rtt"], 15.0)


def test_json_holds_the_result_and_the_verdict(desk: Desk, configuration: Path) -> None:
    done = run(desk, configuration, BAD, "--profile", "voice", "--json")
    document = json.loads(done.stdout)
    assert list(document) == ["result", "verdict"]
    for name, schema in SCHEMAS.items():
        schema.validate(document[name])
    assert document["result"] == BAD.to_json()
    assert document["verdict"]["answer"] == "no"


@pytest.mark.parametrize(
    ("forward", "back", "exit_code"),
    [
        (GOOD, GOOD, 0),
        (GOOD, UNKNOWN, 5),
        (BAD, UNKNOWN, 4),
        (GOOD, BAD, 4),
        (FAILED, BAD, 3),
    ],
)
def test_of_both_directions_the_worse_one_is_the_exit_code(
    desk: Desk, configuration: Path, forward: PathResult, back: PathResult, exit_code: int
) -> None:
    done = run(desk, configuration, forward, "--profile", "voice", "--both-directions", "--json", back=back)
    assert done.exit_code == exit_code
    document = json.loads(done.stdout)
    assert list(document) == ["forward", "return"]
    assert [list(one) for one in document.values()] == [["result", "verdict"]] * 2


def test_a_metric_that_no_limit_needs_does_not_spoil_a_yes(desk: Desk, configuration: Path) -> None:
    answer = result((lacking(0, "hops"),))
    assert answer.status is ResultStatus.PARTIAL
    assert run(desk, configuration, answer, "--profile", "trading", "--metrics", "hops").exit_code == 0


def test_an_unknown_profile_names_those_that_there_are(desk: Desk, configuration: Path) -> None:
    done = run(desk, configuration, GOOD, "--profile", "tradng")
    assert isinstance(done.exception, UsageError)
    assert done.exception.exit_code == 2
    assert str(done.exception) == (
        "profile: got 'tradng', expected one of bulk, game, trading, video, voice; did you mean trading?"
    )
    assert desk.asked == []
