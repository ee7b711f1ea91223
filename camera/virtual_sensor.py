"""The camera as a virtual sensor: per station and pollutant, learned from the station's own paired history.

Two parts, both of bounded memory and moved in event time, once an hour:

*Readout* (`camera.readout`). Log concentration from a camera vector: principal components of the network's
pooled features of the far band (or the whole frame), log contrast of its tiles and its haze statistics. A
pair that contradicts the readout counts for less (a sensor that drifts must not teach it), and while pairs go
on contradicting it, it forgets faster (a camera that was moved, a sensor that was calibrated: then it is the
readout that is wrong).

*Level* (`camera.level`). What is believed of the concentration, from the sensor, the readout and the global
head, each with the variance of its recent errors (`camera.error_moments`).

Intervals: the filter's standard deviation times a conformal factor. While the sensor is there, shadow
filters are kept that pretend it fell silent a while ago; their errors at their ages are the
calibration.

All functions are pure; `VirtualSensor` is immutable, and stored as it is (`schemas.state`), in about 10 kB.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from camera.conformal import Conformal
from camera.error_moments import START_CAMERA, ErrorMoments, learned, memory, sensor_variance, weight, within
from camera.level import LASTING, FilteredLevel, advanced, deviation, with_camera, with_global, with_sensor
from camera.readout import INPUTS, TRIANGLE, Readout, ReadoutValue, inputs_of, on_line
from camera.sight import Sight
from schemas.errors import ArrayError
from schemas.times import HOUR_MS

#: Pairs before the readout says anything.
MIN_PAIRS: Final = 30
#: Checked intervals from which their rolling coverage is told: fewer say nothing of nine in ten.
COVERAGE_FROM: Final = 30
#: Leverage (1: as far out as the ridge's own prior, in units of it) beyond which a picture is unlike
#: all seen.
MAX_LEVERAGE: Final = 8.0
#: Hours on end in another layout after which the readout starts afresh on it: a stray frame must not
#: cost it all.
SWITCH_HOURS: Final = 6

#: No estimate goes beyond a gram in a cubic metre (log1p of ug/m3).
_HIGHEST: Final = math.log1p(1e6)
#: Ages in hours of a made outage at which shadow filters are scored: (from, up to]; a shadow restarts
#: at its end.
_AGES: Final[tuple[tuple[float, float], ...]] = ((0.0, 3.0), (3.0, 24.0), (24.0, 168.0))
#: Age that parts the conditions of the intervals.
_YOUNG_HOURS: Final = 3.0
#: Hours after which the settled readout is replaced.
_SETTLED_HOURS: Final = 24.0
#: How old the mean of an hour is at its end.
_MEAN_AGE_HOURS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Prediction:
    """Estimate of one pollutant.

    Attributes:
        value: ug/m3.
        lo, hi: 90 % interval, ug/m3.
        method: what carries the estimate, the largest of the weights: "camera", "last" or "global".
        weights: shares of the three, summing to 1 ("last" stands for the sensor's history: last value
        and mean).
        coverage: share of the intervals given under this condition (with or without a picture, sensor silent
        for hours or days) that held, over about the last 100 of them that could be checked; None before
        `COVERAGE_FROM` of them.
        hours: with a picture beside the sensor, that the camera's readout has learned from.
    """

    value: float
    lo: float
    hi: float
    method: str
    weights: Mapping[str, float]
    coverage: float | None
    hours: int = 0


@dataclass(frozen=True, eq=False)
class VirtualSensor:
    """State of one station and pollutant as of the end of an hour; immutable.

    Attributes:
        t_ms: end of the last hour taken in.
        layout: layout of the camera vectors that the readout is learned on ("" before the first).
        moments: float32, upper triangle of the forgotten sum of z z', z = (1, camera vector, humidity,
        log1p value).
        pairs: (camera vector, value) pairs taken in.
        settled: float32, the readout as it was up to a day before: its errors are those of a sensor
            that fell silent yesterday, while the errors of the newest readout are flattered by the hour
            before.
        settled_ms: when `settled` was taken; 0: not yet.
        former_layout, former: the last readout of the layout before, float32, used until the new one is
        ready.
        strange: hours on end that came in another layout.
    """

    t_ms: int
    layout: str
    moments: NDArray[np.float32]
    pairs: int
    level: FilteredLevel
    errors: ErrorMoments
    shadows: tuple[FilteredLevel, ...]
    conformal: Conformal
    settled: NDArray[np.float32]
    settled_ms: int
    former_layout: str
    former: NDArray[np.float32]
    strange: int

    def __post_init__(self) -> None:
        line = (INPUTS + 1,)
        for name, size in (("moments", (len(TRIANGLE[0]),)), ("settled", line), ("former", line)):
            shape = getattr(self, name).shape
            if shape != size:
                raise ArrayError(f"{name} of a virtual sensor has shape {size}, got {shape}")
        if len(self.shadows) != len(_AGES):
            raise ArrayError(f"a virtual sensor has {len(_AGES)} shadows, got {len(self.shadows)}")

    @cached_property
    def readout(self) -> "Readout | None":
        """Follows from the moments, so it is not stored."""
        return Readout.of(self.moments, self.pairs)


def update(
    state: VirtualSensor | None,
    t_ms: int,
    camera: Sight | None = None,
    measured: float | None = None,
    global_estimate: float | None = None,
    closing: tuple[float, int] | None = None,
    shown: str = "",
) -> VirtualSensor | None:
    """Take in one hour.

    Args:
        state: the state before, None at the start.
        t_ms: end of the hour, event time; later than the state's.
        camera: mean camera vector over the hour's usable frames, None without one.
        measured: mean over the hour's good sensor values, ug/m3, None without one.
        global_estimate: what the global head says for the hour without this sensor, ug/m3.
        closing: where `measured` is a mean over several windows, the value of the last of them, ug/m3, and
            its time (ms): a sensor that falls silent was there last, not at its mean.
        shown: what the head had to say that from, as a name: what it is worth is learned for each by itself.

    Returns:
        The new state; None while there has been no measurement to start from.

    Raises:
        ArrayError: time runs back, or a value is negative or not finite.
    """
    if measured is not None and not (math.isfinite(measured) and measured >= 0.0):
        raise ArrayError(f"a measured concentration is finite and not negative, got {measured}")
    if state is None:
        if measured is None:
            return None
        state = _fresh(t_ms, math.log1p(measured))
    elif t_ms <= state.t_ms:
        raise ArrayError(f"hours go forward: the state is at {state.t_ms}, the update at {t_ms}")
    if camera is not None:
        camera.check()
        state = _with_layout(state, camera.layout)
    seen = _observed(state, camera)
    early = _observed(state, camera, settled=True)
    overall = None if global_estimate is None else math.log1p(max(global_estimate, 0.0))

    if overall is not None:
        state = replace(state, errors=state.errors.of_head(shown))
    level = advanced(state.level, t_ms, state.errors)
    shadows = [advanced(shadow, t_ms, state.errors) for shadow in state.shadows]
    level = with_global(with_camera(level, seen, state.errors), overall, state.errors)
    shadows = [
        with_global(
            with_camera(shadow, seen if oldest <= _YOUNG_HOURS else early, state.errors),
            overall,
            state.errors,
        )
        for shadow, (_, oldest) in zip(shadows, _AGES, strict=True)
    ]
    if measured is None:
        return replace(state, t_ms=t_ms, level=level, shadows=tuple(shadows))

    value = math.log1p(measured)
    conformal = state.conformal
    for shadow, (youngest, oldest) in zip(shadows, _AGES, strict=True):
        age = (t_ms - shadow.sensor_ms) / HOUR_MS
        if youngest < age <= oldest:
            conformal = conformal.after(_condition(shadow, shown), abs(value - shadow.x) / deviation(shadow))
    errors = learned(state.errors, t_ms, value, early, overall)
    level = with_sensor(level, value, t_ms)
    if closing is not None:
        level = _closed(level, *closing, state.errors)
    shadows = [
        level if (t_ms - shadow.sensor_ms) / HOUR_MS >= oldest else shadow
        for shadow, (_, oldest) in zip(shadows, _AGES, strict=True)
    ]
    moments, pairs = state.moments, state.pairs
    settled, settled_ms = state.settled, state.settled_ms
    if camera is not None and camera.layout == state.layout:
        if state.readout is not None and t_ms - settled_ms >= _SETTLED_HOURS * HOUR_MS:
            settled, settled_ms = state.readout.line(), t_ms
        z = np.concatenate(((1.0,), inputs_of(camera, moments), (value,)))
        fresh = weight(state.errors, early, value) * np.outer(z, z)[TRIANGLE]
        moments = (moments.astype(np.float64) * memory(errors.strain) + fresh).astype(np.float32)
        pairs += 1
    return VirtualSensor(
        t_ms=t_ms,
        layout=state.layout,
        moments=moments,
        pairs=pairs,
        level=level,
        errors=errors,
        shadows=tuple(shadows),
        conformal=conformal,
        settled=settled,
        settled_ms=settled_ms,
        former_layout=state.former_layout,
        former=state.former,
        strange=state.strange,
    )


def _closed(level: FilteredLevel, value: float, at_ms: int, errors: ErrorMoments) -> FilteredLevel:
    """The level at the end of an hour that it knows the mean of, which is of half an hour before, after the
    hour's last value.
    """
    older = replace(level, pxx=level.pxx + errors.walk * _MEAN_AGE_HOURS)
    heard = with_sensor(older, math.log1p(max(value, 0.0)), at_ms)
    return replace(heard, pxx=heard.pxx + errors.walk * (level.t_ms - at_ms) / HOUR_MS)


def silenced(state: VirtualSensor, since_ms: int, until_ms: int) -> VirtualSensor | None:
    """The state as if the sensor had been silent in (since_ms, until_ms], where it was heard last then.

    The newest of the shadow filters that had not heard it takes the level's place; None where all had. A
    level that heard the sensor later is left alone. What the readout learned of those hours stays: it
    fades (`MEMORY`), and pairs that contradict the others count for less.
    """
    if not since_ms < state.level.sensor_ms <= until_ms:
        return state
    deaf = [level for level in state.shadows if level.sensor_ms <= since_ms]
    if not deaf:
        return None
    level = max(deaf, key=lambda one: one.sensor_ms)
    shadows = tuple(one if one.sensor_ms <= since_ms else level for one in state.shadows)
    return replace(state, level=level, shadows=shadows)


def predict(
    state: VirtualSensor,
    t_ms: int,
    camera: Sight | None = None,
    last: tuple[float, int] | None = None,
    global_estimate: float | None = None,
    shown: str = "",
) -> Prediction | None:
    """Estimate the concentration at a window that has no (good) value of its own.

    Args:
        state: as of an hour that ended at or before `t_ms`.
        t_ms: end of the window.
        camera: camera vector of the window, None without a usable frame.
        last: last measured value (ug/m3) and its time (ms), if one came after the state's hour.
        global_estimate: what the global head says for the window, ug/m3.
        shown: what it had to say that from, as in `update`.

    Returns:
        The estimate, or None when nothing supports one: no usable picture and neither a measurement nor
        a global estimate within a week.

    Examples:
        Three hours are measured, then the sensor is silent, and there is no camera:

        >>> hour, state = 3_600_000, None
        >>> for end in (1, 2, 3):
        ...     state = update(state, end * hour, measured=20.0)
        >>> soon, later = predict(state, 4 * hour), predict(state, 9 * hour)
        >>> soon.method, round(soon.value, 1)
        ('last', 20.0)
        >>> later.lo < soon.lo < 20.0 < soon.hi < later.hi  # less is known
        True
        >>> predict(state, 400 * hour) is None
        True
    """
    level = state.level
    if last is not None and last[1] > state.t_ms:
        level = with_sensor(
            advanced(level, min(last[1], t_ms), state.errors), math.log1p(max(last[0], 0.0)), last[1]
        )
    level = advanced(level, max(t_ms, int(level.t_ms)), state.errors)
    if camera is not None:
        camera.check()
    level = with_camera(level, _observed(state, camera), state.errors)
    if global_estimate is not None:
        level = with_global(level, math.log1p(max(global_estimate, 0.0)), state.errors.of_head(shown))
    heard = max(
        (at for at in (level.sensor_ms, level.camera_ms, level.overall_ms) if not math.isnan(at)),
        default=-math.inf,
    )
    if (t_ms - heard) / HOUR_MS > _AGES[-1][1]:
        return None
    tracker = state.conformal.of(_condition(level, shown))
    half = _threshold(state.conformal, level, shown) * deviation(level)
    weights = {"camera": level.camera, "last": level.last, "global": level.overall}
    return Prediction(
        value=_concentration(level.x),
        lo=_concentration(level.x - half),
        hi=_concentration(level.x + half),
        method=max(weights, key=lambda name: weights[name]),
        weights=weights,
        coverage=tracker.rolling if tracker.count >= COVERAGE_FROM else None,
        hours=state.pairs,
    )


def _concentration(log: float) -> float:
    """ug/m3."""
    return math.expm1(min(max(log, 0.0), _HIGHEST))


def _fresh(t_ms: int, value: float) -> VirtualSensor:
    level = FilteredLevel(
        float(t_ms), value, 0.0, sensor_variance(value), 0.0, START_CAMERA * LASTING, sensor_ms=float(t_ms)
    )
    return VirtualSensor(
        t_ms=t_ms,
        layout="",
        moments=np.zeros(len(TRIANGLE[0]), dtype=np.float32),
        pairs=0,
        level=level,
        errors=ErrorMoments(mean=value),
        shadows=(level,) * len(_AGES),
        conformal=Conformal(),
        settled=np.zeros(INPUTS + 1, dtype=np.float32),
        settled_ms=0,
        former_layout="",
        former=np.zeros(INPUTS + 1, dtype=np.float32),
        strange=0,
    )


def _with_layout(state: VirtualSensor, name: str) -> VirtualSensor:
    """Follow the camera to another layout, once it has come for some hours on end: then the readout
    starts afresh and its last line is kept. The level stays.
    """
    if name == state.layout:
        return replace(state, strange=0) if state.strange else state
    if state.pairs and state.strange + 1 < SWITCH_HOURS:
        return replace(state, strange=state.strange + 1)
    former_layout, former = state.former_layout, state.former
    if state.readout is not None and state.pairs >= MIN_PAIRS:
        former_layout, former = state.layout, state.readout.line()
    return replace(
        state,
        layout=name,
        moments=np.zeros_like(state.moments),
        pairs=0,
        errors=replace(state.errors, strain=1.0),
        settled_ms=0,
        former_layout=former_layout,
        former=former,
        strange=0,
    )


def _observed(state: VirtualSensor, camera: Sight | None, settled: bool = False) -> ReadoutValue | None:
    """What the readout (or the settled one) says of a picture. None where there is no readout yet or the
    picture is unlike all it has seen.
    """
    if camera is None:
        return None
    if state.pairs < MIN_PAIRS and state.former_layout:
        old = camera if camera.layout == state.former_layout else camera.fallback
        if old is not None and old.layout == state.former_layout:
            said = on_line(state.former, inputs_of(old, state.moments))
            return ReadoutValue(within(said, state.errors), 1.0, True)
    if camera.layout != state.layout or state.readout is None or (settled and state.settled_ms == 0):
        return None
    inputs = inputs_of(camera, state.moments)
    leverage = state.readout.leverage(inputs)
    if leverage > MAX_LEVERAGE:
        return None
    value = on_line(state.settled, inputs) if settled else state.readout(inputs)
    return ReadoutValue(within(value, state.errors), 1.0 + leverage, state.pairs >= MIN_PAIRS)


def _threshold(conformal: Conformal, level: FilteredLevel, shown: str) -> float:
    """Factor on the deviation.

    Without a picture errors grow faster in the first hours of a silence than the filter's variance does: the
    factor that holds over a day held for 82 to 87 % of hours 4 to 12 (PM2.5 of Milan and three stations of
    Beijing). So the larger factor of the first hours fades into it over the day: 87 to 93 %.
    """
    own = conformal.of(_condition(level, shown)).threshold
    day, age = _AGES[1][1], _age(level)
    if _sees(level) or not _YOUNG_HOURS < age < day:
        return own
    young = conformal.of(_named(level, _YOUNG_HOURS, shown)).threshold
    return own + max(0.0, young - own) * (day - age) / (day - _YOUNG_HOURS)


def _condition(level: FilteredLevel, shown: str) -> str:
    """Condition for the conformal tracker: age of the last measurement, whether the camera saw the hour, and
    what the head was shown, where it was heard.
    """
    age = _age(level)
    return _named(level, next((oldest for _, oldest in _AGES if age <= oldest), _AGES[-1][1]), shown)


def _named(level: FilteredLevel, span: float, shown: str) -> str:
    heard = f" {shown}" if shown and level.overall_ms == level.t_ms else ""
    return f"{'camera' if _sees(level) else 'blind'}{heard} {span:.0f}h"


def _age(level: FilteredLevel) -> float:
    """Hours since the last measurement."""
    return (level.t_ms - level.sensor_ms) / HOUR_MS


def _sees(level: FilteredLevel) -> bool:
    """Whether the camera saw the hour."""
    return level.t_ms - level.camera_ms < HOUR_MS
