from pathlib import Path

import pytest

from lab.links import LinkKind
from lab.network import find_lab
from lab.state import LabDirectory, LabState, Phase, lab_directory, lab_names
from lab.topology import topology_from_json
from schemas.errors import LabError

STATE = LabState(
    topology=topology_from_json({"name": "net", "nodes": {"a": {}}}),
    link_kind=LinkKind.USER_SPACE,
    phase=Phase.BUILDING,
)


def test_reading_reverses_writing(tmp_path: Path) -> None:
    directory = LabDirectory(tmp_path / "net")
    directory.create(STATE)
    assert directory.read() == STATE


def test_a_name_can_be_taken_once(tmp_path: Path) -> None:
    directory = LabDirectory(tmp_path / "net")
    directory.create(STATE)
    with pytest.raises(LabError, match="a lab named net exists; take it down with: inpath lab down net"):
        directory.create(STATE)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"topology": {}}', '{"topology": {"name": "x"}}'])
def test_a_broken_state_is_an_error_that_says_how_to_clear_it(tmp_path: Path, text: str) -> None:
    directory = LabDirectory(tmp_path)
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(LabError, match="clear it away with: inpath lab down"):
        directory.read()


def test_a_half_built_lab_is_listed_but_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPATH_STATE_DIR", str(tmp_path))
    assert lab_names() == []
    lab_directory("net").create(STATE)
    assert lab_names() == ["net"]
    with pytest.raises(LabError, match="not whole"):
        find_lab(None)
