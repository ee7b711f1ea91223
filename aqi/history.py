"""What a station has measured, hour by hour: the immutable value that averages, NowCasts and indices read.

`aqi.slots` says what stands in an hour. That in progress is in there too, with the seconds it has so far.
Quarter hours are kept for the last two hours, for the 15-minute mean of the UK index; of ozone, where the
station has ever measured it, hours older than the horizon are kept as well (`aqi.older_ozone`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from aqi.errors import HistoryError
from aqi.older_ozone import OZONE_KEPT, OlderOzone, OzoneSeries, OzoneState
from aqi.slots import COLUMN, Mean, Slots, SlotsState
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS, QUARTER_MS, end_of

#: Quarter hours kept: two hours of them.
QUARTERS: Final = 8


class HistoryState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`History` as it is stored. Earlier code did not say what the station has `ever_measured`."""

    horizon_hours: int = 48
    reference_celsius: float = 25.0
    hours: SlotsState = msgspec.field(default_factory=SlotsState)
    quarters: SlotsState = msgspec.field(default_factory=SlotsState)
    through_ms: int = 0
    ever_measured: tuple[str, ...] | None = None
    older_ozone: OzoneState = msgspec.field(default_factory=OzoneState)


@dataclass(frozen=True, slots=True)
class History:
    """Hourly means of one station over `horizon_hours` (that in progress included), and recent quarter hours.

    Immutable: `with_hour` and `with_window` give a new value. 48 hours serve every standard here, but
    for the ozone NowCast, which has `older_ozone`. `ever_measured`: what the station has measured, at
    some time; other pollutants are imputed from nothing of its own, and `aqi.lead` says what that means.

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
            quarters = quarters.put(end_of(end_ms, QUARTER_MS), means, add=True)
        hours = self.hours.put(end_of(end_ms, HOUR_MS), means, add=True)
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
    def first_hour(self) -> int:
        """End of the first hour of the horizon of which anything is known (ms), 0: of none."""
        known = np.flatnonzero((self.hours.measured_s + self.hours.imputed_s > 0).any(axis=1))
        if not len(known):
            return 0
        return self.hours.end_ms - (self.horizon_hours - 1 - int(known[0])) * HOUR_MS

    @property
    def ozone_hours(self) -> int:
        """Hours that there may be ozone of: those of the horizon, and the older ones that are kept."""
        return self.horizon_hours + self.older_ozone.hours

    def ozone(self, end_ms: int) -> OzoneSeries:
        """The hours of ozone that the NowCast asks for, the last one ending at `end_ms`."""
        column, older = COLUMN["o3"], self.older_ozone
        series = [np.zeros(OZONE_KEPT, array.dtype) for array in self.hours.arrays()[: len(older.series)]]
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
            ever = tuple(name for name in POLLUTANTS if hours.measured(name))
        return cls(
            state.horizon_hours,
            state.reference_celsius,
            hours,
            Slots.from_state(state.quarters, QUARTER_MS, QUARTERS),
            state.through_ms,
            frozenset(ever),
            OlderOzone.from_state(state.older_ozone, state.horizon_hours),
        )


def _check(means: Mapping[str, Mean]) -> None:
    for parameter, mean in means.items():
        if parameter not in COLUMN:
            raise HistoryError(
                f"{parameter!r} is no pollutant of the history: it holds {', '.join(POLLUTANTS)}"
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
