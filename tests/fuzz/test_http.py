"""The HTTP service under questions, good and bad, that are made from its own OpenAPI document."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from mp.http.token_file import changed_tokens
from requestor.http.tokens import ID_BYTES, SECRET_BYTES, Scope, new_token
from tests.requestor.http.serving import LIMIT_S, Served, served, short_folder

EXAMPLES = 20
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
AWAY = {502, 503, 504}
"""Of these statuses none is the fault of the service, and none is expected of a point that is there."""


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Served, str]]:
    """Over TCP, since the tool speaks no Unix sockets; and a token that may everything."""
    random = secrets.token_bytes(ID_BYTES + SECRET_BYTES)
    token, text = new_token("fuzz", [Scope.ADMIN], random=random, now_ms=0, lifetime_ms=None)
    table = "rate_per_s = 10000\nburst = 10000\n"
    with short_folder() as folder:
        with changed_tokens(folder / "tokens.json") as tokens:
            tokens[token.id] = token
        with served(folder, table, tcp=True) as running:
            yield running, text


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_question_gets_what_the_document_says(service: tuple[Served, str], mode: GenerationMode) -> None:
    running, token = service
    schema: Any = schemathesis.openapi.from_dict(running.ask("GET", "/openapi.json").document())
    asked = 0

    def ask(case: Any) -> None:
        nonlocal asked
        response = case.call(
            base_url=f"http://127.0.0.1:{running.port}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=LIMIT_S,
        )
        asked += 1
        assert response.status_code not in AWAY
        case.validate_response(response, checks=CHECKS)

    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.path == "/v1/events":
            continue  # an endless stream has tests of its own
        if mode is GenerationMode.NEGATIVE and not _can_be_asked_badly(operation):
            continue
        limits: Any = settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        limits(given(operation.as_strategy(generation_mode=mode))(ask))()  # type: ignore[no-untyped-call]
    assert asked > 3 * EXAMPLES
    assert running.link.restarts == 0


def _can_be_asked_badly(operation: Any) -> bool:
    """It has parameters or a body; in a path any text is good."""
    return bool(list(operation.query) or list(operation.body))
