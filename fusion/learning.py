"""What a station learns of its own air, window by window: averages, last values, virtual sensors. Pure.

Virtual sensors move once an hour: the means of an hour's final windows are gathered, and taken in when the
first final window of a later hour comes, as of the last window of their own hour. (A station that reports at
the start of each hour was heard then, not at its end: its last value is as old as that.) An estimate of a
later hour does not wait for that: it takes in for itself what was gathered before its hour. In the first hour
of a sensor nothing is gathered: its last value is all that is known, and it is held.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aqi.history import History
from camera.far_band import BandFinder, observe
from camera.sight import Sight
from camera.virtual_sensor import Prediction, VirtualSensor, predict, update
from schemas.arrays import Float64
from schemas.times import HOUR_MS, end_of

#: Cameras of a station whose rows are remembered.
_FINDERS: Final = 8


class HeadSaid(NamedTuple):
    """What the global head says of a pollutant (ug/m3), and which inputs it was shown."""

    value: float
    shown: str


class Rows(NamedTuple):
    """Row profile (36,) of a camera without a far band, over a window's frames."""

    camera: str
    profile: NDArray[np.float32]


class RowSums(NamedTuple):
    """Sum of the row profiles of a camera's windows."""

    camera: str
    sums: tuple[float, ...]
    windows: int


@dataclass(frozen=True)
class Gathered:
    """Sums over the final windows of an hour in progress; `through`: end of the last of them (ms)."""

    end: int
    through: int
    layout: str = ""
    frames: int = 0
    camera: tuple[float, ...] = ()
    whole: tuple[float, ...] = ()
    humidity: tuple[float, int] = (0.0, 0)
    measured: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    told: Mapping[str, float] = field(default_factory=dict)
    rows: RowSums | None = None
    #: What the head was shown for what it told.
    shown: Mapping[str, str] = field(default_factory=dict)

    def with_window(
        self,
        end: int,
        sight: Sight | None,
        rows: Rows | None,
        measured: Mapping[str, float],
        told: Mapping[str, HeadSaid],
    ) -> "Gathered":
        """The sums with one more window. What the head told counts from the first window that has it."""
        sums = dict(self.measured)
        for name, value in measured.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + value, count + 1
        fresh_told = {name: said for name, said in told.items() if name not in self.told}
        after = replace(
            self,
            through=end,
            measured=sums,
            told={**{name: said.value for name, said in fresh_told.items()}, **self.told},
            shown={**{name: said.shown for name, said in fresh_told.items()}, **self.shown},
        )
        if rows is not None:
            before = self.rows if self.rows is not None and self.rows.camera == rows.camera else None
            after = replace(
                after,
                rows=RowSums(
                    rows.camera,
                    _added(() if before is None else before.sums, rows.profile),
                    1 if before is None else before.windows + 1,
                ),
            )
        if sight is None:
            return after
        fresh = sight.layout != self.layout
        whole = () if sight.fallback is None else _added(() if fresh else self.whole, sight.fallback.vector)
        humidity, count = self.humidity
        if sight.humidity is not None:
            humidity, count = humidity + sight.humidity, count + 1
        return replace(
            after,
            layout=sight.layout,
            frames=1 if fresh else self.frames + 1,
            camera=_added(() if fresh else self.camera, sight.vector),
            whole=whole,
            humidity=(humidity, count),
        )

    def sight(self) -> Sight | None:
        """The hour's mean picture."""
        if not self.frames:
            return None
        humidity = self.humidity[0] / self.humidity[1] if self.humidity[1] else None
        fallback = None
        if self.whole:
            camera = self.layout.partition("/")[0]
            fallback = Sight(f"{camera}/whole", _mean(self.whole, self.frames), humidity)
        return Sight(self.layout, _mean(self.camera, self.frames), humidity, fallback)


