"""What a station has measured, hour by hour: the immutable value that averages, NowCasts and indices read.

Values are ug/m3 at `reference_celsius` (the network's own, see `aqi.units`), per pollutant and hour with the
seconds that were measured and the seconds that were imputed. The hour in progress is in there too, with the
seconds it has so far. Quarter hours are kept for the last two hours, for the 15-minute mean of the UK index.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aqi.errors import HistoryError
from schemas.parameters import PARAMETERS

HOUR_MS: Final = 3_600_000
QUARTER_MS: Final = 900_000
#: Quarter hours kept: two hours of them.
QUARTERS: Final = 8
COLUMN: Final[dict[str, int]] = {parameter: column for column, parameter in enumerate(PARAMETERS)}
_STATE_VERSION: Final = 1


class Mean(NamedTuple):
    """Mean of a pollutant (ug/m3) over the measured and imputed seconds of some period."""

    value: float
    measured_s: int
    imputed_s: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Equal periods in a row, oldest first, the last ending at `end_ms`. Arrays are (slots, 6), read-only."""

    slot_ms: int
    end_ms: int
    mean: npt.NDArray[np.float64]
    measured_s: npt.NDArray[np.int32]
    imputed_s: npt.NDArray[np.int32]

    @classmethod
    def empty(cls, slot_ms: int, count: int) -> "Slots":
        """`count` slots without data, ending at the epoch."""
        shape = (count, len(PARAMETERS))
        return cls(
            slot_ms, 0, *_frozen(np.full(shape, np.nan), np.zeros(shape, np.int32), np.zeros(shape, np.int32))
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Slots)
            and (self.slot_ms, self.end_ms) == (other.slot_ms, other.end_ms)
            and np.array_equal(self.mean, other.mean, equal_nan=True)
            and np.array_equal(self.measured_s, other.measured_s)
            and np.array_equal(self.imputed_s, other.imputed_s)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays: no key of a dictionary

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
        moved = Slots.empty(self.slot_ms, len(self.mean))
        mean, measured, imputed = moved.mean.copy(), moved.measured_s.copy(), moved.imputed_s.copy()
        kept = self.rows(end_ms, len(self.mean))
        if kept is not None:
            here, there = kept
            mean[here], measured[here], imputed[here] = (
                self.mean[there],
                self.measured_s[there],
                self.imputed_s[there],
            )
        return Slots(self.slot_ms, end_ms, *_frozen(mean, measured, imputed))

    def put(self, end_ms: int, means: Mapping[str, Mean], add: bool) -> "Slots":
        """These slots with the slot ending at `end_ms` set to `means`, or with `means` averaged into it."""
        grown = self.ending(end_ms) if end_ms > self.end_ms else self
        row = len(grown.mean) - 1 - (grown.end_ms - end_ms) // self.slot_ms
        if row < 0:
            return self  # older than the horizon
        # Plain numbers: six of them are faster handled one by one than as arrays.
        values, measured, imputed = (
            (grown.mean[row].tolist(), grown.measured_s[row].tolist(), grown.imputed_s[row].tolist())
            if add
            else ([math.nan] * len(COLUMN), [0] * len(COLUMN), [0] * len(COLUMN))
        )
        full_s = self.slot_ms // 1000
        for parameter, part in means.items():
            column = COLUMN[parameter]
            value, measured_s, imputed_s = part
            seconds = measured_s + imputed_s
            if seconds == 0:
                continue
            total = measured[column] + imputed[column] + seconds
            if total > full_s:
                raise HistoryError(
                    f"{parameter}: {total} s of data for a period of {full_s} s ending at {end_ms} ms: "
                    "give every second once"
                )
            old = values[column]
            values[column] = value if total == seconds else old + (value - old) * (seconds / total)
            measured[column] += measured_s
            imputed[column] += imputed_s
        arrays = grown.mean.copy(), grown.measured_s.copy(), grown.imputed_s.copy()
        arrays[0][row], arrays[1][row], arrays[2][row] = values, measured, imputed
        return Slots(self.slot_ms, grown.end_ms, *_frozen(*arrays))

    def to_state(self) -> dict[str, Any]:
        """Plain data: only the rows from the first with data, only the pollutants with data."""
        seconds = self.measured_s + self.imputed_s
        used = np.flatnonzero(seconds.any(axis=1))
        first = int(used[0]) if len(used) else len(self.mean)
        columns = np.flatnonzero(seconds.any(axis=0))
        return {
            "end_ms": self.end_ms,
            "rows": len(self.mean) - first,
            "parameters": [PARAMETERS[column] for column in columns],
            "mean": _pack(self.mean[first:, columns], "<f8"),
            "measured_s": _pack(self.measured_s[first:, columns], "<i4"),
            "imputed_s": _pack(self.imputed_s[first:, columns], "<i4"),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], slot_ms: int, count: int) -> "Slots":
        """What `to_state` wrote."""
        rows, columns = int(state["rows"]), [COLUMN[parameter] for parameter in state["parameters"]]
        if rows > count:
            raise HistoryError(
                f"stored history has {rows} rows, its horizon is {count}: it was not written by this code"
            )
        blank = cls.empty(slot_ms, count)
        mean, measured, imputed = blank.mean.copy(), blank.measured_s.copy(), blank.imputed_s.copy()
        mean[count - rows :, columns] = _unpack(state, "mean", "<f8", rows, len(columns))
        measured[count - rows :, columns] = _unpack(state, "measured_s", "<i4", rows, len(columns))
        imputed[count - rows :, columns] = _unpack(state, "imputed_s", "<i4", rows, len(columns))
        return cls(slot_ms, int(state["end_ms"]), *_frozen(mean, measured, imputed))


