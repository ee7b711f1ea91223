"""What is known of the weather at a station: of each hour what was issued last."""

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from forecast.features import LOOKBACK
from forecast.panel import HORIZON, WEATHER_CHANNELS, wind_of
from schemas.arrays import Float32, Int64
from schemas.base import to_ms
from schemas.errors import Refused
from schemas.times import HOUR_MS
from schemas.weather import WeatherHour, WeatherIssue

#: Hours that are kept: those that features look back on, those to come, and some beyond.
KEPT_HOURS: Final = LOOKBACK + HORIZON + 24
#: Hours in issues that lie ahead of event time, where a table of past weather is sent before its readings.
_MOST_WAITING: Final = 2_000
#: Hours to come of which temperature and wind have to be known, for a forecast that rests on them.
_ENOUGH: Final = HORIZON - 12
_W: Final = len(WEATHER_CHANNELS)


class WaitingIssue(NamedTuple):
    """An issue: when (ms), its hours (since 1970), and (hours, channels), NaN where it says nothing."""

    at: int
    hours: tuple[int, ...]
    values: Float32


def nothing_known() -> Float32:
    """(KEPT_HOURS, channels) of which nothing is known."""
    return np.full((KEPT_HOURS, _W), np.nan, np.float32)


@dataclass
class WeatherAtHand:
    """Weather of `KEPT_HOURS` hours from `begins` (hours since 1970) on, and when each was issued (ms)."""

    begins: int
    values: Float32 = field(default_factory=nothing_known)
    issued: Int64 = field(default_factory=lambda: np.zeros(KEPT_HOURS, np.int64))
    waiting: tuple[WaitingIssue, ...] = ()

    def take(self, issue: WeatherIssue, *, arrived: int) -> None:
        """Keep an issue until its time has come. Raises Refused where too many wait.

        Where a station is silent and the weather goes on, the oldest that wait make room: what was issued
        just when it `arrived` (ms) says anew what they said. What was issued otherwise is a history that runs
        ahead of its readings, of which every issue has its hour: there the new one is refused.
        """
        live = abs(arrived - to_ms(issue.issued_at)) < HOUR_MS
        room = _MOST_WAITING - len(issue.hours)
        while live and self.waiting and sum(len(one.hours) for one in self.waiting) > room:
            oldest = min(self.waiting, key=lambda one: one.at)
            self.waiting = tuple(one for one in self.waiting if one is not oldest)
        if sum(len(one.hours) for one in self.waiting) > room:
            raise Refused(
                "too_many_issues",
                f"{_MOST_WAITING} hours of weather at {issue.station} lie ahead of its readings: send weather"
                " when it is issued, and a replay's beside its readings",
            )
        values = np.array([_channels(hour) for hour in issue.hours], np.float32)
        hours = tuple(to_ms(hour.valid_at) // HOUR_MS for hour in issue.hours)
        self.waiting = (*self.waiting, WaitingIssue(to_ms(issue.issued_at), hours, values))

    def advance(self, hour: int) -> None:
        """Go on to the end of `hour`: what was issued until then is known."""
        moved = min(max(hour + 1 - LOOKBACK - self.begins, 0), KEPT_HOURS)
        if moved:
            self.values = np.concatenate([self.values[moved:], nothing_known()[:moved]])
            self.issued = np.concatenate([self.issued[moved:], np.zeros(moved, np.int64)])
        self.begins = max(self.begins, hour + 1 - LOOKBACK)
        now = (hour + 1) * HOUR_MS
        # Sorted stably: of two of one time the later one in the log counts.
        for issue in sorted((one for one in self.waiting if one.at <= now), key=lambda one: one.at):
            for of, values in zip(issue.hours, issue.values, strict=True):
                place = of - self.begins
                if 0 <= place < KEPT_HOURS:
                    newer = issue.at >= self.issued[place]
                    fills = ~np.isnan(values) & (newer | np.isnan(self.values[place]))
                    self.values[place] = np.where(fills, values, self.values[place])
                    self.issued[place] = max(self.issued[place], issue.at)
        self.waiting = tuple(one for one in self.waiting if one.at > now)

    @property
    def past(self) -> Float32:
        """(LOOKBACK, channels): of the hours until now."""
        return self.values[:LOOKBACK]

    @property
    def coming(self) -> Float32:
        """(HORIZON, channels): of the hours to come."""
        return self.values[LOOKBACK : LOOKBACK + HORIZON]

    def tells(self) -> bool:
        """Whether enough is known of the hours to come."""
        needed = self.coming[:, [0, WEATHER_CHANNELS.index("wind_speed")]]
        return bool((~np.isnan(needed).any(axis=1)).sum() >= _ENOUGH)

    def issued_at(self) -> int:
        """When the newest of what is known of the hours to come was issued, ms; 0: nothing is."""
        return int(self.issued[LOOKBACK : LOOKBACK + HORIZON].max())


def _channels(hour: WeatherHour) -> list[float]:
    """In the order of `WEATHER_CHANNELS`."""
    known = {
        "temperature": hour.temperature, "dewpoint": hour.dewpoint, "pressure": hour.pressure,
        "rain": hour.rain, **wind_of(hour.wind_speed, hour.wind_direction),
    }  # fmt: skip
    return [math.nan if (one := known.get(name)) is None else one for name in WEATHER_CHANNELS]
