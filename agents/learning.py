"""What a station learns of its own air, window by window: averages, last values, virtual sensors. Pure.

Virtual sensors move once an hour: the means of an hour's final windows are gathered, and taken in when the
first final window of a later hour comes.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aqi.history import History
from model.virtual_sensor import Prediction, Sight, VirtualSensor, predict, update

HOUR_MS: Final = 3_600_000
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Gathered:
    """Sums over the final windows of an hour in progress."""

    end: int
    layout: str = ""
    frames: int = 0
    camera: tuple[float, ...] = ()
    whole: tuple[float, ...] = ()
    humidity: tuple[float, int] = (0.0, 0)
    measured: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    told: Mapping[str, float] = field(default_factory=dict)

    def with_window(
        self, sight: Sight | None, measured: Mapping[str, float], told: Mapping[str, float]
    ) -> "Gathered":
        """The sums with one more window. What the head told counts from the first window that has it."""
        sums = dict(self.measured)
        for name, value in measured.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + value, count + 1
        after = replace(self, measured=sums, told={**told, **self.told})
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
    #: End of the window at which the virtual sensors last moved.
    virtual_at: int = 0

    def to_plain(self) -> dict[str, Any]:
        """Plain data of everything but the virtual sensors; floats keep their last bit in JSON."""
        hour = self.gathered
        return {
            "history": self.history.to_state(),
            "last": {name: list(pair) for name, pair in sorted(self.last.items())},
            "gathered": None
            if hour is None
            else {
                "end": hour.end,
                "layout": hour.layout,
                "frames": hour.frames,
                "camera": hour.camera,
                "whole": hour.whole,
                "humidity": hour.humidity,
                "measured": {name: list(pair) for name, pair in sorted(hour.measured.items())},
                "told": dict(sorted(hour.told.items())),
            },
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], sensors: tuple[int, bytes] | None) -> "Air":
        """Inverse of `to_plain` and `dump_sensors` (with the horizon it was dumped at)."""
        hour = plain["gathered"]
        gathered = hour and Gathered(
            end=hour["end"],
            layout=hour["layout"],
            frames=hour["frames"],
            camera=tuple(hour["camera"]),
            whole=tuple(hour["whole"]),
            humidity=(hour["humidity"][0], hour["humidity"][1]),
            measured={name: (pair[0], pair[1]) for name, pair in hour["measured"].items()},
            told=hour["told"],
        )
        virtual = {}
        if sensors is not None:
            stored: dict[str, str] = json.loads(sensors[1])
            virtual = {
                name: VirtualSensor.from_bytes(base64.b64decode(text)) for name, text in stored.items()
            }
        return cls(
            History.from_state(plain["history"]),
            {name: (pair[0], pair[1]) for name, pair in plain["last"].items()},
            gathered,
            virtual,
            0 if sensors is None else sensors[0],
        )


def dump_sensors(air: Air) -> bytes:
    """The virtual sensors, losslessly."""
    return json.dumps(
        {name: base64.b64encode(state.to_bytes()).decode() for name, state in sorted(air.virtual.items())}
    ).encode()


def learned(
    air: Air, end: int, sight: Sight | None, measured: Mapping[str, float], told: Mapping[str, float]
) -> Air:
    """What is known after the final window that ends at `end` (ms).

    `measured`: ug/m3 of the window's usable sensors; `told`: what the global head says of each pollutant
    without its own sensor.
    """
    hour = -(-end // HOUR_MS) * HOUR_MS
    gathered, virtual, virtual_at = air.gathered, air.virtual, air.virtual_at
    if gathered is not None and gathered.end != hour:
        moved = _moved(virtual, gathered)
        if moved:
            virtual, virtual_at = {**virtual, **moved}, end
        gathered = None
    gathered = (gathered or Gathered(hour)).with_window(sight, measured, told)
    last = {**air.last, **{name: (value, end) for name, value in measured.items()}}
    return Air(air.history, last, gathered, virtual, virtual_at)


def virtual_estimate(
    air: Air, name: str, end: int, sight: Sight | None, told: float | None
) -> Prediction | None:
    """The virtual sensor's estimate; None where the pollutant was never measured, or all is too old."""
    state = air.virtual.get(name)
    if state is None:
        return None
    return predict(state, end, sight, air.last.get(name), told)


def _moved(virtual: Mapping[str, VirtualSensor], hour: Gathered) -> dict[str, VirtualSensor]:
    sight = hour.sight()
    moved = {}
    for name in sorted({*virtual, *hour.measured}):
        total, count = hour.measured.get(name, (0.0, 0))
        after = update(
            virtual.get(name), hour.end, sight, total / count if count else None, hour.told.get(name)
        )
        if after is not None:
            moved[name] = after
    return moved


def _added(sums: tuple[float, ...], vector: NDArray[np.float32]) -> tuple[float, ...]:
    wide = vector.astype(np.float64)
    return tuple((wide + np.array(sums) if sums else wide).tolist())


def _mean(sums: tuple[float, ...], count: int) -> NDArray[np.float32]:
    mean: Float64 = np.array(sums) / count
    return mean.astype(np.float32)
