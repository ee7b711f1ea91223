"""First pass over a window: which readings and frames are usable, and what quality control remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from aqi import standards
from aqi.quality_defaults import Defaults
from camera import gate
from camera.gate import GateState
from camera.haze import HAZE_SIZE
from camera.sight import Sight
from camera.sun import solar_hour
from fusion.amending import LeftOut
from fusion.learning import Rows
from fusion.sensors.measured import Disputed, Measured
from fusion.sensors.memory import SensorMemory
from fusion.sensors.read import read
from model.bundle.runtime import pool
from schemas.arrays import Float32
from schemas.base import from_ms
from schemas.estimate import FrameUse
from schemas.features import Features
from schemas.limits import CAMERAS_PER_STATION, FORGOTTEN_AFTER_MS, SERIES_PER_STATION
from schemas.parameters import POLLUTANTS, OwnWeather
from schemas.station import Station
from schemas.times import HOUR_MS, end_of
from streams.join import WindowView

#: Of a station without a record.
DEFAULT_STANDARDS: Final = ("us-epa-2024",)


@dataclass(frozen=True)
class Intake:
    """What quality control remembers, of sensors and per camera; and the hour it is in.

    `withheld`: which readings do not count (`fusion.amending`).
    """

    sensors: SensorMemory = field(default_factory=SensorMemory)
    cameras: Mapping[str, GateState] = field(default_factory=dict)
    hour: int = 0
    withheld: tuple[LeftOut, ...] = ()

    def without_the_forgotten(self, end: int) -> "Intake":
        """What is worth remembering after the window that ends at `end` (ms): what was heard lately, and no
        more than the limits. (What comes in keeps them; what an earlier version stored may not.)
        """
        since = end - FORGOTTEN_AFTER_MS
        series = {key: state for key, state in self.sensors.series.items() if state.t_ms >= since}
        if len(series) > SERIES_PER_STATION:
            newest = sorted(series, key=lambda key: (series[key].t_ms, key))[-SERIES_PER_STATION:]
            series = {key: series[key] for key in newest}
        cameras = self.cameras
        if len(cameras) > CAMERAS_PER_STATION:
            newest_scenes = sorted(cameras, key=lambda name: (max(at for _, at in cameras[name].seen), name))
            cameras = {name: cameras[name] for name in newest_scenes[-CAMERAS_PER_STATION:]}
        scales = {key: scale for key, scale in self.sensors.scales.items() if scale.end >= since}
        if len(scales) > SERIES_PER_STATION:
            oldest_first = sorted(scales, key=lambda key: (scales[key].end, key))
            scales = {key: scales[key] for key in oldest_first[-SERIES_PER_STATION:]}
        return replace(self, sensors=replace(self.sensors, series=series, scales=scales), cameras=cameras)


@dataclass(frozen=True)
class Prepared:
    """A window after quality control: what the model will see."""

    view: WindowView
    station: Station | None
    measured: Mapping[str, Measured]
    failed: Mapping[str, Measured]
    disputed: Mapping[str, Disputed]
    refused: Mapping[str, Mapping[str, str]]
    frames: tuple[FrameUse, ...]
    readings: int
    humidity: float | None
    weather: Mapping[OwnWeather, float]
    embedding: Float32 | None
    haze: Float32
    vector: Float32
    hour: float
    sight: Sight | None
    rows: Rows | None
    begins_hour: bool
    #: Nothing came but weather that still stands for an earlier window, and readings that do not stand any
    #: more: there is nothing to say of this one.
    idle: bool = False
    #: Readings that another window heard.
    standing: int = 0
    #: Readings left out, by the annotation that says why.
    withheld: Mapping[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether there is anything to estimate from."""
        return self.embedding is not None or bool(self.measured)


