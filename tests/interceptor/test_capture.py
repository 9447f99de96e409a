"""What tshark, which is not ours, says of our packets on every link of a path."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from interceptor.firewall import InterceptionRule, IptablesRules
from interceptor.packet import maximum_payload
from tests.interceptor.datagram import build_datagram, replaced
from tests.interceptor.network import PORT, Network, grow, intercepted_at, measurement_socket, process
from tests.namespaces import Namespace, Namespaces

RULE = InterceptionRule(queue_number=7)
FIELDS = (
    *("ip.hdr_len", "ip.opt.type", "ip.opt.ra", "ip.ttl", "ip.flags.df", "ip.src", "ip.dst"),
    *("ip.len", "udp.length", "ip.checksum.status", "udp.checksum.status"),
)
BAD, GOOD = "0", "1"
"""tshark's words for the status of a checksum; 2 is "not verified"."""


@contextmanager
def capture(namespace: Namespace, interface: str, file: Path) -> Iterator[None]:
    """tcpdump listens inside the block."""
    filters = f"udp and dst port {PORT}"
    command = ("tcpdump", "-Z", "root", "-U", "-i", interface, "-w", str(file), "--immediate-mode", filters)
    with namespace.popen(*command) as tcpdump:
        try:
            assert tcpdump.stderr is not None
            while b"listening on" not in (line := tcpdump.stderr.readline()):
                assert line, "tcpdump ended"
            yield
        finally:
            tcpdump.send_signal(signal.SIGINT)
            tcpdump.communicate(timeout=10)


def dissected(file: Path) -> list[dict[str, str]]:
    """One dict of field values for each packet, as tshark understands it."""
    command = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=|"]
    command += ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    for field in FIELDS:
        command += ["-e", field]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return [dict(zip(FIELDS, line.split("|"), strict=True)) for line in said.splitlines()]


@pytest.mark.netns
def test_a_dissector_finds_nothing_wrong_on_any_link_of_a_path(namespaces: Namespaces, tmp_path: Path) -> None:
    row = namespaces.chain("a", "r", "s", "b")
    files = [tmp_path / f"link{number}.pcap" for number in range(3)]
    sizes = (0, 1, 100, 101, maximum_payload(1500) - 12)
    with ExitStack() as stack:
        for namespace, file in zip(row, files, strict=False):
            stack.enter_context(capture(namespace, namespace.interfaces[-1], file))
        queues = [stack.enter_context(intercepted_at(router, grow, IptablesRules(), RULE)) for router in row[1:3]]
        sender = stack.enter_context(measurement_socket(row[0]))
        receiver = stack.enter_context(measurement_socket(row[3], port=PORT))
        for number, size in enumerate(sizes, start=1):
            sender.sendto(bytes(size), (row[3].addresses[0], PORT))
            for queue in queues:
                process(queue, handled=number)
            assert receiver.recv(65535) == bytes(size) + b"<mrp/>" * 2
    for link, file in enumerate(files):
        packets = dissected(file)
        assert [int(packet["udp.length"]) - 8 for packet in packets] == [size + 6 * link for size in sizes]
        for packet in packets:
            assert packet["ip.checksum.status"] == packet["udp.checksum.status"] == GOOD
            assert int(packet["ip.len"]) == 24 + int(packet["udp.length"])
            assert (packet["ip.hdr_len"], packet["ip.opt.type"], packet["ip.opt.ra"]) == ("24", "148", "0")
            assert packet["ip.ttl"] == str(64 - link)
            assert packet["ip.flags.df"] in ("1", "True")  # tshark 4.0 and 4.4
            assert (packet["ip.src"], packet["ip.dst"]) == (row[0].addresses[0], row[3].addresses[0])


@pytest.mark.netns
def test_a_corruption_before_us_is_one_for_a_dissector_after_us(network: Network, tmp_path: Path) -> None:
    sent = build_datagram(b"<mr/>", source=network.source, destination=network.destination)
    file = tmp_path / "after.pcap"
    with (
        capture(network.r, network.r.interfaces[-1], file),
        network.intercepted(grow, IptablesRules(), RULE) as queue,
    ):
        network.send_raw(replaced(sent, 34, b"X"))
        process(queue, handled=1)
        network.received(1)
    (packet,) = dissected(file)
    assert (packet["ip.checksum.status"], packet["udp.checksum.status"]) == (GOOD, BAD)
    assert int(packet["udp.length"]) == 8 + len("<mr/><mrp/>")
