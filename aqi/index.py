"""The regulatory index: concentrations and their history in, an explained result out. Never a bare number.

`assess` makes a running index at one time from a station's hourly history; `index_of` makes one directly from
concentrations that are already averaged; `subindices` is the bare table look-up over arrays.

Which means count, and so what may lead an index (docs/aqi.md has the reasons):

1. What a station never measured is imputed from nothing of its own: it is shown as a sub-index, but does not
   count beside anything that was measured in the hours of the means. Where nothing was, all is imputed: then
   what the station has measured once counts, and the rest where its whole interval lies above the upper ends
   of that; at a station that never measured anything, everything counts.
2. An imputed mean counts beside a *valid* one (complete and measured) only where its whole interval lies
   above that: where the index of its lower end is the higher one.
3. The index is the highest sub-index among the valid means, when those satisfy what the standard asks for and
   nothing else that counts stands above them. Otherwise all that counts does, and the result is `indicative`,
   or `insufficient` when the highest of them rests on fragments. Its reason says why.

The interval of an index is made of the means that count, and of nothing else: the highest of the indices of
their lower ends, and of their upper ends (`aqi.reach` says how far they are from the means). The lower end is
safe however pollutants hang together: the index is never less than that of any one of them. The upper end
supposes that they err together; were they independent, the highest of several upper ends would be passed a
little more often than one of them is.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aqi import averaging, nowcast
from aqi.averaging import INDICATIVE, INSUFFICIENT, PERIODS, VALID, Averages
from aqi.errors import StandardError
from aqi.history import COLUMN, HOUR_MS, QUARTER_MS, QUARTERS, History
from aqi.quality import defaults
from aqi.reach import of_mean
from aqi.standards import AVERAGING_MS, Category, Measure, Requirement, Standard
from aqi.units import CANONICAL_UNIT, convert, factor
from schemas.parameters import PARAMETERS

Status = Literal["valid", "indicative", "insufficient"]

#: By grade of `averaging`; NOTHING has no sub-index to be written on.
_STATUS: Final[tuple[Status, ...]] = ("insufficient", "insufficient", "indicative", "valid")
#: Rows of hours that running means and the particle NowCast read: 24, one of lookback, the one in progress.
_HOUR_ROWS: Final = 24 + averaging.LOOKBACK + 1


class SubIndex(NamedTuple):
    """The index of one pollutant: from which mean, over which period, and how good that is."""

    parameter: str
    averaging: str  # 15min, 1h, 8h, 24h; a NowCast names its method
    index: int  # type: ignore[assignment]  # the field's word for it; nobody searches this tuple
    value: float  # the mean, in `unit`, before the standard's rounding
    unit: str
    status: Status
    reason: str  # empty when valid
    imputed_share: float  # of the seconds the mean rests on, 0..1
    periods: int  # hours (quarter hours) that count
    periods_needed: int
    end_ms: int  # end of the period averaged over; 0 where the caller averaged
    beyond: bool  # above the last concentration that the standard gives an index for
    lo: int | None = None  # ends of the 90 % interval; None where nothing that the mean rests on was imputed
    hi: int | None = None


#: The sub-indices of a station's means, in the order of the report's tables. `_MUTE` stands for the index of
#: a mean whose table speaks of its upper end only (EPA's 1-hour ozone).
Found = list[SubIndex]
_MUTE: Final = -1


class Grounds(NamedTuple):
    """What a station measured: which pollutants ever, and which of them in the hours that means are of."""

    ever: Collection[str]
    lately: Collection[str]


class IndexResult(NamedTuple):
    """An index at `at_ms` with all that is needed to judge it. `index` is None only without any data."""

    standard: str
    report: str
    at_ms: int
    index: int | None  # type: ignore[assignment]
    category: Category | None
    colour: str | None
    dominant: tuple[str, ...]  # every pollutant that ties for the highest sub-index
    status: Status
    reason: str  # empty when valid and nothing was left out
    imputed_share: float  # mean over the pollutants that count, 0..1
    subindices: tuple[SubIndex, ...]  # one per pollutant: the highest of its means that count, or of all
    nowcast: "IndexResult | None"  # of its own pollutants, where the standard has a NowCast
    lo: int | None = None  # ends of the 90 % interval; None where nothing that it rests on was imputed
    hi: int | None = None
    nowcast_reason: str = ""  # why there is no NowCast, where the standard has one

    def to_plain(self) -> dict[str, Any]:
        """JSON-able data: keys index, category, dominant, status, reason, subindices and the rest by name."""
        plain = self._asdict()
        plain["category"] = None if self.category is None else self.category.name
        plain["category_key"] = None if self.category is None else self.category.key
        plain["dominant"] = list(self.dominant)
        plain["subindices"] = [sub._asdict() for sub in self.subindices]
        plain["nowcast"] = None if self.nowcast is None else self.nowcast.to_plain()
        return plain


def subindices(
    standard: Standard, parameter: str, averaging: str, concentrations: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Sub-indices of concentrations in the table's unit, NaN where missing or too low for that table."""
    return standard.measure(parameter, averaging).indices(concentrations)


