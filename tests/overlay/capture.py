"""Real capture files from many interfaces at once, read by a judge that is not ours."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.overlay.network import Network, eventually

START_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0
EMPTY_FILE_BYTES = 24
"""The header of a capture file (pcap), before any packet."""

_FIELDS = (
    "frame.interface_id",
    "frame.len",
    "ip.hdr_len",
    "ip.flags.df",
    "ip.flags.mf",
    "ip.frag_offset",
    "ip.ttl",
    "ip.src",
    "ip.dst",
    "ip.len",
    "ip.proto",
    "ip.checksum.status",
    "udp.srcport",
    "udp.dstport",
    "udp.checksum.status",
    "udp.payload",
    "tcp.dstport",
    "tcp.len",
)
_FLAGS = {"True": "1", "False": "0"}
_CHECKS = ("ip.check_checksum", "udp.check_checksum", "tcp.check_checksum")


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a link, as somebody at that node sees it."""

    node: str
    neighbor: str


@dataclass(frozen=True, slots=True)
class Captures:
    """Files that are being written, one for each interface."""

    files: Mapping[Interface, Path]

    def await_packets(self, *, within_s: float = 5.0) -> None:
        """Return when each file holds a packet at least."""
        for interface, file in self.files.items():
            eventually(
                lambda file=file: file.stat().st_size > EMPTY_FILE_BYTES,  # type: ignore[misc]
                f"a packet at {interface}",
                within_s=within_s,
            )

    def frames(self, display_filter: str = "ip") -> list[tuple[Interface, dict[str, str]]]:
        """The frames of all files, as tshark reads them: where each was seen, and its fields by tshark's names."""
        merged = next(iter(self.files.values())).with_name("merged.pcapng")
        # One interface for each file, in their order.
        command = ["mergecap", "-I", "none", "-w", str(merged), *map(str, self.files.values())]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        interfaces = list(self.files)
        options = [part for check in _CHECKS for part in ("-o", f"{check}:TRUE")]
        fields = [part for field in _FIELDS for part in ("-e", field)]
        done = subprocess.run(
            ["tshark", "-r", str(merged), "-Y", display_filter, *options, "-T", "fields", *fields],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        frames = [
            # What a flag looks like depends on tshark's version.
            {name: _FLAGS.get(value, value) for name, value in zip(_FIELDS, line.split("\t"), strict=True)}
            for line in done.stdout.splitlines()
        ]
        return [(interfaces[int(frame["frame.interface_id"])], frame) for frame in frames]


@contextmanager
def capturing(
    net: Network, interfaces: Sequence[Interface], expression: str, directory: Path
) -> Iterator[Captures]:
    """Write what passes the interfaces and matches the expression, until the block ends."""
    files = {interface: directory / f"{interface.node}-{interface.neighbor}.pcap" for interface in interfaces}
    writers = [
        subprocess.Popen(
            [
                *("ip", "netns", "exec", net.namespace(interface.node)),
                *("tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode"),
                *("-i", net.interface(interface.node, interface.neighbor), "-w", str(file), expression),
            ],
            stderr=subprocess.PIPE,
        )
        for interface, file in files.items()
    ]
    try:
        for writer in writers:
            _await_start(writer)
        yield Captures(files)
    finally:
        for writer in writers:
            writer.terminate()
        for writer in writers:
            writer.communicate(timeout=STOP_LIMIT_S)


def _await_start(writer: subprocess.Popen[bytes]) -> None:
    assert writer.stderr is not None
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        line = writer.stderr.readline()
        if b"listening on" in line:
            return
        if not line:
            pytest.fail(f"tcpdump ended with {writer.wait(STOP_LIMIT_S)}")
    pytest.fail("tcpdump does not listen")
