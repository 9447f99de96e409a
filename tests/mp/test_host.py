from __future__ import annotations

import pytest

from interceptor.packet import maximum_payload
from interceptor.packet_queue import LONGEST_PACKET_BYTES
from mp.host import HostState, read_host_state
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
