"""The index of one pollutant's mean, with what it rests on and the ends of its interval: the look-up."""

from collections.abc import Sequence
from itertools import repeat
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aqi.averaging import INDICATIVE, PERIODS, VALID, Averages
from aqi.slots import COLUMN
from aqi.standards import Measure, Standard
from aqi.units import CANONICAL_UNIT, factor
from schemas.estimate import Status

#: By grade of `averaging`; NOTHING has no sub-index to be written on.
_STATUS: Final[tuple[Status, ...]] = ("insufficient", "insufficient", "indicative", "valid")


class SubIndex(NamedTuple):
    """The index of one pollutant: from which mean, over which period, and how good that is."""

    parameter: str
    averaging: str  # 15min, 1h, 8h, 24h; a NowCast names its method
    index: int  # type: ignore[assignment]  # the field's word for it; nobody searches this tuple
    value: float  # the mean, in `unit`, before the standard's rounding
    unit: str
    status: Status
    reason: str  # empty when valid
    imputed_share: float  # of the seconds the mean rests on, 0..1
    periods: int  # hours (quarter hours) that count
    periods_needed: int
    end_ms: int  # end of the period averaged over; 0 where the caller averaged
    beyond: bool  # above the last concentration that the standard gives an index for
    lo: int | None = None  # ends of the 90 % interval; None where nothing that the mean rests on was imputed
    hi: int | None = None


#: The sub-indices of a station's means, in the order of the report's tables. `MUTE` stands for the index of
#: a mean whose table speaks of its upper end only (EPA's 1-hour ozone).
Found = list[SubIndex]
MUTE: Final = -1


def subindices(
    standard: Standard, parameter: str, averaging: str, concentrations: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Sub-indices of concentrations in the table's unit, NaN where missing or too low for that table."""
    return standard.measure(parameter, averaging).indices(concentrations)


def grade(
    standard: Standard,
    measure: Measure,
    means: Averages,
    references: Sequence[float],
    places: npt.NDArray[np.int64],
    found: list[Found],
    longer: bool,
) -> None:
    """Adds the sub-index of one measure to what was found per station.

    `longer`: the averaging is longer than that of the pollutant's first table (EPA's 24-hour SO2 beside the
    1-hour one). Then it adds to that one when it is complete, and does not stand in for it before.
    """
    column = COLUMN[measure.parameter]
    status = means.status[:, column]
    factors = factors_of(standard, measure, references)
    scale = factors[places]
    values = means.mean[:, column] * factors
    if longer:
        complete = means.counting[:, column] >= measure.slots_needed
        values = np.where((status >= INDICATIVE) & complete, values, np.nan)
    counting, share = means.counting[:, column], means.imputed_share[:, column]
    graded = GradedMeans(
        measure.averaging, values, status, _reasons(measure, status, counting, share), share, counting,
        measure.slots_needed, means.end_ms[:, column],
        Ends(places, means.low[:, column] * scale, means.high[:, column] * scale),
    )  # fmt: skip
    add(measure, graded, found)


class Ends(NamedTuple):
    """Ends of the intervals of a mean, in the unit of its table, of the stations that have one."""

    places: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


class GradedMeans(NamedTuple):
    """A mean of each of S stations, how good it is, and what it rests on; arrays and lists have length S."""

    averaged: str | list[str]  # over what, or by which NowCast; one word where it is that of all
    values: npt.NDArray[np.float64]  # in the unit of the table
    status: npt.NDArray[np.int8]  # grades of `averaging`
    reasons: list[str]  # why it is not valid; "" where it is
    imputed_share: npt.NDArray[np.float64]
    periods: npt.NDArray[np.int64]  # hours (quarter hours) that count
    periods_needed: int
    end_ms: npt.NDArray[np.int64]
    ends: Ends


def add(measure: Measure, means: GradedMeans, found: list[Found]) -> None:
    """Looks the means and their ends up and adds a sub-index to every station that has one."""
    values, ends = means.values, means.ends
    indices = measure.indices(values)
    there = ~np.isnan(indices)  # not: no data, or so low that this table does not speak
    indices = np.where(there, indices, MUTE)
    lows: list[int | None] = [None] * len(values)
    highs: list[int | None] = [None] * len(values)
    guessed = ends.places[(means.imputed_share[ends.places] > 0) & ~np.isnan(values[ends.places])]
    if len(guessed):
        # An end that the table is mute about is below the least that it speaks of.
        both = np.full((2, len(values)), np.nan)
        both[:, ends.places] = ends.low, ends.high
        both = np.nan_to_num(measure.indices(both[:, guessed]), nan=MUTE)
        low = np.clip(both[0], 0, np.maximum(indices[guessed], 0))
        there[guessed] |= both[1] >= 0
        for place, least, most in zip(
            guessed.tolist(),
            low.astype(np.int64).tolist(),
            np.maximum(both[1], indices[guessed]).astype(np.int64).tolist(),
            strict=True,
        ):
            lows[place], highs[place] = least, most
    rows = zip(
        repeat(measure.parameter),
        repeat(means.averaged) if isinstance(means.averaged, str) else means.averaged,
        indices.astype(np.int64).tolist(),
        values.tolist(),
        repeat(measure.unit),
        [_STATUS[grade] for grade in means.status.tolist()],
        means.reasons,
        means.imputed_share.tolist(),
        means.periods.tolist(),
        repeat(means.periods_needed),
        means.end_ms.tolist(),
        measure.beyond(values).tolist(),
        lows,
        highs,
        strict=False,
    )
    for best, sub, ok in zip(found, map(SubIndex._make, rows), there.tolist(), strict=True):
        if ok:
            best.append(sub)


def factors_of(standard: Standard, measure: Measure, references: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(
        [
            factor(measure.parameter, CANONICAL_UNIT, measure.unit, reference, standard.reference_celsius)
            for reference in references
        ]
    )


def _reasons(
    measure: Measure,
    status: npt.NDArray[np.int8],
    counting: npt.NDArray[np.int64],
    imputed: npt.NDArray[np.float64],
) -> list[str]:
    """Per station why a mean is not valid, in words; empty for those that are."""
    reasons = [""] * len(status)
    period = "quarter hours" if measure.averaging == "15min" else "hours"
    length = PERIODS[measure.averaging][1]
    for place in np.flatnonzero(status != VALID).tolist():
        if status[place] == INDICATIVE and counting[place] >= measure.slots_needed:
            share = f"{imputed[place]:.0%} of its input"
            reasons[place] = f"{measure.key}: complete only with imputed values ({share})"
        elif length == 1:
            reasons[place] = f"{measure.key}: no complete {period[:-1]} yet"
        else:
            reasons[place] = (
                f"{measure.key}: {counting[place]} of {length} {period}, {measure.slots_needed} needed"
            )
    return reasons
