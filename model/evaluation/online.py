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
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, tzinfo
from typing import Final, NamedTuple

import numpy as np

from aqi import standards
from aqi.index import IndexResult, assess_many
from camera import virtual_sensor as virtual
from camera.virtual_sensor import VirtualSensor
from model.bundle.bundle import Bundle
from model.evaluation.histories import OnlineData, joined, last_hour
from model.evaluation.online_report import (
    STANDARD,
    IndexSkill,
    OnlineReport,
    ProtocolScore,
    ScoredHour,
    Skill,
)
from model.evaluation.outages import OutageHour, UndisturbedRun
from model.evaluation.played_hours import Hour, hours_of
from model.evaluation.progress import Progress
from schemas.base import from_ms, to_ms
from schemas.errors import ArrayError
from schemas.parameters import Pollutant
from schemas.state import pack
from schemas.times import HOUR_MS

#: Lengths of the made outages, hours.
OUTAGES: Final = (1, 6, 24, 168)
#: Days with pairs that are only learned from; scoring begins on the next.
LEARNING_DAYS: Final = 8


class OnlineProtocol(NamedTuple):
    """What is scored of a station, and from when on.

    Attributes:
        pollutant: which one.
        find_band: ignore a set far band and let the finder look for it.
        outages: lengths in hours.
        learning_days: days that are only learned from, where no start is given.
        start: first day that is scored, in the station's zone.
    """

    pollutant: Pollutant = "pm25"
    find_band: bool = False
    outages: Sequence[int] = OUTAGES
    learning_days: int = LEARNING_DAYS
    start: date | None = None


class PlayedRun(NamedTuple):
    """Hours in time order, those of them to score (each has a measurement), and what is seen while the sensor
    is silent, if it is not what the hours have."""

    hours: Sequence[Hour]
    tested: Sequence[Hour]
    during: Sequence[Hour] | None = None


class PlayedScores(NamedTuple):
    """The outcomes, "next day" first, and the state at the end."""

    outcomes: tuple[ProtocolScore, ...]
    state: VirtualSensor | None


def evaluate_online(
    data: OnlineData,
    bundle: Bundle,
    protocol: OnlineProtocol | None = None,
    *,
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
        protocol: what is scored.
        learned: the station's history before `data`; only what follows its last hour is scored.
        progress: told (what, done, in all).

    Raises:
        ArrayError: the station has no reading of the pollutant.
    """
    pollutant, find_band, outages, learning_days, start = protocol or OnlineProtocol()
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
    run = PlayedRun(hours, tested)
    outcomes, state = score(
        run, data.zone, outages, pollutant=pollutant, for_good_ms=begin_ms, progress=progress
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
    run: PlayedRun,
    zone: tzinfo,
    outages: Sequence[int] = OUTAGES,
    pollutant: Pollutant = "pm25",
    for_good_ms: int | None = None,
    progress: Progress = lambda *_: None,
) -> PlayedScores:
    """Play hours through the virtual sensor and make the outages of every protocol before each tested one.

    Args:
        run: what is played and scored.
        zone: time zone whose midnights part the days.
        outages: lengths in hours.
        pollutant: which one it is, for the index.
        for_good_ms: since when the sensor is silent in the last protocol, None: there is no such.
        progress: told (what, done, in all).
    """
    hours, tested, during = run
    states: dict[int, VirtualSensor] = {}
    state: VirtualSensor | None = None
    for hour in hours:
        state = virtual.update(
            state, hour.end_ms, hour.sight, hour.measured, hour.global_estimate, shown=hour.shown
        )
        if state is not None:
            states[hour.end_ms] = state
    replayed = UndisturbedRun(hours, hours if during is None else during, states, pollutant)
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
    return PlayedScores(tuple(outcomes), state)


def _outcome(name: str, scored: Sequence[OutageHour]) -> ProtocolScore:
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
        series=tuple(ScoredHour(row.end_ms, row.measured, p.value, p.lo, p.hi) for row, p in answered),
    )


def _indices(scored: Sequence[OutageHour]) -> dict[str, IndexSkill]:
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