def index_of(
    standard: Standard,
    concentrations: Mapping[tuple[str, str], float],
    *,
    site: str | None = None,
) -> IndexResult:
    """The index of means that the caller vouches for: {(parameter, averaging): value in the table's unit}.

    StandardError for a (parameter, averaging) the standard has no table for, ValueError for a value that is
    not a finite number, or so far below zero that no instrument's noise explains it. A mean a little below
    zero is data and has the index of zero.

    Examples:
        >>> from aqi import standards
        >>> result = index_of(standards.load("us-epa-2024"), {("pm25", "24h"): 35.9, ("o3", "8h"): 0.06})
        >>> result.index, result.category.key, result.dominant
        (102, 'unhealthy_sensitive', ('pm25',))
        >>> {sub.parameter: sub.index for sub in result.subindices}
        {'pm25': 102, 'o3': 67}
    """
    highest: dict[str, SubIndex] = {}
    ignored = []
    for (parameter, period), value in concentrations.items():
        measure = standard.measure(parameter, period)
        least = lowest(standard, measure)
        if not least <= value < float("inf"):
            raise ValueError(
                f"{measure.key}: {value} is no concentration: give a finite number, {least:g}"
                f" {measure.unit} or more"
            )
        index = measure.index(value)
        if index is None:
            start = measure.segments[0][0] * 10.0**-measure.digits
            ignored.append(f"{measure.key} is indexed from {start:g} {measure.unit} on only")
        elif parameter not in highest or index > highest[parameter].index:
            beyond = measure.quanta(value) > measure.segments[-1][1]
            highest[parameter] = SubIndex(
                parameter, period, index, value, measure.unit, "valid", "", 0.0, 1, 1, 0, beyond
            )
    found = list(highest.values())
    choice = _choose(standard, found, Grounds(highest, highest), site)
    return _result(standard, standard.default_report, 0, choice, tuple(ignored))


def lowest(standard: Standard, measure: Measure) -> float:
    """The lowest mean that can be, in the table's unit: noise about zero that quality control lets pass."""
    limits = defaults().limits.get(measure.parameter)
    if limits is None or limits.fail_span is None:
        return 0.0
    reference = standard.reference_celsius
    return min(convert(measure.parameter, limits.fail_span[0], CANONICAL_UNIT, measure.unit, reference), 0.0)


def assess(
    standard: Standard,
    history: History,
    at_ms: int,
    *,
    report: str | None = None,
    site: str | None = None,
) -> IndexResult:
    """The running index of one station at `at_ms` (end of a window, UTC ms) from its history up to then.

    To count a window that is not in the history yet, pass `history.with_window(...)`. `report` is one of the
    standard's (default: its first); `site` is the kind of station where the standard distinguishes (EAQI:
    "traffic"). Same input, same result, whatever else is computed beside it.
    """
    return assess_many(standard, [history], [at_ms], report=report, site=site)[0]


