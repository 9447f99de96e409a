from __future__ import annotations

from io import StringIO

from rich.console import Console

from mp.closure_view import print_check
from tests.receiver.store.test_closure_store import CHECK


def test_a_check_shows_both_values_their_difference_and_the_verdict() -> None:
    console = Console(file=StringIO(), width=80)
    print_check(CHECK, {"10.0.0.1": "border-1"}, console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "border-1 -> 10.0.0.4  differs  after 10.5 s" in text
    (values,) = (line.split() for line in text.splitlines() if "delay ms" in line)
    assert values == ["delay", "ms", "18.250", "17.000", "-1.250", "differs"]
    assert "18.000 .. 18.500" in text and "-1.750 .. -0.500" in text
    assert "unknown" in text
    assert CHECK.warnings[0] in " ".join(text.split())
    assert "…" not in text
