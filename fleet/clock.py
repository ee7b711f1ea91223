"""How far a station's clock is off, from when things were stamped and when they came. Pure."""

from collections.abc import Sequence
from typing import Final

#: Arrivals that are remembered of a station.
ARRIVALS: Final = 32
#: Of fewer no offset is given.
LEAST: Final = 3
#: So many arrivals, and a quarter of them, have to say about the same of a clock ...
_ALIKE: Final = 2
#: ... within so long (ms), or such a share of how far it is off.
_WITHIN_MS: Final = 60_000
_WITHIN_SHARE: Final = 0.1
#: What comes within so long came together, ms: of a backlog only the newest row shows the clock.
TOGETHER_MS: Final = 5_000


def clock_offset_ms(skews: Sequence[int]) -> int | None:
    """How far a clock is ahead (ms; negative: behind), None while too little is known.

    `skews`: of each arrival, by how much (ms) its newest stamp was ahead of it. On its way nothing gets
    earlier: a delay makes a stamp look older, never newer. So the largest are nearest to the truth; the upper
    quartile is taken, which a quarter of wild stamps does not move, nor three quarters of slow deliveries.
    What a clock is behind and what every delivery takes look the same.

    A backlog that is sent as fast as it goes looks like a clock that gains hours in minutes: too few arrivals
    agree with each other, and nothing is said of the clock.

    Examples:
        >>> clock_offset_ms([-900, -1_000, -60_000, -950])  # one came late
        -950
        >>> clock_offset_ms([-900, -1_000])
        >>> clock_offset_ms([-3_600_000, -2_400_000, -960_000])  # an hour of history, caught up with
    """
    if len(skews) < LEAST:
        return None
    offset = sorted(skews)[(3 * len(skews) + 3) // 4 - 1]
    within = max(_WITHIN_MS, _WITHIN_SHARE * abs(offset))
    alike = sum(abs(one - offset) <= within for one in skews)
    return offset if alike >= max(_ALIKE, len(skews) // 4) else None
