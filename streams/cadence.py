"""How often a series is heard: its last gaps, outages and rests, and the period that follows from them."""

from statistics import median_low
from typing import Final, NamedTuple

from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.reading import MAX_PERIOD_S

#: Gaps, and rests, remembered of each series.
GAPS: Final = 5
#: A gap longer than this is an outage, and says nothing of the cadence.
LONGEST_GAP_MS: Final = 6 * MAX_PERIOD_S * 1000
MAX_PERIOD_MS: Final = MAX_PERIOD_S * 1000
#: The next reading may be late by this part of the period.
TOLERANCE: Final = 10
#: Gaps of one reading that was lost are no rest, though the stamps beside them wander.
LOST: Final = 2.5
#: Rests that make a duty cycle.
RESTS: Final = 3
#: What is said within so long is said once, more than once: a device that sends three in a row.
BURST_MS: Final = 30_000
#: A device that speaks for longer than a burst, and then rests, does so that often at least. One of which
#: less is heard has outages.
DUTY_MS: Final = MAX_PERIOD_MS // 2


class Rest(NamedTuple):
    """A gap that is long for its series (ms), and the time from the end of the one before it to its own."""

    gap: int
    cycle: int


class Cadence(NamedTuple):
    """What is known of a series: its newest time, the last gaps between its readings, its rests. All ms.

    The period is the lower median of the last gaps: short ones say that the sensor is a fast one, and that a
    long one is an outage. A single gap counts until there is another, if it is no longer than a value may
    stand for. But a device that speaks for a while and then rests, again and again (three readings in a row
    every ten minutes, five minutes of fifteen), is silent between two of its turns by habit: where the last
    rests are of one length, in cycles of one length, the period is that of a rest. (Several readings in a row
    that are lost again and again, at equal distances, leave the same stamps: nothing tells them from a rest.)

    `woke`: its first reading after its last rest, or of all; `until`: its readings stand so long.

    Examples:
        >>> two = Cadence(0).after(145_000)
        >>> two.period_ms
        145000
        >>> Cadence(0).after(7_200_000).period_ms  # an outage, as far as anybody knows
        0
        >>> two.after(290_000).after(290_000) == two.after(290_000)  # a repeat changes nothing
        True
    """

    last_ms: int
    gaps: tuple[int, ...] = ()
    rests: tuple[Rest, ...] = ()
    woke: int = 0
    until: int = 0

    def after(self, time_ms: int) -> "Cadence":
        """With one more reading. One that is not newer (a repeat, a straggler) changes nothing."""
        gap = time_ms - self.last_ms
        if gap <= 0:
            return self
        if gap > FORGOTTEN_AFTER_MS:
            return Cadence(time_ms)  # as if it had never been heard: by then it may be forgotten
        gaps, rests, woke = self.gaps, self.rests, self.woke or self.last_ms
        if gaps and gap > LOST * median_low(gaps):
            rests, woke = (*rests, Rest(gap, time_ms - woke))[-GAPS:], time_ms
        if gap <= LONGEST_GAP_MS:
            gaps = (*gaps, gap)[-GAPS:]
        known = Cadence(time_ms, gaps, rests, woke)
        return known._replace(until=due(time_ms, known.period_ms))

    @property
    def period_ms(self) -> int:
        """For how long a reading stands, an hour at most; 0 while nothing is known."""
        if not self.gaps or (
            len(self.gaps) == 1 and self.gaps[0] > MAX_PERIOD_MS + MAX_PERIOD_MS // TOLERANCE
        ):
            return 0
        return min(max(median_low(self.gaps), self._rest()), MAX_PERIOD_MS)

    def _rest(self) -> int:
        """How long a device rests that has a duty cycle; 0 for any other."""
        if len(self.rests) < RESTS:
            return 0
        gap = median_low([rest.gap for rest in self.rests])
        cycle = median_low([rest.cycle for rest in self.rests])
        alike = sum(
            abs(one.gap - gap) <= gap // 4 and abs(one.cycle - cycle) <= cycle // 4 for one in self.rests
        )
        longest = MAX_PERIOD_MS if cycle - gap <= BURST_MS else DUTY_MS
        if alike < RESTS or cycle > longest + longest // TOLERANCE:
            return 0
        # It has given that up, if it does not rest any more.
        return gap if self.last_ms - self.woke <= cycle else 0


def due(time_ms: int, period_ms: int) -> int:
    """Until when the successor of a reading is due (ms)."""
    return time_ms + period_ms + period_ms // TOLERANCE
