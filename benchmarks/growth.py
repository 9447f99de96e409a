"""How many points fit in one datagram, and what does a path of 64 points cost?

    python -m benchmarks.growth [--json]

Messages are made as the source and the points make them, with values as long as those of real segments, and every
value another one. Nothing is sent; needs no privileges. The first table tells how many points' records fit into
one datagram, plain and compressed, without tags and with the tags of a shared secret (of a question that goes in
several slices, the slice that holds the fewest). The second table follows a question along a path of 64 points:
datagrams on each link, reports to the source, and octets (of datagrams with their headers, summed over all links;
of reports, the documents).

The exit code is 0, or 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from interceptor.packet import maximum_payload
from processor.decision import Forward, HandOver, SendReport
from processor.pipeline import Pipeline, PointIdentity
from processor.segment_table import PreparedSegment, SegmentTable
from processor.trust import Trust
from requestor.query import DEFAULT_METRICS
from requestor.slices import slices_of
from schemas.authentication import signed_request
from schemas.histogram import Histogram, bin_of
from schemas.keyring import NO_KEYS, HmacKey, KeyIdentity, Keyring
from schemas.message import MeasureRequest, Message
from schemas.metrics import (
    METRICS,
    DelayStatistics,
    DistributionStatistics,
    JitterStatistics,
    LossStatistics,
    RoundTripStatistics,
    ScalarStatistics,
    Statistics,
)
from schemas.payload import payload_from_xml
from schemas.xml_writer import message_to_xml

POINTS = 64
MTUS_BYTES = (1500, 576)
HEADERS_BYTES = 24 + 8
QUESTIONS = {"default": DEFAULT_METRICS, "all": tuple(METRICS)}
KEYRINGS = {"none": NO_KEYS, "each": Keyring([HmacKey(KeyIdentity(id="lab", areas=("",)), bytes(range(32)))])}
NOW_MS = 1_795_293_373_771
AMPLE_BYTES = 65_000
"""Room in which every document stays plain."""


def segment_statistics(seed: int) -> dict[str, Statistics]:
    """All metrics of a segment of some milliseconds, over 60 s at the usual rate."""
    random = Random(seed)
    count = random.randrange(1100, 1200)
    minimum_ms = round(random.uniform(0.5, 20), 4)
    above_ms = sorted(random.gammavariate(3, 0.4) for _ in range(count))
    mean_above_ms = sum(above_ms) / count
    mean_ms = round(minimum_ms + mean_above_ms, 4)
    variance, third = round(random.uniform(0.3, 0.9), 6), round(random.uniform(-0.2, 0.9), 6)
    lost = random.randrange(12)

    def scalar(value: float, spread: float = 0.0, number: int = count) -> ScalarStatistics:
        return ScalarStatistics(
            count=number,
            value=round(value, 6),
            low=round(value * (1 - spread), 6),
            high=round(value * (1 + spread), 6),
            measured_at_ms=NOW_MS - random.randrange(20_000),
        )

    special: dict[str, Statistics] = {
        "delay": DelayStatistics(
            count=count,
            mean_ms=mean_ms,
            minimum_ms=minimum_ms,
            variance_ms2=variance,
            third_moment_ms3=third,
            upstream_clock_error_ms=0.051,
            current_clock_error_ms=0.051,
            synchronized=True,
        ),
        "loss": LossStatistics(
            sent=count + lost, lost=lost, threshold_ms=1000, runs=lost, longest_run=min(1, lost)
        ),
        "jitter": JitterStatistics(
            count=count,
            pdv_ms=round(above_ms[-2], 4),
            ipdv_ms=round(random.uniform(0.5, 1.2), 4),
            signed_ipdv_ms=round(random.uniform(-0.006, 0.006), 4),
            least_ipdv_ms=round(random.uniform(-6, -2), 4),
            greatest_ipdv_ms=round(random.uniform(2, 6), 4),
            interarrival_ms=round(random.uniform(0.5, 1.2), 4),
            mean_pdv_ms=round(mean_above_ms, 4),
            variance_ms2=variance,
            third_moment_ms3=third,
        ),
        "rtt": RoundTripStatistics(
            count=count - random.randrange(50),
            mean_ms=round(2 * mean_ms + 0.05, 4),
            minimum_ms=round(2 * minimum_ms + 0.04, 4),
            variance_ms2=round(2 * variance + 0.01, 6),
            third_moment_ms3=round(random.uniform(-0.3, 1.7), 6),
        ),
        "distribution": _distribution(minimum_ms, above_ms),
    }
    scalars = {
        "reordering": scalar(random.uniform(0.001, 0.01), 0.5),
        "duplication": replace(scalar(0.0), high=round(random.uniform(0.002, 0.004), 6)),
        "hops": scalar(1.0),
        "mtu": scalar(1500.0, number=2),
        "capacity": scalar(100.0, number=2),
        "utilization": scalar(random.uniform(0.001, 0.02), 0.7, 12),
        "available-bandwidth": scalar(random.uniform(20, 60), 0.3, 22),
    }
    known = special | scalars
    return {name: known[name] for name in METRICS}


def _distribution(minimum_ms: float, above_ms: Sequence[float]) -> DistributionStatistics:
    p50, p95, p99 = (round(minimum_ms + above_ms[int(len(above_ms) * share)], 4) for share in (0.5, 0.95, 0.99))
    bins = Histogram(Counter(bin_of(round(one * 1000)) for one in above_ms)).to_text()
    return DistributionStatistics(
        count=len(above_ms), minimum_ms=minimum_ms, p50_ms=p50, p95_ms=p95, p99_ms=p99, bins=bins
    )


def address(index: int) -> str:
    """Of a point of the path."""
    return f"10.255.0.{index + 1}"


def requests(metrics: tuple[str, ...], room: int, keyring: Keyring) -> list[bytes]:
    """What the source sends for one question."""
    slices = slices_of(metrics, room)
    whole = MeasureRequest(
        source=address(0),
        destination=address(POINTS - 1),
        id="f8d4177fa2ac8201a8a8981a83ff089a",
        metrics=metrics,
        created_at_ms=NOW_MS,
        lifetime_ms=10_000,
        max_age_ms=15_000,
    )
    parts = (
        replace(whole, metrics=one, slice_index=index, slices=len(slices)) for index, one in enumerate(slices)
    )
    return [message_to_xml(Message(request=signed_request(part, keyring))) for part in parts]


def pipelines(keyring: Keyring) -> list[Pipeline]:
    """The points behind the source."""
    trust = Trust(keyring, is_required=False)
    made = []
    for index in range(1, POINTS):
        segments = SegmentTable()
        newest_ms = NOW_MS - Random(index).randrange(1000)
        segments.put(PreparedSegment.of(address(index - 1), newest_ms, segment_statistics(index)))
        own = PointIdentity(address=address(index), own_addresses=frozenset({address(index)}), serves=())
        made.append(Pipeline(own, segments, lambda _: None, trust=trust))
    return made


def decision_at(index: int, point: Pipeline, payload: bytes, room: int) -> Forward | HandOver | SendReport:
    """What the point makes of the payload."""
    decision = point.process(
        payload, source=address(0), destination=address(POINTS - 1), now_ms=NOW_MS + 3 * index, room=room
    )
    assert isinstance(decision, Forward | HandOver | SendReport), decision
    return decision


def points_that_fit(points: Sequence[Pipeline], request: bytes, room: int) -> dict[str, int]:
    """How many records one datagram holds, plain and compressed."""
    fitting = {"plain": 0, "compressed": 0}
    payload = request
    for index, point in enumerate(points, start=1):
        decision = decision_at(index, point, payload, AMPLE_BYTES)
        if not isinstance(decision, Forward) or payload_from_xml(decision.payload, room) is None:
            break
        payload = decision.payload
        fitting["compressed"] = index
        if len(payload) <= room:
            fitting["plain"] = index
    return fitting


def journey(points: Sequence[Pipeline], sent: Sequence[bytes], room: int) -> dict[str, int]:
    """What a question costs along the path."""
    cost = {"datagrams": len(sent), "reports": 0, "datagram_octets": 0, "report_octets": 0, "largest_octets": 0}
    for payload in sent:
        for index, point in enumerate(points, start=1):
            cost["datagram_octets"] += HEADERS_BYTES + len(payload)
            cost["largest_octets"] = max(cost["largest_octets"], HEADERS_BYTES + len(payload))
            decision = decision_at(index, point, payload, room)
            if not isinstance(decision, Forward):
                cost["reports"] += 1
                cost["report_octets"] += len(decision.report.payload)
            if not isinstance(decision, SendReport):
                payload = decision.payload
    return cost


def measure() -> list[dict[str, Any]]:
    """One row for each MTU, question and kind of tag."""
    rows = []
    for mtu_bytes in MTUS_BYTES:
        room = maximum_payload(mtu_bytes)
        for question, metrics in QUESTIONS.items():
            for tags, keyring in KEYRINGS.items():
                points, sent = pipelines(keyring), requests(metrics, room, keyring)
                fits = [points_that_fit(points, one, room) for one in sent]
                whole = points_that_fit(points, requests(metrics, AMPLE_BYTES, keyring)[0], room)
                rows.append(
                    {
                        "mtu_bytes": mtu_bytes,
                        "metrics": question,
                        "tags": tags,
                        "whole": whole,
                        "fewest": {form: min(one[form] for one in fits) for form in whole},
                        "cost": journey(points, sent, room),
                    }
                )
    return rows


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for people, as they stand in docs/message-format.md."""
    lines = [
        "| MTU | metrics | tags | plain | compressed | slices | plain, in slices | compressed, in slices |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['mtu_bytes']} | {row['metrics']} | {row['tags']} | {row['whole']['plain']}"
        f" | {row['whole']['compressed']} | {row['cost']['datagrams']} | {row['fewest']['plain']}"
        f" | {row['fewest']['compressed']} |"
        for row in rows
    ]
    lines += [
        "",
        f"| MTU | metrics | tags | datagrams on a link | octets on {POINTS - 1} links | reports | octets |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cost = row["cost"]
        lines.append(
            f"| {row['mtu_bytes']} | {row['metrics']} | {row['tags']} | {cost['datagrams']}"
            f" | {cost['datagram_octets']:,} | {cost['reports']} | {cost['report_octets']:,} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a datagram holds, and what a long path costs.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    rows = measure()
    print(json.dumps(rows, indent=2) if options.json else tables(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
