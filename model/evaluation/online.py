"""Honest measurement of the virtual sensor: a replay in time order with made outages.

A folder of readings of one station, with the frames of its camera if it has one, is played through the same
pure code that the agents run: decode, gate, encoder, camera vector, far-band finder, one
`virtual_sensor.update` an hour. The state after every hour is kept. An outage is then
made by going on from the state of its start with frames but without readings, and what comes out is set
beside what the sensor really read, and beside three rivals that know the same past: the last value before the
outage, the mean of that hour of the day over 30 days before it, and the global head of the bundle.

The same outages say how often the interval of the *index* holds: the index of an hour whose last day was
measured before the outage and imputed during it, beside the index of what the sensor really read. Both the
24-hour index and the NowCast are taken, by `aqi.index` from an `aqi.history` as the fusion agent keeps it.

Learning in one folder and scoring in another, of later time, is one replay of both (`joined`) of which only
what follows a given start is scored.

Nothing is shuffled, nothing is fitted on later hours, and no figure depends on a parameter chosen here.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aqi import standards
from aqi.history import History
from aqi.index import IndexResult, assess_many
from aqi.slots import Mean
from camera import far_band as bands
from camera import virtual_sensor as virtual
from camera.errors import ImageRefused
from camera.far_band import BandFinder, Strip
from camera.gate import GateState, judge, remember
from camera.haze import HAZE_SIZE, haze
from camera.image import decode
from camera.sight import Sight, camera_vector, layout
from camera.sun import solar_hour
from camera.virtual_sensor import Prediction, VirtualSensor
from model.bundle.bundle import EMBEDDING_SIZE, Bundle
from model.bundle.persistence import PERSISTENCE
from model.bundle.runtime import Encoder, Head, pool
from model.evaluation.histories import OnlineData, joined, last_hour
from model.evaluation.online_report import STANDARD, IndexSkill, OnlineReport, ProtocolScore, Skill
from schemas.base import from_ms, to_ms
from schemas.errors import ArrayError
from schemas.parameters import PARAMETERS, Pollutant
from schemas.state import pack
from schemas.times import HOUR_MS

Progress = Callable[[str, int, int], None]

#: Lengths of the made outages, hours.
OUTAGES: Final = (1, 6, 24, 168)
#: Days with pairs that are only learned from; scoring begins on the next.
LEARNING_DAYS: Final = 8

#: Hours before its time that an index of `STANDARD` reads.
INDEX_HOURS: Final = 26

#: Readings this long before the first frame are played too, so that the level starts with a history.
_HISTORY_MS: Final = 60 * 24 * HOUR_MS
_MEAN_DAYS: Final = 30


class Hour(NamedTuple):
    """One hour as the fusion agent sees it; `end_ms` is its end, concentrations in ug/m3."""

    end_ms: int
    sight: Sight | None
    global_estimate: float | None
    measured: float | None


class PlayedHours(NamedTuple):
    """A history as the fusion agent would have seen it."""

    hours: list[Hour]  #: in order of time
    refused: dict[str, int]  #: frames, by reason
    far_band: Strip | None  #: at the end


class _Scored(NamedTuple):
    """One scored hour of one protocol."""

    end_ms: int
    measured: float
    estimate: Prediction | None
    last: float | None
    of_day: float | None
    overall: float | None
    history: History
    truth: History


def evaluate_online(
    data: OnlineData,
    bundle: Bundle,
    *,
    pollutant: Pollutant = "pm25",
    find_band: bool = False,
    outages: Sequence[int] = OUTAGES,
    learning_days: int = LEARNING_DAYS,
    start: date | None = None,
    learned: OnlineData | None = None,
    progress: Progress = lambda *_: None,
) -> OnlineReport:
    """Replay one station and measure its virtual sensor.

    Protocols, all scored on the hours that have a measurement and (at a station with a camera) a usable
    frame, from the day after `learning_days` days with such hours on, or from `start`, or from the end of
    what is `learned`:

    - next day: the sensor falls silent at local midnight and stays so for the day; everything before is
    known.
    - an outage of k hours: the sensor is silent for the k hours up to and including the scored one.
    - for good (where a start is given): the sensor is silent from the start on.

    Args:
        data: the station's history.
        bundle: encoder and global head.
        pollutant: which one.
        find_band: ignore a set far band and let the finder look for it.
        outages: lengths in hours.
        learning_days: days that are only learned from, where no start is given.
        start: first day that is scored, in the station's zone.
        learned: the station's history before `data`; only what follows its last hour is scored.
        progress: told (what, done, in all).

    Raises:
        ArrayError: the station has no reading of the pollutant.
    """
    if not data.readings.get(pollutant):
        raise ArrayError(f"station {data.station} has no reading of {pollutant}")
    begin_ms = (
        None if start is None else to_ms(datetime(start.year, start.month, start.day, tzinfo=data.zone))
    )
    if learned is not None:
        begin_ms = max(last_hour(learned), begin_ms or 0)
        data = joined(learned, data)
    hours, refused, band = hours_of(data, bundle, pollutant, find_band, progress)
    paired = [
        hour for hour in hours if hour.measured is not None and (hour.sight is not None or not data.frames)
    ]
    if begin_ms is None:
        days = sorted({_day(hour.end_ms, data.zone) for hour in paired})
        scored_days = set(days[learning_days:])
        tested = [hour for hour in paired if _day(hour.end_ms, data.zone) in scored_days]
    else:
        tested = [hour for hour in paired if hour.end_ms > begin_ms]
    outcomes, state = score(
        hours, tested, data.zone, outages, pollutant=pollutant, for_good_ms=begin_ms, progress=progress
    )
    return OnlineReport(
        station=data.station,
        pollutant=pollutant,
        bundle=bundle.id,
        far_band=band,
        frames=len(data.frames),
        refused=refused,
        first=from_ms(tested[0].end_ms) if tested else None,
        last=from_ms(tested[-1].end_ms) if tested else None,
        outcomes=outcomes,
        state_bytes=len(pack(state)) if state is not None else 0,
    )


def score(
    hours: Sequence[Hour],
    tested: Sequence[Hour],
    zone: tzinfo,
    outages: Sequence[int] = OUTAGES,
    during: Sequence[Hour] | None = None,
    pollutant: Pollutant = "pm25",
    for_good_ms: int | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[tuple[ProtocolScore, ...], VirtualSensor | None]:
    """Play hours through the virtual sensor and make the outages of every protocol before each tested one.

    Args:
        hours: in time order.
        tested: those of them to score, in time order; each has a measurement.
        zone: time zone whose midnights part the days.
        outages: lengths in hours.
        during: what is seen while the sensor is silent, if it is not what `hours` have.
        pollutant: which one it is, for the index.
        for_good_ms: since when the sensor is silent in the last protocol, None: there is no such.
        progress: told (what, done, in all).

    Returns:
        the outcomes, "next day" first, and the state at the end.
    """
    states: dict[int, VirtualSensor] = {}
    state: VirtualSensor | None = None
    for hour in hours:
        state = virtual.update(state, hour.end_ms, hour.sight, hour.measured, hour.global_estimate)
        if state is not None:
            states[hour.end_ms] = state
    replayed = _Replayed(hours, hours if during is None else during, states, pollutant)
    protocols: list[tuple[str, Callable[[Hour], int]]] = [
        ("next day", lambda hour: _midnight(hour.end_ms, zone)),
        *((_span(length), _before(length)) for length in outages),
    ]
    if for_good_ms is not None:
        since = for_good_ms // HOUR_MS * HOUR_MS
        protocols.append(("for good", lambda _: since))
    outcomes = []
    for number, (name, start) in enumerate(protocols):
        scored = []
        for done, hour in enumerate(tested, start=number * len(tested) + 1):
            one = replayed.score(hour, start(hour))
            if one is not None:
                scored.append(one)
            progress("scoring hours", done, len(protocols) * len(tested))
        outcomes.append(_outcome(name, scored))
    return tuple(outcomes), state


@dataclass
class _Silence:
    """A run without the sensor from `start_ms` on: how far it is, and what the last hours were taken for."""

    start_ms: int
    state: VirtualSensor
    imputed: dict[int, Prediction] = field(default_factory=dict)

    def impute(self, end_ms: int, guess: Prediction | None) -> None:
        """Note the hour's estimate; those that no later hour's index reads are dropped."""
        if guess is not None:
            self.imputed[end_ms] = guess
        self.imputed.pop(end_ms - (INDEX_HOURS + 1) * HOUR_MS, None)


class _Replayed:
    """The undisturbed run, from whose states outages branch off."""

    def __init__(
        self,
        hours: Sequence[Hour],
        during: Sequence[Hour],
        states: Mapping[int, VirtualSensor],
        pollutant: Pollutant,
    ) -> None:
        self._seen = {
            hour.end_ms: hour for hour in during if hour.sight is not None or hour.global_estimate is not None
        }
        self._ends = np.array(sorted(self._seen), dtype=np.int64)
        self._states = states
        self._at = sorted(states)
        self._silence: _Silence | None = None
        self._measured = {hour.end_ms: hour.measured for hour in hours if hour.measured is not None}
        self._pollutant = pollutant
        self._truths: dict[int, History] = {}

    def score(self, hour: Hour, start_ms: int) -> _Scored | None:
        """Estimate of the hour when the sensor is silent from `start_ms` on; None without any state by then.

        Hours that share a start come in order of time: they share its run without the sensor.
        """
        if self._silence is None or self._silence.start_ms != start_ms:
            state = self._before(start_ms)
            if state is None:
                return None
            self._silence = _Silence(start_ms, state)
        silence = self._silence
        reached = silence.state.t_ms
        first, last = np.searchsorted(self._ends, (reached, hour.end_ms - 1), side="right")
        ahead = self._ends[int(first) : int(last)].tolist()
        indexed = range(
            max(start_ms, reached, hour.end_ms - INDEX_HOURS * HOUR_MS) + HOUR_MS, hour.end_ms, HOUR_MS
        )
        for end in sorted({*ahead, *indexed}):
            between = self._seen.get(end)
            sight, overall = (between.sight, between.global_estimate) if between else (None, None)
            if end in indexed:
                silence.impute(end, virtual.predict(silence.state, end, sight, None, overall))
            if between is not None:
                moved = virtual.update(silence.state, end, sight, None, overall)
                assert moved is not None  # only a start without a measurement gives None
                silence.state = moved
        estimate = virtual.predict(silence.state, hour.end_ms, hour.sight, None, hour.global_estimate)
        imputed = silence.imputed if estimate is None else {**silence.imputed, hour.end_ms: estimate}
        assert hour.measured is not None
        return _Scored(
            end_ms=hour.end_ms,
            measured=hour.measured,
            estimate=estimate,
            last=self._last(start_ms),
            of_day=self._of_day(hour.end_ms, start_ms),
            overall=hour.global_estimate,
            history=self._history(hour.end_ms, start_ms, imputed),
            truth=self._truth(hour.end_ms),
        )

    def _before(self, start_ms: int) -> VirtualSensor | None:
        """The newest state by then."""
        place = bisect_right(self._at, start_ms)
        return self._states[self._at[place - 1]] if place else None

    def _truth(self, end_ms: int) -> History:
        """The last hours as they were read."""
        if end_ms not in self._truths:
            self._truths[end_ms] = self._history(end_ms, end_ms, {})
        return self._truths[end_ms]

    def _history(self, end_ms: int, start_ms: int, imputed: Mapping[int, Prediction]) -> History:
        """The last hours, measured up to `start_ms`, imputed after."""
        history = History.empty()
        for end in range(end_ms - (INDEX_HOURS - 1) * HOUR_MS, end_ms + 1, HOUR_MS):
            value, guess = self._measured.get(end), imputed.get(end)
            if end <= start_ms and value is not None:
                history = history.with_hour(end, {self._pollutant: Mean(value, 3600)})
            elif guess is not None:
                reach = guess.value - guess.lo, guess.hi - guess.value
                mean = Mean(guess.value, 0, 3600, *reach, PERSISTENCE[guess.method])
                history = history.with_hour(end, {self._pollutant: mean})
        return history

    def _last(self, start_ms: int) -> float | None:
        for end in range(start_ms, start_ms - 7 * 24 * HOUR_MS, -HOUR_MS):
            if end in self._measured:
                return self._measured[end]
        return None

    def _of_day(self, end_ms: int, start_ms: int) -> float | None:
        back = range(end_ms - 24 * HOUR_MS, start_ms - (_MEAN_DAYS + 1) * 24 * HOUR_MS, -24 * HOUR_MS)
        values = [self._measured[end] for end in back if end <= start_ms and end in self._measured]
        return sum(values) / len(values) if values else None


def hours_of(
    data: OnlineData,
    bundle: Bundle,
    pollutant: Pollutant = "pm25",
    find_band: bool = False,
    progress: Progress = lambda *_: None,
) -> PlayedHours:
    """Play the frames and readings.

    A file that cannot be read is a frame that is not there.
    """
    encoder, head = Encoder(bundle), Head(bundle)
    width, height = bundle.manifest.input.width, bundle.manifest.input.height
    measured = data.readings[pollutant]
    frames: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for at, path in sorted(data.frames):
        frames[at // HOUR_MS * HOUR_MS + HOUR_MS].append((at, path))
    begin = min(frames) - _HISTORY_MS if frames else min(measured)
    ends = sorted({end for end in measured if end >= begin} | frames.keys())
    band = None if find_band else data.far_band
    finder: BandFinder | None = None
    gate: GateState | None = None
    refused: dict[str, int] = defaultdict(int)
    hours, done = [], 0
    for end in ends:
        vectors: list[NDArray[np.float32]] = []
        wholes: list[NDArray[np.float32]] = []
        rows: list[NDArray[np.float32]] = []
        embeddings: list[NDArray[np.float32]] = []
        statistics: list[NDArray[np.float32]] = []
        for at, path in frames.get(end, ()):
            done += 1
            progress("encoding frames", done, len(data.frames))
            try:
                frame = decode(path.read_bytes(), width, height, band)
            except OSError:
                refused["file cannot be read"] += 1
                continue
            except ImageRefused as error:
                refused[error.code] += 1
                continue
            verdict = judge(frame, at, data.position, gate)
            gate = remember(gate, verdict, at)
            if not verdict.usable:
                for reason in verdict.reasons:
                    refused[reason] += 1
                continue
            whole = encoder.encode([frame.whole])[0]
            wholes.append(camera_vector(frame.whole, whole.projection))
            if frame.far is None:
                vectors.append(wholes[-1])
            else:
                vectors.append(camera_vector(frame.far, encoder.encode([frame.far])[0].projection))
            rows.append(bands.row_profile(frame.luminance))
            embeddings.append(whole.embedding)
            statistics.append(haze(frame.whole))
        sight = None
        if vectors:
            humidity = data.humidity.get(end)
            fallback = None if band is None else Sight(layout(None), pool(wholes), humidity)
            sight = Sight(layout(band), pool(vectors), humidity, fallback)
        overall = _global(head, pollutant, data, end, embeddings, statistics)
        hours.append(Hour(end, sight, overall, measured.get(end)))
        pm25 = data.readings.get("pm25", {}).get(end)
        if rows and pm25 is not None and (find_band or data.far_band is None):
            finder = bands.observe(finder, pool(rows), pm25)
            band = finder.band() or band
    return PlayedHours(hours, dict(refused), band)


def _global(
    head: Head,
    pollutant: Pollutant,
    data: OnlineData,
    end_ms: int,
    embeddings: Sequence[NDArray[np.float32]],
    statistics: Sequence[NDArray[np.float32]],
) -> float | None:
    """The global head's value of the pollutant for an hour, from the pictures and the other sensors.

    None where it has none.
    """
    sensors = np.full((1, len(PARAMETERS)), np.nan, dtype=np.float32)
    for index, name in enumerate(PARAMETERS):
        if name != pollutant:
            sensors[0, index] = data.readings.get(name, {}).get(end_ms, math.nan)
    if not embeddings and np.isnan(sensors).all():
        return None
    longitude = None if data.position is None else data.position[1]
    hour = np.array([solar_hour(from_ms(end_ms - HOUR_MS), longitude)], dtype=np.float32)
    embedding = pool(embeddings) if embeddings else np.zeros(EMBEDDING_SIZE, np.float32)
    haze_ = pool(statistics) if statistics else np.full(HAZE_SIZE, np.nan, np.float32)
    output = head.predict(embedding[None], np.array([bool(embeddings)]), sensors, haze_[None], hour)
    return output.concentration(0, PARAMETERS.index(pollutant))


def _outcome(name: str, scored: Sequence[_Scored]) -> ProtocolScore:
    answered = [(row, row.estimate) for row in scored if row.estimate is not None]
    columns: dict[str, list[tuple[float, float | None]]] = {
        "virtual sensor": [(row.measured, row.estimate.value if row.estimate else None) for row in scored],
        "last value": [(row.measured, row.last) for row in scored],
        "hour-of-day mean": [(row.measured, row.of_day) for row in scored],
        "global head": [(row.measured, row.overall) for row in scored],
    }
    count = max(len(answered), 1)
    return ProtocolScore(
        name=name,
        skills={predictor: _skill(pairs) for predictor, pairs in columns.items()},
        coverage=sum(p.lo <= row.measured <= p.hi for row, p in answered) / count,
        width=sum(p.hi - p.lo for _, p in answered) / count,
        weights={
            key: sum(p.weights[key] for _, p in answered) / count for key in ("camera", "last", "global")
        },
        refused=len(scored) - len(answered),
        indices=_indices([row for row, _ in answered]),
        series=tuple((row.end_ms, row.measured, p.value, p.lo, p.hi) for row, p in answered),
    )


def _indices(scored: Sequence[_Scored]) -> dict[str, IndexSkill]:
    """How the indices did whose history has something imputed and whose truth is known."""
    ends = [row.end_ms for row in scored]
    standard = standards.load(STANDARD, at_ms=ends[0] if ends else 0)
    said = assess_many(standard, [row.history for row in scored], ends)
    true = assess_many(standard, [row.truth for row in scored], ends)
    return {
        "24 h": _index_skill(zip(said, true, strict=True)),
        "nowcast": _index_skill((one.nowcast, other.nowcast) for one, other in zip(said, true, strict=True)),
    }


def _index_skill(pairs: Iterable[tuple[IndexResult | None, IndexResult | None]]) -> IndexSkill:
    rows = [
        (one.index, one.lo, one.hi, other.index)
        for one, other in pairs
        if one is not None and other is not None and other.status == "valid"
        if one.index is not None and one.lo is not None and one.hi is not None and other.index is not None
    ]
    count = max(len(rows), 1)
    return IndexSkill(
        hours=len(rows),
        coverage=sum(low <= truth <= high for _, low, high, truth in rows) / count,
        width=sum(high - low for _, low, high, _ in rows) / count,
        mae=sum(abs(index - truth) for index, _, _, truth in rows) / count,
    )


def _skill(pairs: Iterable[tuple[float, float | None]]) -> Skill:
    both = np.array([(truth, guess) for truth, guess in pairs if guess is not None], dtype=np.float64)
    if len(both) == 0:
        return Skill(0, math.nan, math.nan, math.nan)
    truth, error = both[:, 0], both[:, 1] - both[:, 0]
    spread = float(((truth - truth.mean()) ** 2).sum())
    return Skill(
        hours=len(both),
        rmse=float(np.sqrt((error**2).mean())),
        mae=float(np.abs(error).mean()),
        r2=1.0 - float((error**2).sum()) / spread if spread > 0.0 else math.nan,
    )


def _day(end_ms: int, zone: tzinfo) -> str:
    return from_ms(end_ms - HOUR_MS).astimezone(zone).date().isoformat()


def _midnight(end_ms: int, zone: tzinfo) -> int:
    """Local midnight before the hour, in whole hours of UTC."""
    local = from_ms(end_ms - HOUR_MS).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return to_ms(local) // HOUR_MS * HOUR_MS


def _before(hours: int) -> Callable[[Hour], int]:
    return lambda hour: hour.end_ms - hours * HOUR_MS


def _span(hours: int) -> str:
    return f"{hours // 24} days" if hours % 24 == 0 and hours > 24 else f"{hours} h"
