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
from interceptor.iptables import Limits
from interceptor.rule import LONGEST_MEMORY_MS
from schemas.errors import HostError, UsageError
from schemas.payload import COMPRESSED
from tests.interceptor.datagram import ROUTER_ALERT, build_datagram
from tests.interceptor.network import PORT, Network, grow, process
from tests.namespaces import Namespaces, in_namespace

RULE = InterceptionRule(
    queue_number=7, port=49862, rate_per_s=200, burst=50, source_rate_per_s=100, source_burst=30
)
NO_OPTION = '-m u32 ! --u32 "0>>24&0x0F=0x6:0xF && 4&0x3FFF=0 && 20=0x94040000"'
NOT_PLAIN = '-m u32 ! --u32 "0>>24&0x0F=0x5 && 4&0x3FFF=0 && 28=0x3C6D3E00:0x3C6D3EFF,0x01000000:0x01FFFFFF"'
LISTED = """\
-P PREROUTING ACCEPT
-N INPATH-49862
-N INPATH-4986
-A PREROUTING -p udp -m udp --dport 49862 -j INPATH-49862
-A PREROUTING -p udp -m u32 --u32 "0x14=0x94040000" -j INPATH-49862
-A PREROUTING -p udp -m udp --dport 4986 -j INPATH-4986
-A INPATH-49862 -j NFQUEUE --queue-num 3
"""


class FakeCommands:
    """Answers by program; a HostError is raised, a text returned. Notes what was run."""

    def __init__(self, **answers: str | HostError) -> None:
        self._answers = answers
        self.ran: list[tuple[tuple[str, ...], str]] = []

    def __call__(self, arguments: Sequence[str], stdin: str = "") -> str:
        self.ran.append((tuple(arguments), stdin))
        answer = self._answers.get(arguments[0].partition("-")[0], "")
        if isinstance(answer, HostError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("field", "value"),
    [("queue_number", -1), ("queue_number", 65536), ("port", 0), ("port", 65536), ("queues", 0), ("queues", 9)]
    + [("rate_per_s", 0), ("rate_per_s", 1_000_001), ("burst", 0), ("burst", 1_000_001)]
    + [("source_rate_per_s", -1), ("source_rate_per_s", 1_000_001), ("source_burst", 0)],
)
def test_a_number_out_of_its_range_is_refused(field: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"^{field}: got {value}"):
        replace(RULE, **{field: value})  # type: ignore[arg-type]


def test_a_rule_of_several_queues_ends_before_the_numbers_do() -> None:
    assert InterceptionRule(queue_number=65_528, queues=8).last_queue == 65_535
    with pytest.raises(UsageError, match="^queue_number: got 65529, expected 0 to 65528"):
        InterceptionRule(queue_number=65_529, queues=8)


def test_iptables_gets_a_chain_with_match_and_limits_and_one_jump_to_it() -> None:
    assert iptables.install_text(RULE, "-P PREROUTING ACCEPT\n", Limits.BY_SOURCE) == (
        "*mangle\n"
        ":INPATH-49862 - [0:0]\n"
        f"-A INPATH-49862 {NO_OPTION} {NOT_PLAIN} -j RETURN\n"
        "-A INPATH-49862"
        " -m hashlimit --hashlimit-name inpath-49862-guard-43690-32768"
        " --hashlimit-upto 43690/s --hashlimit-burst 32768"
        " -m hashlimit --hashlimit-name inpath-49862-source-100-30 --hashlimit-upto 100/s --hashlimit-burst 30"
        " --hashlimit-mode srcip --hashlimit-htable-size 8192 --hashlimit-htable-max 131072"
        " --hashlimit-htable-expire 1000 --hashlimit-htable-gcinterval 500"
        " -m hashlimit --hashlimit-name inpath-49862-whole-200-50 --hashlimit-upto 200/s --hashlimit-burst 50"
        " -j NFQUEUE --queue-num 7 --queue-bypass\n"
        "-A PREROUTING -p udp -m udp --dport 49862 -j INPATH-49862\n"
        "COMMIT\n"
    )


