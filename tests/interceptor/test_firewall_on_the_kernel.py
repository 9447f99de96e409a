"""What the kernel does with the rules: which packets wait, which pass, and what is left afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scapy.compat import raw
from scapy.layers.inet import IP, fragment

from interceptor import iptables, nft
from interceptor.firewall import (
    InterceptionRule,
    InterceptionRules,
    IptablesRules,
    NftRules,
    RuleBackend,
    detect_backend,
    run_command,
)
from schemas.payload import COMPRESSED
from tests.interceptor.datagram import ROUTER_ALERT, build_datagram
from tests.interceptor.network import PORT, Network, grow, process
from tests.namespaces import Namespaces, in_namespace

RULE = InterceptionRule(
    queue_number=7, port=49862, rate_per_s=200, burst=50, source_rate_per_s=100, source_burst=30
)


def mangle(network: Network) -> str:
    return network.r.run("iptables", "-t", "mangle", "-S")


@pytest.mark.netns
def test_this_kernel_takes_the_rule_by_one_back_end_and_keeps_no_trace_of_the_probe(
    namespaces: Namespaces,
) -> None:
    namespace = namespaces.make("probe")
    with in_namespace(namespace.name):
        assert detect_backend(RULE).name in ("nft", "iptables")
    assert "49862" not in namespace.run("iptables", "-t", "mangle", "-S")
    assert "49862" not in namespace.run("nft", "list", "ruleset")


@pytest.mark.netns
def test_the_rule_is_there_inside_and_gone_afterwards(network: Network) -> None:
    network.r.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "-j", "ACCEPT")
    before = mangle(network)
    with in_namespace(network.r.name), InterceptionRules(RULE, IptablesRules()):
        assert mangle(network).count("-j INPATH-49862") == 1
    assert mangle(network) == before
    with in_namespace(network.r.name):
        IptablesRules().remove(RULE)
    assert mangle(network) == before


@pytest.mark.netns
def test_what_a_crash_left_is_replaced(network: Network) -> None:
    with in_namespace(network.r.name):
        IptablesRules().install(InterceptionRule(queue_number=3, burst=9))
        network.r.run("iptables", "-t", "mangle", "-I", "PREROUTING", "-p", "udp", "-j", "INPATH-49862")
        IptablesRules().install(RULE)
    listed = mangle(network)
    assert listed.count("-j INPATH-49862") == 1
    assert re.findall(r"--queue-num (\d+)", listed) == ["7"]


@pytest.mark.netns
def test_two_measurement_ports_have_rules_of_their_own(network: Network) -> None:
    other = InterceptionRule(queue_number=8, port=4986)
    with in_namespace(network.r.name), InterceptionRules(other, IptablesRules()):
        with InterceptionRules(RULE, IptablesRules()):
            assert re.findall(r"--queue-num (\d+)", mangle(network)) == ["8", "7"]
        assert re.findall(r"--queue-num (\d+)", mangle(network)) == ["8"]


@pytest.mark.netns
def test_the_nft_table_is_replaced_and_removed_whole(network: Network) -> None:
    rules = NftRules(counting)
    with in_namespace(network.r.name):
        rules.install(RULE)
        rules.install(RULE)
        assert network.r.run("nft", "list", "ruleset").count("counter") == 1
        rules.remove(RULE)
        rules.remove(RULE)
    assert network.r.run("nft", "list", "ruleset") == ""


def counting(arguments: Sequence[str], stdin: str = "") -> str:
    """Runs nft with a counter in place of the queue, which not every kernel has."""
    return run_command(arguments, stdin.replace(f"queue flags bypass to {RULE.queue_number}", "counter"))


def send_what_must_not_match(network: Network) -> int:
    """Other people's packets, each near to ours in one respect; how many datagrams arrive on b."""
    network.send(b"no option", options=b"")
    network.send(b"<n>", options=b"")
    network.send(b"", options=b"")
    network.send(b"\0" + COMPRESSED + b"in second place", options=b"")
    network.send(b"<m>", options=b"", port=PORT + 1)
    network.send(b"no option, but a source port that looks like one", options=b"", source_port=0x9404)
    network.send(b"another port", port=PORT + 1)
    network.send(b"another option first", options=b"\x9e\x04\x01\x02")
    addresses = {"source": network.source, "destination": network.destination}
    network.send_raw(
        build_datagram(b"not value 0", options=b"\x94\x04\x00\x01", **addresses),  # type: ignore[arg-type]
        # The UDP header starts where an option would: ports 0x9404 and 0.
        build_datagram(b"", options=b"", source_port=0x9404, destination_port=0, **addresses),  # type: ignore[arg-type]
    )
    whole = IP(build_datagram(bytes(3000), flags="", **addresses))  # type: ignore[arg-type]
    network.send_raw(*(bytes(raw(part)) for part in fragment(whole, 1400)))  # type: ignore[no-untyped-call]
    return 11


