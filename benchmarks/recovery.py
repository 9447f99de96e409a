"""How soon does a path have complete answers again when one of its links breaks, and when it comes back?

    python -m benchmarks.recovery [--json] [--rounds 5]

Two ways lead from a to b, over m and over n, with OSPF by BIRD on all four; n's segments are not measured before
somebody asks over it. A round takes the link between m and b down and then up again, asking all the time. Beside
OSPF's own time, until the kernels have the new routes both ways, stand the times until the first answer over the
new path, and until the first complete one, all from the change of the link on.

The exit code is 0 when after each change a complete answer came, 1 when not, 2 for a wrong option. Needs root.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median
from typing import Any

from schemas.errors import InpathError
from tests.overlay.network import network
from tests.overlay.route_change import BETTER, TWO_WAYS, Change, change_link, route_events, start_strangers

MOST_ROUNDS = 100
TIMES = ("converged_s", "followed_s", "complete_s")


def measure(rounds: int) -> dict[str, Any]:
    """All rounds in one lab, and the events that were kept of them.

    Raises:
        TimeoutError: after a change, no complete answer came.
        InpathError: the lab cannot be built, or a point does not answer.
    """
    changes: dict[str, list[Change]] = {"down": [], "up": []}
    with network(TWO_WAYS) as net:
        start_strangers(net)
        net.await_answer("a", "b", BETTER)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for kind, made in changes.items():
                made.append(change_link(net, up=kind == "up"))
        net.lab.stop_point("a")
        events = route_events(net, "a", "b")
    return {
        "rounds": rounds,
        "changes": {
            kind: {name: [getattr(change, name) for change in made] for name in TIMES}
            for kind, made in changes.items()
        },
        "events": [
            {
                "old_points": event.old_points,
                "new_points": event.new_points,
                "duration_s": None if event.duration_us is None else event.duration_us / 1e6,
            }
            for event in events
        ],
    }


def table(outcome: dict[str, Any]) -> str:
    """The outcome for people; the first round is apart, since only then nobody knows the new path's segments."""
    lines = ["link                   OSPF s  first answer s  complete answer s"]
    for kind, times in outcome["changes"].items():
        first = [times[name][0] for name in TIMES]
        lines.append(_row(f"{kind}, the first time", first))
        if outcome["rounds"] > 1:
            lines.append(_row(f"{kind}, median after", [median(times[name][1:]) for name in TIMES]))
    lines.append(f"route events kept: {len(outcome['events'])}")
    for event in outcome["events"]:
        old, new = (" ".join(event[key]) for key in ("old_points", "new_points"))
        stood = "" if event["duration_s"] is None else f", after {event['duration_s']:.1f} s"
        lines.append(f"  {old} -> {new}{stood}")
    return "\n".join(lines)


def _row(name: str, times: list[float]) -> str:
    converged_s, followed_s, complete_s = times
    return f"{name:20}  {converged_s:7.2f}  {followed_s:14.2f}  {complete_s:17.2f}"


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="Recovery of a path beside the convergence of OSPF.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=5, help="how often the link breaks and comes back [5]")
    options = parser.parse_args()
    if not 1 <= options.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds must lie between 1 and {MOST_ROUNDS}")
    try:
        outcome = measure(options.rounds)
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(outcome, indent=2) if options.json else table(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
