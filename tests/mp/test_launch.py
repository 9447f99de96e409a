"""A daemon that does not come so far as to use what it began early."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

INPATH = Path(sys.executable).with_name("inpath")
LIMIT_S = 20.0
CONFIGURATION = '[point]\naddress = "192.0.2.77"\nstate_dir = "{folder}"\n[service]\nsocket = "{folder}/s"\n'

pytestmark = pytest.mark.netns  # not for a namespace: for the rights that a daemon begins with


def with_mark(mark: str) -> list[int]:
    """The processes that were given a variable of the environment, and all that they started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def test_a_start_that_fails_leaves_no_process_behind(tmp_path: Path) -> None:
    file, mark = tmp_path / "inpath.toml", f"TEST_MARK={secrets.token_hex(8)}"
    file.write_text(CONFIGURATION.format(folder=tmp_path))
    name, _, value = mark.partition("=")
    with subprocess.Popen(
        [INPATH, "mp", "run", "--config", str(file)],
        env={**os.environ, name: value},
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        most, deadline_s = 0, time.monotonic() + LIMIT_S
        while daemon.poll() is None or with_mark(mark):
            most = max(most, len(with_mark(mark)))
            assert time.monotonic() < deadline_s, "something still runs"
        assert daemon.stderr is not None
        assert "point.address: got '192.0.2.77', expected one of this host's" in daemon.stderr.read()
    assert (daemon.returncode, most) == (2, 2)
