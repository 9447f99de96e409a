from __future__ import annotations

import asyncio
from pathlib import Path

from mp.archive import Archive
from receiver.store.result_store import ResultStore
from receiver.store.spool import Spool
from tests.receiver.paths import result, unanswered, usual


def test_a_recorded_answer_is_in_the_database_when_record_returns(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    answer = result((usual(0),))

    async def story() -> tuple[str, ...]:
        archive = Archive(url, tmp_path)
        archive.open()
        assert await archive.record(unanswered()) == ()
        warnings = await archive.record(answer)
        store = ResultStore(url)
        # The very first drain makes the tables too, which may take longer than an answer waits for.
        await archive.close()
        assert store.get(answer.id) == answer
        store.close()
        return warnings

    assert asyncio.run(story()) == ()


def test_with_the_database_away_the_answer_waits_in_the_spool_and_says_so(tmp_path: Path) -> None:
    async def story() -> tuple[str, ...]:
        archive = Archive(f"sqlite:///{tmp_path / 'later' / 'results.db'}", tmp_path)
        archive.open()
        await archive.record(unanswered())
        await asyncio.sleep(0.5)
        warnings = await archive.record(result((usual(0),)))
        assert archive.state is not None
        assert archive.state.spool_depth == 2
        await archive.close()
        return warnings

    (warning,) = asyncio.run(story())
    assert warning.startswith("database away, the result waits in the spool: sqlite")


def test_what_waited_is_drained_at_the_next_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    answer = result((usual(0),))
    spool = Spool(tmp_path / "spool.db")
    spool.put(answer.to_json(), answer.id)
    spool.close()

    async def story() -> None:
        archive = Archive(url, tmp_path)
        archive.open()
        await archive.close()

    asyncio.run(story())
    store = ResultStore(url)
    assert store.get(answer.id) == answer
    store.close()
