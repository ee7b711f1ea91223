"""The regulatory index: concentrations and their history in, an explained result out. Never a bare number.

`assess` makes a running index at one time from a station's hourly history; `index_of` makes one directly from
concentrations that are already averaged; `subindices` is the bare table look-up over arrays.

Which numbers count: the index is the highest sub-index among the pollutants whose mean is *valid* (complete
and measured), when those satisfy what the standard asks for and no incomplete pollutant stands above them.
Otherwise every pollutant counts and the result is `indicative`, or `insufficient` when the highest of them
rests on fragments. Its reason says why.

The interval of an index that rests on imputed values is the index of the lower ends and that of the upper
ends: of every mean (`aqi.reach` says how far they are from it), looked up in the same tables, the highest
over the pollutants. The lower end is safe however pollutants hang together: the index is never
less than that of any one of them. The upper end supposes that they err together; were they independent, the
highest of several upper ends would be passed a little more often than one of them is.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aqi import averaging, nowcast
from aqi.averaging import INDICATIVE, INSUFFICIENT, PERIODS, VALID, Averages
from aqi.errors import StandardError
from aqi.history import COLUMN, HOUR_MS, QUARTER_MS, QUARTERS, History
from aqi.reach import of_mean
from aqi.standards import Category, Measure, Standard
from aqi.units import CANONICAL_UNIT, factor

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


#: Per pollutant the sub-index of its best-founded, then highest mean.
Found = dict[str, SubIndex]
#: More than any index that the tables extrapolate to.
_ABOVE_ANY: Final = 2**48


class _Ends:
    """What is found for the stations whose indices have an interval, with every mean at one of its ends.

    Per end, pollutant and station the grade and the index of the best-founded, then highest mean, as one
    number that sorts like the pair; -1 without any.
    """

    def __init__(self, hours: averaging.Block) -> None:
        self.places = hours.places
        self._best = np.full((2, len(COLUMN), len(self.places)), -1, np.int64)

    def add(
        self,
        measure: Measure,
        status: npt.NDArray[np.int8],
        low: npt.NDArray[np.float64],
        high: npt.NDArray[np.float64],
    ) -> None:
        """Looks the ends of the values of `places` up, as `_add` does the values; `status` is of all."""
        if not len(self.places):
            return
        indices = measure.indices(np.stack((low, high)))
        there = ~np.isnan(indices)
        found = (
            np.where(there, indices, 0).astype(np.int64) + status[self.places].astype(np.int64) * _ABOVE_ANY
        )
        best = self._best[:, COLUMN[measure.parameter]]
        np.maximum(best, np.where(there, found, -1), out=best)

    def each(self, count: int) -> "list[tuple[int, int] | None]":
        """Per station the highest index over the pollutants at both ends; None for those without any."""
        both: list[tuple[int, int] | None] = [None] * count
        ends = np.where(self._best < 0, -1, self._best % _ABOVE_ANY).max(axis=1)
        for place, low, high in zip(self.places.tolist(), *ends.tolist(), strict=True):
            both[place] = low, high
        return both


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
    subindices: tuple[SubIndex, ...]  # one per pollutant: the highest of its best-founded means
    nowcast: "IndexResult | None"  # of its own pollutants, where the standard has a NowCast
    lo: int | None = None  # ends of the 90 % interval; None where nothing that it rests on was imputed
    hi: int | None = None

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
    not a finite number or is negative.
    """
    found: Found = {}
    ignored = []
    for (parameter, period), value in concentrations.items():
        measure = standard.measure(parameter, period)
        if not 0 <= value < float("inf"):
            raise ValueError(
                f"{measure.key}: {value} is no concentration: give a finite number, zero or more"
            )
        index = measure.index(value)
        if index is None:
            least = measure.segments[0][0] * 10.0**-measure.digits
            ignored.append(f"{measure.key} is indexed from {least:g} {measure.unit} on only")
        elif parameter not in found or index > found[parameter].index:
            beyond = measure.quanta(value) > measure.segments[-1][1]
            found[parameter] = SubIndex(
                parameter, period, index, value, measure.unit, "valid", "", 0.0, 1, 1, 0, beyond
            )
    return _result(standard, standard.default_report, 0, found, site, None, None, tuple(ignored))


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
    found: list[Found] = [{} for _ in histories]
    ends = _Ends(hours)
    for measure in measures:
        _grade(standard, measure, means[measure.averaging], references, found, ends)
    nowcasts = _nowcasts(standard, histories, at_ms, hours, references, _Ends(hours))
    return [
        _result(standard, name, now, subs, site, cast, both)
        for now, subs, cast, both in zip(at_ms, found, nowcasts, ends.each(len(histories)), strict=True)
    ]


