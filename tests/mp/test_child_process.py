"""A module in a process of its own: heard over its socket, seen to end, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from mp.child_process import ChildProcess

LIMIT_S = 10.0
PROGRAM = """
import os, socket, sys
bridge = socket.socket(fileno=int(sys.argv[1]))
bridge.send(b" ".join([b"here", *(os.read(int(number), 9) for number in sys.argv[2:])]))
sys.exit(len(bridge.recv(9)))
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


async def heard(child: ChildProcess) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(child.bridge, 99), LIMIT_S)


def test_it_is_heard_inherits_what_it_is_given_and_is_seen_to_end_without_a_thread() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"given")

    async def story() -> None:
        child = ChildProcess("echo_program", reading)
        assert await heard(child) == b"here given"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.wait(), 0.05)
        assert child.returncode is None
        assert threading.active_count() == 1
        child.bridge.send(b"bye")
        assert await asyncio.wait_for(child.wait(), LIMIT_S) == 3
        assert await child.wait() == 3
        child.bridge.close()

    asyncio.run(story())
    os.close(reading)
    os.close(writing)


def test_one_that_is_asked_to_end_is_not_killed() -> None:
    async def story() -> None:
        child = ChildProcess("echo_program")
        assert await heard(child) == b"here"
        assert not await child.end(LIMIT_S)
        assert (child.returncode, await child.end(LIMIT_S)) == (0, False)

    asyncio.run(story())


def test_one_that_hangs_is_killed_also_when_nobody_waits_to_the_end() -> None:
    async def story() -> None:
        hanging = [ChildProcess("echo_program") for _ in range(2)]
        for child in hanging:
            assert await heard(child) == b"here"
            os.kill(child.pid, signal.SIGSTOP)
        assert await hanging[0].end(0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hanging[1].end(LIMIT_S), 0.05)
        assert [child.returncode for child in hanging] == [-signal.SIGKILL] * 2

    asyncio.run(story())