@dataclass(frozen=True)
class Air:
    """What is known of a station's air."""

    history: History
    last: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    gathered: Gathered | None = None
    virtual: Mapping[str, VirtualSensor] = field(default_factory=dict)
    #: By camera, the one fed last at the end; only of cameras that the virtual sensors look through.
    finders: Mapping[str, BandFinder] = field(default_factory=dict)
    #: End of the window at which the virtual sensors last moved.
    virtual_at: int = 0


def learned(
    air: Air,
    end: int,
    sight: Sight | None,
    rows: Rows | None,
    measured: Mapping[str, float],
    by_head: Mapping[str, HeadSaid],
) -> Air:
    """What is known after the final window that ends at `end` (ms).

    `rows`: of a camera whose far band is still to be found; `measured`: ug/m3 of the window's usable sensors;
    `by_head`: what the global head says of each pollutant without its own sensor.
    """
    hour = end_of(end, HOUR_MS)
    gathered, virtual, virtual_at = air.gathered, air.virtual, air.virtual_at
    finders = air.finders
    if gathered is not None and gathered.end != hour:
        moved = _moved(air, gathered)
        if moved:
            virtual, virtual_at = {**virtual, **moved}, end
        # Where PM2.5 was measured its virtual sensor has moved too: what is found is never dumped too late.
        finders = _sought(finders, gathered)
        gathered = None
    gathered = (gathered or Gathered(hour, end)).with_window(end, sight, rows, measured, by_head)
    last = {**air.last, **{name: (value, end) for name, value in measured.items()}}
    return Air(air.history, last, gathered, virtual, finders, virtual_at)


def virtual_estimate(
    air: Air, name: str, end: int, sight: Sight | None, by_head: HeadSaid | None
) -> Prediction | None:
    """The virtual sensor's estimate; None where the pollutant was never measured, or all is too old."""
    state, last = air.virtual.get(name), air.last.get(name)
    gathered = air.gathered
    if gathered is not None and gathered.end < end_of(end, HOUR_MS):
        state = _moved_one(state, name, gathered, gathered.sight(), last)
    if state is None and last is not None:
        heard, at = last
        state = update(None, at, None, heard)
    if state is None:
        return None
    if by_head is None:
        return predict(state, end, sight, last)
    return predict(state, end, sight, last, *by_head)


def _moved(air: Air, hour: Gathered) -> dict[str, VirtualSensor]:
    sight = hour.sight()
    moved = {}
    for name in sorted({*air.virtual, *hour.measured}):
        after = _moved_one(air.virtual.get(name), name, hour, sight, air.last.get(name))
        if after is not None:
            moved[name] = after
    return moved


def _moved_one(
    state: VirtualSensor | None,
    name: str,
    hour: Gathered,
    sight: Sight | None,
    last: tuple[float, int] | None,
) -> VirtualSensor | None:
    total, count = hour.measured.get(name, (0.0, 0))
    closing = (
        last if count > 1 and last is not None and hour.end - HOUR_MS < last[1] <= hour.through else None
    )
    measured = total / count if count else None
    told, shown = hour.told.get(name), hour.shown.get(name, "")
    return update(state, hour.through, sight, measured, told, closing, shown)


def _sought(finders: Mapping[str, BandFinder], hour: Gathered) -> Mapping[str, BandFinder]:
    total, count = hour.measured.get("pm25", (0.0, 0))
    if hour.rows is None or not count:
        return finders
    camera, sums, windows = hour.rows
    others = {name: finder for name, finder in finders.items() if name != camera}
    fed = observe(finders.get(camera), _mean(sums, windows), total / count)
    return dict([*others.items(), (camera, fed)][-_FINDERS:])


def _added(sums: tuple[float, ...], vector: NDArray[np.float32]) -> tuple[float, ...]:
    wide = vector.astype(np.float64)
    return tuple((wide + np.array(sums) if sums else wide).tolist())


def _mean(sums: tuple[float, ...], count: int) -> NDArray[np.float32]:
    mean: Float64 = np.array(sums) / count
    return mean.astype(np.float32)
