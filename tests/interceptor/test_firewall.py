from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from interceptor import iptables, nft
from interceptor.firewall import (
    InterceptionRule,
    InterceptionRules,
    IptablesRules,
    NftRules,
    detect_backend,
    run_command,
)
from interceptor.iptables import Limits
from interceptor.rule import LONGEST_MEMORY_MS
from schemas.errors import HostError, UsageError

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
