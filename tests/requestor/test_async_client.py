"""Both clients against a service over real sockets: what one can, the other can."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest

from requestor.async_client import AsyncClient
from requestor.client import Client
from requestor.dialogue import MAX_LINE_BYTES
from requestor.local_point import CONFIG_VARIABLE
from requestor.profile import BUILT_IN_PROFILES
from requestor.query import PathQuery
from requestor.verdict import verdict_of
from requestor.verify_query import VerifyQuery
from schemas.closure import ClosureCheck, ClosureVerdict
from schemas.errors import HostError, InpathError, MessageError, NoAnswerError, UsageError
from schemas.result import ResultStatus
from schemas.verdict import Verdict
from tests.receiver.paths import pending, result, unanswered, usual
from tests.requestor.answering import Desk, serving

OUT, BACK = result((usual(0), usual(1))), result((usual(0), pending(1)))
QUERY = PathQuery(source="10.0.0.1", destination="mp3", metrics=("loss",), timeout_s=5.0, max_age_s=1.0)
CHECK = ClosureCheck(
    id="0" * 32,
    request_id="1" * 32,
    source="10.0.0.1",
    destination="10.0.0.2",
    checked_at="2026-01-01T12:00:00.000001Z",
    duration_s=2.0,
    verdict=ClosureVerdict.UNKNOWN,
    metrics={},
    warnings=(),
)

Step = Callable[[Any], Any]
"""What is done with a client of either kind; gives what the client's method gives."""


def blocking(place: Path, *steps: Step) -> list[Any]:
    """What each step gives, or the error that it raised."""

    def attempt(client: Client, step: Step) -> Any:
        try:
            return step(client)
        except InpathError as error:
            return error

    with Client(place) as client:
        return [attempt(client, step) for step in steps]


def with_asyncio(place: Path, *steps: Step) -> list[Any]:
    async def attempt(client: AsyncClient, step: Step) -> Any:
        try:
            value = step(client)
            return await value if isawaitable(value) else value
        except InpathError as error:
            return error

    async def converse() -> list[Any]:
        async with AsyncClient(place) as client:
            return [await attempt(client, step) for step in steps]

    return asyncio.run(converse())


Converse = Callable[..., list[Any]]
both_clients = pytest.mark.parametrize("converse", [blocking, with_asyncio])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
def desk(place: Path) -> Iterator[Desk]:
    desk = Desk(path={"result": OUT.to_json(), "return": BACK.to_json()}, verify={"check": CHECK.to_json()})
    with serving(place, desk):
        yield desk


@both_clients
def test_each_question_on_one_connection_gets_its_answer(converse: Converse, place: Path, desk: Desk) -> None:
    assert converse(
        place,
        lambda client: client.path(QUERY),
        lambda client: client.both_paths(QUERY),
        lambda client: client.verify(VerifyQuery(source="10.0.0.1", destination="10.0.0.2")),
        lambda client: client.status(),
    ) == [OUT, (OUT, BACK), CHECK, {"point": {"address": "10.0.0.1"}}]


@both_clients
def test_a_verdict_is_that_of_the_path_from_the_point_that_is_asked(
    converse: Converse, place: Path, desk: Desk
) -> None:
    voice, bulk = BUILT_IN_PROFILES["voice"], BUILT_IN_PROFILES["bulk"]
    assert converse(
        place,
        lambda client: client.verdict("mp3", "voice"),
        lambda client: client.verdict("mp3", bulk, timeout_s=2.5),
        lambda client: client.both_verdicts("mp3", "voice"),
    ) == [verdict_of(OUT, voice), verdict_of(OUT, bulk), (verdict_of(OUT, voice), verdict_of(BACK, voice))]
    asked = [question["ask"] for question in desk.asked]
    assert asked == ["status", "path", "path", "path"]
    queries = [question["query"] for question in desk.asked[1:]]
    assert queries[0] == {
        "source": "10.0.0.1",
        "destination": "mp3",
        "metrics": ["delay", "loss", "jitter", "rtt", "distribution"],
        "timeout_s": 10.0,
        "max_age_s": 15.0,
        "both_directions": False,
        "carrier": None,
    }
    assert (queries[1]["timeout_s"], queries[1]["max_age_s"]) == (2.5, 3600.0)
    assert queries[2]["both_directions"] is True


@both_clients
def test_a_path_without_an_answer_has_no_verdict(converse: Converse, place: Path, desk: Desk) -> None:
    failed = unanswered(status=ResultStatus.FAILED).to_json()
    desk.answers["path"] = {"result": {**failed, "warnings": ["no answer within 10 s"]}}
    (error,) = converse(place, lambda client: client.verdict("mp3", "voice"))
    assert isinstance(error, NoAnswerError)
    assert str(error) == "path 10.0.0.1 -> 10.9.9.9: no answer within 10 s"