def _grade(
    standard: Standard,
    measure: Measure,
    means: Averages,
    references: Sequence[float],
    found: list[Found],
    ends: _Ends,
) -> None:
    """Adds the sub-index of one measure to what was found per station."""
    column = COLUMN[measure.parameter]
    status = means.status[:, column]
    factors = _factors(standard, measure, references)
    scale = factors[ends.places]
    ends.add(measure, status, means.low[:, column] * scale, means.high[:, column] * scale)
    _add(
        measure,
        measure.averaging,
        means.mean[:, column] * factors,
        status,
        _reasons(measure, status, means.counting[:, column], means.imputed_share[:, column]),
        means.imputed_share[:, column],
        means.counting[:, column],
        measure.slots_needed,
        means.end_ms[:, column],
        found,
    )


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
    found: list[Found],
) -> None:
    """Looks S values up and adds a sub-index to every station that has one."""
    indices = measure.indices(values)
    there = ~np.isnan(indices)  # not: no data, or so low that this table does not speak
    rows = zip(
        repeat(measure.parameter),
        repeat(averaged) if isinstance(averaged, str) else averaged,
        np.where(there, indices, 0).astype(np.int64).tolist(),
        values.tolist(),
        repeat(measure.unit),
        [_STATUS[grade] for grade in status.tolist()],
        reasons,
        imputed_share.tolist(),
        periods.tolist(),
        repeat(needed),
        end_ms.tolist(),
        measure.beyond(values).tolist(),
        strict=False,
    )
    for best, sub, ok in zip(found, map(SubIndex._make, rows), there.tolist(), strict=True):
        if ok:
            other = best.get(sub.parameter)
            if other is None or (_GRADE[sub.status], sub.index) > (_GRADE[other.status], other.index):
                best[sub.parameter] = sub


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


_GRADE: Final[dict[str, int]] = {"valid": VALID, "indicative": INDICATIVE, "insufficient": INSUFFICIENT}


