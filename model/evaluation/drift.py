"""Honest measurement of the drift watch: faults made in a region's history, day by day as in the stream.

One replay without faults counts the false alarms, and its days serve to judge the rule beside another
(`model.evaluation.drift_beside`). From its state at every 15th day a fault begins at a
quarter of the stations, at one sensor of each, and goes on for weeks: the region hears it, learns from it and
is misled by it as a running one would be, until it is named. Sensors take their turns.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from aqi.units import MOLAR_MASS, micrograms_per_ppb
from model.evaluation.drift_beside import SlidesFound, beside_cusum
from model.evaluation.progress import Progress
from model.evaluation.region_hours import RegionHours
from network import region as network
from network.drift import DriftWatch, key_of, listened, outstood, watched, watching
from network.growing import begun_anew
from network.region import Region
from schemas.arrays import Float32, Float64, Int64
from schemas.estimate import DriftKind
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import DAY_MS, HOUR_MS

#: Days between the beginnings of faults, and those that are only learned from.
SPACING: Final = 15
LEARNING: Final = 120
#: Days before a fault that a sensor has to be heard, and its mean is of.
_BEFORE: Final = 30
#: Days after a sensor was named at which its kind is looked at.
_LATER: Final = 7
_DAYS_A_YEAR: Final = 365.25


class MadeFault(NamedTuple):
    """A fault that is made: `spoil` gives the values of a sensor of whole days (ug/m3) as they are read.

    `right`: kinds that name it. `span`: days that it goes on.
    """

    name: str
    right: tuple[DriftKind, ...]
    span: int
    spoil: Callable[[Float64, Pollutant, float], Float64]


def _slide(rate: float) -> Callable[[Float64, Pollutant, float], Float64]:
    return lambda values, _, __: values * (1.0 + rate) ** (np.arange(len(values)) / 24.0)


def _other_unit(values: Float64, pollutant: Pollutant, _: float) -> Float64:
    """A gas in ppb, particles (and CO, whose ppb is near its ug/m3) in mg/m3."""
    if pollutant in MOLAR_MASS and pollutant != "co":
        return values / micrograms_per_ppb(pollutant, 25.0)
    return values / 1000.0


FAULTS: Final = (
    MadeFault("+1 % a day", ("slide",), 45, _slide(0.01)),
    MadeFault("-1 % a day", ("slide",), 45, _slide(-0.01)),
    MadeFault("+2 % a day", ("slide",), 30, _slide(0.02)),
    MadeFault("-2 % a day", ("slide",), 30, _slide(-0.02)),
    MadeFault("+20 % at once", ("scale", "step"), 25, lambda values, _, __: values * 1.2),
    MadeFault("+half the mean", ("offset", "step"), 25, lambda values, _, mean: values + 0.5 * mean),
    MadeFault("other unit", ("unit",), 12, _other_unit),
    MadeFault("stuck", ("stuck",), 12, lambda values, _, __: np.where(np.isnan(values), values, values[0])),
)  # fmt: skip


class DriftOutcome(NamedTuple):
    """How one kind of fault was found at one pollutant (None: all).

    Attributes:
        fault: its name; "none" of the replay without faults.
        pollutant: which.
        faults: how many were made; of "none", station-years.
        delays: days until each that was named was.
        kinds: how often it was named what, a week after it was named (or when the fault ended).
        first_kinds: the same when it was named.
        right: share of those named a right kind, of `kinds`.
        others: other sensors named meanwhile, for one fault; of "none", alarms for one station-year.
    """

    fault: str
    pollutant: Pollutant | None
    faults: float
    delays: tuple[int, ...]
    kinds: dict[str, int]
    first_kinds: dict[str, int]
    right: float
    others: float

    def quantile(self, part: float) -> float:
        """Days after which this part of all faults was named; infinite where more were missed."""
        waits = sorted(self.delays) + [np.inf] * (int(self.faults) - len(self.delays))
        return float(waits[min(int(part * len(waits)), len(waits) - 1)]) if waits else np.nan

    @property
    def missed(self) -> float:
        """Share that was not named at all."""
        return 1.0 - len(self.delays) / self.faults if self.faults else 0.0

    def to_plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        found = {"median": self.quantile(0.5), "nine_in_ten": self.quantile(0.9), "missed": self.missed}
        told = {name: value if np.isfinite(value) else None for name, value in found.items()}
        return {**self._asdict(), **(told if self.fault != "none" else {})}


class DriftReport(NamedTuple):
    """`outcomes`: of the replay without faults, and of each fault. `beside`: the watch and a plain CUSUM."""

    outcomes: list[DriftOutcome]
    beside: list[SlidesFound]


class _Stand(NamedTuple):
    """A region and its watch before a day; `day`: its number in the history."""

    day: int
    air: Region
    watch: DriftWatch


class _Trial(NamedTuple):
    """What became of a fault at one sensor. `delay`: None where it was missed."""

    variable: int
    delay: int | None
    first_kind: str
    kind: str
    strangers: float


def evaluate_drift(
    data: RegionHours,
    *,
    faults: Sequence[MadeFault] = FAULTS,
    learning: int = LEARNING,
    progress: Progress = lambda *_: None,
) -> DriftReport:
    """Replay a region without faults, and once more from every 15th day for each fault.

    Args:
        data: the history.
        faults: what is made.
        learning: days before the first fault.
        progress: told (what, done, in all).
    """
    first = int(-data.times[0] % DAY_MS) // HOUR_MS + 1  # behind the end of a day
    days = (len(data.times) - first) // 24
    part = slice(first, first + 24 * days)
    data = RegionHours(data.members, data.times[part], data.values[part])
    members = data.members
    start = _Stand(0, network.fresh(members), watching(DriftWatch(), members.variables))
    stands: list[_Stand] = []
    alarms: Counter[str] = Counter()
    before: set[str] = set()
    named: list[set[str]] = []
    sums: list[Float32] = []
    for stand in _through(start, data.values, data.times):
        if stand.day % 10 == 0:
            progress("none", stand.day, days)
        if stand.day >= learning:
            alarms.update(set(stand.watch.departures) - before)
            if (stand.day - learning) % SPACING == 0:
                stands.append(stand)
        before = set(stand.watch.departures)
        named.append(before)
        sums.append(stand.watch.days[0])
    outcomes = _false_alarms(data, alarms, data.values[24 * learning :])
    at_once = max(1, len(members.stations) // 4)
    for fault in faults:
        trials: list[_Trial] = []
        begun = [stand for stand in stands if stand.day + fault.span <= days]
        for number, stand in enumerate(begun):
            progress(fault.name, number, len(begun))
            meanwhile = set().union(*named[stand.day : stand.day + fault.span])
            trials += _tried(data, fault, stand, meanwhile, _turn(data, number, at_once, stand))
        outcomes += _outcomes(data, fault, trials)
    beside = beside_cusum(
        members.variables, int(data.times[0] - 1) // DAY_MS, np.stack(sums), learning, progress
    )
    return DriftReport(outcomes, beside)


def _through(stand: _Stand, values: Float64, ends: Int64) -> Iterator[_Stand]:
    """The stands after each of the days whose hours these are."""
    day, air, watch = stand
    for number, (row, end) in enumerate(zip(values, ends.tolist(), strict=True), 1):
        out = outstood(watch)
        air = begun_anew(air, out) if out else air
        watch = watching(watch, watch.variables)
        heard = listened(watch, row)
        said = network.estimate(air, end, heard)
        watch = watched(watch, end, row, said.others, said.spread)
        air = network.learned(air, end, heard)
        if number % 24 == 0:
            yield _Stand(day + number // 24, air, watch)


def _turn(data: RegionHours, number: int, at_once: int, stand: _Stand) -> list[int]:
    """Whose turn it is: a quarter of the stations, a sensor of each, none that is named already."""
    members = data.members
    stations = len(members.stations)
    found = []
    for place in range(at_once):
        turn = number * at_once + place
        station = turn % stations
        having = [one for one in members.table[station].tolist() if one >= 0]
        # Each round begins with another pollutant.
        variable = having[(turn + turn // stations) % len(having)]
        if key_of(members.variables[variable]) not in stand.watch.departures:
            found.append(variable)
    return found


def _tried(
    data: RegionHours, fault: MadeFault, stand: _Stand, calm: set[str], turn: Sequence[int]
) -> list[_Trial]:
    """A fault at some sensors, from a day on; `calm`: who is named meanwhile where there is none."""
    members, values, ends = data.members, data.values, data.times
    hours = slice(24 * stand.day, 24 * (stand.day + fault.span))
    spoilt = values[hours].copy()
    made = []
    for variable in turn:
        own = values[max(0, 24 * (stand.day - _BEFORE)) : 24 * stand.day, variable]
        if np.isnan(own).mean() > 0.5 or np.isnan(spoilt[:, variable]).mean() > 0.5:
            continue  # hardly heard: nothing is to be seen
        known = spoilt[:, variable]
        known = np.where(np.isnan(known) & (np.arange(len(known)) == 0), np.nanmedian(known), known)
        spoilt[:, variable] = np.where(
            np.isnan(spoilt[:, variable]),
            np.nan,
            fault.spoil(known, members.variables[variable].pollutant, float(np.nanmean(own))),
        )
        made.append(variable)
    named: dict[int, tuple[int, str]] = {}
    kinds: dict[int, str] = {}
    strangers: set[str] = set()
    before = set(stand.watch.departures)
    for after in _through(stand, spoilt, ends[hours]):
        day = after.day - stand.day
        for variable in made:
            found = after.watch.departures.get(key_of(members.variables[variable]))
            if found is None:
                continue
            first = named.setdefault(variable, (day, found.kind))
            if day <= first[0] + _LATER:
                kinds[variable] = found.kind
        strangers |= set(after.watch.departures)
        if all(variable in named and day >= named[variable][0] + _LATER for variable in made):
            break
    strangers -= before | calm | {key_of(members.variables[variable]) for variable in made}
    trials = []
    for variable in made:
        delay, kind = named.get(variable, (None, ""))
        trials.append(_Trial(variable, delay, kind, kinds.get(variable, ""), len(strangers) / len(made)))
    return trials


def _false_alarms(data: RegionHours, alarms: Counter[str], values: Float64) -> list[DriftOutcome]:
    """How often who was named that had no fault."""
    members = data.members
    found = []
    years = (~np.isnan(values)).sum(axis=0) / 24.0 / _DAYS_A_YEAR
    for pollutant in POLLUTANTS:
        own = [index for index, one in enumerate(members.variables) if one.pollutant == pollutant]
        if own:
            named = sum(alarms[key_of(members.variables[index])] for index in own)
            heard = float(years[own].sum())
            found.append(DriftOutcome("none", pollutant, heard, (), {}, {}, 0.0, named / max(heard, 1e-9)))
    return found


def _outcomes(data: RegionHours, fault: MadeFault, trials: Sequence[_Trial]) -> list[DriftOutcome]:
    """By pollutant, and of all."""
    of_each: dict[Pollutant | None, list[_Trial]] = {None: list(trials)}
    for trial in trials:
        of_each.setdefault(data.members.variables[trial.variable].pollutant, []).append(trial)
    found = []
    for pollutant in (*POLLUTANTS, None):
        own = of_each.get(pollutant, [])
        if not own:
            continue
        named = [one for one in own if one.delay is not None]
        kinds = Counter(one.kind for one in named)
        right = sum(kinds[kind] for kind in fault.right) / max(len(named), 1)
        found.append(
            DriftOutcome(
                fault.name,
                pollutant,
                len(own),
                tuple(sorted(one.delay for one in named if one.delay is not None)),
                dict(kinds),
                dict(Counter(one.first_kind for one in named)),
                right,
                sum(one.strangers for one in own) / len(own),
            )
        )
    return found
