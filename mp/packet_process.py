"""The packet process: kernel queue, pipeline, verdict; nothing else shares its interpreter.

It imports little and waits for nobody. It ends, and takes its rules with it, when the service process is gone or
on SIGTERM.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any, assert_never

from interceptor.firewall import InterceptionRules
from interceptor.nfqueue import KernelQueue
from interceptor.packet import decode_packet, with_payload
from interceptor.packet_queue import InterceptedPacket
from mp import clock
from mp.bridge import (
    MAX_EVENT_BYTES,
    CredentialsChanged,
    Event,
    Failed,
    Heartbeat,
    HostChanged,
    PathAsked,
    PathGone,
    PathKnown,
    Ready,
    RelayReady,
    ReportReady,
    SegmentGone,
    SegmentKnown,
    Setup,
    UpstreamSeen,
    event_from_bytes,
    event_to_bytes,
)
from mp.fast_lane.lane import FastLane
from mp.flood_watch import NAP_MS, PAUSE_MS, FloodWatch
from mp.interception import backend_of, rule_of
from mp.keys.credentials import Credentials
from mp.logs import configure_logs
from mp.priority import is_in_real_time, put_packets_first, run_on
from mp.privileges import confined_packet_process
from mp.stall import STALL_MS, StallWatch
from processor.decision import Forward, HandOver, PassThrough, SendReport
from processor.pipeline import Pipeline, PointIdentity, UpstreamAsked
from processor.segment_table import PreparedSegment, SegmentTable
from processor.tail_table import Tail, TailSegment, TailTable
from processor.trust import Trust
from requestor.http.limits import RateLimit
from schemas.errors import InpathError, MessageError, PacketError
from schemas.glance import glance_at
from schemas.payload import xml_from_payload

logger = logging.getLogger(__name__)

HEARTBEAT_MS = 1000
LONGEST_TURN_MS = 200
"""The queue is drained without a pause. When that takes longer, all that waits passes at once, and so does what
comes until the process has looked at the service again: it must not seem hung, however expensive the packets are,
and who asks anew must not wait behind them."""
LOOK_AT_CLOCK = 64
"""How many usual packets are extended between two looks at the clock: less than a millisecond's work."""
MOST_DUE = 16
"""Packets of one turn, extended at once, of which the service hears; those of others soon come again."""
RETELL_MS = 250
"""How often the service hears that a measured segment is of use: four times in the shortest `sleep_after_s`."""

STRANGERS_PER_S = 64
"""How many requests a second over segments of which nothing is known the service hears of, and how many at once:
three times as many as it challenges addresses, since what a flood makes it hear it must read."""

ASKED_AGAIN_MS = 10_000
"""How often the service hears that the path to a destination is asked for."""
MAX_ASKED = 1024
"""Destinations of which that is remembered."""


