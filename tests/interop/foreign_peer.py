"""A STAMP and TWAMP-Light peer written from the layouts of the standards alone, without a line of the project.

    foreign_peer.py reflect ADDRESS PORT [KEY] [option ...]     until it is ended
    foreign_peer.py send ADDRESS PORT [KEY] [option ...]        prints one JSON list of replies

Options: `stateless`, `ptp` (the reflector's own times), `cut=OCTETS` (of each reply), `copy` (what follows the
base comes back), `count=N`, `size=OCTETS`. A KEY of hexadecimal digits stands for the authenticated mode, `-` for
none.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import struct
import sys
import time

NTP_OFFSET_S = 2_208_988_800
TAI_OFFSET_S = 37
IP_RECVTTL, IP_TTL = 12, 2


def timestamp(*, ptp: bool) -> int:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    if ptp:
        return seconds + TAI_OFFSET_S << 32 | nanoseconds
    return (seconds + NTP_OFFSET_S) % 2**32 << 32 | nanoseconds * 2**32 // 10**9


def tag(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()[:16]


def reflect(address: str, port: int, key: bytes | None, options: dict[str, str]) -> None:
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    own.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    own.bind((address, port))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ptp = "ptp" in options
    number = 0
    while True:
        probe, ancillary, _, source = own.recvmsg(2048, 64)
        received = timestamp(ptp=ptp)
        ttl = next(
            struct.unpack("@i", value)[0] for level, kind, value in ancillary if (level, kind) == (0, IP_TTL)
        )
        sequence = struct.unpack_from("!I", probe)[0]
        shown = sequence if "stateless" in options else number
        error = 0xCF84 if ptp else 0x8F84
        if key is None:
            sent, sent_error = struct.unpack_from("!QH", probe, 4)
            base = struct.pack(
                "!IQHHQIQHHB3x", shown, timestamp(ptp=ptp), error, 0, received, sequence, sent, sent_error, 0, ttl
            )
            rest = probe[44:]
        else:
            if probe[96:112] != tag(key, probe[:96]):
                continue
            sent, sent_error = struct.unpack_from("!QH", probe, 16)
            base = struct.pack(
                "!I12xQH6xQ8xI12xQH6xB15x",
                shown,
                timestamp(ptp=ptp),
                error,
                received,
                sequence,
                sent,
                sent_error,
                ttl,
            )
            base += tag(key, base)
            rest = probe[112:]
        reply = base + (rest if "copy" in options else b"")
        own.sendto(reply[: int(options.get("cut", "2048"))], source)
        number += 1


def send(address: str, port: int, key: bytes | None, options: dict[str, str]) -> None:
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    own.settimeout(2)
    replies = []
    size = int(options.get("size", "44" if key is None else "112"))
    for sequence in range(int(options.get("count", "5"))):
        sent = timestamp(ptp=False)
        if key is None:
            probe = struct.pack("!IQH", sequence, sent, 0x8F84).ljust(size, b"\0")[:size]
        else:
            base = struct.pack("!I12xQH70x", sequence, sent, 0x8F84)
            probe = (base + tag(key, base)).ljust(size, b"\0")
        own.sendto(probe, (address, port))
        reply = own.recv(2048)
        replies.append({"sent": sent, "came": timestamp(ptp=False), "reply": reply.hex(), **decoded(reply, key)})
    sys.stdout.write(json.dumps(replies))


def decoded(reply: bytes, key: bytes | None) -> dict[str, int | bool]:
    plain = ("number", "t3", "error", "ssid", "t2", "sequence", "t1", "sender_error", "zero", "ttl")
    if key is None:
        return dict(zip(plain, struct.unpack_from("!IQHHQIQHHB", reply), strict=True))
    names = [name for name in plain if name != "zero"]
    told = dict(zip(names, struct.unpack_from("!I12xQHH4xQ8xI12xQH6xB", reply), strict=True))
    return {**told, "authentic": reply[96:112] == tag(key, reply[:96])}


if __name__ == "__main__":
    role, host, at, secret, *words = sys.argv[1:]
    given = dict((word.split("=") + [""])[:2] for word in words)
    run = {"reflect": reflect, "send": send}[role]
    run(host, int(at), None if secret == "-" else bytes.fromhex(secret), given)
