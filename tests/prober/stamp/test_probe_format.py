from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.stamp.authentication import StampKey
from prober.stamp.packet import MAX_PACKET_BYTES, base_bytes
from prober.stamp.probe_extension import ProbeExtension
from prober.stamp.probe_format import ProbeFormat
from prober.stamp.tlv import SenderFollowUp, tlvs_from_bytes
from schemas.errors import UsageError

KEY = StampKey(bytes(range(32)))
TOLD = SenderFollowUp(1, 2, 3, 4)


@given(st.integers(112, MAX_PACKET_BYTES), st.sampled_from([None, KEY]), st.sampled_from([None, 46]))
def test_every_probe_has_the_size_that_is_wanted(size: int, key: StampKey | None, dscp: int | None) -> None:
    form = ProbeFormat(size_bytes=size, key=key, dscp=dscp)
    assert base_bytes(key) + len(form.plain_extension()) == size
    if form.has_extensions:
        extension = form.extension(9, TOLD, b"noise")
        assert base_bytes(key) + len(extension) == size
        read = ProbeExtension(extension, 9, key)
        assert read.intact and read.sender_follow_up() == TOLD


def test_probes_are_as_small_as_possible_if_nothing_is_said() -> None:
    assert ProbeFormat().plain_extension() == b""
    assert [tlv.type for tlv in tlvs_from_bytes(ProbeFormat().extension(0, TOLD, b""))[0]] == [7, 240]
    assert [tlv.type for tlv in tlvs_from_bytes(ProbeFormat(key=KEY, dscp=0).extension(0, TOLD, b""))[0]] == [
        7,
        240,
        4,
        8,
    ]


@pytest.mark.parametrize(
    ("size", "fits"), [(44, False), (91, False), (92, True), (93, False), (95, False), (96, True)]
)
def test_where_the_extensions_do_not_fit_probes_are_plain(size: int, *, fits: bool) -> None:
    assert ProbeFormat(size_bytes=size).has_extensions is fits


def test_a_plain_session_has_no_extensions_and_marks_its_probes_all_the_same() -> None:
    form = ProbeFormat(plain=True, dscp=46)
    assert not form.has_extensions
    assert form.tos == 46 << 2


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("ssid", {"ssid": 65_536}),
        ("ssid", {"ssid": -1}),
        ("dscp", {"dscp": 64}),
        ("size", {"size_bytes": 43}),
        ("size", {"size_bytes": 111, "key": KEY}),
        ("size", {"size_bytes": MAX_PACKET_BYTES + 1}),
    ],
)
def test_values_that_no_packet_can_have_are_refused(field: str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"^{field}"):
        ProbeFormat(**options)  # type: ignore[arg-type]
