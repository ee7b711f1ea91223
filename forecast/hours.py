"""A station's last week hour by hour, from its estimates; what comes late changes hours that are open."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from aqi.averaging import as_level
from forecast.features import LOOKBACK
from forecast.panel import WEATHER_CHANNELS, dewpoint, wind_of
from schemas.arrays import Float32
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.parameters import POLLUTANTS
from schemas.reading import LIMITS
from schemas.times import HOUR_MS

#: Hours whose windows are kept one by one, the one in progress among them: in these a revision counts.
OPEN_HOURS: Final = 3
#: Of an hour more has to be measured, in seconds: so long may the reading before it stand in it.
_LEAST_S: Final = 360
_P: Final = len(POLLUTANTS)
#: What a station's own sensors tell of the weather; the first two make the dew point.
_SENSED: Final = ("temperature", "relativehumidity", "pressure", "wind_east", "wind_north", "wind_speed")


class HeardWindow(NamedTuple):
    """What a window adds to hours: per column the hour (since 1970), the value, and for how many seconds."""

    revision: int
    hours: tuple[int, ...]
    values: tuple[float, ...]
    seconds: tuple[int, ...]


def empty_hours(columns: int = _P) -> Float32:
    """(LOOKBACK, columns) of which nothing is known."""
    return np.full((LOOKBACK, columns), np.nan, np.float32)


@dataclass
class HourlyMeans:
    """Hourly means, `through` the last hour of them (since 1970), NaN where nothing was measured.

    `windows` are those of open hours, by their ends; `touched` the hours whose windows have changed since.
    """

    through: int = 0
    means: Float32 = field(default_factory=empty_hours)
    windows: dict[str, HeardWindow] = field(default_factory=dict)
    touched: tuple[int, ...] = ()

    def take(self, estimate: Estimate) -> None:
        """Count one revision of a window; an older one, or one of a closed hour, changes nothing."""
        end = to_ms(estimate.window.end)
        if (end - 1) // HOUR_MS <= self.through - OPEN_HOURS:
            return
        before = self.windows.get(str(end))
        if before is not None and estimate.revision < before.revision:
            return
        after = self._heard(estimate, end)
        self.windows[str(end)] = after
        hours = {hour for one in (before, after) if one is not None for hour in one.hours if hour}
        self.touched = tuple(sorted({*self.touched, *hours}))

    def _heard(self, estimate: Estimate, end: int) -> HeardWindow:
        raise NotImplementedError

    def _mean(self, parts: Sequence[tuple[float, int]]) -> float:
        """An hour's mean of values and their seconds; NaN where it is not known."""
        total = sum(seconds for _, seconds in parts)
        return math.fsum(value * seconds for value, seconds in parts) / total if total else math.nan

    def advance(self, hour: int) -> None:
        """Go on to `hour`: its mean is the last one now."""
        # Where a whole partition had rested, hour by hour first: those open before it are told yet.
        for open_hour in range(self.through + 1, min(hour, self.through + OPEN_HOURS)):
            self._move(open_hour)
        self._move(hour)

    def _move(self, hour: int) -> None:
        moved = min(hour - self.through, LOOKBACK)
        if moved > 0:
            self.means = np.concatenate([self.means[moved:], empty_hours(self.means.shape[1])[:moved]])
            self.through = hour
        self.settle()
        for end in [end for end in self.windows if (int(end) - 1) // HOUR_MS <= hour - OPEN_HOURS]:
            del self.windows[end]

    def settle(self) -> bool:
        """Bring the means up to date with what was taken; whether one of them has changed."""
        due = {hour for hour in self.touched if self.through - OPEN_HOURS < hour <= self.through}
        self.touched = tuple(hour for hour in self.touched if hour > self.through)
        if not due:
            return False
        sums: dict[tuple[int, int], list[tuple[float, int]]] = {}
        for end in sorted(self.windows, key=int):
            one = self.windows[end]
            for place, hour in enumerate(one.hours):
                if hour in due:
                    sums.setdefault((hour, place), []).append((one.values[place], one.seconds[place]))
        changed = False
        for hour in due:
            row = self.means[hour - self.through - 1]
            for place in range(len(row)):
                new = np.float32(self._mean(sums.get((hour, place), ())))
                changed |= not (new == row[place] or (np.isnan(new) and np.isnan(row[place])))
                row[place] = new
        return changed


@dataclass
class StationHours(HourlyMeans):
    """What was measured of the pollutants, ug/m3: (LOOKBACK, pollutants).

    A mean over a declared period counts in the hour in which it began, as in files. What was imputed does not
    count: the models are made for gaps.
    """

    def _heard(self, estimate: Estimate, end: int) -> HeardWindow:
        hours, values, seconds = [0] * _P, [0.0] * _P, [0] * _P
        size = end - to_ms(estimate.window.start)
        for place, name in enumerate(POLLUTANTS):
            one = estimate.pollutants.get(name)
            if one is None or one.kind == "imputed":
                continue
            since = end - size if one.since is None else to_ms(one.since)
            covered = (
                (end - since) // 1000 if one.covered_s is None or one.since is not None else one.covered_s
            )
            if covered > 0:
                hours[place], values[place], seconds[place] = since // HOUR_MS, one.value, covered
        return HeardWindow(estimate.revision, tuple(hours), tuple(values), tuple(seconds))

    @property
    def measured(self) -> int:
        """Hours of which anything is known."""
        return int(np.isfinite(self.means).any(axis=1).sum())

    def _mean(self, parts: Sequence[tuple[float, int]]) -> float:
        known = sum(seconds for _, seconds in parts) > _LEAST_S
        return as_level(super()._mean(parts)) if known else math.nan


def _no_weather() -> Float32:
    return empty_hours(len(_SENSED))


@dataclass
class SensedWeather(HourlyMeans):
    """The weather that the station's own sensors measured: (LOOKBACK, `_SENSED`).

    Any reading of an hour tells its weather: a window counts by its length, whatever part of it was heard.
    """

    means: Float32 = field(default_factory=_no_weather)

    def _heard(self, estimate: Estimate, end: int) -> HeardWindow:
        said: dict[str, float | None] = {
            **dict(estimate.inputs.weather.items()), "relativehumidity": estimate.inputs.humidity,
        }  # fmt: skip
        # Estimates may be a stranger's: what no sensor could have sent is no weather.
        known = {
            name: value
            for name, value in said.items()
            if value is not None and LIMITS[name][0] <= value <= LIMITS[name][1]
        }
        if not known:
            return HeardWindow(estimate.revision, (), (), ())
        known |= wind_of(known.get("windspeed"), known.get("winddirection"))
        size, hour = (end - to_ms(estimate.window.start)) // 1000, (end - 1) // HOUR_MS
        heard = [known.get(name) for name in _SENSED]
        return HeardWindow(
            estimate.revision,
            tuple(0 if value is None else hour for value in heard),
            tuple(0.0 if value is None else value for value in heard),
            tuple(0 if value is None else max(size, 1) for value in heard),
        )

    @property
    def channels(self) -> Float32:
        """(LOOKBACK, `WEATHER_CHANNELS`): rain, which no sensor tells, is not known."""
        found = np.full((LOOKBACK, len(WEATHER_CHANNELS)), np.nan, np.float32)
        for place, name in enumerate(_SENSED):
            if name in WEATHER_CHANNELS:
                found[:, WEATHER_CHANNELS.index(name)] = self.means[:, place]
        damp = self.means[:, :2]
        for hour in np.flatnonzero(np.isfinite(damp).all(axis=1)).tolist():
            found[hour, WEATHER_CHANNELS.index("dewpoint")] = dewpoint(*map(float, damp[hour]))
        return found
