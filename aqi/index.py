"""The regulatory index: concentrations and their history in, an explained result out. Never a bare number.

`assess` makes a running index at one time from a station's hourly history; `index_of` makes one directly from
concentrations that are already averaged; `subindices` is the bare table look-up over arrays.

Which numbers count: the index is the highest sub-index among the pollutants whose mean is *valid* (complete and
measured), when those satisfy what the standard asks for. Otherwise all pollutants with an indicative mean count
too and the result is `indicative`; with nothing better than fragments it is `insufficient`. Its reason says why.
"""

from collections.abc import Mapping, Sequence
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

_STATUS: Final[dict[int, Status]] = {VALID: "valid", INDICATIVE: "indicative", INSUFFICIENT: "insufficient"}
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


class IndexResult(NamedTuple):
    """An index at `at_ms` with everything needed to judge it. `index` is None only when there is no data at all."""

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
    """Sub-indices of many concentrations in the unit of the table; NaN where missing or below what it indexes."""
    return standard.measure(parameter, averaging).indices(concentrations)


def index_of(
    standard: Standard,
    concentrations: Mapping[tuple[str, str], float],
    *,
    site: str | None = None,
) -> IndexResult:
    """The index of means that the caller vouches for: {(parameter, averaging): value in the table's unit}.

    StandardError for a (parameter, averaging) the standard has no table for, ValueError for a value that is not
    a finite number or is negative.
    """
    found = []
    for (parameter, period), value in concentrations.items():
        measure = standard.measure(parameter, period)
        if not 0 <= value < float("inf"):
            raise ValueError(
                f"{measure.key}: {value} is no concentration: give a finite number, zero or more"
            )
        index = measure.index(value)
        if index is not None:
            beyond = measure.quanta(value) > measure.segments[-1][1]
            found.append(
                SubIndex(parameter, period, index, value, measure.unit, "valid", "", 0.0, 1, 1, 0, beyond)
            )
    return _result(standard, standard.default_report, 0, found, site, None)


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
    found: list[list[SubIndex]] = [[] for _ in histories]
    for measure in measures:
        _grade(standard, measure, means[measure.averaging], references, found)
    nowcasts = _nowcasts(standard, histories, at_ms, hours, references)
    return [
        _result(standard, name, now, subs, site, cast)
        for now, subs, cast in zip(at_ms, found, nowcasts, strict=True)
    ]


def _grade(
    standard: Standard,
    measure: Measure,
    means: Averages,
    references: Sequence[float],
    found: list[list[SubIndex]],
) -> None:
    """Adds the sub-index of one measure to what was found per station."""
    column = COLUMN[measure.parameter]
    values = means.mean[:, column] * _factors(standard, measure, references)
    indices = measure.indices(values)
    top = measure.segments[-1][1] * 10.0**-measure.digits
    rows = zip(
        found,
        indices.tolist(),
        values.tolist(),
        means.status[:, column].tolist(),
        means.imputed_share[:, column].tolist(),
        means.counting[:, column].tolist(),
        means.end_ms[:, column].tolist(),
        strict=True,
    )
    parameter, period, unit, needed = measure.parameter, measure.averaging, measure.unit, measure.slots_needed
    for subs, index, value, status, imputed, counting, end_ms in rows:
        if index != index:  # NaN: no data, or so low that this table does not speak
            continue
        subs.append(
            SubIndex(
                parameter,
                period,
                int(index),
                value,
                unit,
                _STATUS[status],
                "" if status == VALID else _why(measure, status, counting, imputed),
                imputed,
                counting,
                needed,
                end_ms,
                value > top and measure.quanta(value) > measure.segments[-1][1],
            )
        )


