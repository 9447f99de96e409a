"""Two points measure a lossless link while the key that they share is changed: nothing of it shows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mp.keys.probe_keys import ProbeKeys
from prober.prober import Prober
from prober.stamp.datagram import Datagram
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import SenderPacket
from prober.timestamp import ErrorEstimate, ntp_from_unix_ns
from schemas.errors import ProbeError
from schemas.keyring import HmacKey, KeyIdentity, Keyring, KeyState
from schemas.message import SegmentState
from schemas.metrics import LossStatistics
from tests.prober.simulated import CLOCK, HIGHER, LOWER, MS, Direction, SimulatedLink

FIRST = HmacKey(KeyIdentity(id="one", areas=("west",)), bytes(32))
SECOND = HmacKey(KeyIdentity(id="two", areas=("west",), created_at_ms=1), bytes([1]) * 32)


def ring(*keys: HmacKey) -> Keyring:
    return Keyring(keys, area="west")


def accepted(key: HmacKey) -> HmacKey:
    return HmacKey(replace(key.identity, state=KeyState.ACCEPTED), key.secret_bytes())


class KeyedLink(SimulatedLink):
    """Points that read their keys anew."""

    def __init__(self, *keys: HmacKey) -> None:
        super().__init__(Direction(lambda _: 10 * MS), Direction(lambda _: 10 * MS))
        self.keys = {address: ProbeKeys(ring(*keys)) for address in (LOWER, HIGHER)}
        for address, probe_keys in self.keys.items():
            self.points[address] = Prober(
                address, random_source=random.Random(address), clock=CLOCK, key_of=probe_keys.toward
            )
        self.points[LOWER].want(HIGHER, self.now_ns)
        self.run(5)

    def reload(self, address: str, *keys: HmacKey) -> None:
        self.keys[address].changed(ring(*keys))
        self.points[address].keys_changed(self.now_ns)

    def loss(self, address: str) -> LossStatistics:
        """On the way to the address."""
        value = self.segment(address).statistics(["loss"], now_ns=self.now_ns, clock=CLOCK)["loss"]
        assert isinstance(value, LossStatistics)
        return value

    def is_measured(self) -> bool:
        return all(self.segment(one).state(self.now_ns) is SegmentState.MEASURED for one in (LOWER, HIGHER))


@pytest.mark.parametrize("order", [(LOWER, HIGHER), (HIGHER, LOWER)])
def test_no_probe_is_lost_while_a_key_changes_whoever_goes_first(order: tuple[str, str]) -> None:
    link = KeyedLink(FIRST)
    for keys in [(FIRST, accepted(SECOND)), (accepted(FIRST), SECOND), (SECOND,)]:
        for address in order:
            link.reload(address, *keys)
            # Not a whole number of probes: some are on their way when the other point changes.
            link.run(1.237)
    assert link.is_measured()
    for address in (LOWER, HIGHER):
        assert not +link.points[address].faults
        assert link.loss(address).sent > 60
        assert link.loss(address).lost == 0


def test_a_key_that_is_gone_on_one_side_is_refused_by_the_other() -> None:
    link = KeyedLink(FIRST)
    link.reload(HIGHER, SECOND)
    with pytest.raises(ProbeError, match=ProbeFault.WRONG_TAG):
        link.run(1)


def test_the_first_key_of_an_area_puts_running_sessions_into_the_authenticated_mode() -> None:
    link = KeyedLink()
    before = link.segment(LOWER)
    for address in (HIGHER, LOWER):
        link.reload(address, FIRST)
    link.run(5)
    assert link.segment(LOWER) is before
    assert link.is_measured()
    assert not +link.points[LOWER].faults
    plain = SenderPacket(0, ntp_from_unix_ns(link.now_ns), ErrorEstimate.from_int(0x8F84)).to_bytes()
    with pytest.raises(ProbeError, match=ProbeFault.NOT_AUTHENTICATED):
        link.points[HIGHER].probe_received(Datagram(plain, LOWER, 40_000, 255, link.now_ns), link.now_ns)
