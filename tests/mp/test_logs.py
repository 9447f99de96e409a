from __future__ import annotations

import json
import logging

import pytest

from mp.logs import JsonFormatter, TextFormatter

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
