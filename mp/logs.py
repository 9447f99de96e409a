"""Set up logging once: one line per event on stderr, as key=value text or JSON.

A trouble that lasts, or that strangers cause again and again, is told once and then counted: a full disk must not
be filled by the lines that tell of it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from mp import clock

REPEAT_MS = 60_000
"""A trouble that is told is not told again for so long."""
MOST_OF_A_KIND = 20
"""Different troubles of one kind (the same words about other points) that are told within that time."""
MAX_REMEMBERED = 512
"""Troubles and kinds; beyond it the one that was told longest ago is forgotten."""


@dataclass(slots=True)
class _Told:
    since_ms: int
    lines: int = 0
    withheld: int = 0


class Repeats(logging.Filter):
    """Lets a warning or an error pass once in a while, and says how often it was withheld.

    Args:
        now_ms: a clock that never steps.
    """

    def __init__(self, now_ms: Callable[[], int] = clock.monotonic_ms) -> None:
        super().__init__()
        self._now_ms = now_ms
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told; notices below a warning always are."""
        if record.levelno < logging.WARNING:
            return True
        message = record.getMessage()
        same, kind = self._of(record.name, message), None
        if record.args and record.msg != "%s":
            kind = self._of(record.name, str(record.msg))
        if same.lines or (kind and kind.lines >= MOST_OF_A_KIND):
            (same if same.lines else kind or same).withheld += 1
            return False
        withheld = same.withheld + (kind.withheld if kind else 0)
        for one in (same, kind):
            if one:
                one.lines, one.withheld = one.lines + 1, 0
        if withheld:
            record.msg, record.args = f"{message} ({withheld} more like it were not told)", ()
        return True

    def _of(self, name: str, text: str) -> _Told:
        """What was told of it within the last time; what was withheld before that is still counted."""
        now_ms = self._now_ms()
        told = self._told.pop((name, text), None) or _Told(now_ms)
        if now_ms - told.since_ms >= REPEAT_MS:
            told.since_ms, told.lines = now_ms, 0
        self._told[name, text] = told
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return told


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """`time=... level=... component=... pid=... event="..."`; a quote inside the event is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the event holds."""
        event = json.dumps(record.getMessage(), ensure_ascii=False)
        line = (
            f"time={_moment(record)} level={record.levelname.lower()} component={record.name} "
            f"pid={record.process} event={event}"
        )
        if record.exc_info:
            line += f" error={json.dumps(self.formatException(record.exc_info))}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object with the same keys."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the event holds."""
        document = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "component": record.name,
            "pid": record.process,
            "event": record.getMessage(),
        }
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


def configure_logs(level: str, form: str) -> None:
    """Send all logs to stderr.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `text` or `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
