"""The loop of the link process: it waits for frames and for the times at which they are due."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from dataclasses import asdict

from lab.link_direction import DepartureSchedule, LinkDirection, WakeLead
from lab.user_link_tap import TapPort

WRITE_NS = 3_000
"""From the call that writes a frame to the moment when the far kernel stamps it,"""

COLD_WRITE_NS = 10_000
"""the same when the code and data on that way have left the caches,"""

COLD_AFTER_NS = 4_000_000
"""as they have after a pause of some milliseconds."""

MAX_CLOCK_PAIR_NS = 2_000
"""Two clocks read within this time are read at the same time; else the process was interrupted between."""

MAX_NAP_NS = 300_000
"""So long the loop may go without looking for arrivals, when every link has at least twice this delay. On a busy
link that halves the wake-ups, which cost far more than the work. The ring holds 20 times as much of 20,000
packets/s."""

TIMER_GRAIN_NS = 1_000
"""The lead is always on the move; for less than this it is not worth a system call."""

RELEASE_BATCH = 64
"""Frames delivered before arrivals get their turn."""

# time.h, sys/timerfd.h
CLOCK_MONOTONIC = 1
TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
TFD_TIMER_ABSTIME = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Lane:
    """One direction of one link: the TAP that it is read from, the model, the TAP that it is written to."""

    __slots__ = ("destination", "direction", "source")

    def __init__(self, source: TapPort, direction: LinkDirection, destination: TapPort) -> None:
        self.source = source
        self.direction = direction
        self.destination = destination

    def collect(self, schedule: DepartureSchedule[Lane], offset_ns: int) -> None:
        """Move what the namespace has sent into the schedule."""
        arrive = self.direction.arrive
        for frame, sent_at_ns in self.source.read(offset_ns):
            due_ns = arrive(frame, sent_at_ns)
            if due_ns is not None:
                schedule.push(due_ns, self, frame)

    def deliver(self, frame: bytes) -> None:
        """Write a frame that is due."""
        if self.direction.depart(frame) and not self.destination.write(frame):
            self.direction.fail()

    def counters(self) -> dict[str, int]:
        """What became of the frames so far."""
        self.direction.miss(self.source.take_missed())
        return asdict(self.direction.counters)


class Timer:
    """A timerfd (timerfd_create(2)), since epoll's own timeout counts milliseconds."""

    def __init__(self) -> None:
        self.fd = _libc.timerfd_create(CLOCK_MONOTONIC, TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._setting = (ctypes.c_long * 4)()  # struct itimerspec: interval, then the time
        self._pointer = ctypes.byref(self._setting)

    def set(self, at_ns: int) -> None:
        """Make the descriptor readable at a time of the monotonic clock."""
        self._setting[2], self._setting[3] = divmod(max(1, at_ns), 1_000_000_000)
        _libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, self._pointer, None)


class StampOffset:
    """How far the kernel's stamps (CLOCK_REALTIME) are ahead of the monotonic clock of the schedule."""

    def __init__(self) -> None:
        self.value_ns = time.time_ns() - time.monotonic_ns()

    def refresh(self) -> int:
        """Follow a clock that is steered or stepped; gives the new value."""
        before_ns = time.monotonic_ns()
        real_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if after_ns - before_ns < MAX_CLOCK_PAIR_NS:
            self.value_ns = real_ns - (before_ns + after_ns) // 2
        return self.value_ns


class LinkLoop:
    """Frames in, frames out at their time. One thread; `run` returns after `stop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._lanes: list[Lane] = []
        self._nap_ns = MAX_NAP_NS
        self._schedule: DepartureSchedule[Lane] = DepartureSchedule()
        self._offset = StampOffset()
        self._lead = WakeLead()
        self._timer = Timer()
        self._timer_at_ns = 0
        self._written_ns = 0
        self._stopping = False
        # Edge-triggered: one report per expiry, and no system call to take it back.
        self.watch(self._timer.fd, self._on_timer, select.EPOLLIN | select.EPOLLET)

    def watch(self, fd: int, handler: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call `handler` when a descriptor is readable or broken."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor, before it is closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def carry(self, lane: Lane) -> None:
        """Begin to carry the frames of a lane."""
        schedule, source, offset = self._schedule, lane.source, self._offset

        def on_arrival() -> None:
            # In this order: a frame that the drain takes off the TAP is in the ring by then, but will not be
            # reported any more.
            source.drain()
            lane.collect(schedule, offset.refresh())
            if source.was_full:  # this process did not run for a while
                source.drain()
                lane.collect(schedule, offset.refresh())

        self._lanes.append(lane)
        self.review()
        self.watch(source.fileno(), on_arrival, select.EPOLLIN | select.EPOLLET)

    def review(self) -> None:
        """Take notice that the impairment of a lane has changed."""
        # Arrivals carry their stamps, so they may lie unread while none of them can be due.
        patient = all(lane.direction.min_delay_ns >= 2 * MAX_NAP_NS for lane in self._lanes)
        self._nap_ns = MAX_NAP_NS if patient else 0

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping = True

    def run(self) -> None:
        """Carry frames until told to stop."""
        poll, handlers = self._epoll.poll, self._handlers
        while not self._stopping:
            for fd, _ in poll():
                if fd in handlers:  # an earlier handler of this round may have closed it
                    handlers[fd]()
                    self._release()
            self._rest()

    def _on_timer(self) -> None:
        if self._timer_at_ns:
            self._lead.observe(time.monotonic_ns() - self._timer_at_ns)
            self._timer_at_ns = 0

    def _release(self) -> None:
        """Deliver what is due, or so soon that sleeping would miss it."""
        schedule = self._schedule
        for _ in range(RELEASE_BATCH):
            due_ns = schedule.next_due_ns()
            if due_ns is None or not self._await(self._write_at_ns(due_ns)):
                return
            lane, frame = schedule.pop()
            lane.deliver(frame)
            self._written_ns = due_ns

    def _write_at_ns(self, due_ns: int) -> int:
        return due_ns - (WRITE_NS if due_ns - self._written_ns < COLD_AFTER_NS else COLD_WRITE_NS)

    def _await(self, at_ns: int) -> bool:
        """True when it is time; with a spin, or early by less than the lead, if it is nearly so."""
        now_ns = time.monotonic_ns()
        if now_ns >= at_ns:
            return True
        if at_ns - now_ns > self._lead.lead_ns(now_ns):
            return False
        if not self._lead.can_spin:
            return True
        self._lead.spend(at_ns - now_ns)
        while time.monotonic_ns() < at_ns:
            pass
        return True

    def _rest(self) -> None:
        """Sleep through the near departures, not woken by arrivals; set the timer for a later one."""
        now_ns = time.monotonic_ns()
        nap_until_ns = now_ns + self._nap_ns
        while (due_ns := self._schedule.next_due_ns()) is not None:
            wake_at_ns = self._write_at_ns(due_ns) - self._lead.lead_ns(now_ns)
            if wake_at_ns > nap_until_ns or now_ns >= nap_until_ns:
                self._set_timer(wake_at_ns)
                return
            self._timer_at_ns = 0  # it may expire meanwhile, and then says nothing about lateness
            if wake_at_ns > now_ns:
                time.sleep((wake_at_ns - now_ns) / 1e9)
                self._lead.observe(time.monotonic_ns() - wake_at_ns)
            self._release()
            now_ns = time.monotonic_ns()

    def _set_timer(self, at_ns: int) -> None:
        if abs(at_ns - self._timer_at_ns) > TIMER_GRAIN_NS:
            self._timer_at_ns = at_ns
            self._timer.set(at_ns)
