"""Lines between a client and the service, in both directions."""

from __future__ import annotations

import json

from requestor.dialogue import RemoteError, document_from_line, error_document, line_from_document, raise_error
from requestor.query import PathQuery
from requestor.question import both_paths_question, path_question, status_question, verify_question
from requestor.verify_query import VerifyQuery
from schemas.errors import MessageError, UsageError
from tests.fuzz.target import Target
from tests.receiver.paths import result, usual

_NAMES = {"far": "192.0.2.77"}
_QUERY = PathQuery(source="10.0.0.1", destination="10.0.0.2", metrics=("delay",), timeout_s=1, max_age_s=5)
_VERIFY = VerifyQuery(source="10.0.0.1", destination="10.0.0.2")
_QUESTIONS = (path_question(_QUERY), both_paths_question(_QUERY), verify_question(_VERIFY), status_question())


def one_input(data: bytes) -> None:
    """As a question to a point, and as its answer to each question."""
    try:
        document = document_from_line(data)
    except MessageError as error:
        line_from_document(error_document(error))
        return
    for kind in (PathQuery, VerifyQuery):
        try:
            query = kind.from_json(document.get("query"), _NAMES)
        except UsageError as error:
            line_from_document(error_document(error))
        else:
            assert kind.from_json(query.to_json(), {}) == query
    for question in _QUESTIONS:
        try:
            raise_error(document)
            question.read(document)
        except (MessageError, RemoteError):
            continue


def seeds() -> list[bytes]:
    """Questions and answers."""
    documents = [
        {"ask": "path", "query": _QUERY.to_json()},
        {"ask": "path", "query": {"source": "far", "destination": "10.0.0.2"}},
        {"ask": "verify", "query": _VERIFY.to_json()},
        {"result": result([usual(0)]).to_json()},
        {"status": {}},
        {"error": {"kind": "HostError", "text": "away", "exit_code": 1}},
    ]
    return [json.dumps(document).encode() for document in documents]


WORDS = [
    f'"{word}"'.encode()
    for word in (
        "query",
        "source",
        "destination",
        "metrics",
        "timeout_s",
        "max_age_s",
        "both_directions",
        "all",
        "far",
    )
] + [b"1e999", b"NaN", b"-Infinity", b'"\\ud800"', b"null", b"true", b"9" * 30]
TARGET = Target(one_input=one_input, seeds=seeds, words=WORDS, max_bytes=4096)
