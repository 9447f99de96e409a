"""The firewall rule that sends measurement packets into the queue.

It sees transit packets in the prerouting hook and matches raw octets: an IPv4 header with options whose first
is router alert with value 0, not a fragment, UDP, the measurement port. The kernel's own router alert match can
be evaded by an unknown option, and a raw match without a look at the header length would read the UDP source
port of a packet without options.

The kernel limits the rate in front of the queue (RFC 6398, section 5), and what exceeds it is forwarded as any
other packet. The same happens while no daemon listens to the queue.

What the rules say is text, made by pure functions; two back ends, `iptables` and `nft`, hand it to the kernel as
one transaction, so that there is never half a rule or two.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from schemas.errors import HostError, UsageError
from schemas.message import MEASUREMENT_PORT

MAXIMUM_RATE_PER_S = 10_000
"""The finest step of the kernel's xt_limit is 100 us; the same bound holds for both back ends."""

COMMAND_TIMEOUT_S = 10
"""Another owner of the firewall's lock is done by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterceptionRule:
    """Which packets go into which queue, and how many of them.

    Raises:
        UsageError: a number is out of its range.
    """

    queue_number: int
    """0 to 65535."""
    port: int = MEASUREMENT_PORT
    """UDP destination port of measurement messages."""
    rate_per_s: int = 1000
    """Packets per second that may enter the queue. iptables rounds it up to 10000 divided by a whole number."""
    burst: int = 100
    """Packets that may enter at once, before the rate holds."""

    def __post_init__(self) -> None:
        _require("queue_number", self.queue_number, 0, 0xFFFF)
        _require("port", self.port, 1, 0xFFFF)
        _require("rate_per_s", self.rate_per_s, 1, MAXIMUM_RATE_PER_S)
        _require("burst", self.burst, 1, MAXIMUM_RATE_PER_S)


def _require(field: str, value: int, least: int, greatest: int) -> None:
    if not least <= value <= greatest:
        raise UsageError(field, value, f"{least} to {greatest}")


class CommandRunner(Protocol):
    """Runs one program of the machine."""

    def __call__(self, arguments: Sequence[str], stdin: str = "") -> str:
        """Run it to its end.

        Returns:
            What it wrote to standard output.

        Raises:
            HostError: it is missing, failed, or hung.
        """


def run_command(arguments: Sequence[str], stdin: str = "") -> str:
    """The `CommandRunner` for this machine."""
    command = " ".join(arguments)
    try:
        finished = subprocess.run(
            arguments, input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise HostError(f"{arguments[0]}: program not found; install it") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{command}: {error}") from error
    if finished.returncode != 0:
        complaint = next((line for line in finished.stderr.splitlines() if line.strip()), "no reason given")
        raise HostError(f"{command}: failed with code {finished.returncode}: {complaint.strip()}")
    return finished.stdout


class RuleBackend(Protocol):
    """One way to have packets queued by the kernel."""

    name: str

    def probe(self, rule: InterceptionRule) -> None:
        """Have the kernel judge the rule without letting a packet meet it; HostError if it refuses."""

    def install(self, rule: InterceptionRule) -> None:
        """Put in the rule, in place of one that is there for the same port; HostError if refused."""

    def remove(self, rule: InterceptionRule) -> None:
        """Take out what `install` put in, if it is there; HostError if refused."""


class IptablesRules:
    """A chain of our own in the table `mangle`, entered from PREROUTING."""

    name = "iptables"

    def __init__(self, run: CommandRunner = run_command) -> None:
        self._run = run

    def probe(self, rule: InterceptionRule) -> None:
        """Put in a chain that nothing enters, and take it out."""
        self._restore(iptables_probe_text(rule))

    def install(self, rule: InterceptionRule) -> None:
        """Replace whatever is there by the rule, in one transaction."""
        self._restore(iptables_install_text(rule, self._listed()))

    def remove(self, rule: InterceptionRule) -> None:
        """Take out the chain and every jump to it, in one transaction."""
        text = iptables_remove_text(rule, self._listed())
        if text:
            self._restore(text)

    def _listed(self) -> str:
        return self._run(("iptables", "-w", "5", "-t", "mangle", "-S"))

    def _restore(self, text: str) -> None:
        self._run(("iptables-restore", "-w", "5", "--noflush"), text)


class NftRules:
    """A table of our own."""

    name = "nft"

    def __init__(self, run: CommandRunner = run_command) -> None:
        self._run = run

    def probe(self, rule: InterceptionRule) -> None:
        """Send the whole transaction and have the kernel abort it at the end."""
        self._run(("nft", "--check", "--file", "-"), nft_install_text(rule))

    def install(self, rule: InterceptionRule) -> None:
        """Replace whatever is there by the rule, in one transaction."""
        self._run(("nft", "--file", "-"), nft_install_text(rule))

    def remove(self, rule: InterceptionRule) -> None:
        """Take out the table."""
        self._run(("nft", "--file", "-"), nft_remove_text(rule))


def iptables_chain(rule: InterceptionRule) -> str:
    """The name of our chain; one per measurement port."""
    return f"INPATH-{rule.port}"


def iptables_jump(rule: InterceptionRule) -> str:
    """The rule in PREROUTING that sends measurement packets into our chain.

    u32: header length of 6 to 15 words; neither the more-fragments flag nor an offset; first option.
    """
    match = "0>>24&0x0F=0x6:0xF && 4&0x3FFF=0 && 20=0x94040000"
    return f'PREROUTING -p udp -m udp --dport {rule.port} -m u32 --u32 "{match}" -j {iptables_chain(rule)}'


def _iptables_chain_text(rule: InterceptionRule, chain: str) -> list[str]:
    limit = f"-m limit --limit {rule.rate_per_s}/s --limit-burst {rule.burst}"
    return [
        f":{chain} - [0:0]",  # creates the chain, or empties it
        f"-A {chain} {limit} -j NFQUEUE --queue-num {rule.queue_number} --queue-bypass",
    ]


def _stale_jumps(rule: InterceptionRule, listed: str) -> list[str]:
    """Deletions of all jumps to our chain that `iptables -S` lists, whichever version put them in."""
    chain = iptables_chain(rule)
    return [
        line.replace("-A", "-D", 1)
        for line in listed.splitlines()
        if line.startswith("-A ") and line.endswith(f" -j {chain}")
    ]


def _mangle(lines: Sequence[str]) -> str:
    return "\n".join(("*mangle", *lines, "COMMIT", ""))


def iptables_install_text(rule: InterceptionRule, listed: str) -> str:
    """Input of `iptables-restore --noflush`.

    Args:
        rule: what shall hold afterwards.
        listed: output of `iptables -t mangle -S`, for what a crash left behind.
    """
    chain = _iptables_chain_text(rule, iptables_chain(rule))
    return _mangle([*_stale_jumps(rule, listed), *chain, f"-A {iptables_jump(rule)}"])


def iptables_remove_text(rule: InterceptionRule, listed: str) -> str:
    """Input of `iptables-restore --noflush`; empty if `listed` shows nothing of ours."""
    chain = iptables_chain(rule)
    if f"-N {chain}" not in listed.splitlines():
        return ""
    return _mangle([*_stale_jumps(rule, listed), f"-F {chain}", f"-X {chain}"])


def iptables_probe_text(rule: InterceptionRule) -> str:
    """Input of `iptables-restore --noflush` that puts in the rule where no packet meets it, then removes it."""
    chain = f"{iptables_chain(rule)}-PROBE"
    jump = iptables_jump(rule).replace("PREROUTING", chain, 1).replace(f"-j {iptables_chain(rule)}", "-j RETURN")
    added = _mangle([*_iptables_chain_text(rule, chain), f"-A {jump}"])
    return added + _mangle([f"-F {chain}", f"-X {chain}"])


def nft_table(rule: InterceptionRule) -> str:
    """The name of our table; one per measurement port."""
    return f"inpath_{rule.port}"


def nft_match(rule: InterceptionRule) -> str:
    """What a measurement packet looks like; the order matters, since octet 20 is an option only with IHL > 5."""
    return f"ip hdrlength > 5 @nh,160,32 0x94040000 ip frag-off & 0x3fff == 0 udp dport {rule.port}"


def nft_install_text(rule: InterceptionRule) -> str:
    """Input of `nft --file -`."""
    limit = f"limit rate {rule.rate_per_s}/second burst {rule.burst} packets"
    return f"""{nft_remove_text(rule)}\
