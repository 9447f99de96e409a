"""Every error that inpath raises on purpose.

InpathError                 the root; carries the exit code of the command line
├── MessageError            bytes that are no measurement message, report or answer
├── PacketError             bytes that are no IPv4/UDP packet of ours
├── ProbeError              bytes that are no STAMP packet, or one that breaks RFC 8762
├── UsageError              a wish that cannot be meant: names field, value, expectation
│   └── ConfigurationError  the same, in a configuration or topology file
├── NoAnswerError           nobody answered in time
├── HostError               the machine refuses: capability, port, missing program
├── StoreError              the result store is away or refuses
└── LabError                the emulated network cannot be built or asked
"""

from __future__ import annotations

_SHOWN = 200


class InpathError(Exception):
    """The root of all errors raised on purpose; its text is one line meant for a person."""

    exit_code = 1


class MessageError(InpathError):
    """The bytes are no measurement message, report or answer."""


class PacketError(InpathError):
    """The bytes are no IPv4/UDP packet that carries a measurement message."""


class ProbeError(InpathError):
    """The bytes are no STAMP packet (RFC 8762), or one that must be ignored."""


def _shortened(value: object) -> str:
    """What a person needs to recognize the value; whole, it could fill a screen."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _SHOWN:
        return "a huge number"  # Python refuses to write out an integer of thousands of digits
    text = repr(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."


class UsageError(InpathError):
    """A value that somebody gave cannot be meant.

    Args:
        field: the name under which the value was given, as the user wrote it.
        value: what came.
        expected: what would have been right.
    """

    exit_code = 2

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: got {_shortened(value)}, expected {expected}")
        self.field = field
        self.value = value
        self.expected = expected


class ConfigurationError(UsageError):
    """A configuration or topology file says something that cannot be meant."""


class NoAnswerError(InpathError):
    """Nobody answered before the time was up."""

    exit_code = 3


class HostError(InpathError):
    """The machine refuses: a missing capability or program, a port in use."""


class StoreError(InpathError):
    """The result store is away, read-only, full, or of another version."""


class LabError(InpathError):
    """The emulated network cannot be built, found or asked."""
