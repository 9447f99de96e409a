"""What is fuzzed: a function of octets that may return or fail an assertion, and inputs to begin with."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder."""

    one_input: Callable[[bytes], None]
    """Takes any octets; whatever it raises is a defect, so it catches the one error that the decoder promises."""
    seeds: Callable[[], Sequence[bytes]]
    """Genuine inputs, made by the encoders."""
    words: Sequence[bytes] = ()
    """What octets seldom become by chance: names and numbers that decoders compare with."""
    max_bytes: int = 4096


def corpus(name: str) -> list[bytes]:
    """Inputs that once were worth keeping: a bytes literal a line, after comments."""
    lines = (CORPUS / f"{name}.txt").read_text().splitlines()
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]