@pytest.mark.netns
def test_iptables_queues_nothing_but_measurement_packets(network: Network) -> None:
    with network.intercepted(grow, IptablesRules(), RULE) as queue:
        arriving = send_what_must_not_match(network)
        network.received(arriving)
        assert queue.counters().queued == 0
        network.send(b"ours")
        network.send(b"ours with more options", options=ROUTER_ALERT + b"\x9e\x04\x00\x00")
        network.send(b"<m></m>", options=b"")
        network.send(COMPRESSED + b"...", options=b"")
        process(queue, handled=4)
        network.received(4)
        assert queue.counters().failed == 0


@pytest.mark.netns
def test_without_plain_udp_only_router_alert_is_queued(network: Network) -> None:
    with network.intercepted(grow, IptablesRules(), replace(RULE, plain_udp=False)) as queue:
        network.send(b"<m></m>", options=b"")
        network.send(b"<m></m>")
        process(queue, handled=1)
        network.received(2)


@pytest.mark.netns
def test_a_plain_request_to_the_host_itself_is_queued(network: Network) -> None:
    with network.intercepted(grow, IptablesRules(), RULE) as queue:
        network.send(b"<m></m>", options=b"", destination=network.r.addresses[0])
        process(queue, handled=1)


@pytest.mark.netns
def test_nft_matches_nothing_but_measurement_packets(network: Network) -> None:
    rules: RuleBackend = NftRules(counting)
    with in_namespace(network.r.name):
        rules.install(RULE)
    network.received(send_what_must_not_match(network))
    assert "counter packets 0 " in network.r.run("nft", "list", "ruleset")
    network.send(b"ours")
    network.send(b"ours with more options", options=ROUTER_ALERT + b"\x9e\x04\x00\x00")
    network.send(b"<m></m>", options=b"")
    network.send(COMPRESSED + b"...", options=b"")
    network.received(4)
    assert "counter packets 4 " in network.r.run("nft", "list", "ruleset")


@pytest.mark.netns
def test_nft_understands_the_rule_even_where_the_kernel_lacks_the_queue(namespaces: Namespaces) -> None:
    namespace = namespaces.make("syntax")
    script = "nft --check --file - 2>&1 || true"
    said = namespace.run("sh", "-c", script, stdin=nft.install_text(RULE))
    assert "syntax error" not in said
    assert "syntax error" in namespace.run(
        "sh", "-c", script, stdin=nft.install_text(RULE).replace(" to 7", " onto 7")
    )
    assert "syntax error" not in namespace.run("sh", "-c", script, stdin=nft.install_text(replace(RULE, queues=2)))


@pytest.mark.netns
def test_packets_pass_while_nobody_listens(network: Network) -> None:
    with in_namespace(network.r.name):
        IptablesRules().install(RULE)
    for number in range(5):
        network.send(b"%d" % number)
    assert [packet[-1:] for packet in network.received(5)] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.netns
def test_what_exceeds_the_rate_is_forwarded_unprocessed(network: Network) -> None:
    slow = InterceptionRule(queue_number=7, rate_per_s=1, burst=5)
    with network.intercepted(grow, IptablesRules(), slow) as queue:
        for number in range(20):
            network.send(b"%d" % number)
        queued = queue.counters().queued
        assert 5 <= queued <= 7  # a slow machine may earn a packet more
        network.received(20 - queued)
        process(queue, handled=queued)
        network.received(queued)


@pytest.mark.netns
def test_a_source_that_floods_leaves_room_for_others(network: Network) -> None:
    rule = replace(RULE, source_rate_per_s=1, source_burst=3)
    others = [
        build_datagram(b"<m></m>", source=f"192.0.2.{number}", destination=network.destination)
        for number in range(1, 5)
    ]
    with network.intercepted(grow, IptablesRules(), rule) as queue:
        for _ in range(20):
            network.send(b"<m></m>")
        flooded = queue.counters().queued
        assert 3 <= flooded <= 5  # a slow machine may earn a packet more
        network.send_raw(*others)
        assert queue.counters().queued == flooded + len(others)
        process(queue, handled=flooded + len(others))
        network.received(20 + len(others))


@pytest.mark.netns
def test_more_sources_than_the_table_holds_lose_no_packet(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iptables, "SOURCES", 64)
    packets = [
        build_datagram(b"<m></m>", source=f"192.0.2.{number}", destination=network.destination)
        for number in range(1, 201)
    ]
    with network.intercepted(grow, IptablesRules(), replace(RULE, rate_per_s=1000, burst=1000)) as queue:
        network.send_raw(*packets)
        queued = queue.counters().queued
        assert 16 <= queued < len(packets)
        process(queue, handled=queued)
        network.received(len(packets))
