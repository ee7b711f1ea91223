"""The regulatory index: concentrations and their history in, an explained result out. Never a bare number.

`assess` makes a running index at one time from a station's hourly history; `index_of` makes one directly from
concentrations that are already averaged; `subindices` is the bare table look-up over arrays.

Which numbers count: the index is the highest sub-index among the pollutants whose mean is *valid* (complete
and measured), when those satisfy what the standard asks for and no incomplete pollutant stands above them.
Otherwise every pollutant counts and the result is `indicative`, or `insufficient` when the highest of them
rests on fragments. Its reason says why.
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
    return _result(standard, standard.default_report, 0, found, site, None, tuple(ignored))


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
            periods = hours if slot_ms == HOUR_MS else averaging.block(histories, at_ms, QUARTERS, QUARTER_MS)
            means[measure.averaging] = averaging.running(
                periods, length, measure.slots_needed, standard.hour_share
            )
    references = [history.reference_celsius for history in histories]
    found: list[Found] = [{} for _ in histories]
    for measure in measures:
        _grade(standard, measure, means[measure.averaging], references, found)
    nowcasts = _nowcasts(standard, histories, at_ms, hours, references)
    return [
        _result(standard, name, now, subs, site, cast)
        for now, subs, cast in zip(at_ms, found, nowcasts, strict=True)
    ]


def _grade(
    standard: Standard, measure: Measure, means: Averages, references: Sequence[float], found: list[Found]
) -> None:
    """Adds the sub-index of one measure to what was found per station."""
    column = COLUMN[measure.parameter]
    status = means.status[:, column]
    _add(
        measure,
        measure.averaging,
        means.mean[:, column] * _factors(standard, measure, references),
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
    )


class _Casts(NamedTuple):
    """NowCasts of one pollutant for S stations; values in the unit of the table, NaN where not defined."""

    values: npt.NDArray[np.float64]
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
        imputed = f"{parameter} NowCast: its newest hours are imputed"
        reasons = ["" if measured else imputed for measured in casts.measured.tolist()]
        _add(
            measure, casts.method, casts.values, status, reasons, casts.imputed_share, casts.hours, needed,
            casts.end_ms, found,
        )  # fmt: skip
    return [
        _result(standard, "nowcast", now, subs, None, None) if subs else None
        for now, subs in zip(at_ms, found, strict=True)
    ]


def _particles(
    standard: Standard, measure: Measure, hours: averaging.Block, references: Sequence[float]
) -> _Casts:
    column, full_s = COLUMN[measure.parameter], standard.hour_share * HOUR_MS / 1000
    newest = slice(-2, -2 - nowcast.PM_HOURS, -1)
    measured_s, imputed_s = hours.measured_s[newest, :, column].T, hours.imputed_s[newest, :, column].T
    present = measured_s + imputed_s >= full_s
    cast = nowcast.particles(np.where(present, hours.mean[newest, :, column].T, np.nan))
    decides = (measured_s >= full_s)[:, : nowcast.PM_NEWEST].sum(axis=1) >= nowcast.PM_NEWEST_NEEDED
    imputed = np.where(present, imputed_s, 0).sum(axis=1)
    everything = np.where(present, measured_s, 0).sum(axis=1) + imputed
    return _Casts(
        cast.value * _factors(standard, measure, references),
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
    used_s = measured_s[station, back] + imputed_s[station, back]
    shares = imputed_s[station, back] / np.maximum(used_s, 1)
    measured = measured_s[station, back] >= full_s
    count, method = np.ones(len(histories), np.int64), ["nowcast-surrogate"] * len(histories)
    for place, (history, now) in enumerate(zip(histories, at_ms, strict=True)):
        if history.horizon_hours <= nowcast.OZONE_HOURS or np.isnan(ppb[place]):
            continue
        rows = min(history.horizon_hours, nowcast.OZONE_HOURS + nowcast.OZONE_BACK + 1)
        long = averaging.block([history], [now], rows, HOUR_MS)
        real, filled = long.measured_s[:-1, 0, column], long.imputed_s[:-1, 0, column]
        there = real + filled >= full_s
        cast = nowcast.ozone(np.where(there, long.mean[:-1, 0, column] * to_ppb[place], np.nan))
        if cast is not None and cast.method == "regression":
            window = slice(len(there) - cast.hours_back - nowcast.OZONE_HOURS, len(there) - cast.hours_back)
            values[place], method[place] = cast.value, "nowcast-regression"
            shares[place] = filled[window].sum() / max(int((real + filled)[window].sum()), 1)
            count[place] = there[window].sum()
    scale = factor("o3", "ppb", measure.unit, standard.reference_celsius, standard.reference_celsius)
    return _Casts(values * scale, shares, measured, method, count, hours.end_ms - back * HOUR_MS)
