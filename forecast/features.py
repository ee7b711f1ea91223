"""What a forecast is made from: everything here is known at its origin, the weather to come apart.

All is computed element by element in a fixed order, so that an hour's features are the same bits whether
they are made with the hours around it, for one station or for a thousand.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from forecast.averages import MEANS, Trailing, windows
from forecast.panel import CARRIED, CHANNELS, HORIZON, WEATHER_CHANNELS, Panel
from schemas.arrays import Float32, Int64
from schemas.parameters import POLLUTANTS

#: Hours of history that features look back on. A shorter history makes them NaN, not absent.
LOOKBACK: Final = 168
_P: Final = len(POLLUTANTS)
_W: Final = len(WEATHER_CHANNELS)
#: Hours back of a pollutant's own lags and means, and of its neighbours'.
LAGS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 21, 23, 24, 25, 36, 47, 48, 72)
NEAR_LAGS: Final = (0, 1, 2, 3, 6, 12, 24)
NEAR_MEANS: Final = (6, 24, 168)
_FIRST_NEAR: Final = 2 + len(LAGS) + len(MEANS) + 4
#: Of the weather what is told as it moves: dew point, pressure, wind. (Heat follows the clock.)
MOVES: Final = (1, 2, 3, 4, 5)
#: Where in a row of trees and ridge the weather to come stands, if it is told.
TOLD: Final = slice(
    _FIRST_NEAR + len(NEAR_LAGS) + len(NEAR_MEANS) + 1 + 3 * (_P - 1) + 3 * _W + 6 + 5 + 8,
    _FIRST_NEAR + len(NEAR_LAGS) + len(NEAR_MEANS) + 1 + 3 * (_P - 1) + 6 * _W + 6 + 5 + 8,
)
#: Columns of `OriginFeatures.origin` that are levels of the pollutant, here and at neighbours.
LEVELS: Final = (
    *range(2, _FIRST_NEAR - 2),
    *range(_FIRST_NEAR, _FIRST_NEAR + len(NEAR_LAGS) + len(NEAR_MEANS)),
)


def lagged(series: Float32, hours: int) -> Float32:
    """`series` (stations, hours, ...) as it was `hours` earlier (negative: later); NaN where that is
    outside.
    """
    moved = np.full_like(series, np.nan)
    if abs(hours) >= series.shape[1]:
        return moved
    if hours > 0:
        moved[:, hours:] = series[:, :-hours]
    elif hours < 0:
        moved[:, :hours] = series[:, -hours:]
    else:
        moved[:] = series
    return moved


def picked(series: Float32, origins: Int64, back: int = 0) -> Float32:
    """`series` (stations, hours) as it was `back` hours before `origins`; NaN before its first hour."""
    return np.where(origins >= back, series[:, np.maximum(origins - back, 0)], np.float32(np.nan))


def carried(series: Float32, most: int = CARRIED) -> Float32:
    """The last value at each hour, not older than `most` hours; NaN where there is none."""
    filled = series.copy()
    for hours in range(1, most + 1):
        holes = np.isnan(filled)
        if not holes.any():
            break
        filled = np.where(holes, lagged(series, hours), filled)
    return filled


def ages(series: Float32, most: int = CARRIED) -> Float32:
    """Hours since the last value, NaN where it is older than `most`."""
    age = np.where(np.isnan(series), np.float32(np.nan), np.float32(0.0))
    for hours in range(1, most + 1):
        holes = np.isnan(age)
        if not holes.any():
            break
        age = np.where(holes & ~np.isnan(lagged(series, hours)), np.float32(hours), age)
    return age


def neighbours(series: Float32) -> Float32:
    """The median of the other stations at each hour (stations, hours, ...); NaN where none measured."""
    stations = series.shape[0]
    median = np.full_like(series, np.nan)
    if stations < 2:
        return median
    # Sorted once with itself in it; what is left without itself follows from its own rank.
    order = np.argsort(series, axis=0, kind="stable")
    ordered = np.take_along_axis(series, order, 0)
    ranks = np.argsort(order, axis=0)
    count = (~np.isnan(series)).sum(axis=0)
    for row in range(stations):
        has = ~np.isnan(series[row])
        others = count - has
        rank = np.where(has, ranks[row], stations + 1)
        low, high = np.maximum(others - 1, 0) // 2, others // 2
        pick_low = np.where(low >= rank, low + 1, low)
        pick_high = np.where(high >= rank, high + 1, high)
        pick_low, pick_high = np.minimum(pick_low, stations - 1), np.minimum(pick_high, stations - 1)
        a = np.take_along_axis(ordered, pick_low[None], 0)[0]
        b = np.take_along_axis(ordered, pick_high[None], 0)[0]
        median[row] = np.where(others > 0, (a + b) * np.float32(0.5), np.nan)
    return median


def outermost(series: Float32) -> Float32:
    """Lowest and highest of the other stations: (2, stations, hours, ...); NaN where none measured."""
    low, high = (np.full_like(series, np.nan) for _ in range(2))
    if len(series) > 1:
        # The second is what is left to whoever is the first.
        for found, first, second in (
            (low, *_two_least(series)),
            (high, *(-two for two in _two_least(-series))),
        ):
            found[:] = np.where(series == first, second, first)
    return np.stack([low, high])


def _two_least(series: Float32) -> tuple[Float32, Float32]:
    """The least two over the stations, NaN where there are not so many."""
    ordered = np.sort(series, axis=0)
    return ordered[0], ordered[1]


def _in_regions(of: Callable[[Float32], Float32], series: Float32, regions: Sequence[int]) -> Float32:
    """`of` (a station's row from the others') within each region; one region where none is named."""
    if len(set(regions)) < 2:
        return of(series)
    rows_of = [np.flatnonzero(np.array(regions) == region) for region in sorted(set(regions))]
    parts = [of(series[rows]) for rows in rows_of]
    # The stations are the axis before the hours, whatever stands in front.
    axis = parts[0].ndim - series.ndim
    found: Float32 = np.take(np.concatenate(parts, axis), np.argsort(np.concatenate(rows_of)), axis)
    return found


def clock(panel: Panel, ahead: int = 0) -> Float32:
    """Sine and cosine of the hour by the sun and of the day of the year, weekday: (stations, hours, 5)."""
    hour = (
        panel.begins
        + np.arange(panel.hours, dtype=np.float64)[None]
        + ahead
        + np.array(panel.offsets)[:, None]
    )
    day = 2 * np.pi * (hour % 24) / 24
    year = 2 * np.pi * (hour / 24 % 365.2425) / 365.2425
    weekday = np.floor(hour / 24 + 4) % 7 >= 5
    return np.stack(
        [np.sin(day), np.cos(day), np.sin(year), np.cos(year), weekday.astype(np.float64)], axis=-1
    ).astype(np.float32)


class _Around(NamedTuple):
    """What the other stations measured: the lowest and the highest of them (2, stations, hours, pollutants),
    the median, lowest and highest of how each changed within the hour, and the median of their weather.
    """

    levels: Float32
    change: Float32
    changes: Float32
    weather: Float32


class OriginFeatures:
    """Rows for trees and ridge of one pollutant: (stations, hours, columns), whatever the horizon."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.pollutants = panel.values[..., :_P]
        self.weather = panel.values[..., _P:]
        self.carried = carried(self.pollutants)
        self.ages = ages(self.pollutants)
        self.neighbours = _in_regions(neighbours, self.pollutants, panel.regions)
        self._sky = carried(self.weather, 3)
        # The same for every pollutant, or model, that asks.
        self._clocks: dict[int, Float32] = {}
        self._nearby: Float32 | None = None
        self._around: _Around | None = None

    @cached_property
    def trailing(self) -> Trailing:
        """Of the pollutants."""
        return windows(self.pollutants)

    @cached_property
    def _of_weather(self) -> Trailing:
        return windows(self.weather)

    @cached_property
    def _of_neighbours(self) -> Trailing:
        return windows(self.neighbours)

    def only(self, rows: Sequence[int]) -> "OriginFeatures":
        """Those of some of its stations, whose neighbours are all that they were."""
        panel = self.panel
        found = copy(self)
        found.panel = panel.only([panel.stations[row] for row in rows])
        for name in ("pollutants", "weather", "carried", "ages", "neighbours", "_sky"):
            setattr(found, name, getattr(self, name)[rows])
        for name in ("trailing", "_of_weather", "_of_neighbours"):
            setattr(found, name, getattr(self, name).only(rows))
        found._clocks, found._nearby = {}, None
        found._around = _Around(*(part[..., rows, :, :] for part in self._others()))
        return found

    def last(self, pollutant: int, otherwise: float) -> Float32:
        """What persistence says: the last value, else the neighbours', else `otherwise`."""
        last = self.carried[..., pollutant]
        if self._nearby is None:
            self._nearby = carried(self.neighbours)
        last = np.where(np.isnan(last), self._nearby[..., pollutant], last)
        return np.where(np.isnan(last), np.float32(otherwise), last)

    def origin(self, pollutant: int, origins: Int64) -> Float32:
        """What is known when an hour has passed: (stations, origins, columns)."""
        own, near = self.pollutants[..., pollutant], self.neighbours[..., pollutant]
        of_own, of_near = self.trailing, self._of_neighbours
        last = picked(self.carried[..., pollutant], origins)
        columns = [last, picked(self.ages[..., pollutant], origins)]
        columns += [picked(own, origins, hours) for hours in LAGS]
        columns += [picked(of_own.means[hours][..., pollutant], origins) for hours in MEANS]
        columns += [
            picked(part[..., pollutant], origins)
            for part in (of_own.low, of_own.high, of_own.spread, of_own.share)
        ]
        columns += [picked(near, origins, hours) for hours in NEAR_LAGS]
        columns += [picked(of_near.means[hours][..., pollutant], origins) for hours in NEAR_MEANS]
        columns.append(last - picked(near, origins))
        for other in range(_P):
            if other != pollutant:
                columns += [
                    picked(self.carried[..., other], origins),
                    picked(of_own.means[24][..., other], origins),
                    picked(self.neighbours[..., other], origins),
                ]
        for channel in range(_W):
            sky = self._sky[..., channel]
            now = picked(sky, origins)
            columns += [
                now,
                picked(self._of_weather.means[6][..., channel], origins),
                picked(self._of_weather.means[24][..., channel], origins),
            ]
            if channel < 3:
                columns += [now - picked(sky, origins, back) for back in (3, 24)]
        columns += list(np.moveaxis(self._clock(0)[:, origins], -1, 0))
        return np.stack(columns, axis=-1)

    def ahead(self, pollutant: int, origins: Int64, horizon: int, coming: Float32 | None) -> Float32:
        """What depends on the horizon: (stations, origins, columns). `coming` is what `coming` made of the
        weather for this horizon; None: nothing is known of it, and it has no columns.
        """
        own, back = self.pollutants[..., pollutant], -horizon % 24
        columns = [picked(own, origins, back), picked(own, origins, back + 24)]
        columns.insert(0, np.full(columns[0].shape, horizon, np.float32))
        columns += list(np.moveaxis(self._clock(horizon)[:, origins], -1, 0))
        known = np.stack(columns, axis=-1)
        return known if coming is None else np.concatenate([known, coming[:, origins]], axis=-1)

    def shifts(self, pollutant: int, origins: Int64) -> Float32:
        """How the air moved in the last hours, here and around: (stations, origins, columns).

        A front comes to one station after the other: the outermost of them tell it first.
        """
        around = self._others()
        own, near = self.pollutants[..., pollutant], self.neighbours[..., pollutant]
        last = picked(self.carried[..., pollutant], origins)
        columns = [last - picked(own, origins, back) for back in (1, 2, 3, 6)]
        columns += [picked(own, origins, 1) - picked(own, origins, 2)]
        columns += [last - picked(self.trailing.means[hours][..., pollutant], origins) for hours in (3, 12)]
        columns += [picked(near, origins) - picked(near, origins, back) for back in (1, 2, 3)]
        columns += [picked(around.change[..., pollutant], origins)]
        columns += [picked(side[..., pollutant], origins) - last for side in around.levels]
        columns += [picked(side[..., pollutant], origins) for side in around.changes]
        for other in range(_P):
            if other != pollutant:
                here, there = (
                    [picked(series[..., other], origins, back) for back in (0, 1, 3)]
                    for series in (self.pollutants, self.neighbours)
                )
                columns += [here[0] - here[1], here[0] - here[2], here[0] - there[0], there[0] - there[1]]
        for channel in MOVES:
            here, there = (
                [picked(series[..., channel], origins, back) for back in (0, 1, 3)]
                for series in (self.weather, around.weather)
            )
            columns += [here[0] - here[1], there[0], there[0] - there[1], there[0] - there[2]]
        return np.stack(columns, axis=-1)

    def _clock(self, ahead: int) -> Float32:
        if ahead not in self._clocks:
            self._clocks[ahead] = clock(self.panel, ahead)
        return self._clocks[ahead]

    def _others(self) -> _Around:
        if self._around is None:
            regions = self.panel.regions
            change = self.pollutants - lagged(self.pollutants, 1)
            self._around = _Around(
                _in_regions(outermost, self.pollutants, regions),
                _in_regions(neighbours, change, regions),
                _in_regions(outermost, change, regions),
                _in_regions(neighbours, self.weather, regions),
            )
        return self._around


