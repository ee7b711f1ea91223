"""What a station has measured, hour by hour: the immutable value that averages, NowCasts and indices read.

Values are ug/m3 at `reference_celsius` (the network's own, see `aqi.units`), per pollutant and hour with the
seconds that were measured and the seconds that were imputed. The hour in progress is in there too, with the
seconds it has so far. Quarter hours are kept for the last two hours, for the 15-minute mean of the UK index.

An imputed value comes with an interval. Beside each mean stands how far the mean of the lower ends lies
below it and that of the upper ends above it; a measured value adds nothing to either. So within an hour
errors are taken as wholly correlated (JCGM 100:2008, 5.2.2, note 1). How far the interval of a mean over
several hours reaches also depends on how long errors last: the persistence that stands beside them says it,
and `aqi.reach` does the sum.

Of ozone, where the station has ever measured it, hours older than the horizon are kept as well: EPA's NowCast
regresses two weeks of them (`aqi.nowcast`). One pollutant, in single precision: 2 kB of a checkpoint.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from aqi.errors import HistoryError
from aqi.nowcast import OZONE_BACK, OZONE_HOURS
from schemas.parameters import PARAMETERS

HOUR_MS: Final = 3_600_000
QUARTER_MS: Final = 900_000
#: Quarter hours kept: two hours of them.
QUARTERS: Final = 8
COLUMN: Final[dict[str, int]] = {parameter: column for column, parameter in enumerate(PARAMETERS)}
#: Complete hours of ozone that its NowCast asks for.
OZONE_KEPT: Final = OZONE_HOURS + OZONE_BACK


#: Means (ug/m3), measured and imputed seconds, how far the intervals of the means reach below and above, and
#: the persistence of what was imputed.
Arrays = tuple[npt.NDArray[Any], ...]
_ARRAYS: Final = ("mean", "measured_s", "imputed_s", "below", "above", "persistence")
_REACH: Final = ("below", "above", "persistence")
_OZONE: Final = {
    "mean": np.float32, "measured_s": np.int16, "imputed_s": np.int16, "below": np.float32,
    "above": np.float32,
}  # fmt: skip


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

    Arrays are (rows, parameters); those of the reach are None where all is measured.
    """

    end_ms: int = 0
    parameters: tuple[str, ...] = ()
    mean: npt.NDArray[np.float64] = msgspec.field(default_factory=lambda: np.zeros((0, 0)))
    measured_s: npt.NDArray[np.int32] = msgspec.field(default_factory=lambda: np.zeros((0, 0), np.int32))
    imputed_s: npt.NDArray[np.int32] = msgspec.field(default_factory=lambda: np.zeros((0, 0), np.int32))
    below: npt.NDArray[np.float32] | None = None
    above: npt.NDArray[np.float32] | None = None
    persistence: npt.NDArray[np.float32] | None = None


