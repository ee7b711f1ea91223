"""The camera as a virtual sensor: per station and pollutant, learned from the station's own paired history.

Two parts, both of bounded memory and moved in event time, once an hour:

*Readout.* Recursive ridge regression of log1p(concentration) on a camera vector: principal components
of the network's pooled features of the far band (or the whole frame), log contrast of its tiles and its
haze statistics. Kept as exponentially forgotten moments, so that the state is the sufficient statistic
and nothing else. A pair that contradicts the readout counts for less (a sensor that drifts must not teach
it), and while pairs go on contradicting it, it forgets faster (a camera that was moved, a sensor that was
calibrated: then it is the readout that is wrong).

*Level.* A Kalman filter over the logarithm of the concentration (an Ornstein-Uhlenbeck level around a
slow mean) and the camera's own slowly changing error. Sensor values, the readout and the global head
are observations, each with the variance of its recent errors: so the estimate follows the sensor while
there is one, leans on the last value for an hour and on the camera after that, and says which of them
carried it.

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
from camera.far_band import Strip
from camera.haze import HAZE_SIZE, TILES, contrast, haze
from schemas.errors import ArrayError
from schemas.times import HOUR_MS

#: Leading principal components of the network's pooled features that enter the camera vector.
COMPONENTS: Final = 17
#: Length of the camera vector: components, tile contrasts, haze statistics.
CAMERA_SIZE: Final = COMPONENTS + TILES[0] * TILES[1] + HAZE_SIZE

#: Inputs of the readout: the camera vector and humidity.
_INPUTS: Final = CAMERA_SIZE + 1

#: Ridge penalty on standardised inputs, in pairs.
RIDGE: Final = 20.0
#: Share of the readout's memory kept at each pair: half is gone after about 700 paired hours.
MEMORY: Final = 0.999
#: Errors, in their own standard deviations, beyond which a pair's weight falls with the square.
DOUBT: Final = 1.5
#: Mean square of the recent such errors above which more is forgotten, by how much more per unit, and the
#: least that is kept at a pair.
STRAIN: Final = 2.0
_STRAIN_STEP: Final = 0.1
_LEAST_MEMORY: Final = 0.7
#: Memory of that mean, in pairs, and the most that one error adds to it.
_STRAIN_PAIRS: Final = 40.0
_STRAIN_MOST: Final = 16.0
#: Pairs before the readout says anything.
MIN_PAIRS: Final = 30
#: Pairs before its errors are counted: those of a readout that knows nothing yet say nothing about a
#: later one.
ERRORS_FROM: Final = 15
#: Checked intervals from which their rolling coverage is told: fewer say nothing of nine in ten.
COVERAGE_FROM: Final = 30
#: Leverage (1: as far out as the ridge's own prior, in units of it) beyond which a picture is unlike
#: all seen.
MAX_LEVERAGE: Final = 8.0
#: Hours on end in another layout after which the readout starts afresh on it: a stray frame must not
#: cost it all.
SWITCH_HOURS: Final = 6
#: The readout may leave the range of the concentrations seen by this much (log).
MARGIN: Final = 0.5

#: Memory of error moments, in outcomes, and the weight of their starting values.
_ERRORS: Final = 100.0
_START_WEIGHT: Final = 10.0
#: Starting values: random-walk variance of the log level an hour, and error variance (log) of the camera.
_START_WALK: Final = 0.04
_START_CAMERA: Final = 0.20
#: Concentration (ug/m3, above -1) at which the camera's relative error variance has doubled.
_CAMERA_FLOOR: Final = 5.0
#: Part of the camera's error variance that lasts, and the hours it lasts (weather that looks like haze).
_LASTING: Final = 0.5
_LASTING_HOURS: Final = 12.0
#: Pairs and correlation from which the global head is heard, and hours of it that are worth one observation.
_GLOBAL_PAIRS: Final = 24.0
_GLOBAL_CORRELATION: Final = 0.5
_GLOBAL_HOURS: Final = 12.0
#: Hours after which the level is back at the slow mean, and hours of memory of that mean.
_REVERT_HOURS: Final = 168.0
_MEAN_HOURS: Final = 240.0
#: Gap in hours, from and to, between two values whose difference counts for the random-walk variance.
_WALK_HOURS: Final = (0.5, 3.0)
#: No estimate goes beyond a gram in a cubic metre (log1p of ug/m3).
_HIGHEST: Final = math.log1p(1e6)
#: Error of a sensor's hourly mean against the air at the window asked for: a share, and ug/m3.
_SENSOR_SHARE: Final = 0.05
_SENSOR_FLOOR: Final = 1.0
#: Ages in hours of a made outage at which shadow filters are scored: (from, up to]; a shadow restarts
#: at its end.
_AGES: Final[tuple[tuple[float, float], ...]] = ((0.0, 3.0), (3.0, 24.0), (24.0, 168.0))
#: Age that parts the conditions of the intervals.
_YOUNG_HOURS: Final = 3.0
#: Hours after which the settled readout is replaced.
_SETTLED_HOURS: Final = 24.0
_TRIANGLE: Final = np.triu_indices(_INPUTS + 2)


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What a camera shows.

    Attributes:
        layout: what `vector` was made of (`layout`).
        vector: `camera_vector`, or the mean of several.
        humidity: relative humidity (%) at the time, where it is measured: droplets swell and look like dust.
        fallback: the same pictures in an older layout (the whole frame, after a far band was set), so
            that the estimate does not go blind while the readout learns the new one.
    """

    layout: str
    vector: NDArray[np.float32]
    humidity: float | None = None
    fallback: "Sight | None" = None


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
    """

    value: float
    lo: float
    hi: float
    method: str
    weights: Mapping[str, float]
    coverage: float | None


@dataclass(frozen=True, slots=True)
class _Level:
    """Kalman state at `t_ms`: log level `x`, lasting camera error `c`, their covariance, shares of x,
    and when the camera and the sensor were last heard (ms; NaN: never).
    """

    t_ms: float
    x: float
    c: float
    pxx: float
    pxc: float
    pcc: float
    last: float = 1.0
    camera: float = 0.0
    overall: float = 0.0
    camera_ms: float = math.nan
    overall_ms: float = math.nan
    sensor_ms: float = math.nan


@dataclass(frozen=True, slots=True)
class _Errors:
    """Running moments behind the filter's variances; `strain`: mean square of the camera's last errors over
    their variance.
    """

    mean: float
    mean_hours: float = 0.0
    walk: float = _START_WALK
    walk_count: float = 0.0
    anchor_ms: float = math.nan
    anchor: float = math.nan
    camera: float = _START_CAMERA
    camera_count: float = 0.0
    global_count: float = 0.0
    global_mean: float = 0.0
    global_var: float = 0.0
    global_cov: float = 0.0
    global_level: float = 0.0
    global_level_var: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    strain: float = 1.0


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
    level: _Level
    errors: _Errors
    shadows: tuple[_Level, ...]
    conformal: Conformal
    settled: NDArray[np.float32]
    settled_ms: int
    former_layout: str
    former: NDArray[np.float32]
    strange: int

    def __post_init__(self) -> None:
        line = (_INPUTS + 1,)
        for name, size in (("moments", (len(_TRIANGLE[0]),)), ("settled", line), ("former", line)):
            shape = getattr(self, name).shape
            if shape != size:
                raise ArrayError(f"{name} of a virtual sensor has shape {size}, got {shape}")
        if len(self.shadows) != len(_AGES):
            raise ArrayError(f"a virtual sensor has {len(_AGES)} shadows, got {len(self.shadows)}")

    @cached_property
    def _readout(self) -> "_Readout | None":
        """Follows from the moments, so it is not stored."""
        return _Readout.of(self.moments, self.pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _Readout:
    """The regression that the moments imply: weights on the raw vector, and what is needed for the
    leverage.
    """

    weights: NDArray[np.float64]
    offset: float
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    gram: NDArray[np.float64]

    @classmethod
    def of(cls, moments: NDArray[np.float32], pairs: int) -> "_Readout | None":
        if pairs < ERRORS_FROM:
            return None
        full = np.zeros((_INPUTS + 2, _INPUTS + 2))
        full[_TRIANGLE] = moments
        count = full[0, 0]
        mean = full[0, 1:-1] / count
        level = full[0, -1] / count
        scatter = np.triu(full[1:-1, 1:-1]) - count * np.triu(np.outer(mean, mean))
        scatter += np.triu(scatter, 1).T
        spread = np.sqrt(np.maximum(np.diag(scatter), 0.0) / count) + 1e-3
        gram = scatter / np.outer(spread, spread)
        gram[np.diag_indices_from(gram)] += RIDGE
        slope = (full[1:-1, -1] - count * mean * level) / spread
        weights = np.linalg.solve(gram, slope) / spread
        return cls(weights, float(level - weights @ mean), mean, spread, gram)

    def __call__(self, inputs: NDArray[np.float64]) -> float:
        return float(self.weights @ inputs) + self.offset

    def line(self) -> NDArray[np.float32]:
        """Weights and offset as they are stored."""
        return np.append(self.weights, self.offset).astype(np.float32)

    def leverage(self, inputs: NDArray[np.float64]) -> float:
        """Variance of the prediction that the readout's own uncertainty adds, over the error variance."""
        standard = (inputs - self.mean) / self.spread
        return float(standard @ np.linalg.solve(self.gram, standard))


