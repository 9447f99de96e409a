"""The examples that operators read, run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.requestor.http.serving import Served

PAGE = (Path(__file__).parents[3] / "docs/http.md").read_text()
EXAMPLES = re.findall(r"^curl .*$", PAGE, re.MULTILINE)
SAYS = (
    '"result":',
    '"profile":"voice"',
    "202 Accepted",
    '"outcomes":',
    "event: path",
    '"results":',
    '"segments":',
)


def test_there_is_an_expectation_for_each_example() -> None:
    assert len(EXAMPLES) == len(SAYS)


@pytest.mark.parametrize(("example", "says"), list(zip(EXAMPLES, SAYS, strict=True)))
def test_an_example_works_as_it_stands(running: Served, example: str, says: str) -> None:
    arguments = shlex.split(example)
    place = arguments.index("--unix-socket")
    assert arguments[place + 1] == "/run/inpath/http.sock"
    done = running.curl(*arguments[1:place], *arguments[place + 2 :])
    assert done.returncode in (0, 28), done.stderr  # 28: the time for a stream was up
    assert says in done.stdout


def test_every_resource_is_documented(running: Served) -> None:
    paths = running.ask("GET", "/openapi.json").document()["paths"]
    for path in paths:
        assert path.replace("{identifier}", "ID").removeprefix("/v1") in PAGE