table ip {nft_table(rule)} {{
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
        {nft_match(rule)} {limit} queue flags bypass to {rule.queue_number}
    }}
}}
"""


def nft_remove_text(rule: InterceptionRule) -> str:
    """Input of `nft --file -`; the first line makes the second one succeed when there is no such table."""
    table = nft_table(rule)
    return f"add table ip {table}\ndelete table ip {table}\n"


def detect_backend(rule: InterceptionRule, run: CommandRunner = run_command) -> RuleBackend:
    """The first back end by which this kernel takes the rule, found by trying.

    Raises:
        HostError: none does; the text tells why for each.
    """
    refusals = []
    backends: tuple[RuleBackend, ...] = (NftRules(run), IptablesRules(run))
    for backend in backends:
        try:
            backend.probe(rule)
        except HostError as error:
            refusals.append(str(error))
        else:
            return backend
    raise HostError(
        f"no firewall takes the rule that queues packets: {'; '.join(refusals)}; run with CAP_NET_ADMIN, "
        "and with nftables and the kernel module nft_queue, or with iptables, xt_u32 and xt_NFQUEUE"
    )


class InterceptionRules:
    """A context manager: the rule holds inside, and is gone afterwards.

    Leftovers of a daemon that crashed are replaced.
    """

    def __init__(self, rule: InterceptionRule, backend: RuleBackend) -> None:
        self._rule = rule
        self._backend = backend

    def __enter__(self) -> Self:
        self._backend.install(self._rule)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.remove(self._rule)
