from __future__ import annotations

import json
from pathlib import Path

import pytest

from mp.neighbor_memory import FILE_NAME, WRITE_GAP_MS, NeighborMemory

KEEP_S = 900.0
NOW_MS = 1_767_268_800_000


def memory(directory: Path) -> NeighborMemory:
    return NeighborMemory(directory, keep_s=KEEP_S)


def test_who_was_of_use_is_recalled_after_a_kill_the_latest_first(tmp_path: Path) -> None:
    before = memory(tmp_path)
    assert before.recall(NOW_MS) == ()
    before.used(("10.0.0.2",), NOW_MS)
    before.used(("10.0.0.3",), NOW_MS + 1)
    assert memory(tmp_path).recall(NOW_MS + 2) == ("10.0.0.3", "10.0.0.2")


def test_who_was_of_no_use_for_long_is_forgotten_and_taken_out_of_the_file(tmp_path: Path) -> None:
    first = memory(tmp_path)
    first.used(("10.0.0.2", "10.0.0.3"), NOW_MS)
    later_ms = NOW_MS + round(KEEP_S * 1000) + 1
    assert memory(tmp_path).recall(later_ms) == ()
    first.used(("10.0.0.3",), later_ms)
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {"10.0.0.3": later_ms}


def test_neighbors_that_stay_the_same_are_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    one = memory(tmp_path)
    for elapsed_ms, written_ms in (
        (0, 0),
        (1_000, 0),
        (WRITE_GAP_MS, WRITE_GAP_MS),
        (WRITE_GAP_MS + 1, WRITE_GAP_MS),
    ):
        one.used(("10.0.0.2",), NOW_MS + elapsed_ms)
        assert json.loads(file.read_text()) == {"10.0.0.2": NOW_MS + written_ms}
    one.close(NOW_MS + WRITE_GAP_MS + 1)
    assert json.loads(file.read_text()) == {"10.0.0.2": NOW_MS + WRITE_GAP_MS + 1}


def test_a_clock_that_was_set_back_remembers_nobody_from_the_future(tmp_path: Path) -> None:
    memory(tmp_path).used(("10.0.0.2",), NOW_MS)
    assert memory(tmp_path).recall(NOW_MS - 1) == ()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"10.0.0.2": null}', '{"10.0.0.2": "x"}', '{"a": 1e999}', "[" * 9_999, "\x80"]
)
def test_a_file_that_cannot_be_read_is_no_obstacle(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="latin-1")
    assert memory(tmp_path).recall(NOW_MS) == ()
    assert "neighbors are not remembered" in caplog.text


def test_a_place_that_cannot_be_written_is_told_and_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory(tmp_path / "missing").used(("10.0.0.2",), NOW_MS)
    assert "neighbors are not written down" in caplog.text
