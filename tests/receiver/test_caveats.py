from __future__ import annotations

from schemas.result import Flag
from tests.receiver.paths import composed, delay, jitter, lacking, loss, measured, queue, scalar


def test_an_unsynchronized_segment_is_named_in_a_warning() -> None:
    records = (measured(0, delay=delay(1.0)), measured(1, delay=delay(2.0, synchronized=False)))
    composition = composed(("delay",), records)
    (warning,) = composition.warnings
    assert "10.0.0.2 -> 10.0.0.3" in warning
    assert "10.0.0.1 ->" not in warning
    assert "not synchronized" in warning
    assert composition.composed["delay"].flags == (Flag.UNSYNCHRONIZED,)


def test_a_distribution_without_the_delay_says_nothing_of_clocks_and_says_so() -> None:
    (warning,) = composed(("distribution",), (measured(0, distribution=queue(1.0)),)).warnings
    assert "only delay says whether the clocks are synchronized" in warning


def test_different_waiting_times_for_a_loss_are_told() -> None:
    records = (measured(0, loss=loss(0)), measured(1, loss=loss(0, threshold_ms=3000)))
    assert composed(("loss",), records).warnings == (
        "loss: segments wait differently long before a packet counts as lost (1000 ms, 3000 ms)",
    )


def test_an_unknown_capacity_leaves_the_path_unknown_but_the_bound_is_told() -> None:
    records = (measured(0, capacity=scalar(100)), lacking(1, "capacity"), measured(2, capacity=scalar(1000)))
    composition = composed(("capacity",), records)
    assert composition.composed["capacity"].value is None
    assert composition.warnings[-1] == "capacity: at most 100 Mbit/s over the known segments"
    busy = (measured(0, utilization=scalar(0.5)), lacking(1, "utilization"))
    assert composed(("utilization",), busy).warnings[-1] == ("utilization: at least 50 % over the known segments")


def test_too_few_samples_for_an_interval_are_told() -> None:
    composition = composed(
        ("jitter", "distribution", "delay"),
        (measured(0, jitter=jitter(1.0, count=1), distribution=queue(1.0, count=100), delay=delay(1.0)),),
    )
    assert composition.warnings == (
        "jitter: too few samples (1) of a segment, so no interval can be given",
        "distribution: too few samples (100) of a segment, so no interval can be given",
    )
