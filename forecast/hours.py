"""A station's last week hour by hour, from its estimates; what comes late changes hours that are open."""

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from aqi.averaging import as_level
from forecast.features import LOOKBACK
from schemas.arrays import Float32
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS

#: Hours whose windows are kept one by one, the one in progress among them: in these a revision counts.
OPEN_HOURS: Final = 3
#: Of an hour more has to be measured, in seconds: so long may the reading before it stand in it.
_LEAST_S: Final = 360
_P: Final = len(POLLUTANTS)


class HeardWindow(NamedTuple):
    """What a window adds to hours: per pollutant the hour (since 1970), ug/m3, and for how many seconds."""

    revision: int
    hours: tuple[int, ...]
    values: tuple[float, ...]
    seconds: tuple[int, ...]


def empty_hours() -> Float32:
    """(LOOKBACK, pollutants) of which nothing is known."""
    return np.full((LOOKBACK, _P), np.nan, np.float32)


@dataclass
class StationHours:
    """Hourly means of what was measured, `through` the last hour of them (since 1970), NaN where nothing was.

    A mean over a declared period counts in the hour in which it began, as in files. What was imputed does not
    count: the models are made for gaps. `windows` are those of open hours, by their ends.
    """

    through: int
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
        after = _heard(estimate, end)
        self.windows[str(end)] = after
        hours = {hour for one in (before, after) if one is not None for hour in one.hours if hour}
        self.touched = tuple(sorted({*self.touched, *hours}))

    def advance(self, hour: int) -> None:
        """Go on to `hour`: its mean is the last one now."""
        moved = min(hour - self.through, LOOKBACK)
        if moved > 0:
            self.means = np.concatenate([self.means[moved:], empty_hours()[:moved]])
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
            for place in range(_P):
                parts = sums.get((hour, place), ())
                total = sum(seconds for _, seconds in parts)
                new = np.float32(np.nan)
                if total > _LEAST_S:
                    new = np.float32(as_level(math.fsum(value * seconds for value, seconds in parts) / total))
                changed |= not (new == row[place] or (np.isnan(new) and np.isnan(row[place])))
                row[place] = new
        return changed


def _heard(estimate: Estimate, end: int) -> HeardWindow:
    hours, values, seconds = [0] * _P, [0.0] * _P, [0] * _P
    size = end - to_ms(estimate.window.start)
    for place, name in enumerate(POLLUTANTS):
        one = estimate.pollutants.get(name)
        if one is None or one.kind == "imputed":
            continue
        since = end - size if one.since is None else to_ms(one.since)
        covered = (end - since) // 1000 if one.covered_s is None or one.since is not None else one.covered_s
        if covered > 0:
            hours[place], values[place], seconds[place] = since // HOUR_MS, one.value, covered
    return HeardWindow(estimate.revision, tuple(hours), tuple(values), tuple(seconds))
