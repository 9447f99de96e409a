"""Voice quality as the E-model of ITU-T G.107 estimates it from delay, jitter and loss (pure).

R = Ro - Is - Id - Ie,eff with everything at its default that the network does not decide. It is a planning model
for narrow-band telephony: it estimates what an average listener would say, and nobody listened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# Of G.107 with all parameters at their defaults (G.107 table 2); Ro - Is - Id at no delay is the known 93.2.
_BASIC_SIGNAL_TO_NOISE = 94.7688  # Ro
_SIMULTANEOUS_IMPAIRMENT = 1.4136  # Is
_TELR_DB = 65.0  # talker echo loudness rating
_WEPL_DB = 110.0  # weighted echo path loss
_RLR_DB = 2.0  # receive loudness rating
_NOISE_DBM0P = -61.1792  # No
_UNNOTICED_DELAY_MS = 100.0
_WORST_IMPAIRMENT = 95.0
"""What a codec's impairment tends to when all packets are lost."""

MAX_MOS: Final = 4.5
BEST_R: Final = 93.2
"""Of a path without any impairment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """What the E-model must know of a codec."""

    name: str
    title: str
    equipment_impairment: float
    """Ie: what the codec costs without loss."""
    loss_robustness: float
    """Bpl: the higher, the less a lost packet is heard."""
    delay_ms: float
    """Of the codec at both ends: a packet's speech, look-ahead, concealment."""


G711: Final = Codec(
    name="g711",
    title="G.711 with packet loss concealment",
    equipment_impairment=0.0,  # G.113 appendix I
    loss_robustness=25.1,  # G.113 appendix I, with the concealment of G.711 appendix I, random loss
    delay_ms=23.75,  # 20 ms of speech in a packet (RFC 3551), 3.75 ms in the concealment (G.711 appendix I)
)
OPUS: Final = Codec(
    name="opus",
    title="Opus",
    # No ITU-T values of Opus are known for this scale, which ends at narrow-band speech. It is taken to be no
    # better than G.711 with concealment: an assumption, careful at 24 kbit/s and above.
    equipment_impairment=0.0,
    loss_robustness=25.1,
    delay_ms=26.5,  # a frame of 20 ms and 6.5 ms of look-ahead (RFC 6716 section 2)
)
CODECS: Final = {codec.name: codec for codec in (G711, OPUS)}


def r_factor(
    codec: Codec,
    *,
    delay_ms: float,
    buffer_ms: float,
    late_ratio: float,
    loss_ratio: float,
    burst_ratio: float = 1.0,
) -> float:
    """The transmission rating factor R: 93.2 for a path without impairments, 0 and below for a useless one.

    Args:
        delay_ms: one way, mean.
        buffer_ms: length of the de-jitter buffer: a quantile of the delay variation.
        late_ratio: of packets that come later than that, 0 to 1, and are lost to the codec.
        loss_ratio: 0 to 1.
        burst_ratio: mean length of a row of lost packets over that of random loss, 1 or more (G.107 BurstR).
    """
    missed_ratio = loss_ratio + (1 - loss_ratio) * late_ratio
    heard_after_ms = max(0.0, delay_ms) + max(0.0, buffer_ms) + codec.delay_ms
    return (
        _BASIC_SIGNAL_TO_NOISE
        - _SIMULTANEOUS_IMPAIRMENT
        - delay_impairment(heard_after_ms)
        - loss_impairment(codec, missed_ratio, burst_ratio)
    )


def delay_impairment(delay_ms: float) -> float:
    """Id = Idte + Idle + Idd: echo to the talker, echo to the listener, and the delay itself (G.107 clause 7.4).

    Args:
        delay_ms: from mouth to ear, one way; below 2 ms the echo terms fall by less than 0.1 before they rise.
    """
    return _talker_echo(delay_ms) + _listener_echo(2 * delay_ms) + _pure_delay(delay_ms)


def loss_impairment(codec: Codec, loss_ratio: float, burst_ratio: float = 1.0) -> float:
    """Ie,eff: the codec, and the packets that it does not get (G.107 clause 7.5); of long bursts, all at most."""
    percent = 100 * loss_ratio
    share = min(1.0, percent / (percent / burst_ratio + codec.loss_robustness))
    return codec.equipment_impairment + (_WORST_IMPAIRMENT - codec.equipment_impairment) * share


def mos_from_r(r: float) -> float:
    """Estimated mean opinion score, 1 (bad) to 4.5 (G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return MAX_MOS
    # Below R = 6.5 the cubic dips under the scale.
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def _talker_echo(delay_ms: float) -> float:
    echo = (
        _TELR_DB
        - 40 * math.log10((1 + delay_ms / 10) / (1 + delay_ms / 150))
        + 6 * math.exp(-0.3 * delay_ms * delay_ms)
    )
    with_echo = 80 + 2.5 * (echo - 14)
    half = (-1.5 * (_NOISE_DBM0P - _RLR_DB) - with_echo) / 2
    return (half + math.sqrt(half**2 + 100) - 1) * (1 - math.exp(-delay_ms))


def _listener_echo(round_trip_ms: float) -> float:
    with_echo = 10.5 * (_WEPL_DB + 7) / math.pow(round_trip_ms + 1, 0.25)
    half = (_BASIC_SIGNAL_TO_NOISE - with_echo) / 2
    return half + math.sqrt(half**2 + 169)


def _pure_delay(delay_ms: float) -> float:
    if delay_ms <= _UNNOTICED_DELAY_MS:
        return 0.0
    x = math.log2(delay_ms / _UNNOTICED_DELAY_MS)
    return 25 * (_bend(x) - 3 * _bend(x / 3) + 2)


def _bend(x: float) -> float:
    return math.pow(1 + math.pow(x, 6), 1 / 6)