def _result(
    standard: Standard,
    report: str,
    at_ms: int,
    found: Found,
    site: str | None,
    cast: "IndexResult | None",
    ends: tuple[int, int] | None = None,
    ignored: tuple[str, ...] = (),
) -> IndexResult:
    subs = tuple(found.values())
    if not subs:
        return IndexResult(
            standard.id, report, at_ms, None, None, None, (), "insufficient",
            "; ".join(ignored) or f"no data for any pollutant of {standard.id}", 0.0, (), cast,
        )  # fmt: skip
    need = standard.requires(site)
    valid = tuple([sub for sub in subs if sub.status == "valid"])
    reasons = list(ignored)
    lacking = need.lacking([sub.parameter for sub in valid])
    status: Status
    left_out = [sub for sub in subs if sub.status != "valid"]
    highest = max([sub.index for sub in subs])
    hidden = bool(left_out) and all(sub.index < highest for sub in valid)
    if not lacking and not hidden:
        counted, status = valid, "valid"
        if left_out:
            reasons.append(
                "not counted: " + "; ".join(f"{sub.parameter} {sub.index} ({sub.reason})" for sub in left_out)
            )
    else:
        # What is known least must not hide the worst: an hour of clean NO2 says nothing of the PM2.5 that
        # has no complete day yet. So everything counts, and the status says how much that is worth.
        counted = subs
        shaky = any(sub.status == "insufficient" for sub in subs if sub.index == highest)
        status = "insufficient" if shaky else "indicative"
        if lacking:
            still = need.lacking([sub.parameter for sub in subs])
            reasons.append(f"{standard.id} is not met: {still or lacking + ' with a valid mean'}")
        reasons.extend(sub.reason for sub in subs if sub.reason)
    index = highest
    lo = hi = None
    if ends is not None and any(sub.imputed_share for sub in subs):
        # Between two tables of a pollutant the better founded one wins, and at an end one of them may be mute
        # (EPA's 1-hour ozone below 0.125 ppm): an interval contains its index all the same.
        low, high = ends
        lo, hi = min(low if low >= 0 else index, index), max(high, index)
    category, colour = standard.look(index)
    low = standard.dominant_above is not None and index <= standard.dominant_above
    return IndexResult(
        standard.id,
        report,
        at_ms,
        index,
        category,
        colour,
        () if low else tuple([sub.parameter for sub in counted if sub.index == index]),
        status,
        "; ".join(reasons),
        sum([sub.imputed_share for sub in counted]) / len(counted),
        subs,
        cast,
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
    ends: _Ends,
) -> "list[IndexResult | None]":
    """Per station the index of its NowCasts; None where the standard has no NowCast or none is defined."""
    if not standard.nowcast:
        return [None] * len(histories)
    found: list[Found] = [{} for _ in histories]
    for parameter, rule in standard.nowcast.items():
        measure = standard.measure(parameter, rule.averaging)
        if rule.method == "epa-pm":
            casts, needed = _particles(standard, measure, hours, references), nowcast.PM_NEWEST_NEEDED
        else:
            casts, needed = _ozone(standard, measure, hours, histories, at_ms), 1
        status = np.where(casts.measured, VALID, INDICATIVE).astype(np.int8)
        ends.add(measure, status, casts.low, casts.high)
        imputed = f"{parameter} NowCast: its newest hours are imputed"
        reasons = ["" if measured else imputed for measured in casts.measured.tolist()]
        _add(
            measure, casts.method, casts.values, status, reasons, casts.imputed_share, casts.hours, needed,
            casts.end_ms, found,
        )  # fmt: skip
    return [
        _result(standard, "nowcast", now, subs, None, None, both) if subs else None
        for now, subs, both in zip(at_ms, found, ends.each(len(histories)), strict=True)
    ]


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
        if history.horizon_hours <= nowcast.OZONE_HOURS or np.isnan(ppb[place]):
            continue
        rows = min(history.horizon_hours, nowcast.OZONE_HOURS + nowcast.OZONE_BACK + 1)
        long = averaging.block([history], [now], rows, HOUR_MS, np.zeros(1, np.int64))
        real, filled = long.measured_s[:-1, 0, column], long.imputed_s[:-1, 0, column]
        there = real + filled >= full_s
        series = long.mean[:-1, 0, column]
        cast = nowcast.ozone(np.where(there, series * to_ppb[place], np.nan))
        if cast is not None and cast.method == "regression":
            own = np.flatnonzero(places == place)
            if len(own):
                reach = (-long.below[:-1, 0, column], long.above[:-1, 0, column])
                low[own], high[own] = _regressed_ends(
                    [np.where(there, (series + part) * to_ppb[place], np.nan) for part in reach], cast.value
                )
            window = slice(len(there) - cast.hours_back - nowcast.OZONE_HOURS, len(there) - cast.hours_back)
            values[place], method[place] = cast.value, "nowcast-regression"
            shares[place] = filled[window].sum() / max(int((real + filled)[window].sum()), 1)
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
