"""What the rule is in the words of iptables (pure): a chain of our own in `mangle`, entered from PREROUTING.

    every UDP datagram to the measurement port -> the chain
    neither router alert nor a plain message   -> back, and on as any other packet
    within the limits                          -> the queue; what exceeds them goes on as any other packet

`hashlimit` counts by source. It drops a packet for which its table has no room, which must not happen: so a limit
for all together stands before it, at which no more sources can turn up than have room until the silent ones are
forgotten. Kernels without it have `limit` alone, for all sources together.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from interceptor.rule import InterceptionRule

ALERTED = "0>>24&0x0F=0x6:0xF && 4&0x3FFF=0 && 20=0x94040000"
"""u32: header length of 6 to 15 words; neither the more-fragments flag nor an offset; first option."""
PLAIN = "0>>24&0x0F=0x5 && 4&0x3FFF=0 && 28=0x3C6D3E00:0x3C6D3EFF,0x01000000:0x01FFFFFF"
"""u32: no option; no fragment; the payload begins with `<m>`, or with the octet of a compressed message."""

SOURCES = 131_072
"""Entries of the table of sources; about 100 octets each in the kernel, and only while so many send."""
BUCKETS = 8192
FINEST_LIMIT_PER_S = 10_000
"""The finest step of xt_limit is 100 us, and its burst shares the scale."""


class Limits(Enum):
    """By which match the kernel counts."""

    BY_SOURCE = "hashlimit"
    WHOLE_ONLY = "limit"


def chain_of(rule: InterceptionRule) -> str:
    """The name of our chain; one per measurement port."""
    return f"INPATH-{rule.port}"


def install_text(rule: InterceptionRule, listed: str, limits: Limits) -> str:
    """Input of `iptables-restore --noflush`.

    Args:
        rule: what shall hold afterwards.
        listed: output of `iptables -t mangle -S`, for what a crash left behind.
        limits: what this kernel can.
    """
    chain = chain_of(rule)
    return _mangle([*_stale_jumps(rule, listed), *_chain(rule, chain, limits), _jump(rule, "PREROUTING", chain)])


def remove_text(rule: InterceptionRule, listed: str) -> str:
    """Input of `iptables-restore --noflush`; empty if `listed` shows nothing of ours."""
    chain = chain_of(rule)
    if f"-N {chain}" not in listed.splitlines():
        return ""
    return _mangle([*_stale_jumps(rule, listed), f"-F {chain}", f"-X {chain}"])


def probe_text(rule: InterceptionRule, limits: Limits) -> str:
    """Input of `iptables-restore --noflush` that puts in the rule where no packet meets it, then removes it."""
    chain = f"{chain_of(rule)}-PROBE"
    added = _mangle([*_chain(rule, chain, limits), _jump(rule, chain, "RETURN")])
    return added + _mangle([f"-F {chain}", f"-X {chain}"])


def _jump(rule: InterceptionRule, origin: str, target: str) -> str:
    return f"-A {origin} -p udp -m udp --dport {rule.port} -j {target}"


def _chain(rule: InterceptionRule, chain: str, limits: Limits) -> list[str]:
    forms = (ALERTED, PLAIN) if rule.plain_udp else (ALERTED,)
    is_none = " ".join(f'-m u32 ! --u32 "{form}"' for form in forms)
    last = rule.last_queue
    queue = f"--queue-balance {rule.queue_number}:{last}" if rule.queues > 1 else f"--queue-num {last}"
    return [
        f":{chain} - [0:0]",  # creates the chain, or empties it
        f"-A {chain} {is_none} -j RETURN",
        f"-A {chain} {_limit(rule, limits)} -j NFQUEUE {queue} --queue-bypass",
    ]


def _limit(rule: InterceptionRule, limits: Limits) -> str:
    if limits is Limits.WHOLE_ONLY:
        rate, burst = min(rule.rate_per_s, FINEST_LIMIT_PER_S), min(rule.burst, FINEST_LIMIT_PER_S)
        return f"-m limit --limit {rate}/s --limit-burst {burst}"
    whole = _hash_limit(rule, "whole", rule.rate_per_s, rule.burst)
    return f"{_source_limit(rule)} {whole}" if rule.source_rate_per_s else whole


def _source_limit(rule: InterceptionRule) -> str:
    sweep_ms = rule.forget_source_ms // 2
    # Of the sources of one sweep and of the time to be forgotten, half the table's room; the kernel sweeps late.
    guard_per_s = max(1, SOURCES // 2 * 1000 // (rule.forget_source_ms + sweep_ms))
    guard = _hash_limit(rule, "guard", guard_per_s, SOURCES // 4)
    by_source = _hash_limit(rule, "source", rule.source_rate_per_s, rule.source_burst)
    table = (
        f"--hashlimit-mode srcip --hashlimit-htable-size {BUCKETS} --hashlimit-htable-max {SOURCES} "
        f"--hashlimit-htable-expire {rule.forget_source_ms} --hashlimit-htable-gcinterval {sweep_ms}"
    )
    return f"{guard} {by_source} {table}"


def _hash_limit(rule: InterceptionRule, what: str, rate_per_s: int, burst: int) -> str:
    # Rules of one name share their counts, and the limits of the first of them: so the name holds the limits.
    name = f"inpath-{rule.port}-{what}-{rate_per_s}-{burst}"
    return f"-m hashlimit --hashlimit-name {name} --hashlimit-upto {rate_per_s}/s --hashlimit-burst {burst}"


def _stale_jumps(rule: InterceptionRule, listed: str) -> list[str]:
    """Deletions of all jumps to our chain that `iptables -S` lists, whichever version put them in."""
    chain = chain_of(rule)
    return [
        line.replace("-A", "-D", 1)
        for line in listed.splitlines()
        if line.startswith("-A ") and line.endswith(f" -j {chain}")
    ]


def _mangle(lines: Sequence[str]) -> str:
    return "\n".join(("*mangle", *lines, "COMMIT", ""))
