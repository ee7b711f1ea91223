"""From a window's inputs to its estimate, and from final windows to what a station has learned. Pure.

Two rules make a re-read after a crash give the same bytes:

* An estimate of window *w* reads the state as of the last window that ended at least one allowed lateness
  before *w* ended: by then that window was final, whatever revision of *w* this is.
* State moves on only when a window is final (``expire``), window by window in order of time, and is never
  changed in place. A short ring of versions per station is kept for the windows that are still open.

Work is done in two passes with one batched inference between them: quality control decides which readings the
network sees, and what the network says is needed to fill what is missing.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.learning import HOUR_MS, Air, Rows, dump_sensors, learned, virtual_estimate
from aqi import standards
from aqi.correction import IDENTITY, Correction, correction
from aqi.errors import AqiError
from aqi.history import History, Mean
from aqi.index import IndexResult, assess_many
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
    defaults,
    judge,
)
from aqi.units import to_canonical
from model import gate
from model.bundle import EMBEDDING_SIZE
from model.data import solar_hour
from model.errors import StateError
from model.far_band import BandFinder
from model.gate import GateState
from model.haze import HAZE_SIZE
from model.persistence import PERSISTENCE
from model.runtime import Head, HeadOutput, pool
from model.shapley import PLAYERS, shapley_shares
from model.virtual_sensor import Sight
from schemas.base import from_ms
from schemas.errors import Refused
from schemas.estimate import (
    Estimate,
    FrameUse,
    IndexBlock,
    Inputs,
    ModelOutput,
    PollutantEstimate,
    Window,
)
from schemas.features import Features
from schemas.parameters import PARAMETERS, WEATHER, Pollutant
from schemas.reading import Quantity
from schemas.station import CameraBands, FarBand, FoundBand, Station
from streams import metrics
from streams.join import WindowView

Float32 = NDArray[np.float32]
Step = tuple[str, WindowView]
StationOf = Callable[[str], Station | None]

_STATE_VERSION: Final = 5
#: Of a station without a record.
_STANDARDS: Final = ("us-epa-2024",)
#: Before any window.
_NEVER: Final = -(2**62)
#: The virtual sensors' part of a station's checkpoint has a name of its own: it changes once an hour only.
_SENSORS: Final = "|sensors"
#: Rows of one inference.
_ROWS_A_RUN: Final = 256


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


class Conclusion(NamedTuple):
    """All that an estimate is made of; `history` has the window itself in it."""

    window: Prepared
    said: "Said | None"
    pollutants: Mapping[Pollutant, PollutantEstimate]
    history: History


class Told(NamedTuple):
    """What is to be published: estimates, and far bands of stations where one more was found."""

    estimates: list[Estimate]
    bands: list[CameraBands]


V = TypeVar("V")


class Ring(Generic[V]):
    """Versions of a value by the end of the window after which they hold."""

    def __init__(self, at: int, value: V) -> None:
        self._versions: list[tuple[int, V]] = [(at, value)]

    def latest(self) -> tuple[int, V]:
        """The newest version."""
        return self._versions[-1]

    def as_of(self, horizon: int) -> tuple[int, V]:
        """The newest version not after `horizon` (the oldest one kept, if all are)."""
        for version in reversed(self._versions):
            if version[0] <= horizon:
                return version
        return self._versions[0]

    def put(self, at: int, value: V) -> None:
        """A version that holds from `at` on."""
        self._versions.append((at, value))

    def prune(self, horizon: int) -> None:
        """Forget what no question at or after `horizon` can reach."""
        keep = 0
        for index, (at, _) in enumerate(self._versions):
            if at <= horizon:
                keep = index
        del self._versions[:keep]


class Assessor:
    """Makes the estimates of one partition and keeps what its stations have learned."""

    def __init__(
        self, head: Head, *, size_ms: int, lateness_ms: int, snapshots: Mapping[str, tuple[int, bytes]]
    ) -> None:
        self._head = head
        self._size = size_ms
        self._lateness = lateness_ms
        self._limits = defaults()
        self._intake: dict[str, Ring[Intake]] = {}
        self._air: dict[str, Ring[Air]] = {}
        for station, (at, data) in snapshots.items():
            if station.endswith(_SENSORS):
                continue
            intake, air = _load(data, snapshots.get(station + _SENSORS))
            self._intake[station] = Ring(at, intake)
            self._air[station] = Ring(at, air)

    # -- the two passes ------------------------------------------------------------------------------------

    def run(self, steps: Sequence[Step], done: int, station_of: StationOf) -> Told:
        """Estimates of the windows to publish, in order; learns from the windows that are final."""
        prepared = [self._take_in(kind, view, station_of(view.station)) for kind, view in steps]
        said = self._infer([kind for kind, _ in steps], prepared)
        without = self._infer_without([kind for kind, _ in steps], prepared)
        concluded: list[Conclusion] = []
        found: list[CameraBands] = []
        for (kind, _), window, output, masked in zip(steps, prepared, said, without, strict=True):
            conclusion = self._conclude(kind, window, output, masked)
            if isinstance(conclusion, Conclusion):
                concluded.append(conclusion)
            elif conclusion is not None:
                found.append(conclusion)
        estimates = assembled(concluded, self._head.bundle.id)
        horizon = done - self._lateness
        for name in {view.station for _, view in steps}:
            self._intake[name].prune(horizon)
            self._air[name].prune(horizon)
        return Told(estimates, found)

    def _take_in(self, kind: str, view: WindowView, station: Station | None) -> Prepared:
        ring = self._intake.get(view.station)
        if ring is None:
            ring = self._intake[view.station] = Ring(_NEVER, Intake())
        final = kind == "expire"
        _, intake = ring.latest() if final else ring.as_of(view.end - self._lateness)
        prepared, after = take_in(view, station, intake, self._limits, self._head.bundle.encoder)
        if final:
            ring.put(view.end, after)
        return prepared

    def _infer(self, kinds: Sequence[str], prepared: Sequence[Prepared]) -> list["Said | None"]:
        said: list[Said | None] = [None] * len(prepared)
        for wanted in ("close", "expire"):  # what is published is explained, what is learned from need not be
            rows = [
                index
                for index, (kind, window) in enumerate(zip(kinds, prepared, strict=True))
                if kind == wanted and window.usable
            ]
            for start in range(0, len(rows), _ROWS_A_RUN):
                part = rows[start : start + _ROWS_A_RUN]
                with metrics.INFERENCE_SECONDS.labels("head").time():
                    told = tell(self._head, [prepared[index] for index in part], wanted == "close")
                metrics.INFERENCE_BATCH.labels("head").observe(len(part))
                for index, one in zip(part, told, strict=True):
                    said[index] = one
        return said

    def _infer_without(self, kinds: Sequence[str], prepared: Sequence[Prepared]) -> list[dict[str, float]]:
        """For final windows that begin an hour: the head on each measured pollutant without its sensor."""
        without: list[dict[str, float]] = [{} for _ in prepared]
        rows = []
        for index, (kind, window) in enumerate(zip(kinds, prepared, strict=True)):
            if kind != "expire" or not window.begins_hour:
                continue
            for column, name in enumerate(PARAMETERS):
                if name in window.measured and (window.embedding is not None or len(window.measured) > 1):
                    vector = window.vector.copy()
                    vector[column] = np.nan
                    rows.append((index, column, name, replace(window, vector=vector)))
        for start in range(0, len(rows), _ROWS_A_RUN):
            part = rows[start : start + _ROWS_A_RUN]
            output = predict(self._head, [window for *_, window in part])
            for row, (index, column, name, _) in enumerate(part):
                value = output.concentration(row, column)
                if value is not None:
                    without[index][name] = value
        return without

    def _conclude(
        self, kind: str, window: Prepared, said: "Said | None", without: Mapping[str, float]
    ) -> Conclusion | CameraBands | None:
        """What is to be published of a window; of a final one, the far bands if one was found just now."""
        view = window.view
        ring = self._air.get(view.station)
        if ring is None:
            ring = self._air[view.station] = Ring(_NEVER, unknown(window.station))
        final = kind == "expire"
        _, air = ring.latest() if final else ring.as_of(view.end - self._lateness)
        pollutants = conclude(window, said, air)
        added = means(pollutants, self._size)
        history = air.history.with_window(view.end, self._size, added) if added else air.history
        if final:
            after = learn(replace(air, history=history), window, said, without)
            ring.put(view.end, after)
            return _news(view.station, air, after)
        return Conclusion(window, said, pollutants, history)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def horizons(self, done: int) -> dict[str, int]:
        """Per station, the horizon of the state that goes with windows up to `done` being final."""
        horizons = {}
        for name, ring in self._air.items():
            at, air = ring.as_of(done - self._lateness)
            if _NEVER < at <= done - self._lateness:
                horizons[name] = at
                if air.virtual:
                    horizons[name + _SENSORS] = air.virtual_at
        return horizons

    def dump(self, name: str, horizon: int) -> bytes:
        """The state under a name of `horizons`, at that horizon."""
        station = name.removesuffix(_SENSORS)
        _, air = self._air[station].as_of(horizon)
        if station != name:
            return dump_sensors(air)
        _, intake = self._intake[station].as_of(horizon)
        plain = {
            "v": _STATE_VERSION,
            "sensors": [[*key, state.to_plain()] for key, state in sorted(intake.sensors.items())],
            "cameras": {name: state.to_state() for name, state in sorted(intake.cameras.items())},
            "hour": intake.hour,
            "air": air.to_plain(),
        }
        return json.dumps(plain, separators=(",", ":")).encode()


def _load(data: bytes, sensors: tuple[int, bytes] | None) -> tuple[Intake, Air]:
    plain: dict[str, Any] = json.loads(data)
    if plain.get("v") != _STATE_VERSION:
        raise StateError(
            f"checkpoint version {plain.get('v')!r}, this code reads {_STATE_VERSION}:"
            " delete the topic aq.state.v1 and let the worker learn again"
        )
    return (
        Intake(
            {(sensor, name): SensorState.from_plain(state) for sensor, name, state in plain["sensors"]},
            {name: GateState.from_state(state) for name, state in plain["cameras"].items()},
            plain["hour"],
        ),
        Air.from_plain(plain["air"], sensors),
    )


# -- first pass: quality control -----------------------------------------------------------------------------


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
    reference = _reference(station)
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
        canonical = to_canonical(value.parameter, value.value, value.unit, reference)
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


# -- inference -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """One row of the head's output."""

    output: HeadOutput
    row: int
    #: Shapley shares of the readings and the image in the AQI, by name; those without an effect left out.
    shares: Mapping[str, float] = field(default_factory=dict)

    def output_model(self) -> ModelOutput:
        """The network's own say, for the record."""
        output, row = self.output, self.row
        return ModelOutput(
            aqi=_tidy(output.aqi[row]),
            lo=_tidy(output.aqi_lo[row]),
            hi=_tidy(output.aqi_hi[row]),
            sensors={
                name: _tidy(value)
                for index, name in enumerate(PARAMETERS)
                if (value := output.concentration(row, index)) is not None
            },
            shares={name: share for name, share in self.shares.items() if share},
        )


