"""Fuzz one target in this process, driven by coverage: `python -m tests.fuzz.run_target NAME FOLDER SECONDS SEED`.

FOLDER gets the inputs that reached something new, in `new`, and one that broke something, in `broken`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import atheris

from tests.fuzz.bounds import Bounded
from tests.fuzz.registry import target_named
from tests.fuzz.target import Target, corpus

OURS = ("schemas", "interceptor", "processor", "prober", "requestor", "receiver", "mp")
MOST_MEMORY_MB = 1024
TIMEOUT_S = 10
"""After which the fuzzer ends an input that does not end: one that only is slow is noticed by `bounds`."""
_STEP = 1_000


def main() -> None:
    """Run; ends the process."""
    name, folder, seconds, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    with atheris.instrument_imports(include=list(OURS)):
        target = target_named(name)
    for inner in ("new", "seeds", "broken"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate((*target.seeds(), *corpus(name))):
        (folder / "seeds" / f"{number:04d}").write_bytes(octets)
    (folder / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    atheris.Setup(_options(target, folder, seconds, seed), _counted(Bounded(target.one_input), folder))
    atheris.Fuzz()


def _options(target: Target, folder: Path, seconds: int, seed: int) -> list[str]:
    return [
        sys.argv[0],
        *(str(folder / inner) for inner in ("new", "seeds")),
        *([f"-dict={folder / 'words'}"] if target.words else []),
        f"-artifact_prefix={folder / 'broken'}/",
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={target.max_bytes}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MOST_MEMORY_MB}",
        "-print_final_stats=1",
    ]


def _counted(bounded: Bounded, folder: Path) -> Any:
    """Write down now and then how far it is: the fuzzer ends the process in its own way."""

    def one_input(data: bytes) -> None:
        bounded(data)
        if bounded.executions % _STEP == 0:
            progress = {"executions": bounded.executions, "slowest_ms": round(bounded.slowest_ms, 3)}
            (folder / "progress").write_text(json.dumps(progress))

    return one_input


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


if __name__ == "__main__":
    main()