class PacketProcess:
    """Handles intercepted packets and the events of the service.

    Args:
        bridge: the socket to the service process, non-blocking.
        setup: what to intercept, and as whom.
    """

    def __init__(self, bridge: socket.socket, setup: Setup) -> None:
        self._bridge = bridge
        self._room = setup.room
        self.turn_began_ms = clock.monotonic_ms()
        """When the loop last looked at everything."""
        self._counters: Counter[str] = Counter()
        self.handled = 0
        """Packets that the fast lane has left to the pipeline."""
        self.is_flooded = False
        """One packet of each turn is looked at, and those behind it pass (FloodWatch)."""
        self._is_late = False
        self.extended_at_once = 0
        """Packets that the fast lane has taken."""
        self._segments = SegmentTable()
        identity = PointIdentity(
            address=setup.address,
            own_addresses=frozenset(setup.own_addresses),
            serves=tuple(IPv4Network(prefix) for prefix in setup.serves),
        )
        self._tails = TailTable()
        self._pipeline = Pipeline(
            identity,
            self._segments,
            self._upstream_asked,
            tails=self._tails,
            on_path=self._path_asked,
            trust=_trust(setup.credentials),
        )
        self._strangers = RateLimit(STRANGERS_PER_S, STRANGERS_PER_S)
        self._told_at_ms: dict[tuple[str, bool], int] = {}
        """When the service last heard that a measured segment is still asked for, or greeted: by upstream, and
        whether a hello said so, since one keeps no segment awake."""
        self._asked_at_ms: OrderedDict[str, int] = OrderedDict()
        """When the service last heard that the path to a destination is asked for; the newest last."""
        self.service_gone = False
        self.pass_waiting: Callable[[], int] = lambda: 0
        """Lets all other packets that wait go on as they came, and says how many they were."""
        self._lane = self._new_lane()
        self._took_down_at_ms = 0
        self._due: list[bytes] = []
        """Packets that the fast lane has taken, and of which the service is to hear."""

    def extended(self, packet: bytes) -> bytes | None:
        """What goes on in place of a usual packet; None when `handle` must see it."""
        if self._is_late:
            return None
        extended = self._lane.extended(packet)
        if extended is not None:
            self.extended_at_once = number = self.extended_at_once + 1
            if self._lane.is_due and len(self._due) < MOST_DUE:
                self._due.append(packet)
            if not number % LOOK_AT_CLOCK:
                self._is_late = clock.monotonic_ms() - self.turn_began_ms > LONGEST_TURN_MS
        return extended

    def handle(self, packet: InterceptedPacket) -> None:
        """Give one packet its verdict."""
        self.handled += 1
        self._is_late = clock.monotonic_ms() - self.turn_began_ms > LONGEST_TURN_MS
        if self._is_late:
            packet.accept()
            self._counters["overloaded"] += 1
        else:
            self._decide(packet)
        if self._is_late or self.is_flooded:
            passed = self.pass_waiting()
            self.handled += passed
            self._counters["overloaded"] += passed

    def _decide(self, packet: InterceptedPacket) -> None:
        try:
            datagram = decode_packet(packet.payload)
        except PacketError as error:
            self._pass(packet, str(error))
            return
        decision = self._pipeline.process(
            datagram.payload,
            source=datagram.source,
            destination=datagram.destination,
            now_ms=clock.now_ms(),
            room=self._room,
            carrier=datagram.carrier,
        )
        match decision:
            case Forward(payload, str(toward)):
                self._relay(packet, payload, toward)
            case Forward(payload):
                packet.accept_with(with_payload(datagram, payload))
                self._counters["forwarded"] += 1
                self._take_down(datagram.payload)
            case SendReport(report):
                self.tell(ReportReady(report=report))
                packet.drop()
                self._counters["reported"] += 1
            case HandOver(report, payload, str(toward)):
                self.tell(ReportReady(report=report))
                self._relay(packet, payload, toward)
            case HandOver(report, payload):
                self.tell(ReportReady(report=report))
                packet.accept_with(with_payload(datagram, payload))
                self._counters["handed_over"] += 1
            case PassThrough(reason):
                self._pass(packet, reason)
            case _:
                assert_never(decision)

    def _relay(self, packet: InterceptedPacket, payload: bytes, toward: str) -> None:
        packet.drop()
        self.tell(RelayReady(destination=toward, payload=payload))
        self._counters["relayed"] += 1

    def _new_lane(self) -> FastLane:
        def upstream_silent_until_ms(upstream: str) -> int:
            return self._told_at_ms.get((upstream, False), -RETELL_MS) + RETELL_MS

        def path_silent_until_ms(destination: str) -> int:
            return self._asked_at_ms.get(destination, -ASKED_AGAIN_MS) + ASKED_AGAIN_MS

        return FastLane(
            self._pipeline,
            self._segments,
            room=self._room,
            upstream_silent_until_ms=upstream_silent_until_ms,
            path_silent_until_ms=path_silent_until_ms,
        )

    def _take_down(self, payload: bytes) -> None:
        """Seldom, since a stranger may send packets each of which is of a new kind."""
        now_ms = clock.monotonic_ms()
        if now_ms != self._took_down_at_ms and self._lane.tables:
            self._took_down_at_ms = now_ms
            self._lane.take_down(glance_at(xml_from_payload(payload)))

    def note(self) -> None:
        """Tell the service of what went on at once: now that it is on its way."""
        for packet in self._due:
            glance = glance_at(xml_from_payload(decode_packet(packet).payload))
            self._pipeline.note(glance)
            self._lane.take_down(glance)
        self._due.clear()

    def read_events(self) -> None:
        """Take in what the service says, without waiting."""
        try:
            while data := self._bridge.recv(MAX_EVENT_BYTES):
                self._take(event_from_bytes(data))
        except BlockingIOError:
            return
        except OSError as error:  # the service was killed with events of ours unread
            logger.debug("bridge: %s", error.strerror)
        self.service_gone = True

    def beat(self, queue: KernelQueue) -> None:
        """Tell the service that this process lives, and what it has done."""
        state = queue.counters()
        self.tell(
            Heartbeat(
                counters={
                    **self._counters,
                    "intercepted": self.handled + self.extended_at_once,
                    "forwarded": self._counters["forwarded"] + self.extended_at_once,
                    "extended_at_once": self.extended_at_once,
                    "queue_waiting": state.waiting,
                    "queue_dropped": state.queue_dropped,
                    "user_dropped": state.user_dropped,
                    "handler_failed": state.failed,
                }
            )
        )

    def _take(self, event: Event) -> None:
        match event:
            case SegmentKnown():
                self._segments.put(PreparedSegment.of(event.upstream, event.newest_sample_at_ms, event.metrics))
                self._lane.segment_changed(event.upstream)
            case SegmentGone():
                self._segments.remove(event.upstream)
                self._lane.segment_changed(event.upstream)
                for hello in (False, True):
                    self._told_at_ms.pop((event.upstream, hello), None)
            case CredentialsChanged():
                self._pipeline.trust = _trust(event.credentials)
                self._lane = self._new_lane()
            case PathKnown():
                if event.destination not in self._tails:
                    self._lane.path_changed(event.destination)
                self._tails.put(event.destination, _tail(event))
            case PathGone():
                self._tails.remove(event.destination)
                self._lane.path_changed(event.destination)
            case HostChanged():
                self._room = event.room
                self._pipeline.identity = PointIdentity(
                    address=self._pipeline.identity.address,
                    own_addresses=frozenset(event.own_addresses),
                    serves=self._pipeline.identity.serves,
                )
                self._lane = self._new_lane()
            case _:
                raise MessageError(f"bridge: got {type(event).__name__}, expected what the service sends")

    def _pass(self, packet: InterceptedPacket, reason: str) -> None:
        packet.accept()
        self._counters["passed"] += 1
        logger.debug("packet passes unchanged: %s", reason)

    def _upstream_asked(self, asked: UpstreamAsked) -> None:
        now_ms = clock.monotonic_ms()
        if asked.missing:
            self._counters["missing"] += 1
            if asked.missing == asked.metrics and self._strangers.wait_s("all", now_ms / 1000):
                return
        else:
            about = (asked.upstream, asked.hello)
            if now_ms - self._told_at_ms.get(about, 0) < RETELL_MS:
                return
            self._told_at_ms[about] = now_ms  # of measured segments: no more than there are neighbors
        self.tell(UpstreamSeen(upstream=asked.upstream, metrics=asked.metrics, hello=asked.hello))

    def _path_asked(self, destination: str) -> None:
        now_ms = clock.monotonic_ms()
        if now_ms - self._asked_at_ms.get(destination, -ASKED_AGAIN_MS) < ASKED_AGAIN_MS:
            return
        self._asked_at_ms[destination] = now_ms
        self._asked_at_ms.move_to_end(destination)
        if len(self._asked_at_ms) > MAX_ASKED:
            self._asked_at_ms.popitem(last=False)
        self.tell(PathAsked(destination=destination))

    def tell(self, event: Event) -> None:
        """Say something to the service, without waiting; it may have gone meanwhile."""
        try:
            self._bridge.send(event_to_bytes(event))
        except BlockingIOError:
            self._counters["events_dropped"] += 1
        except OSError:
            self.service_gone = True


