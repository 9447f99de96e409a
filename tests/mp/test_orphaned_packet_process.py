"""A packet process whose service dies before it is ready; the real process on a real kernel."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from mp.bridge import event_to_bytes
from tests.mp.test_bridge import SETUP
from tests.namespaces import Namespaces, in_namespace

pytestmark = pytest.mark.netns

LIMIT_S = 20.0


@pytest.mark.parametrize("words", [[], [event_to_bytes(SETUP)]], ids=["unheard", "set up"])
def test_it_ends_without_a_complaint_and_leaves_no_rule(namespaces: Namespaces, words: list[bytes]) -> None:
    host = namespaces.make("r")
    service, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, in_namespace(host.name):
        with service:
            for word in words:
                service.send(word)
        command = (sys.executable, "-m", "mp.packet_process", str(ours.fileno()))
        ended = subprocess.run(
            command, pass_fds=[ours.fileno()], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert "queue" not in host.run("nft", "list", "ruleset").lower()
