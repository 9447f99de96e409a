from __future__ import annotations

import json
import logging

import pytest

from mp.logs import MAX_REMEMBERED, MOST_OF_A_KIND, REPEAT_MS, JsonFormatter, Repeats, TextFormatter

RECORD = logging.LogRecord("mp.daemon", logging.WARNING, "f", 1, 'a "quoted"\nline %s', ("x",), None)
RECORD.created = 1_700_000_000.5


def test_text_is_one_line_of_keys_and_values() -> None:
    line = TextFormatter().format(RECORD)
    assert line.startswith("time=2023-11-14T22:13:20.500Z level=warning component=mp.daemon pid=")
    assert line.endswith(r'event="a \"quoted\"\nline x"')
    assert "\n" not in line


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(RECORD)
    assert "\n" not in line
    document = json.loads(line)
    assert document["event"] == 'a "quoted"\nline x'
    assert document["level"] == "warning"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_an_exception_stays_on_the_line(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), info)
    line = formatter.format(record)
    assert "ValueError" in line
    assert "\n" not in line


class Log:
    """What passes, on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.lines: list[str] = []
        self.repeats = Repeats(lambda: self.now_ms)

    def tell(self, text: str, *values: object, level: int = logging.WARNING) -> None:
        record = logging.LogRecord("mp", level, "f", 1, text, values, None)
        if self.repeats.filter(record):
            self.lines.append(record.getMessage())


def test_a_trouble_that_lasts_is_told_once_and_then_counted() -> None:
    log = Log()
    for second in range(90):
        log.now_ms = second * 1000
        log.tell("%s", "spool: disk full", level=logging.ERROR)
    assert log.lines == ["spool: disk full", "spool: disk full (59 more like it were not told)"]


def test_different_troubles_are_told_each() -> None:
    log = Log()
    log.tell("%s", "one")
    log.tell("%s", "other")
    log.tell("no route to %s", "a")
    log.tell("no route to %s", "b")
    assert log.lines == ["one", "other", "no route to a", "no route to b"]


def test_what_strangers_cause_under_ever_new_names_does_not_fill_the_log() -> None:
    log = Log()
    for number in range(5000):
        log.tell("report to %s: nobody took it", number)
    assert len(log.lines) == MOST_OF_A_KIND
    log.now_ms = REPEAT_MS
    log.tell("report to %s: nobody took it", "another")
    assert (
        log.lines[-1] == f"report to another: nobody took it ({5000 - MOST_OF_A_KIND} more like it were not told)"
    )


def test_what_is_remembered_of_troubles_is_bounded() -> None:
    log = Log()
    for number in range(3 * MAX_REMEMBERED):
        log.tell("%s", f"trouble {number}")
    assert len(log.repeats._told) == MAX_REMEMBERED


def test_notices_are_told_always() -> None:
    log = Log()
    for _ in range(3):
        log.tell("request answered", level=logging.INFO)
    assert len(log.lines) == 3
