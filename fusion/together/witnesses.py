"""One estimate of all witnesses: what a station has alone, and what its region says of it. Pure.

Of a silent pollutant the region knows what the neighbours, the station's other pollutants and its own past
say (`network`); the station alone knows what its camera and its past say. A camera's value is taken in by its
interval, as evidence whose errors may be the same: the interval of both is then no narrower than theirs. A
camera that no sensor has taught says what the region has taught it (`fusion.together.cameras`).
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from aqi.flags import DRIFT, GOOD, GROSS_RANGE, MISSING, NEIGHBOURS, RATE_OF_CHANGE, SPIKE, SUSPECT
from fusion.bounds import Interval, bounded
from fusion.inference import tidy
from fusion.together.cameras import CameraSays, CameraView, with_camera
from fusion.together.departures import drift_of
from fusion.together.learning import PresentRegion
from network import region as network
from network.cell import Estimates
from network.drift import DriftWatch, departed
from network.members import Members, Silence
from network.region import Region
from network.scale import OFFSETS
from schemas.arrays import Float64
from schemas.estimate import Estimate, MissingPollutant, PollutantEstimate, SensorDrift
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import HOUR_MS, end_of

#: What an imputed value of the region is called by.
METHOD: Final = "network"
#: Tests that a value fails by being unlike those before it: what neighbours show too is no fault.
_OF_CHANGE: Final = GROSS_RANGE | RATE_OF_CHANGE | SPIKE
#: Hours that a variable was heard until the region judges it, and until it needs no word of the station's own
#: past beside its own.
_JUDGED: Final = 7 * 24.0
_GROWN: Final = 24.0
#: Others of the pollutant nearby that have to be heard for that, and for a rescue from doubt.
_JUDGES: Final = 3
_CONFIRMING: Final = 2
#: Intervals within which a doubted value lies that they show too.
_CORROBORATED: Final = 2.0
#: Two stations near each other that are as near as this on the log scale bear each other out.
_ALIKE: Final = math.log(1.5)

HeardValues = Mapping[Pollutant, float]


@dataclass(frozen=True)
class Testimony:
    """What the witnesses together say of a station in a window.

    `doubts`: by pollutant, in words, why it is doubted. `drift`: by pollutant, how its sensor has left its
    neighbours.
    """

    pollutants: dict[Pollutant, PollutantEstimate]
    doubts: dict[Pollutant, str]
    drift: dict[Pollutant, SensorDrift] = field(default_factory=dict)


def listened_to(estimate: Estimate, departed: Container[str] = ()) -> dict[Pollutant, float]:
    """What of a station the region hears: what was measured, unless it is doubted for more than a change.

    `departed`: pollutants whose sensors have left their neighbours.
    """
    return {
        name: one.value
        for name, one in estimate.pollutants.items()
        if one.kind != "imputed"
        and one.covered_s != 0
        and name not in departed
        and (one.qc != SUSPECT or not one.qc_tests & ~_OF_CHANGE)
    }


class _SilentPollutant(NamedTuple):
    """A pollutant of a station: its place in the region, and how many near it are heard."""

    place: int
    pollutant: Pollutant
    others: int


class _Filling(NamedTuple):
    """What stands in for a silent pollutant; as in `PollutantEstimate`."""

    value: float
    lo: float
    hi: float
    weights: Mapping[str, float]
    method: str
    coverage: float | None
    taught_by: Mapping[str, int]


class Hearing:
    """What a region says in a window.

    Args:
        present: the region as it had learned some time before, with the stations that are known now.
        end: of the window, ms.
        size: of the window, ms.
        heard: by station, what is heard of it.
        drift: who has left its neighbours.
        pictures: by station, what its camera shows, where the region may have taught it.
    """

    def __init__(
        self,
        present: PresentRegion,
        end: int,
        size: int,
        heard: Mapping[str, HeardValues],
        drift: DriftWatch,
        pictures: Mapping[str, CameraView],
    ) -> None:
        region, vicinity = present.air, present.vicinity
        members = region.members
        # A region knows whole hours: of what a sensor read within the last one, its station knows more.
        self._within_hours = size < HOUR_MS
        values = np.full(len(members), np.nan)
        for index, (station, name) in enumerate(members.variables):
            values[index] = heard.get(station, {}).get(name, math.nan)
        # The time of the day is that of the hour: what was learned is of whole hours.
        self._said: Estimates = network.estimate(region, end_of(end, HOUR_MS), values)
        self._hours = hours_heard(region)
        self._values = values
        self._at = {(station, name): index for index, (station, name) in enumerate(members.variables)}
        self._vicinity = vicinity
        self._heard = heard
        self._references = {name for name, known in present.roster.items() if known.reference}
        self._drift = drift
        self._pictures = pictures

    def said_of(self, station: str, estimate: Estimate | None) -> Testimony:
        """All pollutants of a station; `estimate`: by itself, None where it says nothing at all."""
        alone = {} if estimate is None else estimate.pollutants
        lost = {} if estimate is None else estimate.missing
        near = self._vicinity.of(station)
        measured: dict[Pollutant, PollutantEstimate] = {}
        imputed: dict[Pollutant, PollutantEstimate] = {}
        doubts: dict[Pollutant, str] = {}
        left = {} if station in self._references else departed(self._drift, station)
        drift: dict[Pollutant, SensorDrift] = {name: drift_of(one, name) for name, one in left.items()}
        for name in POLLUTANTS:
            own = alone.get(name)
            index = self._at.get((station, name))
            beside = [other for other in near if name in self._heard.get(other, ())]
            if own is not None and own.kind != "imputed":
                measured[name] = own
                if name in left and left[name].far:
                    doubts[name] = drift[name].reason
                    doubted = {"qc": max(own.qc, SUSPECT), "qc_tests": own.qc_tests | DRIFT}
                    measured[name] = own.model_copy(update=doubted)
                elif (
                    index is not None
                    and not math.isnan(self._values[index])
                    and station not in self._references
                ):
                    measured[name], doubt = self._judged(own, index, name, beside)
                    if doubt:
                        doubts[name] = doubt
                continue
            # Its own readout of the camera goes before one that others taught.
            reads = own is not None and own.weights.get("camera", 0.0) > 0.0
            pictured = None if reads else self._pictures.get(station)
            at = None if index is None else _SilentPollutant(index, name, len(beside))
            filled = None if at is None else self._filled(at, own, lost.get(name), pictured)
            if filled is not None:
                imputed[name] = filled
            elif own is not None:
                imputed[name] = own
        return Testimony(_in_order(measured, _possible(imputed, measured)), doubts, drift)

    def tells(self, station: str) -> bool:
        """Whether anybody near a station is heard."""
        return any(self._heard.get(other) for other in self._vicinity.of(station))

    def _judged(
        self, own: PollutantEstimate, index: int, name: Pollutant, beside: Sequence[str]
    ) -> tuple[PollutantEstimate, str]:
        """A measured value beside what the others let expect of it; `beside`: who is heard near it."""
        said = self._said
        value, lo, hi = (float(part[index]) for part in (said.value, said.lo, said.hi))
        alike = [other for other in beside if _alike(own.value, self._heard[other][name], OFFSETS[name])]
        judged = self._hours[index] >= _JUDGED and not math.isnan(value)
        if judged and not said.trusted[index]:
            # What stands out from all others at two places near each other is there, a plume say.
            too = any(not said.trusted[self._at[other, name]] for other in alike)
            if len(beside) < _JUDGES or too:
                return (_borne_out(own) if too else own), ""
            words = (
                f"{name} of {own.value:.3g} ug/m3 is contradicted by the neighbours, who let expect"
                f" {value:.3g} ({lo:.3g} to {hi:.3g})"
            )
            doubted = {"qc": max(own.qc, SUSPECT), "qc_tests": own.qc_tests | NEIGHBOURS}
            return own.model_copy(update=doubted), words
        shown = judged and len(beside) >= _CONFIRMING and _shown(own.value, (value, lo, hi), OFFSETS[name])
        return (_borne_out(own) if alike or shown else own), ""

    def _filled(
        self,
        at: _SilentPollutant,
        own: PollutantEstimate | None,
        lost: MissingPollutant | None,
        pictured: CameraView | None,
    ) -> PollutantEstimate | None:
        """What region, camera and the station alone say of a silent pollutant; None: nothing."""
        name = at.pollutant
        found = self._of_region(at)
        spoken = found is not None
        seen = with_camera(pictured, name, None if found is None else (found.value, found.lo, found.hi))
        if seen is not None:
            found = _also_seen(found, seen)
        if found is None:
            return None
        if own is not None and own.lo is not None and own.hi is not None:
            reads = own.weights.get("camera", 0.0) > 0.0
            young = self._hours[at.place] < _GROWN
            held = (young or self._within_hours) and own.method == "last"
            if reads or held or not spoken:
                found = _also_own(found, own, OFFSETS[name])
        qc, tests = (own.qc, own.qc_tests) if own is not None else (MISSING, 0)
        raw, refused = (own.raw, own.refused) if own is not None else (None, {})
        if own is None and lost is not None:
            qc, tests, raw, refused = lost.qc, lost.qc_tests, lost.raw, lost.refused
        weights = sorted(found.weights.items())
        return PollutantEstimate(
            value=tidy(found.value),
            kind="imputed",
            qc=qc,
            qc_tests=tests,
            lo=tidy(found.lo),
            hi=tidy(found.hi),
            method=found.method,
            weights={source: tidy(weight) for source, weight in weights if weight > 0.0},
            coverage=None if found.coverage is None else tidy(found.coverage),
            taught_by=dict(found.taught_by),
            raw=raw,
            refused=refused,
        )

    def _of_region(self, at: _SilentPollutant) -> _Filling | None:
        """What the others say of a silent pollutant; None: nothing."""
        said, index = self._said, at.place
        value, lo, hi = (float(part[index]) for part in (said.value, said.lo, said.hi))
        if math.isnan(value) or said.kind[index] == Silence.ALL:
            return None
        if self._hours[index] == 0.0 and not at.others:
            return None  # it was never measured here, and is not near
        weights = {
            "neighbours": float(said.neighbours[index]),
            "own": float(said.own[index]),
            "past": float(said.past[index]),
        }
        if not weights["neighbours"] and not weights["own"] and self._hours[index] > 0.0:
            return None  # its own past is all that counts: the station knows that itself
        if not any(weights.values()):
            weights["neighbours"] = 1.0  # the mean of those near is all
        held = float(said.coverage[index])
        return _Filling(value, lo, hi, weights, METHOD, None if math.isnan(held) else held, {})


def _also_seen(found: _Filling | None, seen: CameraSays) -> _Filling:
    """What the region says with what a camera shows that it has taught."""
    rest = {} if found is None else found.weights
    weights = {source: (1.0 - seen.share) * weight for source, weight in rest.items()}
    weights["camera"] = seen.share
    mostly = found is None or seen.share > 0.5
    return _Filling(
        seen.value,
        seen.lo,
        seen.hi,
        weights,
        "camera" if mostly else METHOD,
        None if found is None or mostly else found.coverage,
        {"network": seen.hours},
    )


def _also_own(found: _Filling, own: PollutantEstimate, offset: float) -> _Filling:
    """The same with what the station says by itself."""
    assert own.lo is not None
    assert own.hi is not None
    share, value, lo, hi = _together(
        (found.value, found.lo, found.hi), (own.value, own.lo, own.hi), offset
    )  # fmt: skip
    weights = {source: (1.0 - share) * weight for source, weight in found.weights.items()}
    for source, weight in own.weights.items() or {own.method: 1.0}.items():
        mine = {"last": "past"}.get(source, source)
        weights[mine] = weights.get(mine, 0.0) + share * weight
    method, coverage = (own.method, own.coverage) if share > 0.5 else (found.method, found.coverage)
    return _Filling(value, lo, hi, weights, method, coverage, {**found.taught_by, **own.taught_by})


def _borne_out(own: PollutantEstimate) -> PollutantEstimate:
    """A measured value that others show, too: no change is a fault of it."""
    if own.qc != SUSPECT:
        return own
    return own.model_copy(update={"qc": GOOD, "qc_tests": own.qc_tests & ~_OF_CHANGE})


def _alike(one: float, other: float, offset: float) -> bool:
    """Whether two stations near each other read alike, on the log scale of a region."""
    apart = math.log(offset + max(0.0, one)) - math.log(offset + max(0.0, other))
    return abs(apart) <= _ALIKE


def _shown(measured: float, said: tuple[float, float, float], offset: float) -> bool:
    """Whether a measured value lies within twice the interval of what the others say, on the log scale."""
    value, lo, hi = (math.log(offset + part) for part in said)
    away = math.log(offset + max(0.0, measured)) - value
    return -_CORROBORATED * (value - lo) <= away <= _CORROBORATED * (hi - value)


def _together(
    region: tuple[float, float, float], own: tuple[float, float, float], offset: float
) -> tuple[float, float, float, float]:
    """Share of the second, value, lo and hi of two estimates with their intervals.

    Each weighs by the inverse of its squared width on the log scale; what they have in common is not known,
    so the widths are averaged, as those of errors that are the same would.
    """
    (value, lo, hi), (value_2, lo_2, hi_2) = (
        tuple(math.log(offset + max(0.0, part)) for part in one) for one in (region, own)
    )
    wide, wide_2 = max(hi - lo, 1e-3), max(hi_2 - lo_2, 1e-3)
    share = wide**2 / (wide**2 + wide_2**2)

    def mixed(one: float, other: float) -> float:
        return max(0.0, math.exp((1.0 - share) * one + share * other) - offset)

    return share, mixed(value, value_2), mixed(lo, lo_2), mixed(hi, hi_2)


def _possible(
    imputed: Mapping[Pollutant, PollutantEstimate], measured: Mapping[Pollutant, PollutantEstimate]
) -> dict[Pollutant, PollutantEstimate]:
    """Imputed values that could be true together, and beside what is measured."""
    intervals = {
        name: Interval(*(one.value if end is None else end for end in (one.value, one.lo, one.hi)))
        for name, one in imputed.items()
    }
    kept = bounded(intervals, {name: one.value for name, one in measured.items()})
    return {
        name: one
        if kept[name] == intervals[name]
        else one.model_copy(update=dict(zip(("value", "lo", "hi"), map(tidy, kept[name]), strict=True)))
        for name, one in imputed.items()
    }


def possible_in_region(members: Members, said: Estimates, heard: Float64) -> Estimates:
    """What a region says of what is silent, as it could be true together and beside what is heard (d,)."""
    value, lo, hi = said.value.copy(), said.lo.copy(), said.hi.copy()
    for row in members.table.tolist():
        own = {name: index for name, index in zip(POLLUTANTS, row, strict=True) if index >= 0}
        measured: dict[str, float] = {
            name: float(heard[at]) for name, at in own.items() if not math.isnan(heard[at])
        }
        imputed = {
            name: Interval(float(value[at]), float(lo[at]), float(hi[at]))
            for name, at in own.items()
            if name not in measured and not math.isnan(value[at])
        }
        for name, kept in bounded(imputed, measured).items():
            value[own[name]], lo[own[name]], hi[own[name]] = kept
    return said._replace(value=value, lo=lo, hi=hi)


def _in_order(
    *parts: Mapping[Pollutant, PollutantEstimate],
) -> dict[Pollutant, PollutantEstimate]:
    together = {name: one for part in parts for name, one in part.items()}
    return {name: together[name] for name in POLLUTANTS if name in together}


def hours_heard(region: Region) -> Float64:
    """(d,) hours in which each variable of a region was heard, by the cell that speaks of it."""
    if region.whole is not None:
        return region.whole.heard
    hours = np.zeros(len(region.members))
    for listener in region.listeners:
        own = np.array([one.station == listener.station for one in listener.cell.members.variables])
        hours[listener.taken[own]] = listener.cell.heard[own]
    return hours
