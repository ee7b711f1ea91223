"""Honest measurement of the network: a region replayed in time order with made outages.

Every kind of outage and every length is a replay of its own in which the silent sensors are really silent:
the network hears nothing of them, learns nothing from them, and what it says is set beside what they read.
One outage follows the other, so that each sensor and station takes its turn; after one of a whole pollutant
the region is whole for a while, for nobody has two of these one upon the other. Nothing is fitted on later
hours. Rivals know all that was measured before the outage began, and what is heard in it.

Where several sensors are silent at once in "one sensor" (half of the stations have one each, as a rule no two
the same pollutant), that makes it harder for the network, not easier. With fewer hours chance decides: at
eight stations of Beijing one hour of fireworks is a tenth of all squared errors of a year.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.evaluation.blocks import drawn_means
from model.evaluation.progress import Progress
from model.evaluation.region_hours import RegionHours
from model.evaluation.region_outages import new_by_turns, outage_kinds, rotating
from network import region as network
from network.cell import Estimates
from network.members import Members
from network.scale import from_log, to_log
from schemas.arrays import Bool, Float64
from schemas.distances import distances
from schemas.parameters import POLLUTANTS
from schemas.times import DAY_MS

#: Lengths of the made outages, hours.
OUTAGES: Final = (1, 6, 24, 168, 720)
#: Ages in hours of a new place's own data when it falls silent; 0: it was never measured.
NEW_PLACES: Final = (0, 24, 168)
#: Stations of a large region that are tested.
TESTED: Final = 40
#: Part of the hours that are only learned from, and the most of them.
_LEARNING_PART: Final = 0.4
_LEARNING_HOURS: Final = 90 * 24
_ALIKE: Final = 8
_MEAN_DAYS: Final = 30
#: Hours of a block that is drawn.
_WEEK: Final = 168
_NEW_PLACE: Final = "new place"
_RIDGE: Final = 1.0
_RIDGE_HOURS: Final = 365 * 24
#: Rivals, in the order they are shown.
RIVALS: Final = (
    "last value",
    "hour-of-day mean",
    "neighbours' mean",
    "inverse distance",
    "ridge, own others",
)


#: Estimates of members, possible beside what is heard of them (d,).
PossibleValues = Callable[[Members, Estimates, Float64], Estimates]


class Outcome(NamedTuple):
    """How one pollutant did in one kind of outage of one length.

    Attributes:
        silence: kind of outage in words.
        hours: length of the outage; of a new place, of its own data.
        pollutant: which.
        values: how many were scored.
        skills: by predictor ("network" and the rivals that answered) RMSE in ug/m3 and R2.
        coverage: part of the values within the network's 90 % interval.
        worst_month: the same in the 30 days (of at least 100 values) in which it is farthest from 0.90.
        refused: values of which the network said nothing.
        ahead: by rival, share of draws of whole weeks (of longer outages, of stretches as long) in which it
            errs less than the network, at the values that both tell; of n of them at most 1 - 0.5**n.
    """

    silence: str
    hours: int
    pollutant: str
    values: int
    skills: Mapping[str, tuple[float, float]]
    coverage: float
    worst_month: float
    refused: int
    ahead: Mapping[str, float]

    def to_plain(self) -> dict[str, Any]:
        """As JSON can say it."""

        def told(value: float) -> float | None:
            return round(value, 4) if math.isfinite(value) else None

        return {
            **self._asdict(),
            "skills": {
                name: {"rmse": told(rmse), "r2": told(r2)} for name, (rmse, r2) in self.skills.items()
            },
            "coverage": told(self.coverage),
            "worst_month": told(self.worst_month),
            "ahead": dict(self.ahead),
        }


def evaluate_region(
    data: RegionHours,
    *,
    outages: Sequence[int] = OUTAGES,
    new_places: Sequence[int] = NEW_PLACES,
    silences: Sequence[str] | None = None,
    start: int | None = None,
    possible: PossibleValues = lambda _members, said, _heard: said,
    progress: Progress = lambda *_: None,
) -> list[Outcome]:
    """Replay a region for each kind and length of outage, as often as its turns want.

    Args:
        data: the history.
        outages: lengths, hours; those longer than what is left to score are left out.
        new_places: hours of own data of a new place.
        silences: kinds of outage, by name; None: all that the region can have.
        start: number of the first hour that is scored; None: after two fifths, at most 90 days, and an outage
            that fits only once is at the end.
        possible: makes what is said possible beside what is heard, as the stream does.
        progress: told (what, done, in all).
    """
    hours = len(data.times)
    begin = int(min(_LEARNING_PART * hours, _LEARNING_HOURS)) if start is None else start
    tested = _tested(data.members)

    def made() -> Iterator[tuple[str, int, int, list[Bool]]]:
        for name, kind in outage_kinds(data.members, tested).items():
            for length in outages:
                if length <= hours - begin:
                    # What fits only once is at the end: more is learned before, and none is cut short.
                    first = hours - length if start is None and 2 * length > hours - begin else begin
                    yield name, length, first, rotating(kind, hours, first, length)
        for age in new_places:
            if age <= begin:
                yield _NEW_PLACE, age, begin, new_by_turns(data.members, tested, hours, begin, age)

    outcomes: list[Outcome] = []
    for name, length, first, masks in made():
        if silences is None or name in silences:
            rows = []
            for replay, mask in enumerate(masks, start=1):
                what = f"{name}, {length} h" + (f", replay {replay}" if len(masks) > 1 else "")
                rows += _replayed(data, mask, first, possible, partial(progress, what))
            outcomes += _outcomes(data.members, name, length, rows)
    return outcomes


def _tested(members: Members) -> tuple[str, ...]:
    """Stations that are tested: all, of a large region some, evenly spread."""
    stations = members.stations
    step = max(1, len(stations) // TESTED) if len(members) > network.WHOLE else 1
    return stations[::step]


class _Row(NamedTuple):
    hour: int
    variable: int
    truth: float
    network: float
    lo: float
    hi: float
    rivals: tuple[float, ...]


def _replayed(
    data: RegionHours,
    mask: Bool,
    begin: int,
    possible: PossibleValues,
    progress: Callable[[int, int], None],
) -> list[_Row]:
    """One replay with a mask of who is silent."""
    members = data.members
    tested = _tested(members)
    is_tested = np.array([one.station in tested for one in members.variables])
    region = network.fresh(members, tested)
    rivals = _Rivals(data, mask, begin)
    rows: list[_Row] = []
    for number, end in enumerate(data.times.tolist()):
        values = np.where(mask[number], np.nan, data.values[number])
        scored = np.flatnonzero(mask[number] & is_tested & ~np.isnan(data.values[number]))
        if number >= begin and len(scored):
            said = possible(members, network.estimate(region, end, values), values)
            rows.extend(
                _Row(
                    number, variable, float(data.values[number, variable]), float(said.value[variable]),
                    float(said.lo[variable]), float(said.hi[variable]), rivals.say(number, variable, values),
                )
                for variable in scored.tolist()
            )  # fmt: skip
        if not np.isnan(values).all():
            region = network.learned_with_silence(region, end, values)
        progress(number + 1, len(data.times))
    return rows


def _outcomes(members: Members, name: str, length: int, rows: Sequence[_Row]) -> Iterator[Outcome]:
    by_pollutant: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        by_pollutant[int(members.pollutants[row.variable])].append(row)
    for pollutant, found in sorted(by_pollutant.items()):
        table = np.array([(*row[:6], *row.rivals) for row in found], dtype=np.float64)
        answered = table[~np.isnan(table[:, 3])]
        truth = answered[:, 2]
        blocks = answered[:, 0].astype(np.int64) // max(_WEEK, length if name != _NEW_PLACE else 0)
        skills = {
            predictor: _skill(truth, answered[:, column])
            for predictor, column in (("network", 3), *((rival, 6 + i) for i, rival in enumerate(RIVALS)))
            if len(answered) and not np.isnan(answered[:, column]).all()
        }
        held = (truth >= answered[:, 4]) & (truth <= answered[:, 5])
        months = answered[:, 0].astype(np.int64) // 720
        shares = [
            float(held[months == month].mean())
            for month in np.unique(months)
            if (months == month).sum() >= 100
        ]
        yield Outcome(
            silence=name,
            hours=length,
            pollutant=POLLUTANTS[pollutant],
            values=len(answered),
            skills=skills,
            coverage=float(held.mean()) if len(held) else math.nan,
            worst_month=max(shares, key=lambda share: abs(share - 0.9)) if shares else math.nan,
            refused=len(table) - len(answered),
            ahead={
                rival: _share_ahead(blocks, answered[:, 6 + i] - truth, answered[:, 3] - truth)
                for i, rival in enumerate(RIVALS)
                if rival in skills
            },
        )


def _share_ahead(blocks: NDArray[np.int64], rival: Float64, network: Float64) -> float:
    """Share of draws of blocks in which the squared errors of a rival are the smaller ones; NaN: not told."""
    there = ~np.isnan(rival)
    gain = network[there] ** 2 - rival[there] ** 2
    # Few blocks that all favour one may do so by chance: 1 in 8 times three do.
    most = 1.0 - 0.5 ** len(np.unique(blocks[there]))
    return min(float((drawn_means(blocks[there], gain[:, None]) > 0.0).mean()), most)


def _skill(truth: Float64, said: Float64) -> tuple[float, float]:
    """RMSE and R2 over what the predictor answered."""
    there = ~np.isnan(said)
    error, truth = said[there] - truth[there], truth[there]
    spread = float(((truth - truth.mean()) ** 2).mean())
    mean = float((error**2).mean())
    return math.sqrt(mean), 1.0 - mean / spread if spread > 0.0 else math.nan


class _Rivals:
    """What one would say without the network."""

    def __init__(self, data: RegionHours, mask: Bool, begin: int) -> None:
        self._data, self._mask = data, mask
        members = data.members
        placed = all(place is not None for place in members.places)
        self._apart = distances([place for place in members.places if place is not None]) if placed else None
        # What a new place reads before it has data of its own is never heard; that of earlier outages the
        # ridge may have, which favours it.
        unheard = mask & (np.arange(len(mask)) < begin)[:, None]
        self._logs = to_log(np.where(unheard, np.nan, data.values), members.pollutants)
        self._fits: dict[tuple[int, int], tuple[NDArray[np.int64], Float64] | None] = {}
        self._began: dict[int, tuple[int, int, float, Float64]] = {}

    def say(self, number: int, variable: int, values: Float64) -> tuple[float, ...]:
        """In the order of `RIVALS`, NaN where one cannot say: `values` (d,) is what is heard."""
        members = self._data.members
        last, of_day = self._before(number, variable)
        others = np.flatnonzero((members.pollutants == members.pollutants[variable]) & ~np.isnan(values))
        mean = float(values[others].mean()) if len(others) else math.nan
        return (
            last,
            of_day,
            mean,
            self._inverse(variable, others, values),
            self._ridge(number, variable, values),
        )

    def _before(self, number: int, variable: int) -> tuple[float, float]:
        """Last value before the outage, and the mean of this hour of the day over the 30 days before it."""
        held = self._began.get(variable)
        if held is None or held[1] != number - 1:
            first = number
            while first > 0 and self._mask[first - 1, variable]:
                first -= 1
            past = self._data.values[max(0, first - _MEAN_DAYS * 24) : first, variable]
            # What was silent before is not known either, but for a new place's own hours.
            past = np.where(self._mask[max(0, first - _MEAN_DAYS * 24) : first, variable], np.nan, past)
            known = past[~np.isnan(past)]
            hours = np.arange(max(0, first - _MEAN_DAYS * 24), first) % 24
            means = np.array(
                [
                    float(np.mean(past[(hours == hour) & ~np.isnan(past)]))
                    if ((hours == hour) & ~np.isnan(past)).any() else math.nan
                    for hour in range(24)
                ]
            )  # fmt: skip
            held = (first, number, float(known[-1]) if len(known) else math.nan, means)
        self._began[variable] = (held[0], number, held[2], held[3])
        return held[2], float(held[3][number % 24])

    def _inverse(self, variable: int, others: NDArray[np.int64], values: Float64) -> float:
        if self._apart is None or not len(others):
            return math.nan
        apart = self._apart[variable, others]
        near = np.argsort(apart, kind="stable")[:_ALIKE]
        weight = 1.0 / np.maximum(apart[near], 0.1)
        return float((weight * values[others[near]]).sum() / weight.sum())

    def _ridge(self, number: int, variable: int, values: Float64) -> float:
        """A ridge on the logs of the station's own other pollutants, fitted on the year before its month."""
        members = self._data.members
        month = int(self._data.times[number] // (30 * DAY_MS))
        if (variable, month) not in self._fits:
            self._fits[variable, month] = self._fitted(number, variable)
        fit = self._fits[variable, month]
        if fit is None or np.isnan(values[fit[0]]).any():
            return math.nan
        logs = to_log(values[fit[0]], members.pollutants[fit[0]])
        said = np.array([fit[1][0] + (fit[1][1:] * logs).sum()])
        return float(from_log(said, members.pollutants[[variable]])[0])

    def _fitted(self, number: int, variable: int) -> tuple[NDArray[np.int64], Float64] | None:
        members = self._data.members
        others = np.flatnonzero(members.owners == members.owners[variable])
        others = others[others != variable]
        first = number
        while first > 0 and self._mask[first - 1, variable]:
            first -= 1
        rows = self._logs[max(0, first - _RIDGE_HOURS) : first]
        rows = rows[~np.isnan(rows[:, [variable, *others]]).any(axis=1)]
        if len(others) == 0 or len(rows) < 100:
            return None
        center = rows.mean(axis=0)
        inputs = rows[:, others] - center[others]
        gram = np.einsum("ni,nj->ij", inputs, inputs) + _RIDGE * np.eye(len(others))
        slope = np.linalg.solve(gram, np.einsum("ni,n->i", inputs, rows[:, variable] - center[variable]))
        return others, np.array([center[variable] - (slope * center[others]).sum(), *slope])
