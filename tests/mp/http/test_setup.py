"""What the HTTP process asks of stored results: what the daemon takes, and that each asker gets the own page."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mp.http.setup import query_from_text, query_to_text
from receiver.store.result_store import ResultStore
from requestor.http.history import MAX_PAGE, Cursor, HistoryQuery
from schemas.errors import MessageError
from tests.requestor.http.in_process import STORED
from tests.requestor.http.serving import served, short_folder

PAGES = 12

queries = st.builds(
    HistoryQuery,
    source=st.none() | st.text(),
    destination=st.none() | st.text(),
    from_us=st.none() | st.integers(),
    to_us=st.none() | st.integers(),
    metric=st.none() | st.text(),
    after=st.none() | st.builds(Cursor, st.integers(), st.text()),
    limit=st.integers(1, MAX_PAGE),
)
QUERY = {
    "source": "10.0.0.1",
    "destination": None,
    "from_us": None,
    "to_us": 5,
    "metric": "delay",
    "after": {"requested_at_us": 1, "id": "a"},
    "limit": 3,
}


@given(queries)
def test_reading_a_query_reverses_writing_it(query: HistoryQuery) -> None:
    assert query_from_text(query_to_text(query)) == query


@given(st.binary())
def test_any_octets_give_a_query_or_a_message_error(text: bytes) -> None:
    with pytest.raises(MessageError, match="history: "):
        query_from_text(text)


@pytest.mark.parametrize(
    "changed",
    [
        {"source": 1},
        {"metric": ["delay"]},
        {"from_us": "0"},
        {"to_us": 1.5},
        {"limit": None},
        {"limit": True},
        {"after": 1},
        {"after": {"requested_at_us": "1", "id": "a"}},
        {"after": {"requested_at_us": 1, "id": {}}},
        {"more": 1},
    ],
)
def test_a_process_that_was_taken_over_cannot_ask_for_anything_else(changed: dict[str, object]) -> None:
    with pytest.raises(MessageError, match="history: "):
        query_from_text(json.dumps({**QUERY, **changed}).encode())


def test_no_page_is_larger_than_the_service_may_ask_for() -> None:
    assert query_from_text(json.dumps({**QUERY, "limit": 10**9}).encode()).limit == MAX_PAGE


def test_of_many_who_ask_at_once_each_gets_the_own_page() -> None:
    with short_folder() as folder, served(folder) as service:
        store = ResultStore(f"sqlite:///{folder}/results.db")
        store.save_all(STORED)
        store.close()
        (folder / "results.db").chmod(0o600)  # the process, which is another user's, needs no right to it
        limits = [1 + number % len(STORED) for number in range(PAGES)]
        with ThreadPoolExecutor(PAGES) as clients:
            pages = list(clients.map(lambda limit: service.ask("GET", f"/v1/history?limit={limit}"), limits))
        assert [len(page.document()["results"]) for page in pages] == limits


def test_the_process_carries_nothing_that_opens_a_database() -> None:
    script = "import sys, mp.http.process; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert {"fastapi", "uvicorn"} <= set(done.stdout.split())
    assert not {"sqlalchemy", "pymysql", "alembic", "sqlite3", "cryptography"} & set(done.stdout.split())
