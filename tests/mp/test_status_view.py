from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from mp.status_view import print_status


def metric(value: float, unit: str, count: int = 600, **others: float) -> dict[str, Any]:
    return {"value": value, "unit": unit, "count": count, **others}


STATUS: dict[str, Any] = {
    "knowledge": {
        "peers": {"192.0.2.2": "neighbor", "192.0.2.9": "border", "192.0.2.3": "silent"},
        "points": 5,
        "segments": 9,
    },
    "point": {"name": "border-1", "address": "192.0.2.1", "area": "north"},
    "uptime_s": 61.2,
    "clock": {"synchronized": True, "error_ms": 0.05},
    "neighbors": [
        {
            "address": "192.0.2.2",
            "role": "sender",
            "state": "measured",
            "newest_sample_age_s": 0.12,
            "last_60_s": {
                "delay": metric(12.345678, "ms"),
                "loss": metric(0.0125, "ratio", 598),
                "jitter": metric(3.1, "ms"),
                "rtt": metric(25.0, "ms"),
                "distribution": metric(14.2, "ms"),
                "hops": metric(3, "hops", low=3, high=3),
                "available-bandwidth": metric(62.5, "Mbit/s", 24, low=60.0, high=65.0),
                "icmp-rtt": metric(25.1, "ms", 5, low=24.9, high=25.3),
            },
        },
        {
            "address": "192.0.2.3",
            "role": "asleep",
            "state": "pending",
            "newest_sample_age_s": None,
            "last_60_s": {},
        },
    ],
    "discovery": {"198.51.100.9": "192.0.2.2", "198.51.100.10": None},
    "probes": {"stranger": 4},
    "mtu": {"probes": 9, "octets": 12_000},
    "bandwidth": {},
    "plugin icmp-rtt": {"measured": 2},
    "packet_process": {"pid": 7, "rules": "iptables", "restarts": 0, "counters": {"intercepted": 3}},
    "requests": {"pending": 0},
    "reports": {},
    "store": {"database": "up", "spool_depth": 0, "refused": 0, "last_error": None},
    "verification": {
        "destination": "198.51.100.9",
        "checked_at": "2026-01-01T12:00:00.000000Z",
        "verdict": "agrees",
    },
}


def shown(document: dict[str, Any], width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    print_status(document, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def line_with(text: str, *words: str) -> str:
    (line,) = (line for line in text.splitlines() if all(word in line for word in words))
    return line


def test_a_neighbor_is_one_line_with_what_is_measured_all_the_time() -> None:
    cells = line_with(shown(STATUS), "192.0.2.2", "sender").split()
    assert cells == ["192.0.2.2", "sender", "measured", "12.346", "1.25", "3.100", "25.000", "600", "0.1", "s"]
    assert line_with(shown(STATUS), "192.0.2.3", "asleep").split()[-1] == "-"


def test_every_other_metric_has_a_line_with_its_unit_and_interval() -> None:
    text = shown(STATUS)
    assert line_with(text, "available-bandwidth").split()[-5:] == ["62.500", "Mbit/s", "60", "..", "65"]
    assert line_with(text, "icmp-rtt", "25.100 ms")
    assert line_with(text, "delay, p99", "14.200 ms")


def test_discovery_the_last_check_and_counters_are_shown() -> None:
    text = shown(STATUS)
    assert line_with(text, "198.51.100.10", "no answer")
    assert line_with(text, "198.51.100.9", "agrees")
    assert line_with(text, "plugin icmp-rtt", "measured", "2")
    assert line_with(text, "probes", "stranger", "4")


def test_it_fits_into_eighty_columns() -> None:
    assert max(map(len, shown(STATUS).splitlines())) <= 80
    assert "…" not in shown(STATUS)


def test_a_young_point_is_shown_without_what_it_does_not_know() -> None:
    young = {**STATUS, "neighbors": [], "discovery": {}, "verification": None, "store": None}
    text = shown(young)
    assert "database not looked for yet" in text
    assert "What else" not in text and "far destinations" not in text


def test_what_others_told_is_one_line() -> None:
    assert "knows 9 segments of 5 other points, told by 2 of them" in shown(STATUS)
