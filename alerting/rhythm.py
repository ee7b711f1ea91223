"""How often a station usually speaks, learned from its own waits. Pure, bounded; times are ms of event time.

A *wait* is how far event time had gone past the station's newest window when the next one came: for a station
that speaks every quarter of an hour a quarter of an hour, whether its windows lie that far apart or come
fifteen at a time. A single outage teaches nothing, a wait that recurs does.
"""

from typing import Final, NamedTuple

from schemas.times import HOUR_MS

#: Waits that are remembered.
REMEMBERED: Final = 96
#: A wait is usual if it, or a longer one, came this often among them (an outage or two are none) ...
RECURS: Final = 3
#: ... and such waits make up this share of the time: twenty windows in a row and an hour's pause, again and
#: again, is a station that speaks every hour.
SHARE: Final = 0.25
#: Waits from which on a station is known; up to twice as many its longest wait counts, however rare.
KNOWN: Final = 6
#: What is assumed of a station that is not known, at least.
ASSUMED_MS: Final = HOUR_MS
#: No station is reckoned to be rarer than this.
LONGEST_MS: Final = 24 * HOUR_MS


class Rhythm(NamedTuple):
    """What is remembered of a station. `newest`: end of its newest window, 0 before the first.

    `waits`: (length, how often in a row), oldest first.
    """

    newest: int = 0
    waits: tuple[tuple[int, int], ...] = ()

    def after(self, end: int, now: int) -> "Rhythm":
        """When a window that ends at `end` has come and event time is `now`; an older window says nothing."""
        if end <= self.newest:
            return self
        if not self.newest:
            return Rhythm(end)
        wait = min(max(end, now) - self.newest, LONGEST_MS)
        waits = list(self.waits)
        if waits and waits[-1][0] == wait:
            waits[-1] = wait, waits[-1][1] + 1
        else:
            waits.append((wait, 1))
        if self._count == REMEMBERED:
            first, count = waits[0]
            waits[:1] = [(first, count - 1)] if count > 1 else []
        return Rhythm(end, tuple(waits))

    @property
    def known(self) -> bool:
        """Whether there are waits enough to say how often the station speaks."""
        return self._count >= KNOWN

    @property
    def _count(self) -> int:
        return sum(count for _, count in self.waits)

    def usual(self) -> int:
        """The longest wait that is usual at this station, in ms; see `RECURS` and `SHARE`."""
        if self._count < 2 * KNOWN:
            longest = max((wait for wait, _ in self.waits), default=0)
            return longest if self.known else max(ASSUMED_MS, longest)
        needed = SHARE * sum(wait * count for wait, count in self.waits)
        seen = time = 0
        usual = 0
        for wait, count in sorted(self.waits, reverse=True):
            usual = wait
            for _ in range(count):
                seen, time = seen + 1, time + wait
                if seen >= RECURS and time >= needed:
                    return usual
        return usual


#: Before the first window.
UNHEARD: Final = Rhythm()
