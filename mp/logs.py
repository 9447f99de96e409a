"""Set up logging once: one line per event on stderr, as key=value text or JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


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
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
