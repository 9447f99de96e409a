"""Questions, good and bad, that are made from the OpenAPI document of an HTTP service, and checks of answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from mp.http.token_file import changed_tokens
from requestor.http.tokens import ID_BYTES, SECRET_BYTES, Scope, new_token

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
AWAY = {502, 503}
"""Of these statuses none is the fault of the service, and none is expected of a point that is there."""
LIMIT_S = 20
UNBOUNDED = "rate_per_s = 10000\nburst = 10000\n"


def token_for_all(file: Path) -> str:
    """A token that may everything, in the file."""
    random = secrets.token_bytes(ID_BYTES + SECRET_BYTES)
    token, text = new_token("fuzz", [Scope.ADMIN], random=random, now_ms=0, lifetime_ms=None)
    with changed_tokens(file) as tokens:
        tokens[token.id] = token
    return text


def ask_by_document(
    document: Any,
    *,
    port: int,
    token: str,
    mode: GenerationMode,
    examples: int,
    change: Callable[[Any], None] = lambda case: None,
) -> list[int]:
    """Ask for each operation but the endless stream so many times; the statuses that came.

    Args:
        change: is given each question before it is asked.
    """
    statuses: list[int] = []

    def ask(case: Any) -> None:
        change(case)
        response = case.call(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S
        )
        statuses.append(response.status_code)
        assert response.status_code not in AWAY, response.text
        case.validate_response(response, checks=CHECKS)

    schema: Any = schemathesis.openapi.from_dict(document)
    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.path == "/v1/events":
            continue  # an endless stream has tests of its own
        if mode is GenerationMode.NEGATIVE and not _can_be_asked_badly(operation):
            continue
        limits: Any = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        limits(given(operation.as_strategy(generation_mode=mode))(ask))()  # type: ignore[no-untyped-call]
    return statuses


def _can_be_asked_badly(operation: Any) -> bool:
    """It has parameters or a body; in a path any text is good."""
    return bool(list(operation.query) or list(operation.body))
