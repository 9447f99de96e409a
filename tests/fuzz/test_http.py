"""The HTTP service under questions, good and bad, that are made from its own OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from schemathesis import GenerationMode

from tests.requestor.http.by_document import UNBOUNDED, ask_by_document, token_for_all
from tests.requestor.http.serving import Served, served, short_folder

EXAMPLES = 20
NO_ANSWER = 504


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Served, str]]:
    """Over TCP, since the tool speaks no Unix sockets; and a token that may everything."""
    with short_folder() as folder:
        token = token_for_all(folder / "tokens.json")
        with served(folder, UNBOUNDED, tcp=True) as running:
            yield running, token


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_question_gets_what_the_document_says(service: tuple[Served, str], mode: GenerationMode) -> None:
    running, token = service
    document = running.ask("GET", "/openapi.json").document()
    statuses = ask_by_document(document, port=running.port, token=token, mode=mode, examples=EXAMPLES)
    assert len(statuses) > 3 * EXAMPLES
    assert NO_ANSWER not in statuses
    assert running.link.restarts == 0
