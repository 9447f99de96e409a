"""The messages that the packet path is measured with: as they stand in a datagram after some points."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import cycle

from schemas.authentication import sealed, signed_request
from schemas.keyring import Keyring
from schemas.message import MEASUREMENT_PORT, MeasureRequest
from schemas.payload import extended_payload, payload_from_xml
from schemas.xml_writer import END_TAG, head_to_xml

SOURCE, DESTINATION = "10.250.0.100", "10.250.1.1"
"""Hosts that nobody is: the packets are put on a link, and counted on another."""
MOST_SOURCES = 100
"""Hosts behind the first one whose addresses are as long."""
CAPACITY_PORT, LATENCY_PORT = 50_000, 50_001
"""Source ports, by which the sink tells one kind of traffic from the other."""
DEFAULT_METRICS = ("delay", "loss", "jitter", "rtt")
ROOM_BYTES = 1468
"""What MTU 1500 leaves for the payload."""
ROUTER_ALERT = bytes.fromhex("94040000")
HEADER_BYTES = 24 + 8
TRIED, MOST_VARIANTS = 256, 64
"""Of so many messages, at most so many of the same length are used."""
SEED = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""Its multiples are ids that look random."""
LIFETIME_MS = 3_600_000
"""All packets of a run are copies of the same message."""


@dataclass(frozen=True, slots=True)
class MessageKind:
    """What a message holds when it comes to the point."""

    records: int
    metrics: tuple[str, ...]

    @property
    def label(self) -> str:
        """For the head of a column."""
        plural = "" if self.records == 1 else "s"
        metrics = f", {len(self.metrics)} metrics" if len(self.metrics) > 1 else ""
        return f"{self.records} record{plural}{metrics}"


