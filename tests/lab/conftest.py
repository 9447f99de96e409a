"""Labs for tests: names of their own and a state directory of their own, and nothing of them stays."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.state import STATE_DIRECTORY_VARIABLE, lab_names
from lab.teardown import take_down


@pytest.fixture(scope="module")
def state_directory() -> Iterator[Path]:
    """A state directory with a short path, since Unix sockets lie in it; its labs are taken down at the end."""
    with tempfile.TemporaryDirectory(prefix="lab", dir="/tmp") as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_DIRECTORY_VARIABLE, path)
        try:
            yield Path(path)
        finally:
            for name in lab_names():
                take_down(name)


@pytest.fixture
def lab_name(state_directory: Path) -> Iterator[Callable[[], str]]:
    """Gives names that no other lab of this machine has; the labs are taken down at the end."""
    given = []

    def name() -> str:
        given.append(f"t{os.getpid()}{secrets.token_hex(3)}")
        return given[-1]

    try:
        yield name
    finally:
        for each in given:
            take_down(each)