def weather_ahead(panel: Panel) -> Float32:
    """The weather as it was observed, with nothing after the panel's end: it stands in for a perfect
    forecast.
    """
    nothing = np.full((len(panel.stations), HORIZON, _W), np.nan, np.float32)
    return np.concatenate([panel.values[..., _P:], nothing], axis=1)


#: Columns of a network's past and of its future, by hour.
PAST: Final = 4 * _P + 2 * _W + 5
FUTURE: Final = 2 * _W + 5
#: Which of the past's are a station's own levels, in units of `Normalisation.typical`.
OWN_LEVELS: Final = slice(_P, 2 * _P)


@dataclass(frozen=True)
class Normalisation:
    """How values become a network's inputs: log1p(value / typical) for pollutants, (value - mean) / std for
    weather.
    """

    typical: tuple[float, ...]
    weather_mean: tuple[float, ...]
    weather_std: tuple[float, ...]


def past(features: OriginFeatures, by: Normalisation) -> Float32:
    """A network's columns of each hour that has passed: (stations, hours, `PAST`), finite."""
    typical = np.array(by.typical, np.float32)
    own = features.carried / typical
    near = carried(features.neighbours, 6) / typical
    weather = _normal(carried(features.weather, 6), by)
    parts = [
        np.log1p(np.maximum(own, 0.0)), np.minimum(own, 20.0), ~np.isnan(features.pollutants),
        np.log1p(np.maximum(near, 0.0)), weather, ~np.isnan(features.weather), clock(features.panel),
    ]  # fmt: skip
    return np.concatenate([np.nan_to_num(part.astype(np.float32), nan=0.0) for part in parts], axis=-1)


def future(panel: Panel, weather: Float32 | None, by: Normalisation) -> Float32:
    """A network's columns of each hour up to 72 after the panel: (stations, hours + 72, `FUTURE`), finite."""
    shape = (len(panel.stations), panel.hours + HORIZON, _W)
    known = np.full(shape, np.nan, np.float32) if weather is None else weather
    longer = Panel(
        panel.stations, panel.begins, panel.offsets, np.full((*shape[:2], len(CHANNELS)), np.nan, np.float32)
    )
    parts = [_normal(known, by), ~np.isnan(known), clock(longer)]
    return np.concatenate([np.nan_to_num(part.astype(np.float32), nan=0.0) for part in parts], axis=-1)


def _normal(weather: Float32, by: Normalisation) -> Float32:
    scaled = (weather - np.array(by.weather_mean, np.float32)) / np.array(by.weather_std, np.float32)
    return np.clip(scaled, -6.0, 6.0)