HEADLINE = MessageKind(5, ("rtt",))
"""Records of about 150 octets without and 190 with a tag: five go in, and six come out, as plain text."""
KINDS = (MessageKind(1, ("rtt",)), HEADLINE, MessageKind(20, ("rtt",)), MessageKind(5, DEFAULT_METRICS))
"""The last two come and go compressed, since MTU 1500 has no room for them as plain text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchMessages:
    """Messages of one kind and length, ready to be sent; each with an id and values of its own."""

    kind: MessageKind
    payloads: tuple[bytes, ...]
    sources: tuple[str, ...]
    """Of each, whence it comes."""

    @property
    def packet_bytes(self) -> int:
        """Of each IPv4 packet."""
        return HEADER_BYTES + len(self.payloads[0])

    def frames(self, source_mac: str, destination_mac: str, source_port: int) -> bytes:
        """The Ethernet frames, with both checksums, each behind its length in two octets."""
        head = bytes.fromhex((destination_mac + source_mac).replace(":", "")) + b"\x08\x00"
        each = zip(self.payloads, self.sources, strict=True)
        frames = (head + ipv4_packet(payload, source_port, source) for payload, source in each)
        return b"".join(len(frame).to_bytes(2) + frame for frame in frames)


def bench_messages(
    kind: MessageKind, *, last_point: str, now_ms: int, keyring: Keyring, sources: int = 1
) -> BenchMessages:
    """Messages over some points, signed by each if there is a key.

    Args:
        kind: how many points, at least one, and what each tells.
        last_point: the point that appended the last one.
        now_ms: milliseconds since the Unix epoch.
        keyring: of the sources and all points.
        sources: from how many hosts they come, at most MOST_SOURCES.
    """
    made = [
        (_payload(kind, variant, source, last_point, now_ms, keyring), source)
        for variant, source in zip(range(TRIED), cycle(source_addresses(sources)), strict=False)
    ]
    ((usual_length, _),) = Counter(len(payload) for payload, _ in made).most_common(1)
    usual = [one for one in made if len(one[0]) == usual_length][:MOST_VARIANTS]
    payloads, whence = zip(*usual, strict=True)
    return BenchMessages(kind=kind, payloads=payloads, sources=whence)


def source_addresses(count: int) -> list[str]:
    """The hosts that ask."""
    first = IPv4Address(SOURCE)
    return [str(first + number) for number in range(min(count, MOST_SOURCES))]


def _payload(
    kind: MessageKind, variant: int, source: str, last_point: str, now_ms: int, keyring: Keyring
) -> bytes:
    request = MeasureRequest(
        source=source,
        destination=DESTINATION,
        id=f"{SEED * (variant + 1) % 2**128:032x}",
        metrics=kind.metrics,
        created_at_ms=now_ms,
        lifetime_ms=LIFETIME_MS,
        max_age_ms=LIFETIME_MS,
    )
    document = head_to_xml(signed_request(request, keyring)) + END_TAG
    payload = payload_from_xml(document, ROOM_BYTES)
    key = keyring.signer(request.asker, request.far_end)
    upstream = source
    for number in range(1, kind.records + 1):
        current = last_point if number == kind.records else f"10.250.2.{number}"
        record = _record(upstream, current, now_ms + variant, number + variant / 10, kind.metrics)
        before, document = document, sealed(document.removesuffix(END_TAG) + record, key)
        payload = None if payload is None else extended_payload(payload, before, document, ROOM_BYTES)
        upstream = current
    assert payload is not None, f"{kind.label} do not fit into one datagram"
    return payload


def _record(upstream: str, current: str, now_ms: int, salt: float, metrics: tuple[str, ...]) -> bytes:
    """A record up to where its tag belongs: values as long as those of a real segment, different in each."""
    mean_ms, lost = 2 + salt * 0.137, round(salt * 10) % 3
    elements = {
        "delay": f'<delay n="{598 - lost}" v="{mean_ms:.4f}" l="{mean_ms - 0.0131:.4f}" s2="{mean_ms / 1e4:.6f}"'
        ' s3="0.000012" eu="0.001" ec="0.001" y="1"/>',
        "loss": f'<loss n="600" k="{lost}" w="1000" r="{lost}" x="{min(1, lost)}"/>',
        "jitter": f'<jitter n="{598 - lost}" v="{mean_ms / 13:.4f}" i="0.0214" m="-0.0001"'
        f' il="-{mean_ms / 31:.4f}" ih="{mean_ms / 29:.4f}" j="0.0219" a="0.0131" s2="{mean_ms / 1e4:.6f}"'
        ' s3="0.000012"/>',
        "rtt": f'<rtt n="{597 - lost}" v="{mean_ms:.4f}" l="{mean_ms - 0.0307:.4f}"'
        f' s2="{mean_ms / 5e3:.6f}" s3="0.00003"/>',
    }
    head = f"<mrp><up>{upstream}</up><mp>{current}</mp><ts>{now_ms}</ts><ag>{80 + round(salt)}</ag>"
    return (head + "".join(elements[name] for name in metrics)).encode()


def ipv4_packet(payload: bytes, source_port: int, source_address: str = SOURCE) -> bytes:
    """One packet with router alert and DF, by the standards alone (RFC 791, 768, 2113): no code under test."""
    source, destination = (bytes(map(int, address.split("."))) for address in (source_address, DESTINATION))
    length = 8 + len(payload)
    ports = source_port.to_bytes(2) + MEASUREMENT_PORT.to_bytes(2) + length.to_bytes(2)
    pseudo = source + destination + bytes((0, 17)) + length.to_bytes(2)
    udp = ports + internet_checksum(pseudo + ports + b"\0\0" + payload).to_bytes(2) + payload
    head = bytes((0x46, 0)) + (24 + length).to_bytes(2) + bytes.fromhex("000140003f11")
    checksum = internet_checksum(head + b"\0\0" + source + destination + ROUTER_ALERT)
    return head + checksum.to_bytes(2) + source + destination + ROUTER_ALERT + udp


def internet_checksum(data: bytes) -> int:
    """RFC 1071; words of 16 bits are the digits of a number, so their sum is its remainder."""
    padded = data + b"\0" * (len(data) % 2)
    return 0xFFFF - (int.from_bytes(padded) % 0xFFFF or (0xFFFF if any(padded) else 0))