def tell(head: Head, windows: Sequence[Prepared], explain: bool) -> list[Said]:
    """What the head says of each window; with `explain`, also how much each input has to do with it."""
    output = predict(head, windows)
    if not explain or "aqi_mean" not in head.bundle.manifest.training.configuration:
        return [Said(output, row) for row in range(len(windows))]
    shares = shapley_shares(head, *_inputs(windows)).shares
    return [
        Said(
            output,
            row,
            {name: _tidy(share) for name, share in zip(PLAYERS, shares[row], strict=True) if share},
        )
        for row in range(len(windows))
    ]


def predict(head: Head, windows: Sequence[Prepared]) -> HeadOutput:
    """The head's say on windows that have something to estimate from."""
    return head.predict(*_inputs(windows))


def _inputs(windows: Sequence[Prepared]) -> tuple[Float32, NDArray[np.bool_], Float32, Float32, Float32]:
    none = np.zeros(EMBEDDING_SIZE, np.float32)
    return (
        np.stack([none if window.embedding is None else window.embedding for window in windows]),
        np.array([window.embedding is not None for window in windows]),
        np.stack([window.vector for window in windows]),
        np.stack([window.haze for window in windows]),
        np.array([window.hour for window in windows], np.float32),
    )


# -- second pass: conclusions --------------------------------------------------------------------------------