def camera_vector(pixels: NDArray[np.uint8], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the readout sees of a picture.

    Args:
        pixels: uint8 (H, W, 3): the far band if the camera has one, else the whole frame.
        projection: the encoder's projection of the same pixels, (64,), components in order of falling
        variance.

    Returns:
        float32 (64,): leading components, tile contrasts, haze statistics.
    """
    return with_projection(projection, plain_part(pixels))


def plain_part(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The part of the camera vector that needs no network: tile contrasts and haze statistics."""
    return np.concatenate((contrast(pixels), haze(pixels)))


def with_projection(projection: NDArray[np.float32], plain: NDArray[np.float32]) -> NDArray[np.float32]:
    """The camera vector of a projection (64,) and the `plain_part` of the same pixels."""
    if projection.ndim != 1 or projection.shape[0] < COMPONENTS:
        raise ArrayError(
            f"the projection needs {COMPONENTS} components or more, got shape {projection.shape}"
        )
    return np.concatenate((projection[:COMPONENTS].astype(np.float32), plain))


def layout(far_band: Strip | None) -> str:
    """Name of the layout of a camera vector: vectors of different bands must not be mixed."""
    if far_band is None:
        return "whole"
    return f"far:{far_band.top:.3f}-{far_band.bottom:.3f},{far_band.left:.3f}-{far_band.right:.3f}"


def update(
    state: VirtualSensor | None,
    t_ms: int,
    camera: Sight | None = None,
    measured: float | None = None,
    global_estimate: float | None = None,
) -> VirtualSensor | None:
    """Take in one hour.

    Args:
        state: the state before, None at the start.
        t_ms: end of the hour, event time; later than the state's.
        camera: mean camera vector over the hour's usable frames, None without one.
        measured: mean over the hour's good sensor values, ug/m3, None without one.
        global_estimate: what the global head says for the hour without this sensor, ug/m3.

    Returns:
        The new state; None while there has been no measurement to start from.

    Raises:
        InputError: time runs back, or a value is negative or not finite.
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
        _check(camera)
        state = _with_layout(state, camera.layout)
    seen = _observed(state, camera)
    early = _observed(state, camera, settled=True)
    overall = None if global_estimate is None else math.log1p(max(global_estimate, 0.0))

    level = _advanced(state.level, t_ms, state.errors)
    shadows = [_advanced(shadow, t_ms, state.errors) for shadow in state.shadows]
    level = _with_global(_with_camera(level, seen, state.errors), overall, state.errors)
    shadows = [
        _with_global(
            _with_camera(shadow, seen if oldest <= _YOUNG_HOURS else early, state.errors),
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
            conformal = conformal.after(_condition(shadow), abs(value - shadow.x) / _deviation(shadow))
    errors = _learned(state.errors, t_ms, value, early, overall)
    level = _with_sensor(level, value, t_ms)
    shadows = [
        level if (t_ms - shadow.sensor_ms) / HOUR_MS >= oldest else shadow
        for shadow, (_, oldest) in zip(shadows, _AGES, strict=True)
    ]
    moments, pairs = state.moments, state.pairs
    settled, settled_ms = state.settled, state.settled_ms
    if camera is not None and camera.layout == state.layout:
        if state._readout is not None and t_ms - settled_ms >= _SETTLED_HOURS * HOUR_MS:
            settled, settled_ms = state._readout.line(), t_ms
        z = np.concatenate(((1.0,), _inputs(camera, moments), (value,)))
        fresh = _weight(state.errors, early, value) * np.outer(z, z)[_TRIANGLE]
        moments = (moments.astype(np.float64) * _memory(errors.strain) + fresh).astype(np.float32)
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


def unheard(state: VirtualSensor, since_ms: int, until_ms: int) -> VirtualSensor | None:
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
) -> Prediction | None:
    """Estimate the concentration at a window that has no (good) value of its own.

    Args:
        state: as of an hour that ended at or before `t_ms`.
        t_ms: end of the window.
        camera: camera vector of the window, None without a usable frame.
        last: last measured value (ug/m3) and its time (ms), if one came after the state's hour.
        global_estimate: what the global head says for the window, ug/m3.

    Returns:
        The estimate, or None when nothing supports one: no usable picture and neither a measurement nor
        a global estimate within a week.
    """
    level = state.level
    if last is not None and last[1] > state.t_ms:
        level = _with_sensor(
            _advanced(level, min(last[1], t_ms), state.errors), math.log1p(max(last[0], 0.0)), last[1]
        )
    level = _advanced(level, max(t_ms, int(level.t_ms)), state.errors)
    if camera is not None:
        _check(camera)
    level = _with_camera(level, _observed(state, camera), state.errors)
    if global_estimate is not None:
        level = _with_global(level, math.log1p(max(global_estimate, 0.0)), state.errors)
    heard = max(
        (at for at in (level.sensor_ms, level.camera_ms, level.overall_ms) if not math.isnan(at)),
        default=-math.inf,
    )
    if (t_ms - heard) / HOUR_MS > _AGES[-1][1]:
        return None
    tracker = state.conformal.of(_condition(level))
    half = tracker.threshold * _deviation(level)
    weights = {"camera": level.camera, "last": level.last, "global": level.overall}
    return Prediction(
        value=_concentration(level.x),
        lo=_concentration(level.x - half),
        hi=_concentration(level.x + half),
        method=max(weights, key=lambda name: weights[name]),
        weights=weights,
        coverage=tracker.rolling if tracker.count >= COVERAGE_FROM else None,
    )


def _concentration(log: float) -> float:
    """ug/m3."""
    return math.expm1(min(max(log, 0.0), _HIGHEST))


def _check(camera: Sight) -> None:
    if camera.vector.shape != (CAMERA_SIZE,) or not np.isfinite(camera.vector).all():
        raise ArrayError(f"a camera vector is {CAMERA_SIZE} finite numbers, got shape {camera.vector.shape}")
    if camera.fallback is not None:
        _check(camera.fallback)


def _fresh(t_ms: int, value: float) -> VirtualSensor:
    level = _Level(
        float(t_ms), value, 0.0, _sensor_variance(value), 0.0, _START_CAMERA * _LASTING, sensor_ms=float(t_ms)
    )
    return VirtualSensor(
        t_ms=t_ms,
        layout="",
        moments=np.zeros(len(_TRIANGLE[0]), dtype=np.float32),
        pairs=0,
        level=level,
        errors=_Errors(mean=value),
        shadows=(level,) * len(_AGES),
        conformal=Conformal(),
        settled=np.zeros(_INPUTS + 1, dtype=np.float32),
        settled_ms=0,
        former_layout="",
        former=np.zeros(_INPUTS + 1, dtype=np.float32),
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
    if state._readout is not None and state.pairs >= MIN_PAIRS:
        former_layout, former = state.layout, state._readout.line()
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


def _observed(
    state: VirtualSensor, camera: Sight | None, settled: bool = False
) -> tuple[float, float, bool] | None:
    """What the readout (or the settled one) says of a picture (log), the factor on its error variance,
    and whether it may be used. None where there is no readout yet or the picture is unlike all it has
    seen.
    """
    if camera is None:
        return None
    if state.pairs < MIN_PAIRS and state.former_layout:
        old = camera if camera.layout == state.former_layout else camera.fallback
        if old is not None and old.layout == state.former_layout:
            return _within(_on_line(state.former, _inputs(old, state.moments)), state.errors), 1.0, True
    if camera.layout != state.layout or state._readout is None or (settled and state.settled_ms == 0):
        return None
    inputs = _inputs(camera, state.moments)
    leverage = state._readout.leverage(inputs)
    if leverage > MAX_LEVERAGE:
        return None
    value = _on_line(state.settled, inputs) if settled else state._readout(inputs)
    return _within(value, state.errors), 1.0 + leverage, state.pairs >= MIN_PAIRS


def _on_line(line: NDArray[np.float32], inputs: NDArray[np.float64]) -> float:
    wide = line.astype(np.float64)
    return float(wide[:-1] @ inputs) + float(wide[-1])


def _within(value: float, errors: _Errors) -> float:
    """No further than `MARGIN` outside the concentrations ever measured."""
    return min(max(value, errors.lowest - MARGIN), errors.highest + MARGIN)


def _inputs(camera: Sight, moments: NDArray[np.float32]) -> NDArray[np.float64]:
    """Inputs of the readout. Light scattered by hygroscopic particles grows about as a power of 1 / (1
    - RH): its logarithm enters, as the logarithm of the concentration comes out. Unknown humidity takes
    its mean so far.
    """
    if camera.humidity is not None:
        wet = -math.log(1.0 - min(max(camera.humidity, 0.0), 99.0) / 100.0)
    else:
        wet = float(moments[_INPUTS] / moments[0]) if moments[0] > 0.0 else 0.0
    return np.concatenate((camera.vector.astype(np.float64), (wet,)))


def _advanced(level: _Level, t_ms: float, errors: _Errors) -> _Level:
    """The filter carried to a later time without news."""
    hours = (t_ms - level.t_ms) / HOUR_MS
    if hours <= 0.0:
        return level
    keep, lasting = math.exp(-hours / _REVERT_HOURS), math.exp(-hours / _LASTING_HOURS)
    walk = errors.walk * _REVERT_HOURS / 2.0 * (1.0 - keep * keep)
    return replace(
        level,
        t_ms=float(t_ms),
        x=errors.mean + keep * (level.x - errors.mean),
        c=lasting * level.c,
        pxx=keep * keep * level.pxx + walk,
        pxc=keep * lasting * level.pxc,
        pcc=lasting * lasting * level.pcc + errors.camera * _LASTING * (1.0 - lasting * lasting),
        last=1.0 - keep * (level.camera + level.overall),
        camera=keep * level.camera,
        overall=keep * level.overall,
    )


def _low(value: float) -> float:
    """Factor on the camera's error variance at low concentrations, where clear air and the lens, not
    dust, decide.
    """
    return 1.0 + (_CAMERA_FLOOR / math.exp(value)) ** 2


def _rarer(t_ms: float, since_ms: float, worth_hours: float = 1.0) -> float:
    """Factor on the error variance of an observation that follows one like it: `worth_hours` of
    pictures are worth one observation, however many there are, for their errors are alike.
    """
    hours = (t_ms - since_ms) / HOUR_MS
    return 1.0 if math.isnan(hours) or hours >= worth_hours else worth_hours / max(hours, 1e-3)


def _with_camera(level: _Level, seen: tuple[float, float, bool] | None, errors: _Errors) -> _Level:
    """Kalman update with the readout's value z = x + c + noise."""
    if seen is None or not seen[2]:
        return level
    value, factor, _ = seen
    factor *= _low(value)
    noise = errors.camera * (1.0 - _LASTING) * factor * _rarer(level.t_ms, level.camera_ms)
    sx, sc = level.pxx + level.pxc, level.pxc + level.pcc
    total = sx + sc + noise
    kx, kc = sx / total, sc / total
    surprise = value - level.x - level.c
    return replace(
        level,
        x=level.x + kx * surprise,
        c=level.c + kc * surprise,
        pxx=level.pxx - kx * sx,
        pxc=level.pxc - kx * sc,
        pcc=level.pcc - kc * sc,
        last=(1.0 - kx) * level.last,
        camera=(1.0 - kx) * level.camera + kx,
        overall=(1.0 - kx) * level.overall,
        camera_ms=level.t_ms,
    )


def _with_global(level: _Level, value: float | None, errors: _Errors) -> _Level:
    """Kalman update with the global head's value g.

    At a camera it was not trained on, the head is biased, off in scale, or blind. So g = a + b x +
    noise is fitted to the recent hours with a measurement, and (g - a) / b observed with its noise;
    where g does not follow x there is no observation. Where it follows by little, (g - a) / b is a long way
    from the level for a small step of g: it is no further out than the concentrations ever measured.
    """
    if value is None or errors.global_count < _GLOBAL_PAIRS:
        return level
    product = math.sqrt(errors.global_var * errors.global_level_var)
    if product <= 0.0 or errors.global_cov / product < _GLOBAL_CORRELATION:
        return level
    fit = (errors.global_cov / product) ** 2
    slope = errors.global_level_var / errors.global_cov
    observed = _within(errors.global_level + (value - errors.global_mean) * slope, errors)
    noise = errors.global_level_var * (1.0 - fit) / fit * _rarer(level.t_ms, level.overall_ms, _GLOBAL_HOURS)
    total = level.pxx + noise
    kx, kc = level.pxx / total, level.pxc / total
    surprise = observed - level.x
    return replace(
        level,
        x=level.x + kx * surprise,
        c=level.c + kc * surprise,
        pxx=level.pxx * (1.0 - kx),
        pxc=level.pxc * (1.0 - kx),
        pcc=level.pcc - kc * level.pxc,
        last=(1.0 - kx) * level.last,
        camera=(1.0 - kx) * level.camera,
        overall=(1.0 - kx) * level.overall + kx,
        overall_ms=level.t_ms,
    )


def _with_sensor(level: _Level, value: float, at_ms: float) -> _Level:
    """Kalman update with a measured value."""
    total = level.pxx + _sensor_variance(value)
    kx, kc = level.pxx / total, level.pxc / total
    surprise = value - level.x
    return replace(
        level,
        x=level.x + kx * surprise,
        c=level.c + kc * surprise,
        pxx=level.pxx * (1.0 - kx),
        pxc=level.pxc * (1.0 - kx),
        pcc=level.pcc - kc * level.pxc,
        last=1.0,
        camera=0.0,
        overall=0.0,
        sensor_ms=float(at_ms),
    )


def _learned(
    errors: _Errors,
    t_ms: int,
    value: float,
    seen: tuple[float, float, bool] | None,
    overall: float | None,
) -> _Errors:
    """Error moments after an hour with a measurement."""
    hours = min(errors.mean_hours + 1.0, _MEAN_HOURS)
    changed = replace(
        errors,
        mean=errors.mean + (value - errors.mean) / hours,
        mean_hours=hours,
        lowest=min(errors.lowest, value),
        highest=max(errors.highest, value),
    )
    apart = (t_ms - errors.anchor_ms) / HOUR_MS
    if _WALK_HOURS[0] <= apart <= _WALK_HOURS[1]:
        walk, count = _running(errors.walk, errors.walk_count, (value - errors.anchor) ** 2 / apart)
        changed = replace(changed, walk=walk, walk_count=count)
    if not apart < _WALK_HOURS[0]:
        changed = replace(changed, anchor_ms=float(t_ms), anchor=value)
    if seen is not None:
        square = _square(seen, value)
        camera, count = _running(errors.camera, errors.camera_count, square)
        change = (min(square / errors.camera, _STRAIN_MOST) - errors.strain) / _STRAIN_PAIRS
        changed = replace(changed, camera=camera, camera_count=count, strain=errors.strain + change)
    if overall is not None:
        count = errors.global_count + 1.0
        share = 1.0 / min(count, _ERRORS)
        off, apart = overall - errors.global_mean, value - errors.global_level
        changed = replace(
            changed,
            global_count=count,
            global_mean=errors.global_mean + share * off,
            global_level=errors.global_level + share * apart,
            global_var=(1.0 - share) * (errors.global_var + share * off * off),
            global_level_var=(1.0 - share) * (errors.global_level_var + share * apart * apart),
            global_cov=(1.0 - share) * (errors.global_cov + share * off * apart),
        )
    return changed


def _square(seen: tuple[float, float, bool], value: float) -> float:
    """Squared error of the readout's value (log), brought to the variance that `_Errors.camera` estimates."""
    return (seen[0] - value) ** 2 / (seen[1] * _low(seen[0]))


def _weight(errors: _Errors, seen: tuple[float, float, bool] | None, value: float) -> float:
    """What a pair counts for in the readout. Weights that fall with the square of the error bound what any
    one pair can do, and what a run of pairs of a drifting sensor does before it is repaired.
    """
    if seen is None:
        return 1.0
    return 1.0 / max(1.0, _square(seen, value) / (DOUBT * DOUBT * errors.camera))


def _memory(strain: float) -> float:
    """Share of the readout's memory kept at a pair."""
    return max(MEMORY - _STRAIN_STEP * max(strain - STRAIN, 0.0), _LEAST_MEMORY)


def _running(mean: float, count: float, value: float) -> tuple[float, float]:
    """Running mean that starts with the weight of a prior and forgets."""
    return mean + (value - mean) / min(count + 1.0 + _START_WEIGHT, _ERRORS), count + 1.0


def _sensor_variance(value: float) -> float:
    """Error variance, on the log scale, of a sensor that reads expm1(value) ug/m3: d log1p(y) = dy / (1
    + y).
    """
    return _SENSOR_SHARE**2 + (_SENSOR_FLOOR / math.exp(max(value, 0.0))) ** 2


def _deviation(level: _Level) -> float:
    """Standard deviation (log) of what the sensor would read."""
    return math.sqrt(level.pxx + _sensor_variance(level.x))


def _condition(level: _Level) -> str:
    """Condition for the conformal tracker: age of the last measurement, and whether the camera saw the
    hour.
    """
    age = (level.t_ms - level.sensor_ms) / HOUR_MS
    span = next((oldest for _, oldest in _AGES if age <= oldest), _AGES[-1][1])
    return f"{'camera' if level.t_ms - level.camera_ms < HOUR_MS else 'blind'} {span:.0f}h"
