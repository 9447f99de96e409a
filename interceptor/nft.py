"""What the rule is in the words of nft (pure): a table of our own, which comes and goes as a whole."""

from __future__ import annotations

from interceptor.rule import InterceptionRule

SOURCES = 65_536
"""Room of the set of sources. One that finds none there is limited with all others together only."""

ALERTED = "ip hdrlength > 5 @nh,160,32 0x94040000 ip frag-off & 0x3fff == 0 udp dport {port}"
"""The order matters, since octet 20 is an option only in a longer header."""
PLAIN = (
    "ip hdrlength 5 ip frag-off & 0x3fff == 0 udp dport {port} @th,64,24 0x3c6d3e",
    "ip hdrlength 5 ip frag-off & 0x3fff == 0 udp dport {port} @th,64,8 0x01",
)
"""The payload begins with `<m>`, or with the octet of a compressed message."""


def table_of(rule: InterceptionRule) -> str:
    """The name of our table; one per measurement port."""
    return f"inpath_{rule.port}"


def matches(rule: InterceptionRule) -> tuple[str, ...]:
    """What measurement packets look like: one of these."""
    forms = (ALERTED, *PLAIN) if rule.plain_udp else (ALERTED,)
    return tuple(form.format(port=rule.port) for form in forms)


def install_text(rule: InterceptionRule) -> str:
    """Input of `nft --file -`."""
    last = rule.last_queue
    queue = f"{rule.queue_number}-{last}" if rule.queues > 1 else f"{last}"
    jumps = "".join(f"        {match} goto limited\n" for match in matches(rule))
    return f"""{remove_text(rule)}\
table ip {table_of(rule)} {{
    set sources {{
        type ipv4_addr; size {SOURCES}; flags dynamic,timeout; timeout {-(-rule.forget_source_ms // 1000)}s;
    }}
    chain limited {{
{_source_limit(rule)}\
        limit rate {rule.rate_per_s}/second burst {rule.burst} packets queue flags bypass to {queue}
    }}
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
{jumps}\
    }}
}}
"""


def _source_limit(rule: InterceptionRule) -> str:
    if not rule.source_rate_per_s:
        return ""
    over = f"limit rate over {rule.source_rate_per_s}/second burst {rule.source_burst} packets"
    return f"        update @sources {{ ip saddr {over} }} return\n"


def remove_text(rule: InterceptionRule) -> str:
    """Input of `nft --file -`; the first line makes the second one succeed when there is no such table."""
    table = table_of(rule)
    return f"add table ip {table}\ndelete table ip {table}\n"
