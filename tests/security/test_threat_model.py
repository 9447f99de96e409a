"""Each defence that the threat model names has a test, and that test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


def test_the_threat_model_names_tests() -> None:
    assert len(NAMED) > 25


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_defence_that_is_named_has_its_test(file: str, name: str) -> None:
    defined = {
        node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
    }
    assert name in defined


def test_each_row_with_a_defence_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "**" in line and "attack" not in line]
    defences = [row for row in rows if row.count("|") > 3 and not row.startswith("| **")]
    assert defences
    assert [row for row in defences if "::test_" not in row] == []
