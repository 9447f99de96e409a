"""Which firewall rule the point needs, and by which back end it is put in and taken out."""

from __future__ import annotations

from interceptor.firewall import InterceptionRule, IptablesRules, NftRules, RuleBackend, detect_backend
from mp.bridge import Setup


def rule_of(setup: Setup) -> InterceptionRule:
    """The rule that sends this point's packets into its queue."""
    return InterceptionRule(
        queue_number=setup.queue,
        queues=setup.queues,
        port=setup.port,
        plain_udp=setup.plain_udp,
        rate_per_s=setup.rate_per_s,
        burst=setup.burst,
        source_rate_per_s=setup.source_rate_per_s,
        source_burst=setup.source_burst,
    )


def backend_of(name: str, rule: InterceptionRule) -> RuleBackend:
    """The back end of that name; of `auto`, the first that this kernel takes the rule by.

    Raises:
        HostError: none does.
    """
    match name:
        case "iptables":
            return IptablesRules()
        case "nft":
            return NftRules()
        case _:
            return detect_backend(rule)


def remove_rules(name: str, setup: Setup) -> None:
    """Take out what a process has left that was killed; nothing happens if there is nothing.

    Raises:
        HostError: the firewall refuses.
    """
    rule = rule_of(setup)
    backend_of(name, rule).remove(rule)
