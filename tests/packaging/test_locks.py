"""What is installed is locked: one release of each package, by its hashes, within the bounds that are declared."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-build.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
]


def entries(lock: str) -> list[str]:
    """Each entry of a lock on one line, as pip reads it."""
    return (ROOT / lock).read_text().replace("\\\n", " ").splitlines()


def requirement(entry: str) -> Requirement:
    return Requirement(entry.split("--hash")[0].strip())


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_is_one_release_and_known_by_its_hashes(lock: str) -> None:
    found = entries(lock)
    assert found
    for entry in found:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry), entry


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_fetch_from(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("text", sorted(set(DECLARED)))
def test_what_is_declared_has_both_bounds_and_its_lock_is_within(text: str) -> None:
    declared = Requirement(text)
    assert {">=", "<"} == {bound.operator for bound in declared.specifier}
    locked = [
        one
        for one in map(requirement, entries("requirements.lock"))
        if canonicalize_name(one.name) == canonicalize_name(declared.name)
    ]
    assert locked
    for one in locked:
        (release,) = one.specifier
        assert release.version in declared.specifier