def assess_many(
    standard: Standard,
    histories: Sequence[History],
    at_ms: Sequence[int],
    *,
    report: str | None = None,
    site: str | None = None,
) -> list[IndexResult]:
    """`assess` of many stations at once, each at its own time: about ten times cheaper per station."""
    if not histories:
        return []
    name = standard.default_report if report is None else report
    if name not in standard.reports:
        raise StandardError(f"{standard.id} has no report {name!r}: it has {', '.join(standard.reports)}")
    measures = [measure for measure in standard.reports[name] if measure.parameter in COLUMN]
    hours = averaging.block(histories, at_ms, _HOUR_ROWS, HOUR_MS)
    means: dict[str, Averages] = {}
    for measure in measures:
        if measure.averaging not in means:
            slot_ms, length = PERIODS[measure.averaging]
            periods = hours
            if slot_ms != HOUR_MS:
                periods = averaging.block(histories, at_ms, QUARTERS, QUARTER_MS, hours.places)
            means[measure.averaging] = averaging.running(
                periods, length, measure.slots_needed, standard.hour_share
            )
    references = [history.reference_celsius for history in histories]
    found: list[Found] = [[] for _ in histories]
    first: dict[str, Measure] = {}
    for measure in measures:
        main = first.setdefault(measure.parameter, measure)
        longer = AVERAGING_MS[measure.averaging] > AVERAGING_MS[main.averaging]
        _grade(standard, measure, means[measure.averaging], references, hours.places, found, longer)
    grounds = _grounds(histories, hours)
    results = []
    casts = _nowcasts(standard, histories, at_ms, hours, references)
    for now, subs, ground, cast, recent in zip(
        at_ms, found, grounds, casts, _measured(hours, nowcast.PM_HOURS + 1), strict=True
    ):
        choice = _choose(standard, subs, ground, site)
        result = _result(standard, name, now, choice)
        if standard.nowcast:
            # What was measured in the hours of the NowCast is not imputed from afar: it counts.
            chosen = _choose(standard, cast, ground, None, recent)
            missing = _no_nowcast(standard, choice, chosen, recent)
            if missing:
                result = result._replace(nowcast_reason=missing)
            else:
                result = result._replace(nowcast=_result(standard, "nowcast", now, chosen))
        results.append(result)
    return results


def _grounds(histories: Sequence[History], hours: averaging.Block) -> list[Grounds]:
    lately = _measured(hours, len(hours.mean))
    return [Grounds(history.ever_measured, names) for history, names in zip(histories, lately, strict=True)]


def _measured(hours: averaging.Block, rows: int) -> list[list[str]]:
    """Per station the pollutants measured in the newest `rows` hours (that in progress is one of them)."""
    return [
        [name for name, there in zip(PARAMETERS, flags, strict=True) if there]
        for flags in np.any(hours.measured_s[-rows:], axis=0).tolist()
    ]


def _no_nowcast(standard: Standard, running: "_Choice", cast: "_Choice", recent: Collection[str]) -> str:
    """Why a station has no NowCast, in words; empty where it has one.

    Where the pollutant that leads the index has none, that of the others would speak of cleaner air than is
    known. So it would where particles, measured just now, have none: they may rise within an hour.
    """
    there = {sub.parameter for sub in cast.counted}
    lacking = [
        name
        for name in standard.nowcast
        if name not in there
        and (name in running.leading or (name in recent and standard.nowcast[name].method == "epa-pm"))
    ]
    if running.leading and not there.intersection(running.leading) and not lacking:
        leading = " and ".join(running.leading)
        return f"no NowCast: {leading} leads the index, and {standard.id} has no NowCast of it"
    if not there and not lacking:
        return "no NowCast: no pollutant that may lead it has one"
    return "; ".join(f"no NowCast of {name}: {_NEWEST[standard.nowcast[name].method]}" for name in lacking)


_NEWEST: Final = {
    "epa-pm": f"fewer than {nowcast.PM_NEWEST_NEEDED} of the newest {nowcast.PM_NEWEST} hours are complete",
    "epa-o3": f"none of the newest {nowcast.OZONE_BACK + 1} hours is complete",
}


