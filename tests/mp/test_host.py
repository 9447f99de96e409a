from __future__ import annotations

import os
from pathlib import Path

import pytest

from interceptor.packet import maximum_payload
from interceptor.packet_queue import LONGEST_PACKET_BYTES
from mp import host
from mp.host import HostState, read_host_state, require_capabilities
from schemas.errors import HostError
from tests.namespaces import Namespaces, in_namespace


@pytest.mark.netns
def test_addresses_and_smallest_mtu_are_those_of_the_own_namespace(namespaces: Namespaces) -> None:
    left, right = namespaces.chain("left", "right")
    interface = left.interfaces[0]
    left.run("ip", "link", "set", "dev", interface, "mtu", "1400")
    left.run("ip", "address", "add", "10.255.7.7/32", "dev", "lo")
    with in_namespace(left.name):
        state = read_host_state()
    assert set(state.addresses) >= {"10.255.7.7", left.addresses[0]}
    assert right.addresses[0] not in state.addresses
    assert state.smallest_mtu_bytes == 1400
    assert state.room == maximum_payload(1400)


def test_room_is_bounded_by_what_the_queue_reads() -> None:
    assert HostState((), 9000).room == maximum_payload(LONGEST_PACKET_BYTES)


def test_missing_capabilities_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Name:\tx\nCapEff:\t0000000000001000\n"
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    with pytest.raises(HostError, match="CAP_NET_RAW") as caught:
        require_capabilities(8620)
    assert "CAP_NET_BIND_SERVICE" not in str(caught.value)
    with pytest.raises(HostError, match="CAP_NET_BIND_SERVICE"):
        require_capabilities(862)
    assert "CAP_NET_ADMIN" not in str(caught.value)


def test_root_has_what_is_needed() -> None:
    assert os.geteuid() == 0
    require_capabilities(862)
    assert host.read_host_state().addresses
