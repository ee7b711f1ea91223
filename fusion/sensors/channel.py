"""A channel's readings in a window, judged by quality control, and their mean."""

from collections.abc import Sequence
from typing import Final

from aqi.comparisons import channels
from aqi.fill_values import is_fill_value
from aqi.flags import (
    CHANNELS,
    FAIL,
    FILL_VALUE,
    FLAT_LINE,
    MISSING,
    STUCK,
    SUSPECT,
    UNIT,
    Verdict,
    combine,
    tests_in,
)
from aqi.limits import Limits
from aqi.quality import FRESH, SensorState, judge
from aqi.unit_doubt import unit_doubt
from aqi.units import to_canonical
from fusion.sensors.means import ChannelReading, SensorMean, mean_of
from fusion.sensors.memory import SeriesKey
from fusion.sensors.window import Objections, SensorWindow
from fusion.weighing import TimeWeights, by_time
from schemas.times import HOUR_MS
from streams.join import RUNNING, Item

#: What stands still for so long beside a twin that moves is dead (ms): an exact zero, and any value.
_DEAD_MS: Final = HOUR_MS
_STILL_MS: Final = 3 * HOUR_MS
#: Whose exact nothing is a sign of death. A gas whose unit is coarse may well read 0.
COUNTED: Final = ("pm25", "pm10")


class SeriesJudge:
    """Judges the series of one window; `series` is what quality control remembers of them afterwards."""

    def __init__(self, window: SensorWindow, objections: Objections) -> None:
        self._window = window
        self._objections = objections
        self.series = dict(window.memory.series)

    def judged(self, key: SeriesKey, limits: Limits, points: Sequence[tuple[Item, float]]) -> list[Verdict]:
        """Verdicts of a series' readings; its memory moves on by those of this window."""
        sensor, parameter, _ = key
        shared = (sensor, parameter, "")
        before = self._window.memory.series.get(key, self._window.memory.series.get(shared, FRESH))
        first, _ = points[0]
        if not self._window.has(first):
            return [_carried(limits, before, first.time, points[0][1])]
        verdicts, self.series[key] = judge(limits, before, [(item.time, value) for item, value in points])
        self.series.pop(shared, None)
        return verdicts

    def mean(
        self, sensor: str, parameter: str, channel: str, items: Sequence[Item], label: str
    ) -> SensorMean | None:
        """The mean over a channel's usable readings; None where there is none (`failed` has them then)."""
        fills = self._window.fills(sensor, parameter)
        points: list[tuple[Item, float]] = []
        filled: list[tuple[Item, float]] = []
        for item in items:
            value = item.payload
            canonical = to_canonical(parameter, value.value, value.unit, self._window.reference)
            (filled if is_fill_value(value.value, value.unit, fills) else points).append((item, canonical))
        good: list[ChannelReading] = []
        bad = [ChannelReading(value, Verdict(FAIL, FILL_VALUE), item) for item, value in filled]
        if points:
            limits = self._window.limits.limits[parameter]
            for (item, value), verdict in zip(
                points, self.judged((sensor, parameter, channel), limits, points), strict=True
            ):
                doubt = unit_doubt(
                    parameter, item.payload.value, item.payload.unit, self._window.limits.units
                )
                verdict = combine(verdict, doubt) if doubt.tests else verdict
                side = bad if verdict.flag in (FAIL, MISSING) else good
                side.append(ChannelReading(value, verdict, item))
        since = _since(items, self._window)
        nothing = [reading for reading in good if reading.value == 0.0]
        if parameter in COUNTED and 0 < len(nothing) < len(good):
            # One of two devices under one name is dead, or the sensor says 0 where it failed to measure.
            some = [reading for reading in good if reading.value != 0.0]
            if all(channels(0.0, one.value, self._window.limits.channels).flag == FAIL for one in some):
                doubt = Verdict(SUSPECT, CHANNELS)
                good = [one._replace(verdict=combine(one.verdict, doubt)) for one in some]
                bad += [one._replace(verdict=Verdict(FAIL, CHANNELS)) for one in nothing]
                beside = (
                    f"{len(nothing)} of {len(items)} readings show nothing at all beside {some[0].value:.6g}"
                )
                self._objections.refuse(parameter, label, f"{beside} ug/m3: is it one device?")
        if bad:
            self._objections.add_failed(parameter, sensor, mean_of(bad, since))
            if not good:
                last = bad[-1]
                why = f"failed quality control: {' and '.join(tests_in(last.verdict.tests))}"
                if filled and not points:
                    why = "the sensor's sign for no value"
                elif last.verdict.tests & UNIT:
                    why = "no air outdoors has that much: is its unit right?"
                if last.verdict.tests & (STUCK | FLAT_LINE):
                    self._objections.stuck.add((parameter, label))
                self._objections.refuse(parameter, label, f"{why} ({last.value:.6g} ug/m3)")
        if not good:
            return None
        mean = mean_of(good, since, self._weights([one.item for one in good]))
        twinned = any(item.payload.twinned for item in items)
        return mean._replace(still=self._still((sensor, parameter, channel), mean), twinned=twinned)

    def _still(self, key: SeriesKey, mean: SensorMean) -> bool:
        """Whether a series has not moved for longer than air stands still."""
        if mean.verdict.tests & (STUCK | FLAT_LINE):
            return True
        state = self.series.get(key, FRESH)
        if state.stuck_ms < 0 or state.last != mean.raw:
            return False
        return self._window.end - state.stuck_ms >= (_DEAD_MS if mean.raw == 0.0 else _STILL_MS)

    def _weights(self, items: Sequence[Item]) -> TimeWeights:
        """The weight of each, and how much of the window (ms) they cover."""
        size = self._window.size
        if len(items) == 1 and not self._window.has(items[0]):
            return TimeWeights([size], 0 if items[0].basis == RUNNING else size)
        return by_time(items, size)


def _carried(limits: Limits, state: SensorState, t_ms: int, value: float) -> Verdict:
    """The verdict of a reading that was judged, or will be, in another window."""
    if state.t_ms == t_ms:
        return Verdict(state.last_flag, state.last_tests)
    [verdict], _ = judge(limits, state if t_ms > state.t_ms else FRESH, [(t_ms, value)])
    return verdict


def _since(items: Sequence[Item], window: SensorWindow) -> int:
    """Beginning of the declared period that ends with the only reading of the window; 0 for any other."""
    if len(items) == 1 and window.has(items[0]) and items[0].until and items[0].since < items[0].time:
        return 0 if items[0].basis == RUNNING else items[0].since
    return 0