class OzoneState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`OlderOzone` as it is stored: arrays from the first hour with data on; None where all are zero."""

    end_ms: int = 0
    mean: npt.NDArray[np.float32] = msgspec.field(default_factory=lambda: np.zeros(0, np.float32))
    measured_s: npt.NDArray[np.int16] | None = None
    imputed_s: npt.NDArray[np.int16] | None = None
    below: npt.NDArray[np.float32] | None = None
    above: npt.NDArray[np.float32] | None = None


class HistoryState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`History` as it is stored. Earlier code did not say what the station has `ever_measured`."""

    horizon_hours: int = 48
    reference_celsius: float = 25.0
    hours: SlotsState = msgspec.field(default_factory=SlotsState)
    quarters: SlotsState = msgspec.field(default_factory=SlotsState)
    through_ms: int = 0
    ever_measured: tuple[str, ...] | None = None
    older_ozone: OzoneState = msgspec.field(default_factory=OzoneState)


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

    @classmethod
    def empty(cls, slot_ms: int, count: int) -> "Slots":
        """`count` slots without data, ending at the epoch."""
        return cls(slot_ms, 0, *_frozen(_blank(count)))

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
        """Means, measured and imputed seconds, reach below and above, persistence."""
        return self.mean, self.measured_s, self.imputed_s, self.below, self.above, self.persistence

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
        return Slots(self.slot_ms, end_ms, *_frozen(moved))

    def put(self, end_ms: int, means: Mapping[str, Mean], add: bool) -> "Slots":
        """These slots with the slot ending at `end_ms` set to `means`, or with `means` averaged into it."""
        grown = self.ending(end_ms) if end_ms > self.end_ms else self
        row = len(grown.mean) - 1 - (grown.end_ms - end_ms) // self.slot_ms
        if row < 0:
            return self  # older than the horizon
        # Plain numbers: six of them are faster handled one by one than as arrays.
        before: list[list[Any]] = [array[row].tolist() for array in grown.arrays()]
        if not add:
            before = [[math.nan] * len(COLUMN), *([0] * len(COLUMN) for _ in _ARRAYS[1:])]
        values, measured, imputed, below, above, persistence = before
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
        arrays = tuple(array.copy() for array in grown.arrays())
        for array, line in zip(arrays, (values, measured, imputed, below, above, persistence), strict=True):
            array[row] = line
        return Slots(self.slot_ms, grown.end_ms, *_frozen(arrays))

    def cover(self, since_ms: int, end_ms: int, values: Mapping[str, float]) -> "Slots":
        """These slots with means over the period [since_ms, end_ms) counted for all of it, once.

        What its windows were measured by already is of the same means: only the seconds that lack are added.
        (Of a slot in which the period begins, what was measured is taken to lie before it, as far as that
        can be.) They take the place of imputed ones. A slot has no more seconds than have passed.
        """
        covered = self.ending(_end_of(end_ms, self.slot_ms)) if end_ms > self.end_ms else self
        arrays = [array.copy() for array in covered.arrays()]
        mean, measured, imputed, below, above, _ = arrays
        for slot_end in range(
            _end_of(since_ms + 1, self.slot_ms), _end_of(end_ms, self.slot_ms) + 1, self.slot_ms
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
                heard, filled = int(measured[at]), int(imputed[at])
                added = min(of_period - max(0, heard - before), elapsed - heard)
                if added <= 0:
                    continue
                kept = min(filled, elapsed - heard - added)
                total = heard + kept + added
                known = float(mean[at]) * (heard + kept) if heard + kept else 0.0
                mean[at] = (known + value * added) / total
                for reach in (below, above):
                    reach[at] = (
                        float(reach[at]) * (heard + filled) * kept / (filled * total) if filled else 0.0
                    )
                measured[at], imputed[at] = heard + added, kept
        return Slots(self.slot_ms, covered.end_ms, *_frozen(tuple(arrays)))

    def to_state(self) -> SlotsState:
        """What is stored of these slots."""
        seconds = self.measured_s + self.imputed_s
        used = np.flatnonzero(seconds.any(axis=1))
        first = int(used[0]) if len(used) else len(self.mean)
        columns = np.flatnonzero(seconds.any(axis=0))
        kept = {
            name: array[first:, columns]
            for name, array in zip(_ARRAYS, self.arrays(), strict=True)
            if name not in _REACH or array.any()
        }
        return SlotsState(
            end_ms=self.end_ms, parameters=tuple(PARAMETERS[column] for column in columns), **kept
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
        return cls(slot_ms, state.end_ms, *_frozen(arrays))


class OzoneSeries(NamedTuple):
    """Hours of ozone in a row, oldest first, as `Slots` has them (ug/m3; seconds are 0 where nothing is)."""

    mean: npt.NDArray[np.floating[Any]]
    measured_s: npt.NDArray[np.integer[Any]]
    imputed_s: npt.NDArray[np.integer[Any]]
    below: npt.NDArray[np.floating[Any]]
    above: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class OlderOzone:
    """Hours of ozone that have left the history's horizon, the newest ending at `end_ms`; read-only."""

    end_ms: int
    series: OzoneSeries
    hours: int  # from the first with data on

    @classmethod
    def of(cls, end_ms: int, arrays: Arrays) -> "OlderOzone":
        """The hours of these arrays (in the order of `OzoneSeries`); without data they end at the epoch."""
        series = OzoneSeries(*_frozen(arrays))
        filled = np.flatnonzero(series.measured_s + series.imputed_s)
        hours = len(series.mean) - int(filled[0]) if len(filled) else 0
        return cls(end_ms if hours else 0, series, hours)

    @classmethod
    def empty(cls, horizon_hours: int) -> "OlderOzone":
        """Nothing, and room for the hours that the NowCast asks for beyond the horizon."""
        count = max(OZONE_KEPT + 1 - horizon_hours, 0)
        return cls.of(0, tuple(np.zeros(count, kind) for kind in _OZONE.values()))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OlderOzone)
            and self.end_ms == other.end_ms
            and all(map(np.array_equal, self.series, other.series))
        )

    __hash__ = None  # type: ignore[assignment]  # arrays: no key of a dictionary

    def taking(self, hours: Slots, end_ms: int) -> "OlderOzone":
        """With the hours that end at `end_ms` or before, and without what is too old for it by then.

        An hour that `hours` knows nothing of leaves what is known here.
        """
        count, column = len(self.series.mean), COLUMN["o3"]
        if not count or end_ms <= self.end_ms:
            return self
        found = hours.rows(end_ms, count)
        known = np.zeros(0, np.bool_)
        if found is not None:
            known = (hours.measured_s + hours.imputed_s)[found[1], column] > 0
        if not self.hours and not known.any():
            return self
        kept = min((end_ms - self.end_ms) // HOUR_MS, count)
        moved = [np.concatenate([one[kept:], np.zeros(kept, one.dtype)]) for one in self.series]
        if found is not None:
            here, there = found
            for old, new in zip(moved, hours.arrays(), strict=False):  # in the same order, to `above`
                old[here][known] = new[there, column][known]
        return self.of(end_ms, tuple(moved))

    def to_state(self) -> OzoneState:
        """What is stored of these hours, without loss."""
        if not self.hours:
            return OzoneState()
        kept: dict[str, Any] = {
            name: array[-self.hours :]
            for name, array in zip(_OZONE, self.series, strict=True)
            if name == "mean" or array.any()
        }
        return OzoneState(end_ms=self.end_ms, **kept)

    @classmethod
    def from_state(cls, state: OzoneState, horizon_hours: int) -> "OlderOzone":
        """Inverse of `to_state`. HistoryError where its arrays do not fit."""
        arrays = [array.copy() for array in cls.empty(horizon_hours).series]
        rows, most = len(state.mean), len(arrays[0])
        if rows > most:
            raise HistoryError(f"a stored history has {rows} older hours of ozone, {most} are kept")
        for name, array in zip(_OZONE, arrays, strict=True):
            stored = getattr(state, name)
            if stored is None:
                continue
            if stored.shape != (rows,):
                raise HistoryError(f"stored ozone has {name} of shape {stored.shape}, not {(rows,)}")
            array[most - rows :] = stored
        return cls.of(state.end_ms, tuple(arrays))


@dataclass(frozen=True, slots=True)
class History:
    """Hourly means of one station over `horizon_hours` (that in progress included), and recent quarter hours.

    Immutable: `with_hour` and `with_window` give a new value. 48 hours serve every standard here, but
    for the ozone NowCast, which has `older_ozone`. `ever_measured`: what the station has measured, at
    some time; other pollutants are imputed from nothing of its own, and `aqi.index` says what that means.

    Examples:
        >>> minute = 60_000
        >>> history = History.empty()
        >>> for end, value in ((minute, 10.0), (2 * minute, 20.0)):
        ...     history = history.with_window(end, minute, {"pm25": Mean(value, measured_s=60)})
        >>> history.hours.end_ms == HOUR_MS, history.hours.mean[-1, COLUMN["pm25"]].item()
        (True, 15.0)
        >>> history.with_window(minute, minute, {"pm25": Mean(99.0, 60)}) is history  # is in already
        True
    """

    horizon_hours: int
    reference_celsius: float
    hours: Slots
    quarters: Slots
    through_ms: int
    ever_measured: frozenset[str]
    older_ozone: OlderOzone

    @classmethod
    def empty(cls, horizon_hours: int = 48, reference_celsius: float = 25.0) -> "History":
        """Nothing measured yet. `reference_celsius` is the temperature at which the network reports gases."""
        if horizon_hours < 26:
            raise HistoryError(
                f"a horizon of {horizon_hours} h is too short: 24-hour means need 26 (one late, one begun)"
            )
        return cls(
            horizon_hours,
            reference_celsius,
            Slots.empty(HOUR_MS, horizon_hours),
            Slots.empty(QUARTER_MS, QUARTERS),
            0,
            frozenset(),
            OlderOzone.empty(horizon_hours),
        )

    def with_hour(self, hour_end_ms: int, means: Mapping[str, Mean]) -> "History":
        """This history with the hour ending at `hour_end_ms` set to `means` (what is left out is missing).

        An hour older than the horizon changes nothing. HistoryError for a time that ends no hour, an unknown
        pollutant, a mean that is no finite number, or more seconds than the hour has.
        """
        if hour_end_ms % HOUR_MS or hour_end_ms <= 0:
            raise HistoryError(f"{hour_end_ms} ms does not end an hour of UTC: give the end of a whole hour")
        _check(means)
        hours = self.hours.put(hour_end_ms, means, add=False)
        return self._with(hours, self.quarters, max(self.through_ms, hour_end_ms), means)

    def with_window(self, end_ms: int, width_ms: int, means: Mapping[str, Mean]) -> "History":
        """This history with the window [end_ms - width_ms, end_ms) averaged into its hour and quarter hour.

        Windows come in order of time: one that ends at or before `through_ms` is already in, so that reading
        it again after a crash changes nothing. A window lies in one hour (HistoryError otherwise); one longer
        than a quarter hour leaves the quarters alone, so that no 15-minute mean is made of hourly data.
        """
        if end_ms <= self.through_ms:
            return self
        start_ms = end_ms - width_ms
        if width_ms <= 0 or start_ms < 0 or start_ms // HOUR_MS != (end_ms - 1) // HOUR_MS:
            raise HistoryError(
                f"window of {width_ms} ms ending at {end_ms} ms does not lie within one hour: "
                "use a width that divides an hour"
            )
        if start_ms < self.through_ms:
            raise HistoryError(
                f"window starting at {start_ms} ms overlaps the history, which ends at {self.through_ms} ms"
            )
        _check(means)
        quarters = self.quarters
        if start_ms // QUARTER_MS == (end_ms - 1) // QUARTER_MS:
            quarters = quarters.put(_end_of(end_ms, QUARTER_MS), means, add=True)
        hours = self.hours.put(_end_of(end_ms, HOUR_MS), means, add=True)
        return self._with(hours, quarters, end_ms, means)

    def _with(self, hours: Slots, quarters: Slots, through_ms: int, means: Mapping[str, Mean]) -> "History":
        ever, older = self.ever_measured, self.older_ozone
        news = [name for name, mean in means.items() if mean.measured_s and name not in ever]
        if news:
            ever = ever.union(news)
        if hours.end_ms != self.hours.end_ms and "o3" in ever:
            older = older.taking(self.hours, hours.end_ms - self.horizon_hours * HOUR_MS)
        return History(self.horizon_hours, self.reference_celsius, hours, quarters, through_ms, ever, older)

    def having_measured(self, pollutants: Iterable[str]) -> "History":
        """This history of a station that is known to have measured these too, some time ago."""
        return replace(self, ever_measured=self.ever_measured.union(pollutants))

    @property
    def ozone_hours(self) -> int:
        """Hours that there may be ozone of: those of the horizon, and the older ones that are kept."""
        return self.horizon_hours + self.older_ozone.hours

    def ozone(self, end_ms: int) -> OzoneSeries:
        """The hours of ozone that the NowCast asks for, the last one ending at `end_ms`."""
        column, older = COLUMN["o3"], self.older_ozone
        series = [np.zeros(OZONE_KEPT, array.dtype) for array in self.hours.arrays()[: len(_OZONE)]]
        rows = (end_ms - older.end_ms) // HOUR_MS  # of `series` that lie after what is older
        count = min(OZONE_KEPT - rows, len(older.series.mean))
        if older.end_ms and count > 0 and rows >= 0:
            for mine, its in zip(series, older.series, strict=True):
                mine[OZONE_KEPT - rows - count : OZONE_KEPT - rows] = its[len(its) - count :]
        found = self.hours.rows(end_ms, OZONE_KEPT)
        if found is not None:
            here, there = found
            known = (self.hours.measured_s + self.hours.imputed_s)[there, column] > 0
            for mine, new in zip(series, self.hours.arrays(), strict=False):
                mine[here][known] = new[there, column][known]
        return OzoneSeries(*series)

    def with_period(self, since_ms: int, end_ms: int, values: Mapping[str, float]) -> "History":
        """This history with means (ug/m3) over the period [since_ms, end_ms) counted; see `Slots.cover`.

        A period longer than a quarter of an hour leaves the quarters alone.
        """
        means = {name: Mean(value, 1) for name, value in values.items()}
        _check(means)
        hours = self.hours.cover(since_ms, end_ms, values)
        short = end_ms - since_ms <= QUARTER_MS
        quarters = self.quarters.cover(since_ms, end_ms, values) if short else self.quarters
        return self._with(
            hours, quarters, self.through_ms, {name: Mean(value, 1) for name, value in values.items()}
        )

    def as_of(self, hour_end_ms: int) -> "History":
        """This history without anything after `hour_end_ms` (the end of a whole hour)."""
        if hour_end_ms % HOUR_MS or hour_end_ms <= 0:
            raise HistoryError(f"{hour_end_ms} ms does not end an hour of UTC: give the end of a whole hour")
        if self.through_ms <= hour_end_ms:
            return self
        return replace(
            self,
            hours=self.hours.ending(hour_end_ms),
            quarters=self.quarters.ending(min(self.quarters.end_ms, hour_end_ms)),
            through_ms=hour_end_ms,
        )

    def hour(self, hour_end_ms: int) -> dict[str, Mean]:
        """What is known of the hour ending at `hour_end_ms`: pollutant to mean; empty where nothing is."""
        row = self.horizon_hours - 1 - (self.hours.end_ms - hour_end_ms) // HOUR_MS
        if hour_end_ms % HOUR_MS or not 0 <= row < self.horizon_hours:
            return {}
        slots = self.hours
        return {
            parameter: Mean(
                float(slots.mean[row, column]),
                int(slots.measured_s[row, column]),
                int(slots.imputed_s[row, column]),
                float(slots.below[row, column]),
                float(slots.above[row, column]),
                float(slots.persistence[row, column]) if slots.imputed_s[row, column] else 1.0,
            )
            for parameter, column in COLUMN.items()
            if slots.measured_s[row, column] + slots.imputed_s[row, column] > 0
        }

    def to_state(self) -> HistoryState:
        """What is stored of this history, without loss."""
        return HistoryState(
            horizon_hours=self.horizon_hours,
            reference_celsius=self.reference_celsius,
            hours=self.hours.to_state(),
            quarters=self.quarters.to_state(),
            through_ms=self.through_ms,
            ever_measured=tuple(sorted(self.ever_measured)),
            older_ozone=self.older_ozone.to_state(),
        )

    @classmethod
    def from_state(cls, state: HistoryState) -> "History":
        """Inverse of `to_state`. HistoryError where its parts do not fit."""
        hours = Slots.from_state(state.hours, HOUR_MS, state.horizon_hours)
        ever = state.ever_measured
        if ever is None:
            ever = tuple(name for name in PARAMETERS if hours.measured(name))
        return cls(
            state.horizon_hours,
            state.reference_celsius,
            hours,
            Slots.from_state(state.quarters, QUARTER_MS, QUARTERS),
            state.through_ms,
            frozenset(ever),
            OlderOzone.from_state(state.older_ozone, state.horizon_hours),
        )


def _end_of(time_ms: int, slot_ms: int) -> int:
    return -(-time_ms // slot_ms) * slot_ms


def _check(means: Mapping[str, Mean]) -> None:
    for parameter, mean in means.items():
        if parameter not in COLUMN:
            raise HistoryError(
                f"{parameter!r} is no pollutant of the history: it holds {', '.join(PARAMETERS)}"
            )
        if mean.measured_s < 0 or mean.imputed_s < 0:
            raise HistoryError(f"{parameter}: seconds cannot be negative, got {mean}")
        if mean.measured_s + mean.imputed_s > 0:
            if not math.isfinite(mean.value):
                raise HistoryError(
                    f"{parameter}: {mean.value} is no concentration: leave a missing pollutant out"
                )
            if not (0.0 <= mean.below < math.inf and 0.0 <= mean.above < math.inf):
                raise HistoryError(
                    f"{parameter}: an interval reaches 0 or more ug/m3 below and above its mean, got {mean}"
                )
            if not 0.0 <= mean.persistence <= 1.0:
                raise HistoryError(f"{parameter}: a persistence is between 0 and 1, got {mean}")


def _blank(count: int) -> Arrays:
    """Arrays of `count` slots without data, to be filled."""
    shape = (count, len(PARAMETERS))
    return (
        np.full(shape, np.nan),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )


def _frozen(arrays: Arrays) -> Arrays:
    for array in arrays:
        array.flags.writeable = False
    return arrays
