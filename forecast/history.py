"""The local store's own history, hour by hour as the stream counts it: what forecasts are trained on and
judged by.

Windows that are kept count as they do in the stream (`forecast.hours`). Of those that have left, their hour
counts where nearly all of it was measured: what was imputed in it cannot be told apart any more, and neither
can its weather.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np

from aqi.averaging import as_level
from forecast.errors import ForecastError
from forecast.hours import OPEN_HOURS, SensedWeather, StationHours
from forecast.panel import CHANNELS, Panel, panel_of
from forecast.places import place_of, regions, sun_offset
from schemas.arrays import Float32
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.parameters import POLLUTANTS
from schemas.times import DAY_MS, HOUR_MS
from sinks.retention import Left
from sinks.store import Store

#: Of an hour whose windows have left so much may have been imputed.
_MOST_IMPUTED: Final = 0.1
#: Hours that are taken over together from what is remembered of the last `LOOKBACK` ones.
_AT_ONCE: Final = 100
_P: Final = len(POLLUTANTS)

#: StationsRead on the way: how many stations of how many have been read.
StationsRead = Callable[[int, int], None]


def stored_panel(store: Store, told: StationsRead = lambda _done, _all: None) -> Panel:
    """The hours of all stations of a store. Raises StoreError, ForecastError where it has none."""
    records, names = store.stations(), store.known_stations()
    hours: dict[str, dict[int, Float32]] = {}
    for done, name in enumerate(names):
        told(done, len(names))
        found = stored_hours(store, name)
        if found:
            hours[name] = found
    told(len(names), len(names))
    if not hours:
        raise ForecastError("the store has no hour in which anything was measured: nothing can be learned")
    offsets = {name: sun_offset(records.get(name), min(of)) for name, of in hours.items()}
    places = [place_of(records.get(name)) for name in hours]
    return replace(panel_of(hours, offsets), regions=regions(places))


def stored_hours(
    store: Store, station: str, since: int | None = None, until: int | None = None
) -> dict[int, Float32]:
    """By hour (since 1970) in [since, until) the `CHANNELS` of a station; NaN: not known, or not measured."""
    first = None if since is None else from_ms(since * HOUR_MS)
    # A mean that is declared over an hour comes in a window of the next one.
    last = None if until is None else from_ms((until + OPEN_HOURS) * HOUR_MS)
    found = dict(hours_of(_windows(store, station, first, last)))
    # Asked last: what leaves meanwhile is in both, and as a window it counts.
    for hour, values in _of_tallies(store.left(station, since=first, until=last)):
        there = found.get(hour)
        found[hour] = values if there is None else np.where(np.isfinite(there), there, values)
    return {
        hour: values
        for hour, values in sorted(found.items())
        if (since is None or hour >= since) and (until is None or hour < until)
    }


def _windows(
    store: Store, station: str, since: datetime | None, until: datetime | None
) -> Iterator[Estimate]:
    """Oldest first, a day at a time: years of minutes need no memory."""
    span = store.span(station)
    if span is None:
        return
    start = span[0] if since is None else max(span[0], to_ms(since))
    stop = span[1] + 1 if until is None else min(span[1] + 1, to_ms(until))
    for day in range(start, stop, DAY_MS):
        yield from store.read(station, since=from_ms(day), until=from_ms(min(day + DAY_MS, stop)))


def hours_of(windows: Iterable[Estimate]) -> Iterator[tuple[int, Float32]]:
    """The hours (since 1970) of a station's windows, which come in order, and their `CHANNELS`, where
    anything is known.
    """
    measured, sensed = StationHours(), SensedWeather()
    given = -1

    def ready(after: int, until: int) -> Iterator[tuple[int, Float32]]:
        values = np.concatenate([measured.means, sensed.channels], axis=1)
        for hour in range(after + 1, until + 1):
            row = values[hour - measured.through - 1]
            if np.isfinite(row).any():
                yield hour, row

    for estimate in windows:
        over = (to_ms(estimate.window.end) - 1) // HOUR_MS - 1
        if given < 0:
            given = measured.through = sensed.through = over
        while measured.through < over:
            measured.advance(measured.through + 1)
            sensed.advance(measured.through)
            if measured.through - given >= _AT_ONCE:
                yield from ready(given, measured.through - OPEN_HOURS)
                given = measured.through - OPEN_HOURS
        measured.take(estimate)
        sensed.take(estimate)
    if given >= 0:
        for _ in range(OPEN_HOURS):
            measured.advance(measured.through + 1)
            sensed.advance(measured.through)
        yield from ready(given, measured.through)


def _of_tallies(left: Iterable[Left]) -> Iterator[tuple[int, Float32]]:
    for one in left:
        if one.period.kind != "hourly":
            continue
        values = np.full(len(CHANNELS), np.nan, np.float32)
        for place, name in enumerate(POLLUTANTS):
            tally = one.tally.pollutants.get(name)
            if tally is not None and tally.mean is not None and tally.imputed_share <= _MOST_IMPUTED:
                values[place] = as_level(tally.mean)
        if np.isfinite(values).any():
            yield one.period.start // HOUR_MS, values
