"""Running means over 15 minutes, 1, 8 and 24 hours with the completeness a standard asks for.

Regulatory means are made of clock periods (hours of UTC; quarter hours for 15 minutes). A period *counts*
when a stated share of it has data. A mean at time t is, in this order:

1. `VALID`: enough counting, *measured* periods in the window that ends with the last complete one, or in the
   window one period earlier (the last hour may still be arriving);
2. `INDICATIVE`: enough counting periods in the same windows when imputed seconds are allowed too;
3. otherwise the mean, by seconds, of all there is in the window and the period in progress: `INDICATIVE` from
   half of the seconds that a complete mean needs, `INSUFFICIENT` below that, `NOTHING` without any.

Which periods count is a matter of seconds, not of values, so a mean's weights are the same at the ends of its
interval; how far that reaches is said in `aqi.reach`.

More data never lowers the status. All sums run in a fixed order, so the same history gives the same bits
whatever other stations are computed beside it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aqi.history import History
from aqi.reach import of_mean, ordered_sum
from aqi.slots import Slots
from schemas.arrays import Bool, Float64
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS, QUARTER_MS

NOTHING: Final = 0
INSUFFICIENT: Final = 1
INDICATIVE: Final = 2
VALID: Final = 3

#: Part of the seconds a complete mean needs from which an incomplete one is worth showing.
INDICATIVE_SHARE: Final = 0.5
#: How many periods before the last complete one a window may end.
LOOKBACK: Final = 1

Integers = npt.NDArray[np.int64]


def as_level(mean: float) -> float:
    """A mean (ug/m3) as how much there is in the air, for who scores, learns or forecasts it: not below 0.

    An instrument's noise in clean air reaches below zero and belongs into the mean, so means are published as
    they are. But there is never less than nothing: models say none, and take logarithms of 1 + it.
    """
    return max(mean, 0.0)


class Block(NamedTuple):
    """Aligned periods of S stations: arrays (rows, S, 6); the last row is the period in progress."""

    slot_ms: int
    end_ms: Integers  # (S,) end of the last complete period, that of row -2
    mean: Float64  # ug/m3, zero where there is no data
    measured_s: Integers
    imputed_s: Integers
    places: Integers  # (P,) the stations that have an interval, since something was imputed
    below: Float64  # (rows, P, 6) ug/m3 by which it reaches below each mean, and above it
    above: Float64
    persistence: Float64  # (rows, P, 6) from hour to hour; 1 for shorter periods


class Averages(NamedTuple):
    """Running means of S stations and six pollutants: arrays (S, 6)."""

    mean: Float64  # ug/m3, NaN with status NOTHING
    status: npt.NDArray[np.int8]
    counting: Integers  # periods that count (measured ones for VALID, else imputed included)
    imputed_share: Float64
    end_ms: Integers
    low: Float64  # (P, 6) ends of the intervals, ug/m3, of the stations that have one
    high: Float64


def block(
    histories: Sequence[History],
    at_ms: Sequence[int],
    rows: int,
    slot_ms: int,
    places: Integers | None = None,
) -> Block:
    """The last `rows` periods of each history at its time; the last row is the period in progress.

    `places`: the stations to give an interval (default: those with anything imputed in these periods).
    """
    shape = (rows, len(histories), len(POLLUTANTS))
    mean, measured, imputed = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    ends = np.empty(len(histories), np.int64)
    same: list[tuple[slice, slice] | None] = []
    for station, (history, now) in enumerate(zip(histories, at_ms, strict=True)):
        slots = _slots(history, slot_ms)
        end = now // slot_ms * slot_ms
        ends[station] = end
        same.append(slots.rows(end + slot_ms, rows))
        if (found := same[-1]) is not None:
            here, there = found
            mean[here, station] = slots.mean[there]
            measured[here, station] = slots.measured_s[there]
            imputed[here, station] = slots.imputed_s[there]
    np.nan_to_num(mean, copy=False, nan=0.0)
    if places is None:
        places = np.flatnonzero(imputed.any(axis=(0, 2)))
    below, above, persistence = np.zeros((3, rows, len(places), len(POLLUTANTS)))
    for place, station in enumerate(places.tolist()):
        if (found := same[station]) is not None:
            here, there = found
            slots = _slots(histories[station], slot_ms)
            below[here, place] = slots.below[there]
            above[here, place] = slots.above[there]
            persistence[here, place] = slots.persistence[there] if slot_ms == HOUR_MS else 1.0
    return Block(slot_ms, ends, mean, measured, imputed, places, below, above, persistence)


def _slots(history: History, slot_ms: int) -> Slots:
    return history.hours if slot_ms == HOUR_MS else history.quarters


def running(periods: Block, length: int, needed: int, share: float) -> Averages:
    """Means over `length` periods, of which `needed` must count; one counts from `share` of its seconds."""
    rows = len(periods.mean)
    full_s = periods.slot_ms // 1000
    everything_s = periods.measured_s + periods.imputed_s
    measured_counts = periods.measured_s >= share * full_s
    any_counts = everything_s >= share * full_s

    shape = periods.mean.shape[1:]
    mean, imputed_share = np.full(shape, np.nan), np.zeros(shape)
    low, high = np.full((2, len(periods.places), shape[1]), np.nan)
    status, counting = np.zeros(shape, np.int8), np.zeros(shape, np.int64)
    end_ms = np.repeat(periods.end_ms[:, None], shape[1], axis=1)

    def take(
        where: Bool,
        grade: int,
        window: slice,
        chosen: Bool,
        factor: Bool | Integers,
        count: Integers,
        weight: Float64,
    ) -> None:
        means = periods.mean[window]
        mean[where] = ordered_sum(means * factor)[where] / weight[where]
        imputed_share[where] = _share(periods, window, chosen)[where]
        status[where], counting[where] = grade, count[where]
        here = where[periods.places]
        if here.any():
            shares = factor[:, periods.places] / weight[periods.places]
            middle = mean[periods.places]
            persistence = periods.persistence[window]
            low[here] = (middle - of_mean(shares, periods.below[window], persistence))[here]
            high[here] = (middle + of_mean(shares, periods.above[window], persistence))[here]

    for grade, counts in ((VALID, measured_counts), (INDICATIVE, any_counts)):
        for back in range(LOOKBACK + 1):
            open_ = status == NOTHING
            if not open_.any():
                break
            window = slice(rows - 1 - back - length, rows - 1 - back)
            chosen = counts[window]
            count = chosen.sum(axis=0)
            enough = open_ & (count >= needed)
            if enough.any():
                weight = np.maximum(count, 1).astype(np.float64)
                take(enough, grade, window, chosen, chosen, count, weight)
                end_ms[enough] -= back * periods.slot_ms
    rest = status == NOTHING
    if rest.any():
        window = slice(rows - 1 - length, rows)
        seconds = everything_s[window]
        total_s = seconds.sum(axis=0)
        count = any_counts[window].sum(axis=0)
        some = rest & (total_s > 0)
        half = total_s >= INDICATIVE_SHARE * needed * share * full_s
        weight = np.maximum(total_s, 1).astype(np.float64)
        for where, grade in ((some & half, INDICATIVE), (some & ~half, INSUFFICIENT)):
            if where.any():
                take(where, grade, window, seconds > 0, seconds, count, weight)
    return Averages(mean, status, counting, imputed_share, end_ms, low, high)


def _share(periods: Block, window: slice, chosen: Bool) -> Float64:
    imputed = np.where(chosen, periods.imputed_s[window], 0).sum(axis=0)
    if not imputed.any():
        return np.zeros(imputed.shape)
    everything = np.where(chosen, periods.measured_s[window], 0).sum(axis=0) + imputed
    result: Float64 = imputed / np.maximum(everything, 1)
    return result


#: Periods of which each averaging is made, and how many.
PERIODS: Final[dict[str, tuple[int, int]]] = {
    "15min": (QUARTER_MS, 1),
    "1h": (HOUR_MS, 1),
    "8h": (HOUR_MS, 8),
    "24h": (HOUR_MS, 24),
}