def _trust(document: Mapping[str, Any]) -> Trust:
    credentials = Credentials.from_document(document)
    return Trust(credentials.keyring, is_required=credentials.is_required)


def _tail(path: PathKnown) -> Tail:
    return tuple(
        TailSegment(
            current=one.current,
            segment=PreparedSegment.of(one.upstream, one.newest_sample_at_ms, one.metrics),
        )
        for one in path.segments
    )


def _serve(bridge: socket.socket, setup: Setup, stop: int) -> None:
    """Intercept until the service is gone or `stop` becomes readable."""
    if setup.processors:
        run_on(setup.processors)
    comes_first = put_packets_first()  # while it has the right
    process = PacketProcess(bridge, setup)
    with (
        KernelQueue(setup.queue, process.handle, shortcut=process.extended) as queue,
        _rules(setup) as rules,
        confined_packet_process(),
    ):
        process.pass_waiting = queue.pass_waiting
        bridge.setblocking(False)
        process.tell(Ready(rules=rules))
        gc.freeze()  # what is alive now stays: no need to look at it again at each collection
        poll, nap = select.poll(), select.poll()
        for descriptor in (bridge.fileno(), stop):
            poll.register(descriptor, select.POLLIN)
            nap.register(descriptor, select.POLLIN)
        packets = queue.fileno()
        poll.register(packets, select.POLLIN)
        next_beat = clock.monotonic_ms()
        has_rested = False
        stalls = StallWatch("the packet process", STALL_MS)
        floods = FloodWatch(setup.rate_per_s / setup.queues, setup.burst)
        paused_ms = 0
        while not process.service_gone:
            now = process.turn_began_ms = clock.monotonic_ms()
            stalls.look(now)
            if process.is_flooded:
                queue.pause()
                nap.poll(PAUSE_MS)
                queue.resume()
                paused_ms += clock.monotonic_ms() - now
                nap.poll(NAP_MS)
            if now >= next_beat:
                process.beat(queue)
                next_beat = now + HEARTBEAT_MS
                if comes_first and has_rested and not is_in_real_time():
                    comes_first = put_packets_first()
                    turn = "come first again" if comes_first else "wait for others from now on"
                    logger.warning("packets took all the time of a processor for a while; they %s", turn)
                has_rested = False
            ready = poll.poll(next_beat - now if next_beat > now else HEARTBEAT_MS)
            process.turn_began_ms = clock.monotonic_ms()
            has_rested |= process.turn_began_ms > now
            # In the order of registration: packets meet what the service has just said.
            for descriptor, _ in ready:
                if descriptor == packets:
                    queue.process_pending()
                    process.note()
                elif descriptor == stop:
                    return
                else:
                    process.read_events()
                    process.turn_began_ms = clock.monotonic_ms()
            if process.is_flooded or process.handled != floods.handled:
                process.is_flooded = floods.look(process.turn_began_ms - paused_ms, process.handled)


@contextlib.contextmanager
def _rules(setup: Setup) -> Iterator[str]:
    """The rule for all queues holds inside; by which back end, or nothing when another process sees to it."""
    if not setup.installs_rules:
        yield ""
        return
    rule = rule_of(setup)
    backend = backend_of(setup.rules, rule)
    with InterceptionRules(rule, backend):
        yield backend.name


def main() -> None:
    """Run on the inherited socket whose number is the first argument."""
    bridge = socket.socket(fileno=int(sys.argv[1]))
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the service, which ends us
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    data = bridge.recv(MAX_EVENT_BYTES)
    if not data:
        return
    setup = event_from_bytes(data)
    if not isinstance(setup, Setup):
        raise MessageError(f"bridge: got {type(setup).__name__}, expected Setup first")
    configure_logs(setup.log_level, setup.log_format)
    try:
        _serve(bridge, setup, wake_read)
    except InpathError as error:
        with contextlib.suppress(OSError):
            bridge.send(event_to_bytes(Failed(text=str(error))))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
