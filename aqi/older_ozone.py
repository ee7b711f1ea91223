"""Hours of ozone that a station's history no longer holds, of which EPA's NowCast regresses two weeks.

One pollutant, in single precision: 2 kB of a checkpoint.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from aqi.errors import HistoryError
from aqi.nowcast import OZONE_BACK, OZONE_HOURS
from aqi.slots import COLUMN, Arrays, Slots, frozen
from schemas.times import HOUR_MS

#: Complete hours of ozone that its NowCast asks for.
OZONE_KEPT: Final = OZONE_HOURS + OZONE_BACK

_OZONE: Final = {
    "mean": np.float32, "measured_s": np.int16, "imputed_s": np.int16, "below": np.float32,
    "above": np.float32,
}  # fmt: skip


class OzoneState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`OlderOzone` as it is stored: arrays from the first hour with data on; None where all are zero."""

    end_ms: int = 0
    mean: npt.NDArray[np.float32] = msgspec.field(default_factory=lambda: np.zeros(0, np.float32))
    measured_s: npt.NDArray[np.int16] | None = None
    imputed_s: npt.NDArray[np.int16] | None = None
    below: npt.NDArray[np.float32] | None = None
    above: npt.NDArray[np.float32] | None = None


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
        series = OzoneSeries(*frozen(arrays))
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
