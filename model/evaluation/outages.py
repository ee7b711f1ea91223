"""Made outages: the replay branches off where the sensor falls silent, and goes on without it."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from aqi.history import History
from aqi.slots import Mean
from camera import virtual_sensor as virtual
from camera.virtual_sensor import Prediction, VirtualSensor
from model.bundle.persistence import PERSISTENCE
from model.evaluation.played_hours import Hour
from schemas.parameters import Pollutant
from schemas.times import HOUR_MS

#: Hours before its time that an index of `STANDARD` reads.
INDEX_HOURS: Final = 26
_MEAN_DAYS: Final = 30


class OutageHour(NamedTuple):
    """An hour of an outage: what was measured (ug/m3), what each rival says, and the averages of both."""

    end_ms: int
    measured: float
    estimate: Prediction | None
    last: float | None
    of_day: float | None
    overall: float | None
    history: History
    truth: History


@dataclass
class _SilentRun:
    """A run without the sensor from `start_ms` on: how far it is, and what the last hours were taken for."""

    start_ms: int
    state: VirtualSensor
    imputed: dict[int, Prediction] = field(default_factory=dict)

    def impute(self, end_ms: int, guess: Prediction | None) -> None:
        """Note the hour's estimate; those that no later hour's index reads are dropped."""
        if guess is not None:
            self.imputed[end_ms] = guess
        self.imputed.pop(end_ms - (INDEX_HOURS + 1) * HOUR_MS, None)


class UndisturbedRun:
    """The undisturbed run, from whose states outages branch off."""

    def __init__(
        self,
        hours: Sequence[Hour],
        during: Sequence[Hour],
        states: Mapping[int, VirtualSensor],
        pollutant: Pollutant,
    ) -> None:
        self._seen = {
            hour.end_ms: hour for hour in during if hour.sight is not None or hour.global_estimate is not None
        }
        self._ends = np.array(sorted(self._seen), dtype=np.int64)
        self._states = states
        self._at = sorted(states)
        self._silence: _SilentRun | None = None
        self._measured = {hour.end_ms: hour.measured for hour in hours if hour.measured is not None}
        self._pollutant = pollutant
        self._truths: dict[int, History] = {}

    def score(self, hour: Hour, start_ms: int) -> OutageHour | None:
        """Estimate of the hour when the sensor is silent from `start_ms` on; None without any state by then.

        Hours that share a start come in order of time: they share its run without the sensor.
        """
        if self._silence is None or self._silence.start_ms != start_ms:
            state = self._before(start_ms)
            if state is None:
                return None
            self._silence = _SilentRun(start_ms, state)
        silence = self._silence
        reached = silence.state.t_ms
        first, last = np.searchsorted(self._ends, (reached, hour.end_ms - 1), side="right")
        ahead = self._ends[int(first) : int(last)].tolist()
        indexed = range(
            max(start_ms, reached, hour.end_ms - INDEX_HOURS * HOUR_MS) + HOUR_MS, hour.end_ms, HOUR_MS
        )
        for end in sorted({*ahead, *indexed}):
            between = self._seen.get(end)
            sight, overall = (between.sight, between.global_estimate) if between else (None, None)
            shown = between.shown if between else ""
            if end in indexed:
                silence.impute(end, virtual.predict(silence.state, end, sight, None, overall, shown))
            if between is not None:
                moved = virtual.update(silence.state, end, sight, None, overall, shown=shown)
                assert moved is not None  # only a start without a measurement gives None
                silence.state = moved
        estimate = virtual.predict(
            silence.state, hour.end_ms, hour.sight, None, hour.global_estimate, hour.shown
        )
        imputed = silence.imputed if estimate is None else {**silence.imputed, hour.end_ms: estimate}
        assert hour.measured is not None
        return OutageHour(
            end_ms=hour.end_ms,
            measured=hour.measured,
            estimate=estimate,
            last=self._last(start_ms),
            of_day=self._of_day(hour.end_ms, start_ms),
            overall=hour.global_estimate,
            history=self._history(hour.end_ms, start_ms, imputed),
            truth=self._truth(hour.end_ms),
        )

    def _before(self, start_ms: int) -> VirtualSensor | None:
        """The newest state by then."""
        place = bisect_right(self._at, start_ms)
        return self._states[self._at[place - 1]] if place else None

    def _truth(self, end_ms: int) -> History:
        """The last hours as they were read."""
        if end_ms not in self._truths:
            self._truths[end_ms] = self._history(end_ms, end_ms, {})
        return self._truths[end_ms]

    def _history(self, end_ms: int, start_ms: int, imputed: Mapping[int, Prediction]) -> History:
        """The last hours, measured up to `start_ms`, imputed after."""
        history = History.empty()
        for end in range(end_ms - (INDEX_HOURS - 1) * HOUR_MS, end_ms + 1, HOUR_MS):
            value, guess = self._measured.get(end), imputed.get(end)
            if end <= start_ms and value is not None:
                history = history.with_hour(end, {self._pollutant: Mean(value, 3600)})
            elif guess is not None:
                reach = guess.value - guess.lo, guess.hi - guess.value
                mean = Mean(guess.value, 0, 3600, *reach, PERSISTENCE[guess.method])
                history = history.with_hour(end, {self._pollutant: mean})
        return history

    def _last(self, start_ms: int) -> float | None:
        for end in range(start_ms, start_ms - 7 * 24 * HOUR_MS, -HOUR_MS):
            if end in self._measured:
                return self._measured[end]
        return None

    def _of_day(self, end_ms: int, start_ms: int) -> float | None:
        back = range(end_ms - 24 * HOUR_MS, start_ms - (_MEAN_DAYS + 1) * 24 * HOUR_MS, -24 * HOUR_MS)
        values = [self._measured[end] for end in back if end <= start_ms and end in self._measured]
        return sum(values) / len(values) if values else None