def conclude(window: Prepared, said: Said | None, air: Air) -> dict[Pollutant, PollutantEstimate]:
    """Measured where there is a usable measurement, otherwise imputed.

    Where the station has ever measured the pollutant, its virtual sensor imputes: camera, last measurement
    and global head, each by its recent errors. Otherwise the global head alone; without a usable input, and
    with no past, the pollutant is left out.
    """
    pollutants: dict[Pollutant, PollutantEstimate] = {}
    for index, name in enumerate(PARAMETERS):
        measured, failed = window.measured.get(name), window.failed.get(name)
        if measured is not None:
            pollutants[name] = PollutantEstimate(
                value=_tidy(measured.value),
                kind="measured" if measured.method == "mean" else "corrected",
                qc=measured.flag,
                qc_tests=measured.tests | (failed.tests if failed else 0),
                method=measured.method,
                raw=_tidy(measured.raw),
                n=measured.n,
                sensors=measured.sensors,
            )
            continue
        told = None if said is None else said.output.concentration(said.row, index)
        own = virtual_estimate(air, name, window.view.end, window.sight, told)
        if own is not None:
            value, lo, hi, method, weights = own.value, own.lo, own.hi, own.method, own.weights
            coverage = own.coverage
        elif said is not None and told is not None:
            lo, hi = said.output.sensors_lo[said.row, index], said.output.sensors_hi[said.row, index]
            value, method, weights, coverage = told, "head", {}, None
        else:
            continue
        pollutants[name] = PollutantEstimate(
            value=_tidy(value),
            kind="imputed",
            qc=failed.flag if failed else MISSING,
            qc_tests=failed.tests if failed else 0,
            lo=_tidy(lo),
            hi=_tidy(hi),
            method=method,
            weights={source: _tidy(weight) for source, weight in sorted(weights.items())},
            coverage=None if coverage is None else _tidy(coverage),
            raw=_tidy(failed.raw) if failed else None,
        )
    return pollutants


