"""What points tell each other of the segments and prefixes that they know."""

from __future__ import annotations

from ipaddress import IPv4Network

from prober.knowledge.advertisement import Advertisement, advertisement_from_bytes, advertisement_to_bytes
from prober.knowledge.datagram import (
    Acknowledgement,
    Content,
    Datagram,
    Held,
    Hello,
    Item,
    Summary,
    Update,
    Version,
    datagram_from_bytes,
    datagram_to_bytes,
)
from prober.knowledge.seal import opened, seal
from schemas.errors import MessageError
from tests.fuzz.genuine import KEYRING, SECRET, record
from tests.fuzz.target import Target

_LABEL = b"fuzz"
_AUTHOR = "10.0.0.2"


def one_input(data: bytes) -> None:
    """As a datagram, with what its items hold; and as an advertisement, sealed and bare."""
    try:
        datagram = datagram_from_bytes(data)
    except MessageError:
        pass
    else:
        assert datagram_from_bytes(datagram_to_bytes(datagram)) == datagram
        if isinstance(datagram.content, Update):
            for item in datagram.content.items:
                _open(item.sealed)
    _open(data)
    _read(data)


def _open(data: bytes) -> None:
    try:
        found = opened(_LABEL, data, _AUTHOR, KEYRING)
    except MessageError:
        return
    _read(found.body)


def _read(data: bytes) -> None:
    try:
        advertisement = advertisement_from_bytes(data)
    except MessageError as error:
        assert len(str(error)) < 500
        return
    again = advertisement_from_bytes(advertisement_to_bytes(advertisement))
    assert advertisement_to_bytes(again) == advertisement_to_bytes(advertisement)


def seeds() -> list[bytes]:
    """A datagram of each kind, and advertisements."""
    full = Advertisement(
        origin=_AUTHOR,
        sequence=7,
        revision=5,
        created_at_ms=1_700_000_000_000,
        lifetime_s=60,
        area="north",
        addresses=(_AUTHOR, "10.1.0.2"),
        serves=(IPv4Network("192.168.0.0/16"),),
        next_points={"10.0.0.9": "10.0.0.3"},
        asked=frozenset(("10.0.0.9",)),
        segments=(record(1, ("delay", "loss")),),
    )
    bare = Advertisement(
        origin=_AUTHOR, sequence=8, revision=8, created_at_ms=1, lifetime_s=60, area="", withdrawn=True
    )
    bodies = [advertisement_to_bytes(one) for one in (full, bare)]
    sealed = [seal(_LABEL, body, key) for body in bodies for key in (None, SECRET)]
    contents: list[Content] = [
        Hello("north", bytes(8)),
        Update(tuple(Item(5, one) for one in sealed[:2])),
        Acknowledgement((Version(_AUTHOR, 0, 7),)),
        Summary("0.0.0.0", "255.255.255.255", (Held(_AUTHOR, 7, 1),)),
    ]
    datagrams = (Datagram(instance=1, to_instance=2, counter=3, content=content) for content in contents)
    return [*bodies, *sealed, *map(datagram_to_bytes, datagrams)]


TARGET = Target(one_input=one_input, seeds=seeds, max_bytes=1300)
