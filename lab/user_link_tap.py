"""One end of a user-space link: a TAP in a namespace, with the kernel's own time for each frame that leaves it.

A TAP alone does not say when a frame was sent; the reader would take the time at which it woke up, 10 to 60 us
later and worse on a busy machine. So frames are read from a packet socket's ring, where the kernel stamps each one
in the sender's context, and the TAP's own queue is only emptied.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.user_link_ring import FrameRing
from schemas.errors import LabError, UsageError

NAMESPACES = Path("/run/netns")
"""Where iproute2 keeps the named network namespaces (ip-netns(8))."""

MAX_NAME_BYTES = 15
"""IFNAMSIZ of linux/if.h, less the closing zero."""

# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNSETCARRIER = 0x400454E2
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_TUN_EXCL = 0x8000

# linux/sockios.h, linux/if_arp.h
SIOCSIFHWADDR = 0x8924
ARPHRD_ETHER = 1

FIRST_MTU_OCTETS = 1500
"""What the kernel gives a new TAP."""

TAP_BACKLOG = 32
"""So many frames may pile up in the TAP's own queue (500 to 1000 places) before it is emptied."""

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one end of a link is to appear.

    Raises:
        UsageError: a name is empty, too long or has characters that the kernel refuses; or no such MAC address.
    """

    namespace: str
    """A named network namespace, as `ip netns add` makes it."""

    interface: str
    """The name of the TAP; no such interface may exist yet."""

    mac: str | None = None
    """Its MAC address as six octets with colons; `None` leaves the choice to the kernel."""

    def __post_init__(self) -> None:
        _check_name("namespace", self.namespace, os.pathconf("/", "PC_NAME_MAX"))
        _check_name("interface", self.interface, MAX_NAME_BYTES)
        if self.mac is not None:
            _mac_bytes(self.mac)


class TapPort:
    """The TAP of one endpoint, open until `close`, with which the interface vanishes.

    Frames have no VLAN tags. The MTU is 1500 octets until `set_mtu`.

    Raises:
        LabError: no such namespace, the interface exists, or the kernel refuses.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._missed = 0
        try:
            with _inside(endpoint.namespace):
                self._tap_fd = _open_tap(endpoint)
                try:
                    self._ring = FrameRing(endpoint.interface, FIRST_MTU_OCTETS)
                except OSError:
                    os.close(self._tap_fd)
                    raise
        except OSError as error:
            where = f"{endpoint.interface} in namespace {endpoint.namespace}"
            raise LabError(f"cannot open the TAP {where}: {error.strerror}") from error

    def fileno(self) -> int:
        """What to poll for arrivals, edge-triggered: a frame is in the ring before the TAP says so.

        The ring's socket is not polled, for then the sender would have to wake the reader before it takes its own
        transmit stamp, which moves that stamp by the 10 us that waking a processor of a virtual machine takes.
        """
        return self._tap_fd

    def read(self, offset_ns: int) -> Iterator[tuple[bytes, int]]:
        """As `FrameRing.read`."""
        return self._ring.read(offset_ns)

    @property
    def was_full(self) -> bool:
        """Whether the TAP may have been left with a full queue of its own: it would report no arrival again."""
        return self._ring.was_full

    def drain(self) -> None:
        """Empty the TAP's own queue when enough has piled up; its frames came by the ring already."""
        if self._ring.taken < TAP_BACKLOG:
            return
        self._ring.taken = 0
        with suppress(OSError):  # EAGAIN when it is empty; EIO or EBADFD when the interface is gone
            while True:
                os.read(self._tap_fd, 1)

    def write(self, frame: bytes) -> bool:
        """Deliver a frame into the namespace; false when its interface is down or gone."""
        try:
            os.write(self._tap_fd, frame)
        except OSError:
            return False
        return True

    def set_carrier(self, *, up: bool) -> None:
        """Plug the cable in or pull it out, as the namespace's routing daemon sees it.

        Raises:
            LabError: the interface is gone.
        """
        try:
            fcntl.ioctl(self._tap_fd, TUNSETCARRIER, struct.pack("=i", up))
        except OSError as error:
            raise LabError(f"cannot set the carrier of {self.endpoint.interface}: {error.strerror}") from error

    def set_mtu(self, octets: int) -> None:
        """Change the interface's MTU; the ring grows with it, and then loses what just waits in it.

        Raises:
            LabError: the interface is gone, or there is no memory; all stays as it was.
        """
        try:
            if not self._ring.fits(octets):
                self._enlarge_ring(octets)
            self._ring.set_mtu(octets)
        except OSError as error:
            raise LabError(f"cannot set the MTU of {self.endpoint.interface}: {error.strerror}") from error

    def take_missed(self) -> int:
        """Frames that were too long, found the ring full, or were lost with it, since the last call."""
        missed, self._missed = self._missed + self._ring.take_missed(), 0
        return missed

    def close(self) -> None:
        """Remove the interface."""
        self._ring.close()
        os.close(self._tap_fd)

    def _enlarge_ring(self, mtu_octets: int) -> None:
        with _inside(self.endpoint.namespace):
            larger = FrameRing(self.endpoint.interface, mtu_octets)
        old, self._ring = self._ring, larger
        self._missed += sum(1 for _ in old.read(0)) + old.take_missed()
        larger.taken = old.taken  # the TAP's own queue still holds them
        old.close()


def _check_name(field: str, name: object, max_bytes: int) -> None:
    # The rules of dev_valid_name() in the kernel; a namespace is a file name and needs no more.
    valid = isinstance(name, str) and 0 < len(name.encode()) <= max_bytes and name not in (".", "..")
    if not valid or any(character in "/:" or character.isspace() for character in str(name)):
        raise UsageError(field, name, f"a name of at most {max_bytes} octets without '/', ':' and spaces")


def _mac_bytes(mac: str) -> bytes:
    try:
        octets = bytes(int(part, 16) for part in mac.split(":") if len(part) == 2)
    except ValueError:
        octets = b""
    # The lowest bit of the first octet marks a group, which cannot be an interface's own address.
    if len(octets) != 6 or len(mac) != 17 or octets[0] & 1:
        raise UsageError("mac", mac, "a unicast address such as 02:00:00:00:00:01")
    return octets


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Let this thread open things in another network namespace."""
    own_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other_fd = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(other_fd)
        finally:
            os.close(other_fd)
        try:
            yield
        finally:
            _enter(own_fd)
    finally:
        os.close(own_fd)


def _enter(namespace_fd: int) -> None:
    if _libc.setns(namespace_fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _open_tap(endpoint: Endpoint) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("=16sH22x", endpoint.interface.encode(), flags))
        # Without offloads the kernel finishes each checksum and cuts each large segment before we see it.
        fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
        if endpoint.mac is not None:
            _set_mac(endpoint.interface, _mac_bytes(endpoint.mac))
    except OSError:
        os.close(fd)
        raise
    return fd


def _set_mac(interface: str, mac: bytes) -> None:
    request = struct.pack("=16sH6s16x", interface.encode(), ARPHRD_ETHER, mac)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        fcntl.ioctl(door.fileno(), SIOCSIFHWADDR, request)