def means(pollutants: Mapping[Pollutant, PollutantEstimate], size: int) -> dict[str, Mean]:
    """What a window of `size` ms adds to the averages; imputed seconds are counted as such."""
    return {
        name: Mean(
            estimate.value,
            *_seconds(estimate, size),
            0.0 if estimate.lo is None else max(0.0, estimate.value - estimate.lo),
            0.0 if estimate.hi is None else max(0.0, estimate.hi - estimate.value),
            PERSISTENCE[estimate.method] if estimate.kind == "imputed" else 1.0,
        )
        for name, estimate in pollutants.items()
    }


def assembled(concluded: Sequence[Conclusion], bundle: str) -> list[Estimate]:
    """The estimates of windows, in their order. Indices of many at once cost a tenth of one by one."""
    blocks = indices([(one.window.station, one.history, one.window.view.end) for one in concluded])
    return [_assembled(one, of_it, bundle) for one, of_it in zip(concluded, blocks, strict=True)]


def _assembled(concluded: Conclusion, blocks: Sequence[IndexBlock], bundle: str) -> Estimate:
    window, said, pollutants, _ = concluded
    view = window.view
    return Estimate(
        station=view.station,
        window=Window(start=from_ms(view.start), end=from_ms(view.end)),
        revision=view.revision,
        sides=_sides(window),
        pollutants=dict(pollutants),
        model=None if said is None else said.output_model(),
        indices=tuple(blocks),
        inputs=Inputs(
            readings=window.readings,
            frames=window.frames,
            humidity=None if window.humidity is None else _tidy(window.humidity),
        ),
        bundle=bundle,
    )


def unknown(station: Station | None) -> Air:
    """What is known of a station before its first window."""
    return Air(History.empty(48, _reference(station)))


