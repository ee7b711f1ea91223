"""How far a station's clock is off, from when things were stamped and when they came. Pure."""

from collections.abc import Sequence
from typing import Final

#: Arrivals that are remembered of a station.
ARRIVALS: Final = 32
#: Of fewer no offset is given.
LEAST: Final = 3
#: What comes within so long came together, ms: of a backlog only the newest row shows the clock.
TOGETHER_MS: Final = 5_000


def clock_offset_ms(skews: Sequence[int]) -> int | None:
    """How far a clock is ahead (ms; negative: behind), None while too little is known.

    `skews`: of each arrival, by how much (ms) its newest stamp was ahead of it. On its way nothing gets
    earlier: a delay makes a stamp look older, never newer. So the largest are nearest to the truth; the upper
    quartile is taken, which a quarter of wild stamps does not move, nor three quarters of slow deliveries.
    What a clock is behind and what every delivery takes look the same.

    Examples:
        >>> clock_offset_ms([-900, -1_000, -60_000, -950])  # one came late
        -950
        >>> clock_offset_ms([-900, -1_000])
    """
    if len(skews) < LEAST:
        return None
    return sorted(skews)[(3 * len(skews) + 3) // 4 - 1]
