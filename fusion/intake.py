"""First pass over a window: which readings and frames are usable, and what quality control remembers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aqi import standards
from aqi.correction import IDENTITY, Correction, correction
from aqi.errors import AqiError
from aqi.quality import (
    FAIL,
    FRESH,
    MISSING,
    SUSPECT,
    Defaults,
    SensorState,
    Verdict,
    channels,
    combine,
    judge,
)
from aqi.units import to_canonical
from fusion.learning import HOUR_MS, Rows
from model import gate
from model.data import solar_hour
from model.gate import GateState
from model.haze import HAZE_SIZE
from model.runtime import pool
from model.virtual_sensor import Sight
from schemas.base import from_ms
from schemas.errors import Refused
from schemas.estimate import FrameUse
from schemas.features import Features
from schemas.parameters import PARAMETERS, WEATHER
from schemas.reading import Quantity
from schemas.station import Station
from streams.join import WindowView

Float32 = NDArray[np.float32]

#: Of a station without a record.
DEFAULT_STANDARDS: Final = ("us-epa-2024",)


@dataclass(frozen=True)
class Intake:
    """What quality control remembers: per (sensor, parameter) and per camera; and the hour it is in."""

    sensors: Mapping[tuple[str, str], SensorState] = field(default_factory=dict)
    cameras: Mapping[str, GateState] = field(default_factory=dict)
    hour: int = 0


@dataclass(frozen=True)
class Measured:
    """A pollutant's usable readings in a window."""

    value: float
    raw: float
    flag: int
    tests: int
    n: int
    sensors: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class Prepared:
    """A window after quality control: what the network will see."""

    view: WindowView
    station: Station | None
    measured: Mapping[str, Measured]
    failed: Mapping[str, Measured]
    frames: tuple[FrameUse, ...]
    readings: int
    humidity: float | None
    embedding: Float32 | None
    haze: Float32
    vector: Float32
    hour: float
    sight: Sight | None
    rows: Rows | None
    begins_hour: bool

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
    series, humidity, count = _series(view, station)
    sensors = dict(intake.sensors)
    used: dict[str, list[_Judged]] = {}
    refused: dict[str, list[_Judged]] = {}
    for key in sorted(series):
        sensor, parameter = key
        rule = _correction(station, sensor, parameter)
        points = sorted((time, _twins(values)) for time, values in series[key].items())
        means = [(time, value) for time, (value, _) in points]
        verdicts, sensors[key] = judge(limits.limits[parameter], sensors.get(key, FRESH), means)
        for (_, (value, twins)), verdict in zip(points, verdicts, strict=True):
            if twins is not None:
                verdict = combine(verdict, channels(*twins, limits.channels))
            corrected = rule.apply(parameter, value, rule.channel, humidity)
            if corrected is None:  # its humidity is missing: the raw value stands, and is suspect
                verdict = Verdict(
                    max(verdict.flag, SUSPECT) if verdict.flag != MISSING else MISSING, verdict.tests
                )
            side = refused if verdict.flag in (FAIL, MISSING) else used
            method = rule.id if corrected is not None and rule is not IDENTITY else "mean"
            final = value if corrected is None else corrected
            side.setdefault(parameter, []).append(_Judged(max(0.0, final), value, verdict, sensor, method))
    cameras = dict(intake.cameras)
    hour = -(-view.end // HOUR_MS) * HOUR_MS
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
            scene = gate.Verdict(True, (), digest=features.digest)
            cameras[features.camera] = gate.remember(cameras.get(features.camera), scene, item.time)
        if usable:
            embeddings.append(np.frombuffer(features.embeddings["frame"], "<f4"))
            hazes.append(np.frombuffer(features.haze, "<f4"))
            if "camera" in features.embeddings:
                sights.append(features)
    looking = _first_camera(sights, station)
    measured = {name: _mean(values) for name, values in used.items()}
    vector = np.full(len(PARAMETERS), np.nan, np.float32)
    for index, name in enumerate(PARAMETERS):
        if name in measured:
            vector[index] = measured[name].value
    return (
        Prepared(
            view=view,
            station=station,
            measured=measured,
            failed={name: _mean(values) for name, values in refused.items()},
            frames=tuple(frames),
            readings=count,
            humidity=humidity,
            embedding=pool(embeddings) if embeddings else None,
            haze=(pool(hazes) if hazes else np.full(HAZE_SIZE, np.nan, np.float32)),
            vector=vector,
            hour=solar_hour(from_ms(view.start), station.longitude if station else None),
            sight=_sight(looking, humidity),
            rows=_rows(looking),
            begins_hour=hour != intake.hour,
        ),
        Intake(sensors, cameras, hour),
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


class _Judged(NamedTuple):
    value: float
    raw: float
    verdict: Verdict
    sensor: str
    method: str


def _series(
    view: WindowView, station: Station | None
) -> tuple[dict[tuple[str, str], dict[int, dict[str, float]]], float | None, int]:
    """Values in ug/m3 per (sensor, pollutant), time and channel; mean humidity in %; how many values."""
    series: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    humidity = []
    count = 0
    celsius = reference(station)
    for item in view.inputs.get("readings", ()):
        value: Quantity = item.payload
        count += 1
        if value.parameter in WEATHER:
            if value.parameter == "relativehumidity":
                humidity.append(value.value)
            continue
        wanted = _correction(station, value.sensor, value.parameter)
        if wanted is not IDENTITY and value.channel.removesuffix("_a").removesuffix("_b") != wanted.channel:
            continue  # a correction takes its own channel; the others are alternatives to it
        canonical = to_canonical(value.parameter, value.value, value.unit, celsius)
        times = series.setdefault((value.sensor, value.parameter), {})
        times.setdefault(item.time, {})[value.channel] = canonical
    return series, math.fsum(humidity) / len(humidity) if humidity else None, count


def _twins(values: Mapping[str, float]) -> tuple[float, tuple[float, float] | None]:
    """The mean over the channels of one time, and the pair of twin channels where there is one."""
    mean = math.fsum(values[name] for name in sorted(values)) / len(values)
    for name in sorted(values):
        if name.endswith("_a") and (other := name[:-1] + "b") in values:
            return mean, (values[name], values[other])
    return mean, None


def _correction(station: Station | None, sensor: str, parameter: str) -> Correction:
    for known in station.sensors if station else ():
        if known.sensor == sensor and parameter in known.parameters:
            found = correction(known.correction)
            return found if not found.parameters or parameter in found.parameters else IDENTITY
    return IDENTITY


def _mean(values: Sequence[_Judged]) -> Measured:
    verdict = combine(*(judged.verdict for judged in values))
    methods = sorted({judged.method for judged in values})
    return Measured(
        value=math.fsum(judged.value for judged in values) / len(values),
        raw=math.fsum(judged.raw for judged in values) / len(values),
        flag=verdict.flag,
        tests=verdict.tests,
        n=len(values),
        sensors=tuple(sorted({judged.sensor for judged in values})),
        method=" + ".join(methods),
    )


def check_station(station: Station) -> None:
    """Refused where a station names a standard or a correction that does not exist."""
    try:
        for name in station.standards:
            standards.load(name, at_ms=0)
        for sensor in station.sensors:
            correction(sensor.correction)
    except AqiError as error:
        raise Refused("unknown_name", f"station {station.station}: {error}") from error


def reference(station: Station | None) -> float:
    """Temperature (Cel) at which the station's network reports gases."""
    return standards.load((station.standards if station else DEFAULT_STANDARDS)[0], at_ms=0).reference_celsius