def take_in(
    view: WindowView, station: Station | None, intake: Intake, limits: Defaults, encoder: str
) -> tuple[Prepared, Intake]:
    """Judge a window's readings and frames; gives what is usable, and what quality control remembers.

    Args:
        encoder: of the bundle whose head will see the frames (`Bundle.encoder`). What another one made of a
            frame, while bundles are being changed, is left out.
    """
    items = view.inputs.get("readings", ())
    found, memory = read(items, view.start, view.end, station, intake.sensors, limits, reference(station))
    cameras = dict(intake.cameras)
    hour = end_of(view.end, HOUR_MS)
    frames, embeddings, hazes = [], [], []
    sights: list[Features] = []
    for item in view.inputs.get("features", ()):
        features: Features = item.payload
        reasons = features.quality.reasons
        seen = dict(intake.cameras[features.camera].seen) if features.camera in intake.cameras else {}
        first = seen.get(features.digest)
        if features.digest and first is not None and first < view.start:
            reasons = (*reasons, "frozen")
        if features.quality.usable and features.encoder != encoder:
            reasons = (*reasons, "other_encoder")
        usable = features.quality.usable and not reasons and "frame" in features.embeddings
        frames.append(
            FrameUse(camera=features.camera, captured_at=features.captured_at, usable=usable, reasons=reasons)
        )
        if features.digest:
            scene = gate.FrameVerdict(True, (), digest=features.digest)
            cameras[features.camera] = gate.remember(cameras.get(features.camera), scene, item.time)
        if usable:
            embeddings.append(np.frombuffer(features.embeddings["frame"], "<f4"))
            hazes.append(np.frombuffer(features.haze, "<f4"))
            if "camera" in features.embeddings:
                sights.append(features)
    looking = _first_camera(sights, station)
    vector = np.full(len(POLLUTANTS), np.nan, np.float32)
    for index, name in enumerate(POLLUTANTS):
        if name in found.measured:
            vector[index] = max(0.0, found.measured[name].value)
    return (
        Prepared(
            view=view,
            station=station,
            measured=found.measured,
            failed=found.failed,
            disputed=found.disputed,
            refused=found.refused,
            frames=tuple(frames),
            readings=found.count,
            standing=sum(not view.start <= item.time < view.end for item in items),
            humidity=found.humidity,
            weather=found.weather,
            embedding=pool(embeddings) if embeddings else None,
            haze=(pool(hazes) if hazes else np.full(HAZE_SIZE, np.nan, np.float32)),
            vector=vector,
            hour=solar_hour(from_ms(view.start), station.longitude if station else None),
            sight=_sight(looking, found.humidity),
            rows=_rows(looking),
            begins_hour=hour != intake.hour,
            idle=not view.inputs.get("features")
            and not any(view.start <= item.time < view.end for item in items)
            and not (found.measured or found.failed or found.disputed or found.refused),
        ),
        replace(intake, sensors=memory, cameras=cameras, hour=hour),
    )


def _first_camera(usable: Sequence[Features], station: Station | None) -> list[Features]:
    """The frames of the station's first camera that has any."""
    order = [camera.camera for camera in station.cameras] if station else []
    seen = {features.camera for features in usable}
    name = next((camera for camera in order if camera in seen), min(seen, default=""))
    return [features for features in usable if features.camera == name]


def _rows(frames: Sequence[Features]) -> Rows | None:
    """The row profile of a camera without a far band, pooled over its frames."""
    profiles = [features.embeddings["rows"] for features in frames if "rows" in features.embeddings]
    if not profiles:
        return None
    return Rows(frames[0].camera, pool([np.frombuffer(profile, "<f4") for profile in profiles]))


def _sight(frames: Sequence[Features], humidity: float | None) -> Sight | None:
    """What a camera shows, pooled over its frames in the newest layout."""
    if not frames:
        return None
    # A virtual sensor learned on another encoder's vectors has nothing to say about these.
    name, newest = f"{frames[-1].camera}@{frames[-1].encoder}", frames[-1].camera_layout
    frames = [features for features in frames if features.camera_layout == newest]

    def pooled(part: str) -> Float32:
        return pool([np.frombuffer(features.embeddings[part], "<f4") for features in frames])

    fallback = None
    if all("camera_whole" in features.embeddings for features in frames):
        fallback = Sight(f"{name}/whole", pooled("camera_whole"), humidity)
    return Sight(f"{name}/{newest}", pooled("camera"), humidity, fallback)


def reference(station: Station | None) -> float:
    """Temperature (Cel) at which the station's network reports gases."""
    return standards.load((station.standards if station else DEFAULT_STANDARDS)[0], at_ms=0).reference_celsius
