"""How much of a window each of a series' readings counts for, by the time that it speaks for. Pure.

A reading that nobody has declared speaks until the next one, for its sensor's period at most. That is seen in
the window itself, not by what was known of the cadence as the reading came: the first readings of a sensor
would weigh a window each, and all the later ones seconds.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from streams.join import DECLARED, Item


class TimeWeights(NamedTuple):
    """What each of some readings weighs (none: all the same), and the ms of the window that they cover."""

    each: Sequence[int]
    covered: int


EVENLY: Final = TimeWeights((), 0)


def by_time(items: Sequence[Item], size: int) -> TimeWeights:
    """The weight of each of a series' readings of a window of `size` ms.

    `items` in order of time, all of the window itself. Means over declared periods weigh what they are
    declared for, but beside readings that nobody declared no more than what those leave of the window.
    Running means cover nothing, and weigh nothing beside any other: another one of them is the mean of the
    period.
    """
    plain = [place for place, item in enumerate(items) if not item.basis]
    means = [place for place, item in enumerate(items) if item.basis == DECLARED]
    if not plain and not means:
        return TimeWeights([1] * len(items), 0)
    weights = [0] * len(items)
    covered = 0
    if plain:
        covered = _until_the_next([items[place] for place in plain], size, weights, plain)
    declared = [min(items[place].period, size) for place in means]
    total, left = sum(declared), size - covered
    for place, weight in zip(means, declared, strict=True):
        weights[place] = weight * left // total if plain and total > left else weight
    return TimeWeights(weights, min(size, covered + total))


def _until_the_next(items: Sequence[Item], size: int, weights: list[int], places: Sequence[int]) -> int:
    """Sets the weights of readings that nobody declared; gives the ms that they cover."""
    period = min(next((item.period for item in reversed(items) if item.period), size), size)
    gaps = [min(after.time - item.time, period) for item, after in pairwise(items)]
    # The last one of a burst says no more than the others do.
    last = max(gaps, default=period)
    even = last <= 2 * min(gaps, default=period)
    for place, gap in zip(places, [*gaps, last], strict=True):
        # What comes evenly, as far as clocks go, counts evenly.
        weights[place] = last if even else gap
    return min(size, sum(gaps) + period)