def learn(air: Air, window: Prepared, said: Said | None, without: Mapping[str, float]) -> Air:
    """What is known after a final window."""
    told = dict(without)
    if said is not None:
        for index, name in enumerate(PARAMETERS):
            value = said.output.concentration(said.row, index)
            if name not in window.measured and value is not None:
                told[name] = value
    # What quality control doubts (a stuck value, a jump) is published, but nothing is learned from it.
    measured = {name: found.value for name, found in window.measured.items() if found.flag != SUSPECT}
    return learned(air, window.view.end, window.sight, window.rows, measured, told)


def _news(station: str, before: Air, after: Air) -> CameraBands | None:
    """All far bands that were found at a station, where that is one more than before."""

    def found(air: Air) -> dict[str, BandFinder]:
        return {camera: finder for camera, finder in air.finders.items() if finder.band() is not None}

    now = found(after)
    if after.finders is before.finders or now.keys() <= found(before).keys():
        return None
    bands = []
    for camera, finder in sorted(now.items()):
        band = finder.band()
        assert band is not None
        far = FarBand(top=band.top, bottom=band.bottom, left=band.left, right=band.right)
        bands.append(FoundBand(camera=camera, far_band=far, pairs=finder.count))
    return CameraBands(station=station, bands=tuple(bands))


def indices(windows: Sequence[tuple[Station | None, History, int]]) -> list[list[IndexBlock]]:
    """Per (station, history, end of the window) the indices of its standards, the leading one first.

    All windows of a standard are assessed together; what comes out does not depend on the company.
    """
    loaded: dict[str, standards.Standard] = {}
    asked: dict[str, list[int]] = {}
    wanted = []
    for place, (station, _, end) in enumerate(windows):
        chosen = [standards.load(name, at_ms=end) for name in (station.standards if station else _STANDARDS)]
        wanted.append([standard.id for standard in chosen])
        for standard in chosen:
            loaded[standard.id] = standard
            asked.setdefault(standard.id, []).append(place)
    blocks: dict[tuple[str, int], IndexBlock] = {}
    for name, places in asked.items():
        for start in range(0, len(places), _ROWS_A_RUN):
            part = places[start : start + _ROWS_A_RUN]
            results = assess_many(
                loaded[name], [windows[place][1] for place in part], [windows[place][2] for place in part]
            )
            for place, result in zip(part, results, strict=True):
                blocks[name, place] = _block(loaded[name], result)
    return [[blocks[name, place] for name in names] for place, names in enumerate(wanted)]


def _block(standard: standards.Standard, result: IndexResult) -> IndexBlock:
    best: dict[Pollutant, int] = {}
    for sub in result.subindices:
        for name in PARAMETERS:
            if name == sub.parameter:
                best[name] = max(sub.index, best.get(name, 0))
    return IndexBlock(
        standard=result.standard,
        index=result.index,
        category=None if result.category is None else result.category.name,
        level=None if result.category is None else standard.categories.index(result.category),
        dominant=tuple(name for name in PARAMETERS if name in result.dominant),
        status=result.status,
        reason=result.reason,
        imputed_share=_tidy(result.imputed_share),
        lo=result.lo,
        hi=result.hi,
        nowcast=None if result.nowcast is None else result.nowcast.index,
        nowcast_lo=None if result.nowcast is None else result.nowcast.lo,
        nowcast_hi=None if result.nowcast is None else result.nowcast.hi,
        subindices=best,
    )


def _reference(station: Station | None) -> float:
    return standards.load((station.standards if station else _STANDARDS)[0], at_ms=0).reference_celsius


def _sides(window: Prepared) -> Any:
    image, sensors = window.embedding is not None, bool(window.measured)
    return {(True, True): "both", (True, False): "image", (False, True): "sensors"}.get(
        (image, sensors), "none"
    )


def _seconds(estimate: PollutantEstimate, size: int) -> tuple[int, int]:
    whole = size // 1000
    return (0, whole) if estimate.kind == "imputed" else (whole, 0)


def _tidy(value: Any) -> float:
    return round(float(value), 6)