def _grade(
    standard: Standard,
    measure: Measure,
    means: Averages,
    references: Sequence[float],
    places: npt.NDArray[np.int64],
    found: list[Found],
    longer: bool,
) -> None:
    """Adds the sub-index of one measure to what was found per station.

    `longer`: the averaging is longer than that of the pollutant's first table (EPA's 24-hour SO2 beside the
    1-hour one). Then it adds to that one when it is complete, and does not stand in for it before.
    """
    column = COLUMN[measure.parameter]
    status = means.status[:, column]
    factors = _factors(standard, measure, references)
    scale = factors[places]
    values = means.mean[:, column] * factors
    if longer:
        complete = means.counting[:, column] >= measure.slots_needed
        values = np.where((status >= INDICATIVE) & complete, values, np.nan)
    _add(
        measure,
        measure.averaging,
        values,
        status,
        _reasons(measure, status, means.counting[:, column], means.imputed_share[:, column]),
        means.imputed_share[:, column],
        means.counting[:, column],
        measure.slots_needed,
        means.end_ms[:, column],
        _Ends(places, means.low[:, column] * scale, means.high[:, column] * scale),
        found,
    )


class _Ends(NamedTuple):
    """Ends of the intervals of a mean, in the unit of its table, of the stations that have one."""

    places: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def _add(
    measure: Measure,
    averaged: str | list[str],
    values: npt.NDArray[np.float64],
    status: npt.NDArray[np.int8],
    reasons: list[str],
    imputed_share: npt.NDArray[np.float64],
    periods: npt.NDArray[np.int64],
    needed: int,
    end_ms: npt.NDArray[np.int64],
    ends: _Ends,
    found: list[Found],
) -> None:
    """Looks S values and their ends up and adds a sub-index to every station that has one."""
    indices = measure.indices(values)
    there = ~np.isnan(indices)  # not: no data, or so low that this table does not speak
    indices = np.where(there, indices, _MUTE)
    lows: list[int | None] = [None] * len(values)
    highs: list[int | None] = [None] * len(values)
    guessed = ends.places[(imputed_share[ends.places] > 0) & ~np.isnan(values[ends.places])]
    if len(guessed):
        # An end that the table is mute about is below the least that it speaks of.
        both = np.full((2, len(values)), np.nan)
        both[:, ends.places] = ends.low, ends.high
        both = np.nan_to_num(measure.indices(both[:, guessed]), nan=_MUTE)
        low = np.clip(both[0], 0, np.maximum(indices[guessed], 0))
        there[guessed] |= both[1] >= 0
        for place, least, most in zip(
            guessed.tolist(),
            low.astype(np.int64).tolist(),
            np.maximum(both[1], indices[guessed]).astype(np.int64).tolist(),
            strict=True,
        ):
            lows[place], highs[place] = least, most
    rows = zip(
        repeat(measure.parameter),
        repeat(averaged) if isinstance(averaged, str) else averaged,
        indices.astype(np.int64).tolist(),
        values.tolist(),
        repeat(measure.unit),
        [_STATUS[grade] for grade in status.tolist()],
        reasons,
        imputed_share.tolist(),
        periods.tolist(),
        repeat(needed),
        end_ms.tolist(),
        measure.beyond(values).tolist(),
        lows,
        highs,
        strict=False,
    )
    for best, sub, ok in zip(found, map(SubIndex._make, rows), there.tolist(), strict=True):
        if ok:
            best.append(sub)


