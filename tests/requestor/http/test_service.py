"""The whole process over real sockets: what is asked, and what comes back."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mp.privileges import user_entry
from requestor.http.jobs import MAX_RUNNING_OF_ONE
from requestor.http.point import GRACE_S
from requestor.http.questions import MAX_PAIRS
from requestor.profile import BUILT_IN_PROFILES
from requestor.verdict import verdict_of
from schemas.message import Carrier
from schemas.metrics import METRICS
from schemas.result import PathResult
from tests.requestor.http.fake_point import FAR, MIDDLE, OWN, SLOW, STUCK
from tests.requestor.http.serving import Served, status_fields

QUESTION = {"source": "here", "destination": "far"}


@pytest.fixture(scope="session")
def document(running: Served) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", "/openapi.json").document()
    return found


def assert_fits(document: dict[str, Any], name: str, value: object) -> None:
    """The value is what the OpenAPI document says of the schema of that name."""
    Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"}).validate(value)


def test_a_question_is_answered_with_names_resolved(running: Served, document: dict[str, Any]) -> None:
    reply = running.ask("POST", "/v1/paths", QUESTION)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    answer = reply.document()
    assert_fits(document, "Answer", answer)
    assert (answer["result"]["source"], answer["result"]["destination"]) == (OWN, FAR)
    assert list(answer) == ["result"]


def test_a_profile_brings_its_metrics_and_a_verdict(running: Served, document: dict[str, Any]) -> None:
    answer = running.ask("POST", "/v1/paths", {**QUESTION, "profile": "game"}).document()
    assert_fits(document, "Answer", answer)
    judged = verdict_of(PathResult.from_json(answer["result"]), BUILT_IN_PROFILES["game"])
    assert answer["verdict"] == json.loads(json.dumps(judged.to_json()))
    needed = BUILT_IN_PROFILES["game"].metrics(METRICS)
    assert answer["result"]["metrics"] == list(needed)
    both = running.ask("POST", "/v1/paths", {**QUESTION, "profile": "game", "metrics": ["mtu", "loss"]}).document()
    assert both["result"]["metrics"] == [name for name in METRICS if name in (*needed, "mtu")]


def test_both_directions_come_with_one_question(running: Served) -> None:
    answer = running.ask("POST", "/v1/paths", {**QUESTION, "both_directions": True}).document()
    assert (answer["return"]["source"], answer["return"]["destination"]) == (FAR, OWN)


@pytest.mark.parametrize("carrier", [*Carrier, None])
def test_a_request_travels_by_the_carrier_that_is_named(running: Served, carrier: Carrier | None) -> None:
    answer = running.ask("POST", "/v1/paths", {**QUESTION, "carrier": carrier}).document()
    assert answer["result"]["carrier"] == (carrier or Carrier.ROUTER_ALERT)


def test_a_failed_measurement_is_an_answer_within_the_time_given(running: Served) -> None:
    began_s = time.monotonic()
    reply = running.ask("POST", "/v1/paths", {**QUESTION, "destination": SLOW, "timeout_s": 0.3})
    assert time.monotonic() - began_s < 0.3 + GRACE_S + 0.5
    assert (reply.status, reply.document()["result"]["status"]) == (200, "failed")


def test_a_point_that_hangs_is_told_as_no_answer(running: Served, document: dict[str, Any]) -> None:
    reply = running.ask("POST", "/v1/paths", {**QUESTION, "destination": STUCK, "timeout_s": 0.2})
    assert (reply.status, reply.headers["content-type"]) == (504, "application/problem+json")
    assert_fits(document, "Problem", reply.document())


def test_a_measurement_is_fetched_later(running: Served, document: dict[str, Any]) -> None:
    accepted = running.ask("POST", "/v1/measurements", {**QUESTION, "destination": SLOW, "timeout_s": 0.3})
    assert (accepted.status, accepted.document()["state"]) == (202, "running")
    where = accepted.headers["location"]
    assert running.ask("GET", where).document()["state"] == "running"
    time.sleep(0.5)
    measurement = running.ask("GET", where).document()
    assert_fits(document, "Measurement", measurement)
    assert (measurement["state"], measurement["answer"]["result"]["status"]) == ("done", "failed")


def test_a_measurement_that_the_point_refuses_is_kept_as_a_problem(
    running: Served, document: dict[str, Any]
) -> None:
    where = running.ask("POST", "/v1/measurements", {"source": MIDDLE, "destination": FAR}).headers["location"]
    time.sleep(0.1)
    measurement = running.ask("GET", where).document()
    assert_fits(document, "Measurement", measurement)
    assert measurement["state"] == "failed"
    assert "this point's address" in measurement["problem"]["detail"]


def test_one_caller_has_so_many_measurements_under_way_and_no_more(running: Served) -> None:
    wish = {**QUESTION, "destination": SLOW, "timeout_s": 1.0}
    replies = [running.ask("POST", "/v1/measurements", wish) for _ in range(MAX_RUNNING_OF_ONE + 1)]
    assert [reply.status for reply in replies] == [202] * MAX_RUNNING_OF_ONE + [429]
    assert int(replies[-1].headers["retry-after"]) >= 1
    time.sleep(1.5)
    assert running.ask("POST", "/v1/measurements", QUESTION).status == 202


def test_a_batch_gives_each_pair_its_answer_or_its_problem(running: Served, document: dict[str, Any]) -> None:
    pairs = [{"source": "here", "destination": f"198.51.100.{number}"} for number in range(1, 31)]
    pairs += [{"source": MIDDLE, "destination": FAR}, {"source": "nowhere", "destination": FAR}]
    running.point.most_open = 0
    outcomes = running.ask("POST", "/v1/batches", {"pairs": pairs}).document()["outcomes"]
    for outcome, pair in zip(outcomes, pairs, strict=True):
        assert_fits(document, "Outcome", outcome)
        assert (outcome["source"], outcome["destination"]) == (pair["source"], pair["destination"])
    assert ["answer" in outcome for outcome in outcomes] == [True] * 30 + [False] * 2
    assert outcomes[-1]["problem"]["field"] == "source"
    assert running.point.most_open <= 8


def test_the_time_of_a_batch_bounds_all_its_pairs_together(running: Served) -> None:
    pairs = [{"source": "here", "destination": SLOW}] * 20
    began_s = time.monotonic()
    outcomes = running.ask("POST", "/v1/batches", {"pairs": pairs, "timeout_s": 0.4}).document()["outcomes"]
    assert time.monotonic() - began_s < 0.4 + GRACE_S + 0.5
    late = [outcome for outcome in outcomes if "problem" in outcome]
    assert len(late) == 12
    assert {outcome["problem"]["status"] for outcome in late} == {504}


def test_a_verdict_is_asked_for_by_itself(running: Served, document: dict[str, Any]) -> None:
    verdict = running.ask("GET", "/v1/verdict?source=here&destination=far&profile=voice").document()
    assert_fits(document, "Verdict", verdict)
    profiles = running.ask("GET", "/v1/profiles").document()
    assert [limit["metric"] for limit in verdict["limits"]] == [
        limit["metric"] for limit in profiles["voice"]["limits"]
    ]


def test_the_point_its_neighbors_and_segments_are_shown(running: Served) -> None:
    assert running.ask("GET", "/v1/point").document()["point"]["name"] == "border-1"
    (neighbor,) = running.ask("GET", "/v1/neighbors").document()["neighbors"]
    (segment,) = running.ask("GET", "/v1/segments").document()["segments"]
    assert neighbor["address"] == segment["upstream"] == MIDDLE
    assert segment["current"] == OWN
    assert segment["last_60_s"]["delay"]["count"] == 600


def test_it_says_that_it_lives_and_that_it_can_answer(running: Served) -> None:
    assert running.ask("GET", "/healthz").document() == {"status": "ok"}
    assert running.ask("GET", "/readyz").document() == {"ready": True, "point": "up", "store": "up"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metrics": ["dealy"]}, "metrics"),
        ({"metrics": []}, "metrics"),
        ({"metrics": ["loss", "loss"]}, "metrics"),
        ({"metrics": "loss"}, "metrics"),
        ({"profile": "voce"}, "profile"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": 1e9}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"max_age_s": -1}, "max_age_s"),
        ({"both_directions": 1}, "both_directions"),
        ({"carrier": "pigeon"}, "carrier"),
        ({"source": "nowhere"}, "source"),
        ({"source": "\ud800"}, "source"),
        ({"source": "192.0.2.9"}, "source"),  # an address, but not the point's, as only that knows
        ({"destination": "here"}, "destination"),
        ({"destination": "224.0.0.1"}, "destination"),
        ({"destination": None}, "destination"),
        ({"metricks": ["loss"]}, "metricks"),
    ],
)
def test_what_cannot_be_meant_is_named_by_field_value_and_expectation(
    running: Served, document: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    reply = running.ask("POST", "/v1/paths", {**QUESTION, **change})
    problem = reply.document()
    assert_fits(document, "Problem", problem)
    assert (reply.status, problem["type"], problem["field"]) == (422, "urn:inpath:problem:value", field)
    assert problem["expected"]
    shown = problem["value"]
    assert shown == change[field] or isinstance(shown, str)


@pytest.mark.parametrize("body", ["{", '{"a": NaN', "[" * 30_000, "9" * 5000, "\x00"])
def test_what_is_no_json_is_malformed(running: Served, body: str) -> None:
    connection = running.open()
    content = body.encode()
    head = (
        f"POST /v1/paths HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + content)
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
    connection.close()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 422"))
    assert b"application/problem+json" in answer


def test_too_many_pairs_are_refused(running: Served) -> None:
    pairs = [{"source": "here", "destination": "far"}] * (MAX_PAIRS + 1)
    problem = running.ask("POST", "/v1/batches", {"pairs": pairs}).document()
    assert (problem["status"], problem["field"]) == (422, "pairs")


def test_a_body_above_64_kib_is_refused_and_the_next_question_answered(running: Served) -> None:
    reply = running.ask("POST", "/v1/paths", {**QUESTION, "profile": "x" * 70_000})
    assert (reply.status, reply.document()["field"]) == (413, "body")
    assert running.ask("POST", "/v1/paths", QUESTION).status == 200


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/history?from=yesterday", "from"),
        ("/v1/history?cursor=1", "cursor"),
        ("/v1/history?limit=1000", "limit"),
        ("/v1/history?metric=dealy", "metric"),
        ("/v1/history?sourc=here", "sourc"),
        ("/v1/verdict?source=here&destination=far", "profile"),
        ("/v1/events?source=here&destination=far&interval_s=nan", "interval_s"),
        ("/v1/events?source=here&destination=far&interval_s=0.01", "interval_s"),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_named(running: Served, target: str, field: str) -> None:
    problem = running.ask("GET", target).document()
    assert (problem["status"], problem["field"]) == (422, field)


def test_other_paths_and_methods_are_problems_too(running: Served, document: dict[str, Any]) -> None:
    for method, target, status in (
        ("GET", "/v2", 404),
        ("GET", "/v1/paths", 405),
        ("GET", "/v1/measurements/x", 404),
    ):
        reply = running.ask(method, target)
        assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
        assert_fits(document, "Problem", reply.document())


def test_no_http_gets_a_problem(running: Served) -> None:
    with running.open() as connection:
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:inpath:problem:malformed"


def test_a_client_that_goes_away_frees_its_connection_to_the_point(running: Served) -> None:
    body = json.dumps({**QUESTION, "destination": STUCK, "timeout_s": 200})
    head = f"POST /v1/paths HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    for _ in range(40):  # more than the connections that the process may have to the point
        with running.open() as connection:
            connection.sendall(f"{head}\r\n\r\n{body}".encode())
            time.sleep(0.005)
    began_s = time.monotonic()
    assert running.ask("POST", "/v1/paths", QUESTION).status == 200
    assert time.monotonic() - began_s < 1


def test_many_clients_at_once_all_get_answers(running: Served) -> None:
    running.point.most_open = 0
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: running.ask("POST", "/v1/paths", QUESTION).status, range(120)))
    assert replies == [200] * 120


def test_the_process_has_no_right_that_it_does_not_need(running: Served) -> None:
    assert running.link.pid is not None
    status = status_fields(running.link.pid)
    nobody = user_entry("nobody")
    assert os.geteuid() == 0  # else there was nothing to give away
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert status["Groups"] == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0
    assert status["NoNewPrivs"] == "1"
