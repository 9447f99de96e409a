from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.e_model import CODECS, G711, Codec, delay_impairment, loss_impairment, mos_from_r, r_factor

delays = st.floats(0, 2000)
jitters = st.floats(0, 500)
ratios = st.floats(0, 1)
bursts = st.floats(1, 20)
codecs = st.sampled_from(list(CODECS.values()))


@pytest.mark.parametrize(
    ("delay_ms", "r"),
    # G.107 with its defaults, computed apart from this program; up to 300 ms the well-known fit of Cole and
    # Rosenbluth, R = 93.2 - 0.024 d - 0.11 (d - 177.3) where d > 177.3, gives nearly the same.
    [(0, 93.2), (50, 91.8), (100, 90.7), (150, 89.5), (200, 85.8), (300, 72.7), (400, 62.2)],
)
def test_delay_costs_what_g107_says(delay_ms: float, r: float) -> None:
    assert 94.7688 - 1.4136 - delay_impairment(delay_ms) == pytest.approx(r, abs=0.06)


@pytest.mark.parametrize("delay_ms", [20, 50, 100, 150, 200, 250, 300])
def test_delay_costs_nearly_what_the_well_known_fit_says(delay_ms: float) -> None:
    fit = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - 177.3)
    assert delay_impairment(delay_ms) - delay_impairment(0) == pytest.approx(fit, abs=0.5)


@pytest.mark.parametrize(
    ("r", "mos"),
    # G.107 table B.1 and the default connection.
    [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (-20, 1.0), (100, 4.5)],
)
def test_mos_of_known_ratings(r: float, mos: float) -> None:
    assert mos_from_r(r) == pytest.approx(mos, abs=0.01)


def test_loss_costs_what_g107_says() -> None:
    assert loss_impairment(G711, 0.0) == 0
    assert loss_impairment(G711, 0.01) == pytest.approx(95 / 26.1)
    assert loss_impairment(G711, 0.02, burst_ratio=2.0) == pytest.approx(95 * 2 / (1 + 25.1))
    assert loss_impairment(G711, 0.5, burst_ratio=20.0) == 95


def test_a_perfect_path_leaves_the_codec_and_what_a_full_buffer_discards() -> None:
    r = r_factor(G711, delay_ms=0, buffer_ms=0, late_ratio=0.001, loss_ratio=0)
    assert 91.5 < r < 93.2


@given(codecs, delays, delays, jitters, jitters, ratios, ratios, bursts)
def test_more_delay_jitter_or_loss_never_makes_it_better(
    codec: Codec,
    delay_ms: float,
    more_delay_ms: float,
    jitter_ms: float,
    more_jitter_ms: float,
    loss: float,
    other_loss: float,
    burst: float,
) -> None:
    less, more = sorted((loss, other_loss))

    def r(delay_ms: float, buffer_ms: float, loss_ratio: float, burst_ratio: float, late_ratio: float) -> float:
        return r_factor(
            codec,
            delay_ms=delay_ms,
            buffer_ms=buffer_ms,
            late_ratio=late_ratio,
            loss_ratio=loss_ratio,
            burst_ratio=burst_ratio,
        )

    good = r(delay_ms, jitter_ms, less, burst, 0.001)
    worse = (
        r(delay_ms + more_delay_ms, jitter_ms, less, burst, 0.001),
        r(delay_ms, jitter_ms + more_jitter_ms, less, burst, 0.001),
        r(delay_ms, jitter_ms, more, burst, 0.001),
        r(delay_ms, jitter_ms, less, burst + 1, 0.001),
        r(delay_ms, jitter_ms, less, burst, 0.01),
    )
    assert all(one <= good + 1e-9 for one in worse)


def test_mos_rises_with_r_over_its_whole_range() -> None:
    scores = [mos_from_r(tenth / 10) for tenth in range(-100, 1001)]
    assert all(before <= after for before, after in pairwise(scores))
    assert min(scores) == 1.0
    assert max(scores) <= 4.5 + 1e-9