def _factors(standard: Standard, measure: Measure, references: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(
        [
            factor(measure.parameter, CANONICAL_UNIT, measure.unit, reference, standard.reference_celsius)
            for reference in references
        ]
    )


def _reasons(
    measure: Measure,
    status: npt.NDArray[np.int8],
    counting: npt.NDArray[np.int64],
    imputed: npt.NDArray[np.float64],
) -> list[str]:
    """Per station why a mean is not valid, in words; empty for those that are."""
    reasons = [""] * len(status)
    period = "quarter hours" if measure.averaging == "15min" else "hours"
    length = PERIODS[measure.averaging][1]
    for place in np.flatnonzero(status != VALID).tolist():
        if status[place] == INDICATIVE and counting[place] >= measure.slots_needed:
            share = f"{imputed[place]:.0%} of its input"
            reasons[place] = f"{measure.key}: complete only with imputed values ({share})"
        elif length == 1:
            reasons[place] = f"{measure.key}: no complete {period[:-1]} yet"
        else:
            reasons[place] = (
                f"{measure.key}: {counting[place]} of {length} {period}, {measure.slots_needed} needed"
            )
    return reasons


class _Choice(NamedTuple):
    """What of a station's means makes its index."""

    means: Found  # those that count
    status: Status
    need: Requirement
    lacking: str  # of it, by the valid means; empty when nothing
    counted: tuple[SubIndex, ...]  # one per pollutant that counts, the highest of its means
    shown: tuple[SubIndex, ...]  # one per pollutant, in the order of the tables
    left_out: tuple[str, ...]  # in words
    leading: tuple[str, ...]  # the pollutants that make the index; none where there is none


def _choose(
    standard: Standard,
    found: Found,
    grounds: Grounds,
    site: str | None,
    always: Collection[str] = (),
) -> _Choice:
    """Which means count, by the rules above; those of the pollutants in `always` need not be surely above."""
    pool = _own(found, grounds)
    valid = [sub for sub in pool if sub.status == "valid"]
    top = max([sub.index for sub in valid], default=_MUTE)
    others = [
        sub
        for sub in pool
        if sub.status != "valid"
        and (not valid or not sub.imputed_share or sub.parameter in always or _low(sub) > top)
    ]
    need = standard.requires(site)
    lacking = need.lacking(list({sub.parameter: None for sub in valid}))
    # What is known least must not hide the worst: an hour of clean NO2 says nothing of the PM2.5 that has no
    # complete day yet. So where an incomplete mean is above, everything counts, and the status says how much
    # that is worth.
    met = not lacking and bool(valid) and all(sub.index <= top for sub in others)
    counting = valid if met else valid + others
    best = _highest(counting)
    counted, shown, left_out, unasked = [], [], [], []
    for parameter, sub in _highest(found).items():
        if parameter in best:
            counted.append(best[parameter])
            shown.append(best[parameter])
            continue
        shown.append(sub)
        if parameter not in grounds.ever:
            unasked.append(f"{parameter} {sub.index}")
        else:
            span = "" if sub.lo is None else f", {sub.lo} to {sub.hi}"
            left_out.append(f"{parameter} {sub.index} ({sub.reason}{span})")
    if unasked:
        left_out.append(f"{', '.join(unasked)} (never measured here)")
    highest = max([sub.index for sub in counted], default=_MUTE)
    leading = [sub for sub in counted if sub.index == highest]
    status: Status = "valid"
    if not met:
        shaky = not leading or "insufficient" in [sub.status for sub in leading]
        status = "insufficient" if shaky else "indicative"
    return _Choice(
        counting, status, need, lacking, tuple(counted), tuple(shown), tuple(left_out),
        tuple([sub.parameter for sub in leading]),
    )  # fmt: skip


def _highest(means: Found) -> dict[str, SubIndex]:
    """Per pollutant the highest sub-index of its means, of equal ones the best founded."""
    found: dict[str, SubIndex] = {}
    for sub in means:
        other = found.get(sub.parameter)
        if sub.index != _MUTE and (
            other is None or (sub.index, _GRADE[sub.status]) > (other.index, _GRADE[other.status])
        ):
            found[sub.parameter] = sub
    return found


def _own(found: Found, grounds: Grounds) -> Found:
    """The means that rest on something of the station's own, where there are any; rule 1."""
    own = [sub for sub in found if sub.parameter in grounds.ever]
    if grounds.lately or len(own) == len(found):
        return own
    if not own:
        return found
    bound = max([sub.index if sub.hi is None else sub.hi for sub in own])
    return [sub for sub in found if sub.parameter in grounds.ever or _low(sub) > bound]


def _low(sub: SubIndex) -> int:
    return sub.index if sub.lo is None else sub.lo


_GRADE: Final[dict[str, int]] = {"valid": VALID, "indicative": INDICATIVE, "insufficient": INSUFFICIENT}


def _result(
    standard: Standard, report: str, at_ms: int, choice: _Choice, ignored: tuple[str, ...] = ()
) -> IndexResult:
    reasons = list(ignored)
    not_counted = "not counted: " + "; ".join(choice.left_out) if choice.left_out else ""
    if not choice.counted:
        if not_counted:
            reasons.append(f"nothing that {standard.id} has a table for was measured here")
            reasons.append(not_counted)
        return IndexResult(
            standard.id, report, at_ms, None, None, None, (), "insufficient",
            "; ".join(reasons) or f"no data for any pollutant of {standard.id}", 0.0, choice.shown, None,
        )  # fmt: skip
    counted = choice.counted
    if choice.status != "valid":
        if choice.lacking:
            still = choice.need.lacking([sub.parameter for sub in counted])
            reasons.append(f"{standard.id} is not met: {still or choice.lacking + ' with a valid mean'}")
        reasons.extend(sub.reason for sub in counted if sub.reason)
    if not_counted:
        reasons.append(not_counted)
    index = max([sub.index for sub in counted])
    lo = hi = None
    if any(sub.imputed_share for sub in counted):
        lo = max([_low(sub) for sub in choice.means])
        hi = max([sub.index if sub.hi is None else sub.hi for sub in choice.means])
    category, colour = standard.look(index)
    low = standard.dominant_above is not None and index <= standard.dominant_above
    return IndexResult(
        standard.id,
        report,
        at_ms,
        index,
        category,
        colour,
        () if low else choice.leading,
        choice.status,
        "; ".join(reasons),
        sum([sub.imputed_share for sub in counted]) / len(counted),
        choice.shown,
        None,
        lo,
        hi,
    )


class _Casts(NamedTuple):
    """NowCasts of one pollutant for S stations; values in the unit of the table, NaN where not defined."""

    values: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]  # ends of their intervals, of the stations that have one
    high: npt.NDArray[np.float64]
    imputed_share: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]  # the newest hours that decide were measured, not imputed
    method: str | list[str]
    hours: npt.NDArray[np.int64]
    end_ms: npt.NDArray[np.int64]


