"""The recent errors of sensor, readout and global head: what the filter's variances rest on. Pure."""

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from camera.readout import ReadoutValue
from schemas.times import HOUR_MS

__all__ = [
    "DOUBT",
    "MARGIN",
    "MEMORY",
    "START_CAMERA",
    "STRAIN",
    "ErrorMoments",
    "HeadMoments",
    "learned",
    "low",
    "memory",
    "sensor_variance",
    "weight",
    "within",
]

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
#: The readout may leave the range of the concentrations seen by this much (log).
MARGIN: Final = 0.5
#: Memory of error moments, in outcomes, and the weight of their starting values.
_ERRORS: Final = 100.0
_START_WEIGHT: Final = 10.0
#: Starting values: random-walk variance of the log level an hour, and error variance (log) of the camera.
_START_WALK: Final = 0.04
START_CAMERA: Final = 0.20
#: Concentration (ug/m3, above -1) at which the camera's relative error variance has doubled.
_CAMERA_FLOOR: Final = 5.0
_MEAN_HOURS: Final = 240.0
#: Gap in hours, from and to, between two values whose difference counts for the random-walk variance.
_WALK_HOURS: Final = (0.5, 3.0)
#: Error of a sensor's hourly mean against the air at the window asked for: a share, and ug/m3.
_SENSOR_SHARE: Final = 0.05
_SENSOR_FLOOR: Final = 1.0
#: Sets of inputs of the head of which moments are kept; the one longest unused makes room.
_SETS_OF_INPUTS: Final = 8


class HeadMoments(NamedTuple):
    """How what the head says of a concentration, shown these inputs, went with the sensor (log)."""

    shown: str
    compared: float
    mean: float
    var: float
    cov: float
    level: float
    level_var: float


@dataclass(frozen=True, slots=True)
class ErrorMoments:
    """Running moments behind the filter's variances; `strain`: mean square of the camera's last errors over
    their variance.

    The head errs otherwise when it is shown other inputs, so what is counted of it is by these: the
    `global_…` are of those in `global_shown`, and `heads` has the others, the most recently used last.
    """

    mean: float
    mean_hours: float = 0.0
    walk: float = _START_WALK
    walk_count: float = 0.0
    anchor_ms: float = math.nan
    anchor: float = math.nan
    camera: float = START_CAMERA
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
    global_shown: str = ""
    heads: tuple[HeadMoments, ...] = ()

    def of_head(self, shown: str) -> "ErrorMoments":
        """With the `global_…` of the head as it is shown these inputs.

        What an earlier version counted was of whatever the head was shown, and counts no more.
        """
        if shown == self.global_shown:
            return self
        mine = HeadMoments(
            self.global_shown, self.global_count, self.global_mean, self.global_var, self.global_cov,
            self.global_level, self.global_level_var,
        )  # fmt: skip
        fresh = HeadMoments(shown, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        wanted = next((one for one in self.heads if one.shown == shown), fresh)
        others = (*(one for one in self.heads if one.shown != shown), *([mine] if mine.shown else []))
        return replace(
            self,
            global_shown=shown,
            global_count=wanted.compared,
            global_mean=wanted.mean,
            global_var=wanted.var,
            global_cov=wanted.cov,
            global_level=wanted.level,
            global_level_var=wanted.level_var,
            heads=others[1 - _SETS_OF_INPUTS :],
        )


def learned(
    errors: ErrorMoments,
    t_ms: int,
    value: float,
    seen: ReadoutValue | None,
    overall: float | None,
) -> ErrorMoments:
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


def _square(seen: ReadoutValue, value: float) -> float:
    """Squared error of the readout's value (log), brought to the variance that `camera` estimates."""
    return (seen.value - value) ** 2 / (seen.factor * low(seen.value))


def weight(errors: ErrorMoments, seen: ReadoutValue | None, value: float) -> float:
    """What a pair counts for in the readout. Weights that fall with the square of the error bound what any
    one pair can do, and what a run of pairs of a drifting sensor does before it is repaired.
    """
    if seen is None:
        return 1.0
    return 1.0 / max(1.0, _square(seen, value) / (DOUBT * DOUBT * errors.camera))


def memory(strain: float) -> float:
    """Share of the readout's memory kept at a pair."""
    return max(MEMORY - _STRAIN_STEP * max(strain - STRAIN, 0.0), _LEAST_MEMORY)


def _running(mean: float, count: float, value: float) -> tuple[float, float]:
    """Running mean that starts with the weight of a prior and forgets."""
    return mean + (value - mean) / min(count + 1.0 + _START_WEIGHT, _ERRORS), count + 1.0


def within(value: float, errors: ErrorMoments) -> float:
    """No further than `MARGIN` outside the concentrations ever measured."""
    return min(max(value, errors.lowest - MARGIN), errors.highest + MARGIN)


def low(value: float) -> float:
    """Factor on the camera's error variance at low concentrations, where clear air and the lens, not
    dust, decide.
    """
    return 1.0 + (_CAMERA_FLOOR / math.exp(value)) ** 2


def sensor_variance(value: float) -> float:
    """Error variance, on the log scale, of a sensor that reads expm1(value) ug/m3: d log1p(y) = dy / (1
    + y).
    """
    return _SENSOR_SHARE**2 + (_SENSOR_FLOOR / math.exp(max(value, 0.0))) ** 2