@dataclass(frozen=True, slots=True)
class History:
    """Hourly means of one station over `horizon_hours` (that in progress included), and recent quarter hours.

    Immutable: `with_hour` and `with_window` give a new value. 48 hours serve every standard here; the ozone
    NowCast by partial least squares needs 337 (336 complete ones) and falls back to its surrogate with less.
    """

    horizon_hours: int
    reference_celsius: float
    hours: Slots
    quarters: Slots
    through_ms: int = 0

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
        )

    def with_hour(self, hour_end_ms: int, means: Mapping[str, Mean]) -> "History":
        """This history with the hour ending at `hour_end_ms` set to `means` (what is left out is missing).

        An hour older than the horizon changes nothing. HistoryError for a time that ends no hour, an unknown
        pollutant, a mean that is no finite number, or more seconds than the hour has.
        """
        if hour_end_ms % HOUR_MS or hour_end_ms <= 0:
            raise HistoryError(f"{hour_end_ms} ms does not end an hour of UTC: give the end of a whole hour")
        _check(means)
        return History(
            self.horizon_hours,
            self.reference_celsius,
            self.hours.put(hour_end_ms, means, add=False),
            self.quarters,
            max(self.through_ms, hour_end_ms),
        )

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
        return History(
            self.horizon_hours,
            self.reference_celsius,
            self.hours.put(_end_of(end_ms, HOUR_MS), means, add=True),
            quarters,
            end_ms,
        )

    def as_of(self, hour_end_ms: int) -> "History":
        """This history without anything after `hour_end_ms` (the end of a whole hour)."""
        if hour_end_ms % HOUR_MS or hour_end_ms <= 0:
            raise HistoryError(f"{hour_end_ms} ms does not end an hour of UTC: give the end of a whole hour")
        if self.through_ms <= hour_end_ms:
            return self
        return History(
            self.horizon_hours,
            self.reference_celsius,
            self.hours.ending(hour_end_ms),
            self.quarters.ending(min(self.quarters.end_ms, hour_end_ms)),
            hour_end_ms,
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
            )
            for parameter, column in COLUMN.items()
            if slots.measured_s[row, column] + slots.imputed_s[row, column] > 0
        }

    def to_state(self) -> dict[str, Any]:
        """Plain JSON-able data for `from_state`, without loss; equal values give equal data."""
        return {
            "v": _STATE_VERSION,
            "horizon_hours": self.horizon_hours,
            "reference_celsius": self.reference_celsius,
            "through_ms": self.through_ms,
            "hours": self.hours.to_state(),
            "quarters": self.quarters.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "History":
        """What `to_state` wrote. HistoryError for anything else."""
        if state.get("v") != _STATE_VERSION:
            raise HistoryError(
                f"stored history is of version {state.get('v')!r}, not {_STATE_VERSION}: rebuild it by replay"
            )
        try:
            horizon = int(state["horizon_hours"])
            return cls(
                horizon,
                float(state["reference_celsius"]),
                Slots.from_state(state["hours"], HOUR_MS, horizon),
                Slots.from_state(state["quarters"], QUARTER_MS, QUARTERS),
                int(state["through_ms"]),
            )
        except (KeyError, TypeError, ValueError, binascii.Error) as refused:
            raise HistoryError(
                f"stored history is damaged ({refused!r}): rebuild it from the log"
            ) from refused


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
        if mean.measured_s + mean.imputed_s > 0 and not math.isfinite(mean.value):
            raise HistoryError(
                f"{parameter}: {mean.value} is no concentration: leave a missing pollutant out"
            )


def _frozen(
    mean: npt.NDArray[np.float64], measured: npt.NDArray[np.int32], imputed: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    for array in (mean, measured, imputed):
        array.flags.writeable = False
    return mean, measured, imputed


def _pack(array: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode("ascii")


def _unpack(state: Mapping[str, Any], name: str, kind: str, rows: int, columns: int) -> npt.NDArray[Any]:
    array = np.frombuffer(base64.b64decode(state[name], validate=True), dtype=kind)
    if array.size != rows * columns:
        raise HistoryError(f"stored history: {name} has {array.size} numbers, not {rows} x {columns}")
    return array.reshape(rows, columns)
