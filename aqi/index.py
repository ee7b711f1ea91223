"""The regulatory index: concentrations and their history in, an explained result out. Never a bare number.

`assess` makes a running index at one time from a station's hourly history; `index_of` makes one directly from
concentrations that are already averaged; `aqi.subindex.subindices` is the bare table look-up over arrays.

`aqi.lead` has the rules of which means count.

The interval of an index is made of the means that count, and of nothing else: the highest of the indices of
their lower ends, and of their upper ends (`aqi.reach` says how far they are from the means). The lower end is
safe however pollutants hang together: the index is never less than that of any one of them. The upper end
supposes that they err together; were they independent, the highest of several upper ends would be passed a
little more often than one of them is.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from aqi import averaging, nowcast
from aqi.averaging import PERIODS, Averages
from aqi.casts import nowcasts
from aqi.errors import StandardError
from aqi.history import QUARTERS, History
from aqi.lead import Choice, Grounds, choose, low_of
from aqi.quality_defaults import defaults
from aqi.slots import COLUMN
from aqi.standards import AVERAGING_MS, Category, Measure, Standard
from aqi.subindex import Found, SubIndex, grade
from aqi.units import CANONICAL_UNIT, convert
from schemas.estimate import Status
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS, QUARTER_MS

#: Rows of hours that running means and the particle NowCast read: 24, one of lookback, the one in progress.
_HOUR_ROWS: Final = 24 + averaging.LOOKBACK + 1


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
    choice = choose(standard, found, Grounds(highest, highest), site)
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
        grade(standard, measure, means[measure.averaging], references, hours.places, found, longer)
    grounds = _grounds(histories, hours)
    results = []
    casts = nowcasts(standard, histories, at_ms, hours, references)
    for now, subs, ground, cast, recent in zip(
        at_ms, found, grounds, casts, _measured(hours, nowcast.PM_HOURS + 1), strict=True
    ):
        choice = choose(standard, subs, ground, site)
        result = _result(standard, name, now, choice)
        if standard.nowcast:
            # What was measured in the hours of the NowCast is not imputed from afar: it counts.
            chosen = choose(standard, cast, ground, None, recent)
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
        [name for name, there in zip(POLLUTANTS, flags, strict=True) if there]
        for flags in np.any(hours.measured_s[-rows:], axis=0).tolist()
    ]


def _no_nowcast(standard: Standard, running: Choice, cast: Choice, recent: Collection[str]) -> str:
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


def _result(
    standard: Standard, report: str, at_ms: int, choice: Choice, ignored: tuple[str, ...] = ()
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
        lo = max([low_of(sub) for sub in choice.means])
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
