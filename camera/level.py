"""The level: a Kalman filter over the logarithm of a concentration and the camera's own lasting error. Pure.

The level is an Ornstein-Uhlenbeck process around a slow mean. Sensor values, the readout and the global head
are observations, each with the variance of its recent errors: so the estimate follows the sensor while there
is one, leans on the last value for an hour and on the camera after that, and says which of them carried it.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from camera.error_moments import ErrorMoments, low, sensor_variance, within
from camera.readout import ReadoutValue
from schemas.times import HOUR_MS

__all__ = ["LASTING", "FilteredLevel", "advanced", "deviation", "with_camera", "with_global", "with_sensor"]

#: Part of the camera's error variance that lasts, and the hours it lasts (weather that looks like haze).
LASTING: Final = 0.5
_LASTING_HOURS: Final = 12.0
#: Pairs and correlation from which the global head is heard, and hours of it that are worth one observation.
_GLOBAL_PAIRS: Final = 24.0
_GLOBAL_CORRELATION: Final = 0.5
_GLOBAL_HOURS: Final = 12.0
#: Hours after which the level is back at the slow mean, and hours of memory of that mean.
_REVERT_HOURS: Final = 168.0


@dataclass(frozen=True, slots=True)
class FilteredLevel:
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


def advanced(level: FilteredLevel, t_ms: float, errors: ErrorMoments) -> FilteredLevel:
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
        pcc=lasting * lasting * level.pcc + errors.camera * LASTING * (1.0 - lasting * lasting),
        last=1.0 - keep * (level.camera + level.overall),
        camera=keep * level.camera,
        overall=keep * level.overall,
    )


def _rarer(t_ms: float, since_ms: float, worth_hours: float = 1.0) -> float:
    """Factor on the error variance of an observation that follows one like it: `worth_hours` of
    pictures are worth one observation, however many there are, for their errors are alike.
    """
    hours = (t_ms - since_ms) / HOUR_MS
    return 1.0 if math.isnan(hours) or hours >= worth_hours else worth_hours / max(hours, 1e-3)


def _step(
    level: FilteredLevel, value: float, noise: float, *, with_error: bool = False
) -> tuple[FilteredLevel, float]:
    """One Kalman update with value = x + noise, or, `with_error`, x + c + noise; and its gain on x.

    The shares of what carried x so far fall by the gain; what was heard takes it.
    """
    if with_error:
        sx, sc = level.pxx + level.pxc, level.pxc + level.pcc
        surprise, total = value - level.x - level.c, sx + sc + noise
    else:
        sx, sc = level.pxx, level.pxc
        surprise, total = value - level.x, sx + noise
    kx, kc = sx / total, sc / total
    keep = 1.0 - kx
    # p (1 - k) and p - k p differ in the last bit, and published series rest on these bits.
    pxx, pxc = (
        (level.pxx - kx * sx, level.pxc - kx * sc) if with_error else (level.pxx * keep, level.pxc * keep)
    )
    moved = replace(
        level,
        x=level.x + kx * surprise,
        c=level.c + kc * surprise,
        pxx=pxx,
        pxc=pxc,
        pcc=level.pcc - kc * sc,
        last=keep * level.last,
        camera=keep * level.camera,
        overall=keep * level.overall,
    )
    return moved, kx


def with_camera(level: FilteredLevel, seen: ReadoutValue | None, errors: ErrorMoments) -> FilteredLevel:
    """The level after the readout's value, which has the camera's lasting error in it."""
    if seen is None or not seen.usable:
        return level
    factor = seen.factor * low(seen.value)
    noise = errors.camera * (1.0 - LASTING) * factor * _rarer(level.t_ms, level.camera_ms)
    moved, gain = _step(level, seen.value, noise, with_error=True)
    return replace(moved, camera=moved.camera + gain, camera_ms=level.t_ms)


def with_global(level: FilteredLevel, value: float | None, errors: ErrorMoments) -> FilteredLevel:
    """The level after the global head's value g.

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
    observed = within(errors.global_level + (value - errors.global_mean) * slope, errors)
    noise = errors.global_level_var * (1.0 - fit) / fit * _rarer(level.t_ms, level.overall_ms, _GLOBAL_HOURS)
    moved, gain = _step(level, observed, noise)
    return replace(moved, overall=moved.overall + gain, overall_ms=level.t_ms)


def with_sensor(level: FilteredLevel, value: float, at_ms: float) -> FilteredLevel:
    """The level after a measured value, which carries it from here on."""
    moved, _ = _step(level, value, sensor_variance(value))
    return replace(moved, last=1.0, camera=0.0, overall=0.0, sensor_ms=float(at_ms))


def deviation(level: FilteredLevel) -> float:
    """Standard deviation (log) of what the sensor would read."""
    return math.sqrt(level.pxx + sensor_variance(level.x))