def _factors(standard: Standard, measure: Measure, references: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(
        [
            factor(measure.parameter, CANONICAL_UNIT, measure.unit, reference, standard.reference_celsius)
            for reference in references
        ]
    )


def _why(measure: Measure, status: int, counting: int, imputed: float) -> str:
    period = "quarter hours" if measure.averaging == "15min" else "hours"
    length = PERIODS[measure.averaging][1]
    if status == INDICATIVE and counting >= measure.slots_needed:
        return f"{measure.key}: complete only with imputed values ({imputed:.0%} of its input)"
    if length == 1:
        return f"{measure.key}: no complete {period[:-1]} yet"
    return f"{measure.key}: {counting} of {length} {period}, {measure.slots_needed} needed"


_GRADE: Final[dict[str, int]] = {"valid": VALID, "indicative": INDICATIVE, "insufficient": INSUFFICIENT}


def _result(
    standard: Standard,
    report: str,
    at_ms: int,
    found: Sequence[SubIndex],
    site: str | None,
    cast: "IndexResult | None",
) -> IndexResult:
    best: dict[str, SubIndex] = {}
    for sub in found:
        other = best.get(sub.parameter)
        if other is None or (_GRADE[sub.status], sub.index) > (_GRADE[other.status], other.index):
            best[sub.parameter] = sub
    subs = tuple(best.values())
    if not subs:
        return IndexResult(
            standard.id, report, at_ms, None, None, None, (), "insufficient",
            f"no data for any pollutant of {standard.id}", 0.0, (), cast,
        )  # fmt: skip
    need = standard.requires(site)
    valid = [sub for sub in subs if sub.status == "valid"]
    reasons: list[str] = []
    lacking = need.lacking(frozenset(sub.parameter for sub in valid))
    status: Status
    if not lacking:
        counted, status = valid, "valid"
        left_out = [sub for sub in subs if sub.status != "valid"]
        if left_out:
            reasons.append(
                "not counted: " + "; ".join(f"{sub.parameter} {sub.index} ({sub.reason})" for sub in left_out)
            )
    else:
        counted = [sub for sub in subs if sub.status != "insufficient"]
        status = "indicative" if counted else "insufficient"
        counted = counted or list(subs)
        still = need.lacking(frozenset(sub.parameter for sub in counted))
        reasons.append(f"{standard.id} is not met: {still or lacking + ' with a valid mean'}")
        reasons.extend(sub.reason for sub in subs if sub.reason)
    index = max(sub.index for sub in counted)
    low = standard.dominant_above is not None and index <= standard.dominant_above
    return IndexResult(
        standard.id,
        report,
        at_ms,
        index,
        standard.category(index),
        standard.colour(index),
        () if low else tuple(sub.parameter for sub in counted if sub.index == index),
        status,
        "; ".join(reasons),
        sum(sub.imputed_share for sub in counted) / len(counted),
        subs,
        cast,
    )


def _nowcasts(
    standard: Standard,
    histories: Sequence[History],
    at_ms: Sequence[int],
    hours: averaging.Block,
    references: Sequence[float],
) -> "list[IndexResult | None]":
    """Per station the index of its NowCasts, None where the standard has no NowCast or none is defined now."""
    if not standard.nowcast:
        return [None] * len(histories)
    found: list[list[SubIndex]] = [[] for _ in histories]
    full_s = standard.hour_share * HOUR_MS / 1000
    everything = hours.measured_s + hours.imputed_s
    counts = everything >= full_s
    for parameter, rule in standard.nowcast.items():
        measure, column = standard.measure(parameter, rule.averaging), COLUMN[parameter]
        if rule.method == "epa-pm":
            newest = slice(-2, -2 - nowcast.PM_HOURS, -1)
            present, total = counts[:, newest, column], everything[:, newest, column]
            values = nowcast.particles(np.where(present, hours.mean[:, newest, column], np.nan)).value
            values = values * _factors(standard, measure, references)
            measured = hours.measured_s[:, newest, column] >= full_s
            certain = measured[:, : nowcast.PM_NEWEST].sum(axis=1) >= nowcast.PM_NEWEST_NEEDED
            shares = np.where(present, hours.imputed_s[:, newest, column], 0).sum(axis=1) / np.maximum(
                np.where(present, total, 0).sum(axis=1), 1
            )
            methods, ends, used = (
                ["nowcast"] * len(histories),
                hours.end_ms.tolist(),
                present.sum(axis=1).tolist(),
            )
        else:
            values, shares, certain, methods, ends, used = _ozone(measure, standard, histories, at_ms)
        rows = zip(
            found, measure.indices(values).tolist(), values.tolist(), shares.tolist(), certain.tolist(), methods, ends,
            used, strict=True,
        )  # fmt: skip
        for subs, index, value, share, sure, method, end_ms, count in rows:
            if index != index:
                continue
            status: Status = "valid" if sure else "indicative"
            reason = "" if sure else f"{parameter} NowCast: newest hours imputed"
            beyond = measure.quanta(value) > measure.segments[-1][1]
            subs.append(
                SubIndex(
                    parameter,
                    method,
                    int(index),
                    value,
                    measure.unit,
                    status,
                    reason,
                    share,
                    count,
                    2,
                    end_ms,
                    beyond,
                )
            )
    return [
        _result(standard, "nowcast", now, subs, None, None) if subs else None
        for now, subs in zip(at_ms, found, strict=True)
    ]


def _ozone(
    measure: Measure, standard: Standard, histories: Sequence[History], at_ms: Sequence[int]
) -> "tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_], list[str], list[int], list[int]]":
    values, shares = np.full(len(histories), np.nan), np.zeros(len(histories))
    certain = np.zeros(len(histories), dtype=bool)
    methods, ends, used = [""] * len(histories), [0] * len(histories), [0] * len(histories)
    column, full_s = COLUMN["o3"], standard.hour_share * HOUR_MS / 1000
    for station, (history, now) in enumerate(zip(histories, at_ms, strict=True)):
        # Regression reaches back 336 hours from the newest of the last three.
        rows = min(history.horizon_hours, nowcast.OZONE_HOURS + nowcast.OZONE_BACK + 1)
        periods = averaging.block([history], [now], rows, HOUR_MS)
        measured, imputed = periods.measured_s[0, :-1, column], periods.imputed_s[0, :-1, column]
        present = measured + imputed >= full_s
        to_ppb = factor("o3", CANONICAL_UNIT, "ppb", history.reference_celsius, standard.reference_celsius)
        cast = nowcast.ozone(np.where(present, periods.mean[0, :-1, column] * to_ppb, np.nan))
        if cast is None:
            continue
        ends[station] = int(periods.end_ms[0]) - cast.hours_back * HOUR_MS
        newest = len(measured) - 1 - cast.hours_back
        rest = slice(0, newest + 1) if cast.method == "regression" else slice(newest, newest + 1)
        seconds = int((measured + imputed)[rest].sum())
        shares[station] = float(imputed[rest].sum()) / max(seconds, 1)
        certain[station] = bool(measured[newest] >= full_s)
        used[station] = int(present[rest].sum())
        methods[station] = f"nowcast-{cast.method}"
        values[station] = cast.value * factor(
            "o3", "ppb", measure.unit, standard.reference_celsius, standard.reference_celsius
        )
    return values, shares, certain, methods, ends, used