@both_clients
def test_an_unknown_profile_is_named_before_anything_is_asked(converse: Converse, place: Path, desk: Desk) -> None:
    _, error = converse(place, lambda client: client.status(), lambda client: client.verdict("mp3", "voise"))
    assert isinstance(error, UsageError)
    assert "did you mean voice?" in str(error)
    assert desk.asked == [{"ask": "status"}]


@both_clients
def test_a_late_answer_is_not_taken_for_that_of_the_next_question(
    converse: Converse, place: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requestor.question.STATUS_TIMEOUT_S", 0.2)
    desk.delay_s = 0.4
    error, after = converse(place, lambda client: client.status(), lambda client: client.path(QUERY))
    assert isinstance(error, NoAnswerError)
    assert "no answer within 0.2 s" in str(error)
    assert after == OUT


@both_clients
def test_a_client_connects_again_when_the_service_has_hung_up(converse: Converse, place: Path) -> None:
    desk = Desk(path={"result": OUT.to_json()})
    first = serving(place, desk)
    second = serving(place, desk)
    first.__enter__()

    def restart(_: object) -> None:
        time.sleep(0.05)  # the service is still busy with the answer that is here already
        first.__exit__(None, None, None)
        second.__enter__()

    try:
        assert converse(place, lambda client: client.path(QUERY), restart, lambda client: client.path(QUERY)) == [
            OUT,
            None,
            OUT,
        ]
    finally:
        time.sleep(0.05)
        second.__exit__(None, None, None)


@both_clients
def test_where_nobody_listens_the_error_names_the_place(converse: Converse, place: Path) -> None:
    with pytest.raises(HostError, match=r"service: got .*s\.sock, expected a measurement point there"):
        converse(place)


@both_clients
@pytest.mark.parametrize(
    ("reply", "expected", "text"),
    [
        (b"", HostError, "hung up without an answer"),
        (b'{"status"', HostError, "hung up without an answer"),
        (b"nonsense\n", MessageError, "expected one JSON object"),
        (b'{"result": {}}\n', MessageError, "answer: got result, expected status"),
        (b'{"error": {"text": "no such thing", "exit_code": 2}}\n', InpathError, "no such thing"),
        (b"x" * (MAX_LINE_BYTES + 1), MessageError, "a line longer than"),
    ],
    ids=["nothing", "half a line", "no JSON", "another answer", "an error", "an endless line"],
)
def test_whatever_a_service_says_is_an_answer_or_an_error_of_ours(
    converse: Converse, place: Path, reply: bytes, expected: type[InpathError], text: str
) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(place))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

        server = threading.Thread(target=serve)
        server.start()
        (error,) = converse(place, lambda client: client.status())
        server.join(5)
    assert isinstance(error, expected)
    assert text in str(error)


@both_clients
def test_a_point_that_does_not_say_who_it_is_cannot_be_asked_for_a_verdict(
    converse: Converse, place: Path
) -> None:
    async def nobody(question: dict[str, Any]) -> dict[str, Any]:
        return {"status": {"point": None}}

    with serving(place, nobody):
        (error,) = converse(place, lambda client: client.verdict("mp3", "voice"))
    assert isinstance(error, MessageError)
    assert "expected the point's address" in str(error)


@pytest.fixture
def configured(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "inpath.toml"
    file.write_text(f'[service]\nsocket = "{place}"\n[profiles.easy]\nloss = {{ at_most = 1.0 }}\n')
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))


@pytest.mark.usefixtures("configured", "desk")
def test_the_local_client_finds_the_point_and_its_profiles_by_the_configuration() -> None:
    with Client.local() as client:
        assert client.verdict("mp3", "easy").yes


@pytest.mark.usefixtures("configured", "desk")
def test_the_local_async_client_does_too() -> None:
    async def ask() -> Verdict:
        async with AsyncClient.local() as client:
            return await client.verdict("mp3", "easy")

    assert asyncio.run(ask()).yes


def test_tasks_that_share_a_client_each_get_their_own_answer(place: Path, desk: Desk) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(place) as client:
            desk.delay_s = 0.05
            questions: list[Awaitable[Any]] = [client.path(QUERY), client.status(), client.both_paths(QUERY)]
            return await asyncio.gather(*questions)

    assert asyncio.run(ask()) == [OUT, {"point": {"address": "10.0.0.1"}}, (OUT, BACK)]


def test_the_answer_of_a_cancelled_question_is_not_taken_for_that_of_the_next(place: Path, desk: Desk) -> None:
    async def ask() -> Any:
        async with AsyncClient(place) as client:
            desk.delay_s = 0.3
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.status(), 0.05)
            return await client.path(QUERY)

    assert asyncio.run(ask()) == OUT
