"""Equal periods in a row, and the mean of every pollutant over each of them: the hours of `aqi.history`.

Values are ug/m3 at the network's own reference temperature (`aqi.units`), per pollutant and period with the
seconds that were measured and the seconds that were imputed.

An imputed value comes with an interval. Beside each mean stands how far the mean of the lower ends lies
below it and that of the upper ends above it; a measured value adds nothing to either. So within an hour
errors are taken as wholly correlated (JCGM 100:2008, 5.2.2, note 1). How far the interval of a mean over
several hours reaches also depends on how long errors last: the persistence that stands beside them says it,
and `aqi.reach` does the sum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from aqi.errors import HistoryError
from schemas.parameters import POLLUTANTS
from schemas.times import end_of

COLUMN: Final[dict[str, int]] = {parameter: column for column, parameter in enumerate(POLLUTANTS)}

#: Means (ug/m3), measured and imputed seconds, how far the intervals of the means reach below and above, the
#: persistence of what was imputed, and its mean.
Arrays = tuple[npt.NDArray[Any], ...]
_ARRAYS: Final = ("mean", "measured_s", "imputed_s", "below", "above", "persistence", "filled")
_REACH: Final = ("below", "above", "persistence")


class Mean(NamedTuple):
    """Mean of a pollutant (ug/m3) over the measured and imputed seconds of some period.

    `below` and `above`: how far its interval reaches down and up from it (ug/m3); zero where all is measured.
    `persistence`: correlation of the error of what was imputed with that of an hour later, 0 to 1. At 1, the
    safe side, it lasts; over several parts the mean by imputed seconds is kept.
    """

    value: float
    measured_s: int
    imputed_s: int = 0
    below: float = 0.0
    above: float = 0.0
    persistence: float = 1.0


class SlotsState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`Slots` as they are stored: from the first row with data on, and the pollutants with data only.

    Arrays are (rows, parameters); those of the reach, and what was filled in, are None where all is measured.
    Earlier code did not say what was filled in.
    """

    end_ms: int = 0
    parameters: tuple[str, ...] = ()
    mean: npt.NDArray[np.float64] = msgspec.field(default_factory=lambda: np.zeros((0, 0)))
    measured_s: npt.NDArray[np.int32] = msgspec.field(default_factory=lambda: np.zeros((0, 0), np.int32))
    imputed_s: npt.NDArray[np.int32] = msgspec.field(default_factory=lambda: np.zeros((0, 0), np.int32))
    below: npt.NDArray[np.float32] | None = None
    above: npt.NDArray[np.float32] | None = None
    persistence: npt.NDArray[np.float32] | None = None
    filled: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Equal periods in a row, oldest first, the last ending at `end_ms`. Arrays are (slots, 6), read-only."""

    slot_ms: int
    end_ms: int
    mean: npt.NDArray[np.float64]
    measured_s: npt.NDArray[np.int32]
    imputed_s: npt.NDArray[np.int32]
    below: npt.NDArray[np.float32]
    above: npt.NDArray[np.float32]
    persistence: npt.NDArray[np.float32]
    filled: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, slot_ms: int, count: int) -> "Slots":
        """`count` slots without data, ending at the epoch."""
        return cls(slot_ms, 0, *frozen(_blank(count)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Slots)
            and (self.slot_ms, self.end_ms) == (other.slot_ms, other.end_ms)
            and all(
                np.array_equal(mine, its, equal_nan=True)
                for mine, its in zip(self.arrays(), other.arrays(), strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]  # arrays: no key of a dictionary

    def arrays(self) -> "Arrays":
        """Means, measured and imputed seconds, reach below and above, persistence, what was filled in."""
        reach = self.below, self.above, self.persistence
        return self.mean, self.measured_s, self.imputed_s, *reach, self.filled

    def measured(self, parameter: str) -> bool:
        """Whether any of these periods has measured seconds of the pollutant."""
        return bool(self.measured_s[:, COLUMN[parameter]].any())

    def rows(self, last_end_ms: int, count: int) -> "tuple[slice, slice] | None":
        """(rows of a block of `count` ending at `last_end_ms`, rows here) that are the same periods."""
        size = len(self.mean)
        shift = (last_end_ms - self.end_ms) // self.slot_ms  # rows that the block's end lies after ours
        first = max(0, size - count + shift)
        last = min(size, size + shift)
        if first >= last:
            return None
        offset = count - size - shift
        return slice(first + offset, last + offset), slice(first, last)

    def ending(self, end_ms: int) -> "Slots":
        """As many slots, moved so that the last ends at `end_ms`; what falls out at either end is gone."""
        if end_ms == self.end_ms:
            return self
        moved = _blank(len(self.mean))
        kept = self.rows(end_ms, len(self.mean))
        if kept is not None:
            here, there = kept
            for new, old in zip(moved, self.arrays(), strict=True):
                new[here] = old[there]
        return Slots(self.slot_ms, end_ms, *frozen(moved))

    def put(self, end_ms: int, means: Mapping[str, Mean], add: bool) -> "Slots":
        """These slots with the slot ending at `end_ms` set to `means`, or with `means` averaged into it."""
        grown = self.ending(end_ms) if end_ms > self.end_ms else self
        row = len(grown.mean) - 1 - (grown.end_ms - end_ms) // self.slot_ms
        if row < 0:
            return self  # older than the horizon
        # Plain numbers: six of them are faster handled one by one than as arrays. Changed in place.
        before: list[list[Any]] = [array[row].tolist() for array in grown.arrays()]
        if not add:
            before = [[math.nan] * len(COLUMN), *([0] * len(COLUMN) for _ in _ARRAYS[1:])]
        values, measured, imputed, below, above, persistence, filled = before
        full_s = self.slot_ms // 1000
        for parameter, part in means.items():
            column = COLUMN[parameter]
            seconds = part.measured_s + part.imputed_s
            if seconds == 0:
                continue
            total = measured[column] + imputed[column] + seconds
            if total > full_s:
                raise HistoryError(
                    f"{parameter}: {total} s of data for a period of {full_s} s ending at {end_ms} ms: "
                    "give every second once"
                )
            if total == seconds:
                values[column], below[column], above[column] = part.value, part.below, part.above
            else:
                share = seconds / total
                values[column] += (part.value - values[column]) * share
                below[column] += (part.below - below[column]) * share
                above[column] += (part.above - above[column]) * share
            measured[column] += part.measured_s
            imputed[column] += part.imputed_s
            if part.imputed_s:
                of_part = part.imputed_s / imputed[column]
                persistence[column] += (part.persistence - persistence[column]) * of_part
                filled[column] += (part.value - filled[column]) * of_part
        arrays = tuple(array.copy() for array in grown.arrays())
        for array, line in zip(arrays, before, strict=True):
            array[row] = line
        return Slots(self.slot_ms, grown.end_ms, *frozen(arrays))

    def cover(self, since_ms: int, end_ms: int, values: Mapping[str, float]) -> "Slots":
        """These slots with means over the period [since_ms, end_ms) counted for all of it, once.

        What its windows were measured by already is of the same means: only the seconds that lack are added.
        (Of a slot in which the period begins, what was measured is taken to lie before it, as far as that
        can be.) They take the place of imputed ones, of whose values nothing is left. A slot has no more
        seconds than have passed.
        """
        covered = self.ending(end_of(end_ms, self.slot_ms)) if end_ms > self.end_ms else self
        arrays = [array.copy() for array in covered.arrays()]
        mean, measured, imputed, below, above, _, filled = arrays
        for slot_end in range(
            end_of(since_ms + 1, self.slot_ms), end_of(end_ms, self.slot_ms) + 1, self.slot_ms
        ):
            row = len(mean) - 1 - (covered.end_ms - slot_end) // self.slot_ms
            if not 0 <= row < len(mean):
                continue
            begin, passed = slot_end - self.slot_ms, min(end_ms, slot_end)
            of_period = (passed - max(since_ms, begin)) // 1000
            before = max(0, since_ms - begin) // 1000
            elapsed = (passed - begin) // 1000
            for parameter, value in values.items():
                at = row, COLUMN[parameter]
                heard, guessed = int(measured[at]), int(imputed[at])
                added = min(of_period - max(0, heard - before), elapsed - heard)
                if added <= 0:
                    continue
                kept = min(guessed, elapsed - heard - added)
                total = heard + kept + added
                guess = float(filled[at])
                known = float(mean[at]) * (heard + guessed) - guess * guessed if heard else 0.0
                mean[at] = (known + guess * kept + value * added) / total
                for reach in (below, above):
                    reach[at] = (
                        float(reach[at]) * (heard + guessed) * kept / (guessed * total) if guessed else 0.0
                    )
                measured[at], imputed[at] = heard + added, kept
                filled[at] = guess if kept else 0.0
        return Slots(self.slot_ms, covered.end_ms, *frozen(tuple(arrays)))

    def to_state(self) -> SlotsState:
        """What is stored of these slots."""
        seconds = self.measured_s + self.imputed_s
        used = np.flatnonzero(seconds.any(axis=1))
        first = int(used[0]) if len(used) else len(self.mean)
        columns = np.flatnonzero(seconds.any(axis=0))
        kept = {
            name: array[first:, columns]
            for name, array in zip(_ARRAYS, self.arrays(), strict=True)
            if (name not in _REACH or array.any()) and (name != "filled" or self.imputed_s.any())
        }
        return SlotsState(
            end_ms=self.end_ms, parameters=tuple(POLLUTANTS[column] for column in columns), **kept
        )

    @classmethod
    def from_state(cls, state: SlotsState, slot_ms: int, count: int) -> "Slots":
        """Inverse of `to_state`. HistoryError where its arrays do not fit."""
        rows = len(state.mean)
        if rows > count:
            raise HistoryError(f"a stored history has {rows} rows, its horizon is {count}")
        unknown = sorted(set(state.parameters) - COLUMN.keys())
        if unknown:
            raise HistoryError(f"a stored history has pollutants that there are not: {', '.join(unknown)}")
        columns = [COLUMN[parameter] for parameter in state.parameters]
        arrays = _blank(count)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            stored = getattr(state, name)
            if stored is None:
                continue
            if stored.shape != (rows, len(columns)):
                raise HistoryError(
                    f"a stored history has {name} of shape {stored.shape}, not {(rows, len(columns))}"
                )
            array[count - rows :, columns] = stored
        mean, _, imputed, *_, filled = arrays
        if state.filled is None:
            filled[imputed > 0] = mean[imputed > 0]
        return cls(slot_ms, state.end_ms, *frozen(arrays))


def _blank(count: int) -> Arrays:
    """Arrays of `count` slots without data, to be filled."""
    shape = (count, len(POLLUTANTS))
    return (
        np.full(shape, np.nan),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )


def frozen(arrays: Arrays) -> Arrays:
    for array in arrays:
        array.flags.writeable = False
    return arrays
