"""The keys of STAMP's authenticated mode, made from those of the areas."""

from __future__ import annotations

from prober.stamp.authentication import StampKey
from schemas.keyring import Keyring, KeyState

STAMP_LABEL = b"inpath STAMP"
"""Sets the secrets of probes apart from those of messages: who learned one would not know the other."""
MAX_ADDRESSES = 4096
"""Remembered, so that a probe need not be looked up by prefixes; whoever forges more has all of them forgotten."""


class ProbeKeys:
    """By which key probes go to another point, and come from there.

    A key is the same object as long as the other point has one, so that running sessions go on while it changes.

    Args:
        keyring: as it is now.
        fixed: a key for all points, which nobody changes.
    """

    def __init__(self, keyring: Keyring, fixed: StampKey | None = None) -> None:
        self._keyring = keyring
        self._fixed = fixed
        self._by_area: dict[str, StampKey | None] = {}
        self._by_address: dict[str, StampKey | None] = {}

    def toward(self, address: str) -> StampKey | None:
        """The key for probes to and from the address (dotted IPv4); None: they are not authenticated."""
        if self._fixed is not None:
            return self._fixed
        if address not in self._by_address:
            if len(self._by_address) >= MAX_ADDRESSES:
                self._by_address.clear()
            self._by_address[address] = self._of_area(self._keyring.area_of(address))
        return self._by_address[address]

    def changed(self, keyring: Keyring) -> None:
        """The keys are others now, or other areas."""
        self._keyring = keyring
        self._by_address.clear()
        for area, key in self._by_area.items():
            made = _made(keyring, area)
            if key is not None and made is not None:
                key.become(made)
            else:
                self._by_area[area] = made

    def _of_area(self, area: str | None) -> StampKey | None:
        if area is None:
            return None
        if area not in self._by_area:
            self._by_area[area] = _made(self._keyring, area)
        return self._by_area[area]


def _made(keyring: Keyring, area: str) -> StampKey | None:
    """A key out of those that both areas hold; None where they sign with none of them."""
    shared = keyring.shared_with(area)
    if not shared or shared[0].identity.state is not KeyState.ACTIVE:
        return None
    first, *others = (key.derived(STAMP_LABEL) for key in shared)
    return StampKey(first, others)
