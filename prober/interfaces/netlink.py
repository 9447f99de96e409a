"""Asks the kernel about interfaces and routes (rtnetlink(7)), in the network namespace where it was opened.

/sys/class/net says the same, but of the namespace in which it was mounted, which need not be the caller's.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterator
from typing import Final

from prober.interfaces.load import Counters, InterfaceReading
from schemas.errors import HostError

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
_REQUEST: Final = 1
_ERROR, _NEW_LINK, _GET_LINK, _NEW_ROUTE, _GET_ROUTE = 2, 16, 18, 24, 26
_IFLA_IFNAME, _IFLA_MTU, _IFLA_STATS64, _IFLA_PARENT_DEV_NAME = 3, 4, 23, 56
_RTA_DST, _RTA_SRC, _RTA_OIF = 1, 2, 4
_HEAD = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ADDRESS = struct.Struct("=HH4s")
_NUMBER = struct.Struct("=I")
_STATS64 = struct.Struct("=QQQQ")
"""Received packets, sent packets, received octets, sent octets; more follow."""
_NESTED_BITS: Final = 0x3FFF
_ANSWER_OCTETS: Final = 32_768

# linux/ethtool.h
_SIOCETHTOOL: Final = 0x8946
_GET_LINK_SETTINGS: Final = 0x4C
_LINK_SETTINGS = struct.Struct("=IIBBBBBBBb32x")
"""Command, speed, seven small ones, words of a mask; three masks of so many words follow."""
_LONGEST_MASK_WORDS: Final = 127
_SPEED_UNKNOWN: Final = 0xFFFFFFFF


class Netlink:
    """One socket for questions; the kernel answers each at once.

    Raises:
        HostError: the kernel gives no such socket.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise HostError(f"no netlink socket: {error.strerror}") from error
        self._socket.settimeout(1)  # never used up: the answer is there when the question is sent
        self._sequence = 0

    def close(self) -> None:
        """Give the sockets back; may be called twice."""
        self._socket.close()
        self._control.close()

    def interface(self, index: int) -> InterfaceReading | None:
        """Counters and properties of an interface; None when there is none of this number."""
        answer = self._ask(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0), _NEW_LINK)
        if answer is None:
            return None
        _, link_type, found, _, _ = _LINK.unpack_from(answer)
        told = dict(_attributes(answer[_LINK.size :]))
        name = told[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
        received_packets, sent_packets, received_octets, sent_octets = _STATS64.unpack_from(told[_IFLA_STATS64])
        return InterfaceReading(
            index=found,
            name=name,
            link_type=link_type,
            mtu_octets=_NUMBER.unpack(told[_IFLA_MTU])[0],
            received=Counters(received_octets, received_packets),
            sent=Counters(sent_octets, sent_packets),
            # A bus holds every real device (Linux 5.14 and later tell it); veth and tap tell a speed, too.
            speed_mbit_s=self.claimed_speed_mbit_s(name) if _IFLA_PARENT_DEV_NAME in told else None,
        )

    def egress(self, destination: str, source: str) -> int | None:
        """Index of the interface by which packets leave; None without a route.

        Args:
            destination: IPv4 address.
            source: IPv4 address of this host, for rules that look at it.
        """
        question = (
            _ROUTE.pack(socket.AF_INET, 32, 32, 0, 0, 0, 0, 0, 0)
            + _ADDRESS.pack(_ADDRESS.size, _RTA_DST, socket.inet_aton(destination))
            + _ADDRESS.pack(_ADDRESS.size, _RTA_SRC, socket.inet_aton(source))
        )
        answer = self._ask(_GET_ROUTE, question, _NEW_ROUTE)
        if answer is None:
            return None
        told = dict(_attributes(answer[_ROUTE.size :]))
        return int(_NUMBER.unpack(told[_RTA_OIF])[0]) if _RTA_OIF in told else None

    def claimed_speed_mbit_s(self, name: str) -> int | None:
        """What the interface's driver says, true or not; None when it says nothing."""
        room = _LINK_SETTINGS.size + 3 * 4 * _LONGEST_MASK_WORDS
        with contextlib.suppress(OSError):
            words = self._link_settings(name, 0, room)[1]
            speed, _ = self._link_settings(name, -words, room)
            return speed if 0 < speed < _SPEED_UNKNOWN else None
        return None

    def _ask(self, kind: int, question: bytes, expected: int) -> bytes | None:
        """The body of the answer; None when the kernel answers with an error."""
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        head = _HEAD.pack(_HEAD.size + len(question), kind, _REQUEST, self._sequence, 0)
        try:
            self._socket.send(head + question)
            while True:
                answer = self._socket.recv(_ANSWER_OCTETS)
                length, answered, _, sequence, _ = _HEAD.unpack_from(answer)
                if sequence == self._sequence:
                    return answer[_HEAD.size : length] if answered == expected else None
        except OSError:
            return None

    def _link_settings(self, name: str, mask_words: int, room: int) -> tuple[int, int]:
        """(speed, words of a mask): with a wrong number of words the kernel tells the right one, negative."""
        settings = array.array("B", bytes(room))
        _LINK_SETTINGS.pack_into(settings, 0, _GET_LINK_SETTINGS, 0, 0, 0, 0, 0, 0, 0, 0, mask_words)
        request = struct.pack("16sP16x", name.encode(), settings.buffer_info()[0])
        fcntl.ioctl(self._control, _SIOCETHTOOL, request)
        fields = _LINK_SETTINGS.unpack_from(settings)
        return fields[1], fields[-1]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _NESTED_BITS, data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
