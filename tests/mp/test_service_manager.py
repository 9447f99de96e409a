from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mp.service_manager import ADDRESS_VARIABLE, ServiceManager, notification


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.settimeout(2)
        yield door


def test_a_notification_is_lines_of_key_and_value() -> None:
    assert notification(ready="1", status="all well") == b"READY=1\nSTATUS=all well"
    assert notification(status="two\nlines") == b"STATUS=two lines"


def test_systemd_hears_the_life_of_the_daemon(systemd: socket.socket) -> None:
    manager = ServiceManager(systemd.getsockname())
    manager.ready("point border-1")
    manager.alive("2 neighbors")
    manager.stopping()
    manager.close()
    heard = [systemd.recv(4096) for _ in range(3)]
    assert heard == [b"READY=1\nSTATUS=point border-1", b"WATCHDOG=1\nSTATUS=2 neighbors", b"STOPPING=1"]


def test_an_abstract_name_is_an_address_too() -> None:
    name = f"inpath-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(f"\0{name}")
        door.settimeout(2)
        manager = ServiceManager(f"@{name}")
        manager.ready("here")
        assert door.recv(4096) == b"READY=1\nSTATUS=here"
        manager.close()


def test_programs_that_the_daemon_starts_do_not_speak_for_it(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, systemd.getsockname())
    manager = ServiceManager.of_this_process()
    assert ADDRESS_VARIABLE not in os.environ
    manager.ready("here")
    assert systemd.recv(4096).startswith(b"READY=1")
    manager.close()


@pytest.mark.parametrize("address", ["", "/nonexistent/notify"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    manager = ServiceManager(address)
    manager.ready("here")
    manager.alive("here")
    manager.close()
    manager.stopping()
    assert ServiceManager.of_this_process() is not manager
