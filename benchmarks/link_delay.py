"""How exact is the delay of a user-space link, and what does it cost?

    python benchmarks/link_delay.py [--json] [--seconds N] [--delay-ms 5]

Two namespaces, one link of `lab.user_link`, datagrams one way. The error is the kernel's receive stamp less its
transmit stamp less the delay asked for, so it contains all that the link does wrong and no user-space scheduling
of the sender or the receiver (link_delay.c, compiled here). Each rate runs on an idle machine, then with one
busy process per core. CPU is that of the link process, as a share of one core. Needs root and a C compiler.

The exit code is 0 when every row is within the limits, 1 when one is not, 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.impairment import Impairment
from lab.user_link import Endpoint, UserLinks
from schemas.errors import HostError, InpathError

RATES_PER_S = (100, 1_000, 20_000)
MEDIAN_LIMIT_US = 50.0
P99_LIMIT_US = 200.0
PORT = 5000
BURN = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
ADDRESS_A, ADDRESS_B = "10.0.0.1", "10.0.0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run at one rate; errors in microseconds, positive when a packet was late."""

    rate_per_s: int
    load: str
    sent: int
    received: int
    median_error_us: float
    p99_error_us: float
    p999_error_us: float
    cpu_percent: float
    within_limits: bool


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run needs: the compiled probe, both namespaces, the link process."""

    probe: Path
    namespaces: tuple[str, str]
    process: subprocess.Popen[bytes]
    delay_ms: float

    def measure(self, rate_per_s: int, seconds: float, load: str) -> Row:
        """Send at one rate and sort the errors."""
        count = round(rate_per_s * seconds)
        cpu_before_s = cpu_seconds(self.process.pid)
        lines = run(self.probe, *self.namespaces, ADDRESS_B, PORT, rate_per_s, count, self.delay_ms).splitlines()
        cpu_s = cpu_seconds(self.process.pid) - cpu_before_s
        stamps = [tuple(int(field) for field in line.split()) for line in lines]
        complete = [(sent_ns, received_ns) for _, sent_ns, received_ns in stamps if sent_ns and received_ns]
        if not complete:
            raise HostError("no packet came through with both of its kernel stamps")
        errors_us = sorted((end_ns - start_ns) / 1e3 - self.delay_ms * 1e3 for start_ns, end_ns in complete)
        median_us, p99_us, p999_us = (quantile(errors_us, permille) for permille in (500, 990, 999))
        return Row(
            rate_per_s=rate_per_s,
            load=load,
            sent=count,
            received=sum(received_ns > 0 for _, _, received_ns in stamps),
            median_error_us=median_us,
            p99_error_us=p99_us,
            p999_error_us=p999_us,
            cpu_percent=100 * cpu_s / seconds,
            within_limits=abs(median_us) < MEDIAN_LIMIT_US and p99_us < P99_LIMIT_US,
        )


def quantile(ordered: list[float], permille: int) -> float:
    """The smallest value that is not below so many thousandths of all (RFC 2330, 11.3)."""
    return ordered[max(0, -(-permille * len(ordered) // 1000) - 1)]


def run(*command: object) -> str:
    """Standard output of a command.

    Raises:
        HostError: it is missing or failed.
    """
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    except OSError as error:
        raise HostError(f"{words[0]}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise HostError(f"{' '.join(words)}: {error.stderr.strip()}") from error


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace that is gone afterwards."""
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        run("ip", "netns", "delete", name)


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended afterwards."""
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def bench(delay_ms: float) -> Iterator[Bench]:
    """Everything that is built and taken down."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        probe = folder / "link_delay"
        run("cc", "-O2", "-pthread", "-o", probe, Path(__file__).with_suffix(".c"))
        name_a, name_b = (stack.enter_context(namespace(f"bench{os.getpid()}{end}")) for end in "ab")
        control = folder / "control"
        process = stack.enter_context(started(sys.executable, "-m", "lab.user_link", "--control", str(control)))
        links = UserLinks(control)
        stack.callback(links.close)
        ends = Endpoint(name_a, "bench", MAC_A), Endpoint(name_b, "bench", MAC_B)
        links.add("bench", *ends, Impairment(delay_ms=delay_ms), Impairment(delay_ms=delay_ms))
        for name, own, other, mac in (
            (name_a, ADDRESS_A, ADDRESS_B, MAC_B),
            (name_b, ADDRESS_B, ADDRESS_A, MAC_A),
        ):
            run("ip", "-n", name, "address", "add", f"{own}/24", "dev", "bench")
            run("ip", "-n", name, "link", "set", "bench", "up")
            run("ip", "-n", name, "neighbor", "add", other, "lladdr", mac, "dev", "bench")
        yield Bench(probe, (name_a, name_b), process, delay_ms)


def measure_all(seconds: float, delay_ms: float) -> Iterator[Row]:
    """Every rate, idle and busy."""
    # The probe also waits for stamps to be switched on, and for the last packets.
    burn_s = len(RATES_PER_S) * (seconds + 2 + delay_ms / 1e3)
    with bench(delay_ms) as ready:
        for load in ("idle", "busy"):
            with ExitStack() as burners:
                for _ in range((os.cpu_count() or 1) if load == "busy" else 0):
                    burners.enter_context(started(sys.executable, "-c", BURN, str(burn_s)))
                for rate_per_s in RATES_PER_S:
                    print(f"{load}: {rate_per_s} packets/s for {seconds:g} s", file=sys.stderr)
                    yield ready.measure(rate_per_s, seconds, load)


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = ["rate/s  load     sent  received  median us   p99 us  p99.9 us  CPU %  verdict"]
    lines += [
        f"{row.rate_per_s:6}  {row.load}  {row.sent:7}  {row.received:8}  {row.median_error_us:9.1f}"
        f"  {row.p99_error_us:7.1f}  {row.p999_error_us:8.1f}  {row.cpu_percent:5.1f}"
        f"  {'within' if row.within_limits else 'OUTSIDE'}"
        for row in rows
    ]
    return "\n".join([*lines, f"limits: |median| < {MEDIAN_LIMIT_US:g} us, p99 < {P99_LIMIT_US:g} us"])


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="Delay error and cost of a user-space link.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each of the six runs [5]")
    parser.add_argument("--delay-ms", type=float, default=5.0, help="the delay to emulate [5]")
    options = parser.parse_args()
    if not 0.1 <= options.seconds <= 600:
        parser.error("--seconds must lie between 0.1 and 600")
    try:
        rows = list(measure_all(options.seconds, options.delay_ms))
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else table(rows))
    return 0 if all(row.within_limits for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
