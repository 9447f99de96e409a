#!/usr/bin/env python3
"""Time of a TCP connection to a point's report server, by curl: a plug-in metric of inpath.

    tcp_connect.py OWN PEER [PORT]

Prints one JSON object in milliseconds; see docs/plugins.md. Needs curl and nothing else.
"""

import json
import math
import statistics
import subprocess
import sys

CONNECTIONS = 3
T_95 = 4.3027  # 97.5 % quantile of Student's t with CONNECTIONS - 1 = 2 degrees of freedom
MEASUREMENT_PORT = "49862"
MOST_S = 2
"""A lost SYN is sent again after 1 s, so such a connection still counts, with the time that it really took."""
DONE, TIMED_OUT = 0, 28


def connect_ms(own: str, peer: str, port: str) -> float:
    """Connect once, send nothing, hang up."""
    # telnet:// is the scheme under which curl sends nothing by itself; -q and --noproxy keep settings out.
    command = ["curl", "-q", "-sS", "--noproxy", "*", "--interface", own, "--max-time", str(MOST_S)]
    command += ["-o", "/dev/null", "-w", "%{time_connect}", f"telnet://{peer}:{port}"]
    curl = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    connect_s = float(curl.stdout or 0)
    # The server waits for a report that never comes, so curl's own time-out (28) is the usual end of a good
    # connection; curl gives 0 s when there was none.
    if curl.returncode not in (DONE, TIMED_OUT) or connect_s <= 0:
        sys.exit(f"curl ended with {curl.returncode}: {curl.stderr.strip() or 'no connection'}")
    return connect_s * 1000


def main() -> None:
    """Connect a few times, one after the other."""
    own, peer, port = (*sys.argv[1:], MEASUREMENT_PORT)[:3]
    times_ms = [connect_ms(own, peer, port) for _ in range(CONNECTIONS)]
    mean_ms = statistics.fmean(times_ms)
    half_width_ms = T_95 * statistics.stdev(times_ms) / math.sqrt(CONNECTIONS)
    low_ms, high_ms = max(0.0, mean_ms - half_width_ms), mean_ms + half_width_ms
    json.dump({"value": mean_ms, "low": low_ms, "high": high_ms, "count": CONNECTIONS}, sys.stdout)


main()