def test_iptables_without_hashlimit_limits_all_sources_together() -> None:
    text = iptables.install_text(RULE, "", Limits.WHOLE_ONLY)
    assert "-A INPATH-49862 -m limit --limit 200/s --limit-burst 50 -j NFQUEUE --queue-num 7" in text
    fast = iptables.install_text(replace(RULE, rate_per_s=50_000, burst=20_000), "", Limits.WHOLE_ONLY)
    assert "--limit 10000/s --limit-burst 10000 -j" in fast
    assert "hashlimit" not in text + fast


def test_either_back_end_can_leave_out_the_limit_by_source_and_plain_datagrams() -> None:
    narrow = replace(RULE, source_rate_per_s=0, plain_udp=False)
    text = iptables.install_text(narrow, "", Limits.BY_SOURCE)
    assert f"-A INPATH-49862 {NO_OPTION} -j RETURN\n" in text
    assert "srcip" not in text and "guard" not in text
    table = nft.install_text(narrow)
    assert "saddr" not in table and table.count("goto limited") == 1


def test_several_queues_share_the_packets() -> None:
    fanned = replace(RULE, queues=3)
    assert "-j NFQUEUE --queue-balance 7:9 --queue-bypass" in iptables.install_text(fanned, "", Limits.BY_SOURCE)
    assert "queue flags bypass to 7-9\n" in nft.install_text(fanned)