def _nowcasts(
    standard: Standard,
    histories: Sequence[History],
    at_ms: Sequence[int],
    hours: averaging.Block,
    references: Sequence[float],
) -> list[Found]:
    """Per station the sub-indices of its NowCasts."""
    found: list[Found] = [[] for _ in histories]
    for parameter, rule in standard.nowcast.items():
        measure = standard.measure(parameter, rule.averaging)
        if rule.method == "epa-pm":
            casts, needed = _particles(standard, measure, hours, references), nowcast.PM_NEWEST_NEEDED
        else:
            casts, needed = _ozone(standard, measure, hours, histories, at_ms), 1
        status = np.where(casts.measured, VALID, INDICATIVE).astype(np.int8)
        imputed = f"{parameter} NowCast: its newest hours are imputed"
        reasons = ["" if measured else imputed for measured in casts.measured.tolist()]
        _add(
            measure, casts.method, casts.values, status, reasons, casts.imputed_share, casts.hours, needed,
            casts.end_ms, _Ends(hours.places, casts.low, casts.high), found,
        )  # fmt: skip
    return found


def _particles(
    standard: Standard, measure: Measure, hours: averaging.Block, references: Sequence[float]
) -> _Casts:
    column, full_s = COLUMN[measure.parameter], standard.hour_share * HOUR_MS / 1000
    newest = slice(-2, -2 - nowcast.PM_HOURS, -1)
    measured_s, imputed_s = hours.measured_s[newest, :, column].T, hours.imputed_s[newest, :, column].T
    present = measured_s + imputed_s >= full_s
    factors = _factors(standard, measure, references)
    values = hours.mean[newest, :, column].T
    cast = nowcast.particles(np.where(present, values, np.nan))
    places = hours.places
    weights = cast.weights[places].T
    persistence = hours.persistence[newest, :, column]
    below, above = hours.below[newest, :, column], hours.above[newest, :, column]
    low = np.maximum(cast.value[places] - of_mean(weights, below, persistence), 0.0)
    high = cast.value[places] + of_mean(weights, above, persistence)
    decides = (measured_s >= full_s)[:, : nowcast.PM_NEWEST].sum(axis=1) >= nowcast.PM_NEWEST_NEEDED
    imputed = np.where(present, imputed_s, 0).sum(axis=1)
    everything = np.where(present, measured_s, 0).sum(axis=1) + imputed
    return _Casts(
        cast.value * factors,
        low * factors[places],
        high * factors[places],
        imputed / np.maximum(everything, 1),
        decides,
        "nowcast",
        present.sum(axis=1),
        hours.end_ms,
    )


