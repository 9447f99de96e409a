"""The C programs of the suite, compiled when their source has changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from benchmarks.suite.bench_network import FEEDER, QUIET, SINK, BenchNetwork
from schemas.errors import HostError

SOURCES = Path(__file__).parent
COMPILE = ("cc", "-O2", "-Wall", "-Wextra", "-Werror")
LIBRARIES = {
    "flood_sender": (),
    "queue_peer": ("-lnetfilter_queue",),
    "packet_sender": ("-lm",),
    "latency_probe": (),
}


def cache_directory() -> Path:
    """Where compiled programs are kept (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "inpath-bench"


def compiled(name: str) -> Path:
    """The program of that name, built if need be.

    Raises:
        HostError: no compiler, no libnetfilter_queue, or an error in the source.
    """
    source = SOURCES / f"{name}.c"
    command = [*COMPILE, str(source), *LIBRARIES[name]]
    texts = (SOURCES / "kernel.h").read_bytes() + source.read_bytes() + " ".join(command).encode()
    program = cache_directory() / f"{name}-{hashlib.sha256(texts).hexdigest()[:16]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        being_made = program.with_suffix(f".{os.getpid()}")
        _compile([*command, "-o", str(being_made)])
        being_made.replace(program)
    return program


def sender_command(
    network: BenchNetwork, frames: Path, count: int, rate_per_s: float, manner: str, point: str = QUIET
) -> list[str]:
    """How packets are put on the link from the feeder to a point; see packet_sender.c.

    Args:
        network: where.
        frames: file with the Ethernet frames.
        count: of packets; 0 for as many as come before SIGTERM.
        rate_per_s: 0 for as fast as can be.
        manner: "busy" or "asleep" between packets.
        point: at the far end of the link.
    """
    interface = network.ends(FEEDER, point)[0].interface
    ends = (network.namespace(FEEDER), interface, frames, count, f"{rate_per_s:.1f}", manner)
    return [str(compiled("packet_sender")), *map(str, ends), network.namespace(point)]


def probe_command(
    network: BenchNetwork, frames: Path, count: int, gap_us: float, limit_s: float, point: str = QUIET
) -> list[str]:
    """How the delay from the feeder over a point to the sink is taken; see latency_probe.c."""
    here, there = network.ends(FEEDER, point)[0], network.ends(SINK, point)[0]
    ends = (network.namespace(FEEDER), here.interface, network.namespace(SINK), there.interface)
    return [str(compiled("latency_probe")), *ends, str(frames), str(count), f"{gap_us:.1f}", f"{limit_s:.1f}"]


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HostError(f"{command[0]}: {error.strerror}; install build-essential") from error
    if done.returncode != 0:
        complaint = next(iter(done.stderr.strip().splitlines()), "no reason given")
        raise HostError(f"cannot compile: {complaint}; is libnetfilter-queue-dev installed?")
