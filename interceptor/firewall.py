"""The firewall rule that sends measurement packets into the queue.

It sees transit packets in the prerouting hook and matches raw octets: an IPv4 header with options whose first
is router alert with value 0, not a fragment, UDP, the measurement port. The kernel's own router alert match can
be evaded by an unknown option, and a raw match without a look at the header length would read the UDP source
port of a packet without options. Where middleboxes drop packets with options, requests come without: those are
matched too, by the first octets of a message.

The kernel limits the rate in front of the queue (RFC 6398, section 5), of each source and of all together. What
exceeds it is forwarded as any other packet. The same happens while no daemon listens to the queue.

What the rules say is text, made by pure functions; two back ends, `iptables` and `nft`, hand it to the kernel as
one transaction, so that there is never half a rule or two.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from interceptor import iptables, nft
from interceptor.rule import InterceptionRule as InterceptionRule
from schemas.errors import HostError

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 10
"""Another owner of the firewall's lock is done by then."""


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
    """A chain of our own in the table `mangle`, entered from PREROUTING.

    Where the kernel cannot count by source, the limit for all together holds alone.
    """

    name = "iptables"

    def __init__(self, run: CommandRunner = run_command) -> None:
        self._run = run
        self.limits = iptables.Limits.BY_SOURCE
        """What the kernel was found to be able to."""

    def probe(self, rule: InterceptionRule) -> None:
        """Put in a chain that nothing enters, and take it out."""
        self._restore_limited(partial(iptables.probe_text, rule))

    def install(self, rule: InterceptionRule) -> None:
        """Replace whatever is there by the rule, in one transaction."""
        self._restore_limited(partial(iptables.install_text, rule, self._listed()))

    def remove(self, rule: InterceptionRule) -> None:
        """Take out the chain and every jump to it, in one transaction."""
        text = iptables.remove_text(rule, self._listed())
        if text:
            self._restore(text)

    def _listed(self) -> str:
        return self._run(("iptables", "-w", "5", "-t", "mangle", "-S"))

    def _restore_limited(self, text: Callable[[iptables.Limits], str]) -> None:
        try:
            self._restore(text(self.limits))
        except HostError as error:
            if self.limits is iptables.Limits.WHOLE_ONLY:
                raise
            self._restore(text(iptables.Limits.WHOLE_ONLY))
            self.limits = iptables.Limits.WHOLE_ONLY
            logger.warning("requests are limited for all sources together and not for each: %s", error)

    def _restore(self, text: str) -> None:
        self._run(("iptables-restore", "-w", "5", "--noflush"), text)


class NftRules:
    """A table of our own."""

    name = "nft"

    def __init__(self, run: CommandRunner = run_command) -> None:
        self._run = run

    def probe(self, rule: InterceptionRule) -> None:
        """Send the whole transaction and have the kernel abort it at the end."""
        self._run(("nft", "--check", "--file", "-"), nft.install_text(rule))

    def install(self, rule: InterceptionRule) -> None:
        """Replace whatever is there by the rule, in one transaction."""
        self._run(("nft", "--file", "-"), nft.install_text(rule))

    def remove(self, rule: InterceptionRule) -> None:
        """Take out the table."""
        self._run(("nft", "--file", "-"), nft.remove_text(rule))


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