def _ozone(
    standard: Standard,
    measure: Measure,
    hours: averaging.Block,
    histories: Sequence[History],
    at_ms: Sequence[int],
) -> _Casts:
    column, full_s = COLUMN["o3"], standard.hour_share * HOUR_MS / 1000
    to_ppb = np.array(
        [
            factor("o3", CANONICAL_UNIT, "ppb", history.reference_celsius, standard.reference_celsius)
            for history in histories
        ]
    )
    newest = slice(-2, -3 - nowcast.OZONE_BACK, -1)
    measured_s, imputed_s = hours.measured_s[newest, :, column].T, hours.imputed_s[newest, :, column].T
    present = measured_s + imputed_s >= full_s
    back, station = present.argmax(axis=1), np.arange(len(histories))  # the newest hour that is there
    ppb = np.where(present.any(axis=1), hours.mean[newest, :, column][back, station] * to_ppb, np.nan)
    values = np.maximum(nowcast.surrogate(ppb), 0.0)
    places = hours.places
    low, high = (
        np.maximum(
            nowcast.surrogate(
                ppb[places] + reach[newest, :, column][back[places], np.arange(len(places))] * to_ppb[places]
            ),
            0.0,
        )
        for reach in (-hours.below, hours.above)
    )
    used_s = measured_s[station, back] + imputed_s[station, back]
    shares = imputed_s[station, back] / np.maximum(used_s, 1)
    measured = measured_s[station, back] >= full_s
    count, method = np.ones(len(histories), np.int64), ["nowcast-surrogate"] * len(histories)
    for place, (history, now) in enumerate(zip(histories, at_ms, strict=True)):
        if np.isnan(ppb[place]) or history.ozone_hours < nowcast.REGRESSION_NEEDED:
            continue
        long = history.ozone(now // HOUR_MS * HOUR_MS)
        filled = long.imputed_s.astype(np.int64)
        everything = long.measured_s + filled
        there = everything >= full_s
        if there.sum() < nowcast.REGRESSION_NEEDED:
            continue
        cast = nowcast.ozone(np.where(there, long.mean * to_ppb[place], np.nan))
        if cast is not None and cast.method == "regression":
            own = np.flatnonzero(places == place)
            if len(own):
                reach = (-long.below.astype(np.float64), long.above)
                low[own], high[own] = _regressed_ends(
                    [np.where(there, (long.mean + part) * to_ppb[place], np.nan) for part in reach],
                    cast.value,
                )
            window = slice(len(there) - cast.hours_back - nowcast.OZONE_HOURS, len(there) - cast.hours_back)
            values[place], method[place] = cast.value, "nowcast-regression"
            shares[place] = filled[window].sum() / max(int(everything[window].sum()), 1)
            count[place] = there[window].sum()
    scale = factor("o3", "ppb", measure.unit, standard.reference_celsius, standard.reference_celsius)
    return _Casts(
        values * scale,
        low * scale,
        high * scale,
        shares,
        measured,
        method,
        count,
        hours.end_ms - back * HOUR_MS,
    )


def _regressed_ends(series: Sequence[npt.NDArray[np.float64]], value: float) -> tuple[float, float]:
    """Ends of a regressed NowCast (ppb): the regressions of the ends, which may lie on either side of it."""
    casts = [cast.value for one in series if (cast := nowcast.ozone(one)) is not None]
    return min(value, *casts), max(value, *casts)
