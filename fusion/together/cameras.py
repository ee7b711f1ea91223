"""Cameras without a sensor beside them, or one that has not taught them: their region teaches them. Pure.

What a region says of a place rests on what sensors measure, never on a camera, so it may teach one. Where the
station's own virtual sensor already reads its camera, the region leaves that to it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from camera.conformal import START
from camera.sight import CAMERA_SIZE, Sight
from camera.taught import Lesson, TaughtReadout, blended, taught
from network.cell import Estimates
from network.members import Members, Silence, Variable
from network.scale import OFFSETS
from schemas.alone import Alone, WindowSight
from schemas.arrays import Float64
from schemas.estimate import Estimate
from schemas.parameters import Pollutant

#: What can be seen: light is scattered by particles, not by gases.
SEEN: Final[tuple[Pollutant, ...]] = ("pm25", "pm10")
#: Interval of nine in ten, in standard deviations of a Gaussian on either side.
_REACH: Final = 1.6448536269514722

#: By station, and by pollutant, what its camera has been taught.
TaughtCameras = Mapping[str, Mapping[str, TaughtReadout]]


class CameraView(NamedTuple):
    """What a camera shows in a window, and by pollutant what it has been taught."""

    sight: Sight
    readouts: Mapping[str, TaughtReadout]


def untaught(estimate: Estimate) -> tuple[Pollutant, ...]:
    """What a station's camera could show, and neither its sensor nor its own readout says in a window."""
    said = estimate.pollutants
    return tuple(
        name
        for name in SEEN
        if (one := said.get(name)) is None
        or (one.kind == "imputed" and one.weights.get("camera", 0.0) == 0.0)
    )


def told_of(sight: Sight) -> WindowSight:
    """What a region is told of what a camera shows."""
    vector = sight.vector.astype("<f4").tobytes()
    return WindowSight(layout=sight.layout, vector=vector, humidity=sight.humidity)


def sight_of(alone: Alone) -> Sight | None:
    """What the camera of a station shows in a window, where its region is told."""
    if alone.sight is None:
        return None
    return Sight(alone.sight.layout, np.frombuffer(alone.sight.vector, "<f4"), alone.sight.humidity)


@dataclass(frozen=True)
class SightSums:
    """Sums over an hour's pictures of one camera, in its newest layout; `humidity`: sum and count."""

    layout: str = ""
    vector: tuple[float, ...] = ()
    count: int = 0
    humidity: tuple[float, int] = (0.0, 0)

    def with_sight(self, sight: Sight) -> "SightSums":
        """The sums with one more window."""
        before = self if sight.layout == self.layout else SightSums(sight.layout, (0.0,) * CAMERA_SIZE)
        total, count = before.humidity
        if sight.humidity is not None:
            total, count = total + sight.humidity, count + 1
        summed = np.array(before.vector) + sight.vector.astype(np.float64)
        return SightSums(sight.layout, tuple(summed.tolist()), before.count + 1, (total, count))

    def mean(self) -> Sight:
        """The hour's mean picture."""
        total, count = self.humidity
        mean = (np.array(self.vector) / self.count).astype(np.float32)
        return Sight(self.layout, mean, total / count if count else None)


def lesson(pollutant: Pollutant, value: float, lo: float, hi: float) -> Lesson:
    """What an estimate with its interval (ug/m3) teaches, on the log scale of a region."""
    offset = OFFSETS[pollutant]
    log, low, high = (math.log(offset + max(0.0, part)) for part in (value, lo, hi))
    return Lesson(log, ((high - low) / (2.0 * _REACH)) ** 2)


class CameraSays(NamedTuple):
    """A value (ug/m3) with its interval, the camera's share in it, and the hours that have taught it."""

    value: float
    lo: float
    hi: float
    share: float
    hours: int


def with_camera(
    pictured: CameraView | None, pollutant: Pollutant, said: tuple[float, float, float] | None
) -> CameraSays | None:
    """A region's value and interval (ug/m3) with what a camera shows that it has taught.

    `said`: None where the region is silent, and the camera speaks alone. None where there is none to add.
    """
    if pictured is None or pollutant not in pictured.readouts:
        return None
    state = pictured.readouts[pollutant]
    told = None if said is None else lesson(pollutant, *said)
    blend = blended(state, pictured.sight, told)
    if blend is None:
        return None
    offset = OFFSETS[pollutant]
    if said is None or told is None:
        below = above = START * math.sqrt(blend.variance)
    else:
        log, low, high = (math.log(offset + max(0.0, part)) for part in said)
        narrower = math.sqrt(blend.variance / told.variance) if told.variance else 1.0
        below, above = narrower * (log - low), narrower * (high - log)
    value, lo, hi = (
        max(0.0, math.exp(part) - offset) for part in (blend.value, blend.value - below, blend.value + above)
    )
    return CameraSays(value, lo, hi, blend.share, state.hours)


def after_hour_of_cameras(
    cameras: TaughtCameras,
    end: int,
    sights: Mapping[str, SightSums],
    members: Members,
    said: Estimates,
    heard: Float64,
) -> TaughtCameras:
    """What cameras know after the hour that ends at `end` (ms).

    Args:
        cameras: before.
        sights: by station, what its camera showed.
        members: of the region.
        said: what the region said of the hour, before it learned from it.
        heard: (d,) what it heard in it, ug/m3, NaN where nothing: such an hour is the sensor's to teach.
    """
    if not sights:
        return cameras
    at = {variable: index for index, variable in enumerate(members.variables)}
    after = dict(cameras)
    for station, sums in sorted(sights.items()):
        sight = sums.mean()
        known = dict(cameras.get(station, {}))
        for name in SEEN:
            index = at.get(Variable(station, name))
            if index is None or not math.isnan(heard[index]) or not tells(said, index):
                continue
            told = lesson(name, *(float(part[index]) for part in (said.value, said.lo, said.hi)))
            before = known.get(name)
            known[name] = taught(before, end, sight, told)
        if known:
            after[station] = known
    return after


def tells(said: Estimates, index: int) -> bool:
    """Whether what a region hears now tells it anything of what is silent."""
    told = said.kind[index] != Silence.ALL and said.neighbours[index] + said.own[index] > 0.0
    return bool(told) and not math.isnan(said.value[index])
