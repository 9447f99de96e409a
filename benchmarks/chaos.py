"""Points that are killed, hung and restarted by chance while they are asked and others' traffic passes them.

    python -m benchmarks.chaos [--json] [--minutes 5] [--seed 1]

Six points in a row, both ends asking all the time, and a stream of others' datagrams across. Nothing that is told
may be untrue, no process may end that nobody ended, no datagram of the stream may be lost, and no request may wait
for ever. The exit code is 0 when all of that holds, 1 when not, 2 for a wrong option. Needs root.
"""

from __future__ import annotations

import argparse
import json
import sys

from schemas.errors import InpathError
from tests.overlay.chaos import CHAIN, Chaos, Outcome
from tests.overlay.network import network, start

MOST_MINUTES = 24 * 60


def table(outcome: Outcome) -> str:
    """The outcome for people."""
    lines = [f"{count:6}  {trouble}" for trouble, count in sorted(outcome.troubles.items())]
    lines += [f"{count:6}  answers {kind}" for kind, count in sorted(outcome.answers.items())]
    lines.append(f"{outcome.stream_sent:6}  datagrams of others, of which {len(outcome.stream_lost)} were lost")
    lines.append(f"complete answers over all points {outcome.recovered_s:.1f} s after the last trouble")
    lines += outcome.wrong or ["nothing was wrong"]
    return "\n".join(lines)


def main() -> int:
    """Make trouble, print, judge."""
    parser = argparse.ArgumentParser(description="Trouble for measurement points, by chance and under load.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long there is trouble [5]")
    parser.add_argument("--seed", type=int, default=1, help="of what happens when, and to whom [1]")
    options = parser.parse_args()
    if not 0 < options.minutes <= MOST_MINUTES:
        parser.error(f"--minutes must be more than 0, at most {MOST_MINUTES}")
    try:
        with network(CHAIN) as net:
            start(net)
            outcome = Chaos(net, seed=options.seed).run(options.minutes * 60)
    except InpathError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(outcome.to_json(), indent=2) if options.json else table(outcome))
    return 1 if outcome.wrong or outcome.stream_lost else 0


if __name__ == "__main__":
    sys.exit(main())