@pytest.mark.parametrize(("rate_per_s", "burst"), [(500, 200), (1, 1), (1, 1_000_000), (1_000_000, 1)])
def test_the_table_of_sources_has_room_for_all_that_the_guard_lets_pass_before_they_are_forgotten(
    rate_per_s: int, burst: int
) -> None:
    rule = replace(RULE, source_rate_per_s=rate_per_s, source_burst=burst)
    text = iptables.install_text(rule, "", Limits.BY_SOURCE)
    found = re.search(r"guard\S* --hashlimit-upto (\d+)/s --hashlimit-burst (\d+)", text)
    times = re.search(r"--hashlimit-htable-expire (\d+) --hashlimit-htable-gcinterval (\d+)", text)
    assert found is not None and times is not None
    (guard_per_s, guard_burst), (expire_ms, sweep_ms) = map(int, found.groups()), map(int, times.groups())
    newcomers = guard_burst + max(1, guard_per_s * (expire_ms + sweep_ms) // 1000)
    assert newcomers <= iptables.SOURCES * 3 // 4
    assert expire_ms * rate_per_s >= min(1000 * burst, LONGEST_MEMORY_MS * rate_per_s)


def test_iptables_takes_out_every_jump_that_a_crash_left_and_none_of_others() -> None:
    deletions = (
        "-D PREROUTING -p udp -m udp --dport 49862 -j INPATH-49862\n"
        '-D PREROUTING -p udp -m u32 --u32 "0x14=0x94040000" -j INPATH-49862\n'
    )
    fresh = iptables.install_text(RULE, "", Limits.BY_SOURCE)
    assert iptables.install_text(RULE, LISTED, Limits.BY_SOURCE) == fresh.replace(
        "*mangle\n", "*mangle\n" + deletions
    )
    assert iptables.remove_text(RULE, LISTED) == (
        f"*mangle\n{deletions}-F INPATH-49862\n-X INPATH-49862\nCOMMIT\n"
    )


def test_iptables_has_nothing_to_remove_where_our_chain_is_not() -> None:
    assert iptables.remove_text(RULE, LISTED.replace("-N INPATH-49862\n", "")) == ""
    commands = FakeCommands(iptables="-P PREROUTING ACCEPT\n")
    IptablesRules(commands).remove(RULE)
    assert [arguments[0] for arguments, _ in commands.ran] == ["iptables"]


def test_the_iptables_probe_has_the_whole_rule_where_no_packet_meets_it() -> None:
    text = iptables.probe_text(RULE, Limits.BY_SOURCE)
    assert "PREROUTING" not in text
    assert "-A INPATH-49862-PROBE -p udp -m udp --dport 49862 -j RETURN\n" in text
    installed = iptables.install_text(RULE, "", Limits.BY_SOURCE).splitlines()
    assert text.splitlines()[1:4] == [
        line.replace("INPATH-49862 ", "INPATH-49862-PROBE ") for line in installed[1:4]
    ]
    assert text.endswith("COMMIT\n*mangle\n-F INPATH-49862-PROBE\n-X INPATH-49862-PROBE\nCOMMIT\n")


def test_nft_gets_a_table_in_place_of_the_one_that_a_crash_left() -> None:
    assert nft.install_text(RULE) == (
        "add table ip inpath_49862\n"
        "delete table ip inpath_49862\n"
        "table ip inpath_49862 {\n"
        "    set sources {\n"
        "        type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1s;\n"
        "    }\n"
        "    chain limited {\n"
        "        update @sources { ip saddr limit rate over 100/second burst 30 packets } return\n"
        "        limit rate 200/second burst 50 packets queue flags bypass to 7\n"
        "    }\n"
        "    chain prerouting {\n"
        "        type filter hook prerouting priority mangle; policy accept;\n"
        "        ip hdrlength > 5 @nh,160,32 0x94040000 ip frag-off & 0x3fff == 0 udp dport 49862 goto limited\n"
        "        ip hdrlength 5 ip frag-off & 0x3fff == 0 udp dport 49862 @th,64,24 0x3c6d3e goto limited\n"
        "        ip hdrlength 5 ip frag-off & 0x3fff == 0 udp dport 49862 @th,64,8 0x01 goto limited\n"
        "    }\n"
        "}\n"
    )
    assert nft.install_text(RULE).startswith(nft.remove_text(RULE))


def test_nft_is_taken_where_the_kernel_accepts_its_rule() -> None:
    commands = FakeCommands()
    assert detect_backend(RULE, commands).name == "nft"
    assert commands.ran == [(("nft", "--check", "--file", "-"), nft.install_text(RULE))]


def test_iptables_is_taken_where_nft_is_refused() -> None:
    commands = FakeCommands(nft=HostError("nft: program not found; install it"))
    assert detect_backend(RULE, commands).name == "iptables"
    probe = iptables.probe_text(RULE, Limits.BY_SOURCE)
    assert commands.ran[1] == (("iptables-restore", "-w", "5", "--noflush"), probe)


def test_a_kernel_without_hashlimit_gets_the_rule_without_a_limit_by_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[str] = []

    def without_hashlimit(arguments: Sequence[str], stdin: str = "") -> str:
        ran.append(stdin)
        if "hashlimit" in stdin:
            raise HostError("iptables-restore: no hashlimit")
        return ""

    rules = IptablesRules(without_hashlimit)
    rules.probe(RULE)
    assert rules.limits is Limits.WHOLE_ONLY
    assert "limited for all sources together and not for each: iptables-restore: no hashlimit" in caplog.text
    rules.install(RULE)
    assert ran[-1] == iptables.install_text(RULE, "", Limits.WHOLE_ONLY)
    assert len(ran) == 4  # it does not try again what was refused


def test_where_both_are_refused_the_error_names_what_is_missing_for_each() -> None:
    commands = FakeCommands(nft=HostError("nft: no queue"), iptables=HostError("iptables-restore: no u32"))
    with pytest.raises(HostError) as refusal:
        detect_backend(RULE, commands)
    said = str(refusal.value)
    assert "nft: no queue; iptables-restore: no u32; run with CAP_NET_ADMIN" in said
    assert all(module in said for module in ("nft_queue", "xt_u32", "xt_NFQUEUE"))


def test_a_refused_rule_is_an_error_and_not_silence() -> None:
    for backend in (
        NftRules(FakeCommands(nft=HostError("no"))),
        IptablesRules(FakeCommands(iptables=HostError("no"))),
    ):
        with pytest.raises(HostError, match="^no$"), InterceptionRules(RULE, backend):
            raise AssertionError("not reached")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(HostError, match="^no-such-firewall: program not found; install it$"):
        run_command(("no-such-firewall", "-S"))


def test_a_failing_program_is_quoted_by_its_first_line() -> None:
    with pytest.raises(HostError, match="^sh -c .*: failed with code 3: first complaint$"):
        run_command(("sh", "-c", "printf '\\nfirst complaint\\nsecond\\n' >&2; exit 3"))


def test_a_program_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interceptor.firewall.COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(HostError, match="^sleep 5: .*timed out"):
        run_command(("sleep", "5"))


def test_a_program_gets_its_input_and_gives_its_output() -> None:
    assert run_command(("cat",), "text") == "text"


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
