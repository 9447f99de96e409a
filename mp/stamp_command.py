"""`inpath stamp`: measure to any STAMP or TWAMP-Light reflector, or be one, without a running point."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from mp import clock
from prober.stamp.authentication import StampKey, sole_key
from prober.stamp.direct import DirectSession, random_ssid
from prober.stamp.fault import ProbeFault
from prober.stamp.packet import MAX_PACKET_BYTES, STAMP_PORT
from prober.stamp.probe_format import MAX_DSCP, ProbeFormat
from prober.stamp.reflector import Reflector
from prober.stamp.reply_budget import ReplyBudget
from prober.stamp.stamped_socket import ANY_ADDRESS
from prober.stamp.udp_reflector import WARM_UP_S, LoneReflector, UdpReflector
from prober.windows.window import LONGEST_WINDOW_S, MINIMUM_SAMPLES
from schemas.errors import NoAnswerError, UsageError

DEFAULT_COUNT = 50
LONGEST_DURATION_S = LONGEST_WINDOW_S - 5
"""The windows of a segment hold as much, and the wait for the last answers."""
_CLOCK_READ_S = 1.0
_PROGRESS_S = 1.0

_port_option = click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=STAMP_PORT,
    show_default=True,
    help="UDP port of the reflector.",
)
_key_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="Authenticated mode: a file of 32 to 128 hexadecimal digits that its owner alone may read.",
)


@click.group()
def stamp() -> None:
    """STAMP (RFC 8762): measure to any reflector, or be one."""


@stamp.command()
@click.argument("host")
@_port_option
@click.option(
    "--count", type=click.IntRange(min=MINIMUM_SAMPLES), help=f"Probes to send.  [default: {DEFAULT_COUNT}]"
)
@click.option(
    "--duration", type=click.FloatRange(1, LONGEST_DURATION_S), help="Seconds to send for, instead of a count."
)
@click.option("--rate", default=10.0, show_default=True, help="Probes per second, at Poisson times.")
@click.option("--size", type=int, help=f"UDP payload of each probe in octets, at most {MAX_PACKET_BYTES}.")
@_key_option
@click.option("--plain", is_flag=True, help="Send no extensions (RFC 8972), as to a TWAMP-Light reflector.")
@click.option(
    "--dscp", type=click.IntRange(0, MAX_DSCP), help="Mark the probes, and ask for replies marked alike."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def send(
    host: str,
    port: int,
    count: int | None,
    duration: float | None,
    rate: float,
    size: int | None,
    key_file: Path | None,
    dscp: int | None,
    *,
    plain: bool,
    as_json: bool,
) -> None:
    """Measure delay, loss and jitter to HOST, there and back.

    Exit codes: 0 answered, 3 no answer, 2 wrong usage, 1 anything else.
    """
    if count is not None and duration is not None:
        raise UsageError("count", count, "a count or a duration, not both")
    if count is None and duration is None:
        count = DEFAULT_COUNT
    if count is not None and not count <= LONGEST_DURATION_S * rate:
        raise UsageError("count", count, f"at most {LONGEST_DURATION_S} s of probes at this rate")
    chance = random.Random()  # times of probes are no secret
    key = StampKey.from_file(key_file) if key_file else None
    direct = DirectSession(
        _address(host),
        port=port,
        clock=clock.read_clock(None),
        now_ns=clock.now_ns,
        random_source=chance,
        rate_per_s=rate,
        probe_format=ProbeFormat(ssid=random_ssid(chance), key=key, plain=plain, dscp=dscp, size_bytes=size),
    )
    asyncio.run(direct.run(duration_s=duration, count=count, on_progress=_progress(direct)))
    _require_answer(direct, host, port)
    from mp.stamp_result import stamp_document
    from mp.stamp_view import print_stamp  # tables only where a person looks

    document = stamp_document(direct, host=host, port=port, authenticated=key is not None, now_ns=clock.now_ns())
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_stamp(document)


@stamp.command()
@click.option("--address", default=ANY_ADDRESS, show_default=True, help="Local IPv4 address.")
@_port_option
@click.option("--stateless", is_flag=True, help="Keep no session: number replies like their probes.")
@_key_option
@click.option("--duration", type=click.FloatRange(min=0.1), help="Seconds until the end, instead of Ctrl-C.")
def reflect(address: str, port: int, key_file: Path | None, duration: float | None, *, stateless: bool) -> None:
    """Answer STAMP and TWAMP-Light senders until Ctrl-C; strangers at a bounded rate."""
    key = StampKey.from_file(key_file) if key_file else None
    faults: Counter[ProbeFault] = Counter()
    reflector = Reflector(
        lambda address: None, key_of=sole_key(key), stateless=stateless, admits=ReplyBudget().allows, faults=faults
    )
    lone = LoneReflector(reflector, clock.read_clock(None), faults)
    mode = f"{'stateless' if stateless else 'stateful'}, {'authenticated' if key else 'unauthenticated'}"
    opened = UdpReflector(lone, address, port, now_ns=clock.now_ns)
    asyncio.run(_reflect(opened, lone, f"inpath: reflecting on {address} port {opened.port}, {mode}", duration))
    refused = ", ".join(f"{count} {fault}" for fault, count in faults.items() if count)
    click.echo(f"inpath: {opened.replies} replies{'; ' if refused else ''}{refused}", err=True)


async def _reflect(opened: UdpReflector, lone: LoneReflector, ready: str, duration_s: float | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.sleep(WARM_UP_S)
    opened.start()
    click.echo(ready, err=True)
    end_s = float("inf") if duration_s is None else loop.time() + duration_s
    while not stop.is_set() and loop.time() < end_s:
        lone.clock = clock.read_clock(None)
        try:
            await asyncio.wait_for(stop.wait(), min(_CLOCK_READ_S, max(0.0, end_s - loop.time())))
        except TimeoutError:
            continue
    opened.close()


def _address(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise UsageError("host", host, "an IPv4 address, or a name that has one") from error
    return str(found[0][4][0])


def _progress(direct: DirectSession) -> Callable[[], None]:
    """Says on stderr once a second how far the session is."""
    said_at_ms = clock.monotonic_ms()

    def say() -> None:
        nonlocal said_at_ms
        if clock.monotonic_ms() - said_at_ms >= _PROGRESS_S * 1000:
            said_at_ms = clock.monotonic_ms()
            tally = direct.session.tally
            click.echo(f"inpath: {tally.sent} sent, {tally.answered} answered", err=True)

    return say


def _require_answer(direct: DirectSession, host: str, port: int) -> None:
    if direct.session.tally.answered:
        return
    seen = "".join(f", {count} {kind}" for kind, count in direct.counters().items())
    raise NoAnswerError(f"{host} port {port}: no answer to {direct.session.tally.sent} probes{seen}")
