"""What a standard's data file may say, and the standard that it makes."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from aqi.errors import StandardError
from aqi.standards.definition import (
    AVERAGING_MS,
    EXACT_DIGITS,
    Averaging,
    Category,
    IndexRounding,
    Measure,
    NowCastRule,
    Requirement,
    Rounding,
    Standard,
)
from aqi.units import factor


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _to_decimal(number: object) -> object:
    # tomllib is told to read floats as Decimal; whole numbers arrive as int.
    return Decimal(number) if isinstance(number, int) and not isinstance(number, bool) else number


Number = Annotated[Decimal, BeforeValidator(_to_decimal)]


class _MeasureFile(_Table):
    parameter: str
    averaging: Averaging
    unit: str
    rounding: Rounding
    digits: int | None = Field(default=None, ge=0, le=EXACT_DIGITS)
    segments: tuple[tuple[Number, Number, int, int], ...] = ()
    bands: tuple[Number, ...] = ()
    between: Literal["upper"] | None = None
    above: Literal["extrapolate"] | int | None = None
    below: Literal["ignore"] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "_MeasureFile":
        if bool(self.segments) == bool(self.bands):
            raise ValueError("give either `segments` (linear) or `bands` (steps), not both and not neither")
        if (self.rounding == "exact") != (self.digits is None):
            raise ValueError('give `digits` unless rounding = "exact", which takes none')
        if self.segments and self.above is None:
            raise ValueError('say with `above` what holds beyond the last segment: "extrapolate" or an index')
        if self.bands and (self.above is not None or self.below is not None or self.between is not None):
            raise ValueError("`bands` take no `above`, `below` or `between`: the last band has no end")
        return self


class _CategoryFile(_Table):
    key: str
    low: int
    high: int | None = None
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$")
    colour_vision_assist: str | None = Field(default=None, pattern=r"^#[0-9a-f]{6}$")
    name: dict[str, str]
    advice: dict[str, str]

    @model_validator(mode="after")
    def _english(self) -> "_CategoryFile":
        if "en" not in self.name or "en" not in self.advice:
            raise ValueError(
                "`name.en` and `advice.en` must be there: English is what other languages fall back to"
            )
        return self


class _IndexFile(_Table):
    kind: Literal["linear", "bands"]
    rounding: IndexRounding | None = None
    minimum: int = 0
    maximum_defined: int
    dominant_above: int | None = None
    colours: tuple[Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")], ...] = ()


class _RequireFile(_Table):
    pollutants: int = 1
    all_of: tuple[str, ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()


class _ReportFile(_Table):
    measures: tuple[str, ...] = Field(min_length=1)


class _NowCastFile(_Table):
    method: Literal["epa-pm", "epa-o3"]
    table: Averaging


class _HealthFile(_Table):
    source: str
    source_url: str


class _StandardFile(_Table):
    id: str = Field(pattern=r"^[a-z0-9-]+$")
    name: str
    edition: str
    in_force: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    source: str
    source_url: str
    reference_celsius: Number
    index: _IndexFile
    completeness: dict[str, Number]
    require: _RequireFile = _RequireFile()
    require_by_site: dict[str, _RequireFile] = {}
    reports: dict[str, _ReportFile] = Field(min_length=1)
    nowcast: dict[str, _NowCastFile] = {}
    health: _HealthFile
    category: tuple[_CategoryFile, ...] = Field(min_length=1)
    measure: tuple[_MeasureFile, ...] = Field(min_length=1)


def build(data: Mapping[str, Any], where: str) -> Standard:
    """The standard that the parsed data file `where` describes. StandardError says what is wrong in it."""
    try:
        read = _StandardFile.model_validate(data)
    except ValidationError as refused:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in error['loc']) or 'file'}: {error['msg']}"
            for error in refused.errors()
        )
        raise StandardError(f"{where}: {problems}") from refused
    categories = tuple(
        Category(c.key, c.low, c.high, c.colour, c.colour_vision_assist, c.name, c.advice)
        for c in read.category
    )
    _check_categories(categories, where)
    hour_share = read.completeness.get("hour")
    if hour_share is None or not 0 < hour_share <= 1:
        raise StandardError(
            f"{where}: completeness.hour must be the share of an hour (0 to 1) that makes it count"
        )
    measures: dict[str, Measure] = {}
    for number, table in enumerate(read.measure, 1):
        measure = _measure(table, read, f"{where}: measure {number} ({table.parameter} {table.averaging})")
        if measure.key in measures:
            raise StandardError(f"{where}: two tables for {measure.key}: keep one")
        measures[measure.key] = measure
    _check_categories_cover(categories, measures.values(), where)
    if read.index.colours and len(read.index.colours) != read.index.maximum_defined:
        raise StandardError(
            f"{where}: index.colours has {len(read.index.colours)} entries, one per index to "
            f"{read.index.maximum_defined} is needed"
        )
    reports: dict[str, tuple[Measure, ...]] = {}
    for name, report in read.reports.items():
        unknown = [key for key in report.measures if key not in measures]
        if unknown:
            raise StandardError(
                f"{where}: reports.{name} names {', '.join(unknown)}, which no [[measure]] defines"
            )
        reports[name] = tuple(measures[key] for key in report.measures)
    for parameter, rule in read.nowcast.items():
        if f"{parameter}_{rule.table}" not in measures:
            raise StandardError(
                f"{where}: nowcast.{parameter} is looked up in a {rule.table} table that is not there"
            )
    return Standard(
        id=read.id,
        name=read.name,
        edition=read.edition,
        in_force=read.in_force,
        source=read.source,
        source_url=read.source_url,
        health_source=read.health.source,
        health_source_url=read.health.source_url,
        reference_celsius=float(read.reference_celsius),
        kind=read.index.kind,
        maximum_defined=read.index.maximum_defined,
        dominant_above=read.index.dominant_above,
        hour_share=float(hour_share),
        categories=categories,
        colours=read.index.colours,
        measures=measures,
        reports=reports,
        nowcast={p: NowCastRule(rule.method, rule.table) for p, rule in read.nowcast.items()},
        requirement=_requirement(read.require),
        requirement_by_site={site: _requirement(need) for site, need in read.require_by_site.items()},
    )


def _requirement(need: _RequireFile) -> Requirement:
    return Requirement(need.pollutants, need.all_of, need.any_of)


def _check_categories(categories: tuple[Category, ...], where: str) -> None:
    for before, after in pairwise(categories):
        if before.high is None or after.low != before.high + 1:
            raise StandardError(
                f"{where}: category {after.key} starts at {after.low}, {before.key} ends at {before.high}: "
                "categories must follow each other without gap or overlap"
            )
    if categories[-1].high is not None:
        raise StandardError(f"{where}: the last category, {categories[-1].key}, must have no `high`")


def _check_categories_cover(
    categories: tuple[Category, ...], measures: Iterable[Measure], where: str
) -> None:
    lowest = min(max(m.segments[0][2], m.index_minimum) for m in measures)
    if lowest < categories[0].low:
        raise StandardError(
            f"{where}: tables reach down to index {lowest}, the first category starts at {categories[0].low}"
        )


def _measure(table: _MeasureFile, read: _StandardFile, where: str) -> Measure:
    try:
        factor(table.parameter, table.unit, table.unit, 25.0, 25.0)
    except Exception as refused:
        raise StandardError(f"{where}: {refused}") from refused
    digits = EXACT_DIGITS if table.digits is None else table.digits
    kind = read.index.kind
    if (kind == "linear") != bool(table.segments):
        raise StandardError(
            f"{where}: index.kind is {kind!r}: use `{'segments' if kind == 'linear' else 'bands'}`"
        )
    if kind == "linear" and read.index.rounding is None:
        raise StandardError(f'{where}: a linear index needs index.rounding, "half_up" or "up"')
    segments: tuple[tuple[int, int, int, int], ...]
    if table.bands:
        edges = [_whole(edge, digits, where) for edge in table.bands]
        if any(b <= a for a, b in pairwise(edges)):
            raise StandardError(f"{where}: bands must rise")
        segments = tuple(
            (low, high, place, place)
            for place, (low, high) in enumerate(zip([0, *edges], edges, strict=False), 1)
        )
        above: int | None = len(edges) + 1
        if above != read.index.maximum_defined:
            raise StandardError(
                f"{where}: {len(edges)} bounds make {above} bands, index.maximum_defined says otherwise"
            )
    else:
        segments = tuple(
            (_whole(low, digits, where), _whole(high, digits, where), first, last)
            for low, high, first, last in table.segments
        )
        _check_segments(segments, table, where)
        above = table.above if isinstance(table.above, int) else None
        if above is not None and above < segments[-1][3]:
            raise StandardError(
                f"{where}: `above` is {above}, lower than the {segments[-1][3]} that the table ends with"
            )
    slots = 1
    if table.averaging in ("8h", "24h"):
        declared = read.completeness.get(table.averaging)
        hours = AVERAGING_MS[table.averaging] // AVERAGING_MS["1h"]
        if declared is None or declared != int(declared) or not 1 <= declared <= hours:
            raise StandardError(
                f'{where}: completeness."{table.averaging}" must say how many of {hours} hours are needed'
            )
        slots = int(declared)
    return Measure(
        parameter=table.parameter,
        averaging=table.averaging,
        unit=table.unit,
        rounding=table.rounding if table.rounding != "exact" else "half_even",
        digits=digits,
        segments=segments,
        above=above,
        ignore_below=table.below == "ignore",
        index_rounding=read.index.rounding or "half_up",
        index_minimum=read.index.minimum,
        slots_needed=slots,
        slots_indicative=math.ceil(slots / 2),
    )


def _check_segments(segments: tuple[tuple[int, int, int, int], ...], table: _MeasureFile, where: str) -> None:
    for low, high, first, last in segments:
        if not (low < high and first < last):
            raise StandardError(f"{where}: segment {first}-{last} must rise in concentration and in index")
    for (_, before, _, last), (after, _, first, _) in pairwise(segments):
        if after < before or first < last:
            raise StandardError(f"{where}: segment starting at index {first} overlaps the one before it")
        # In whole quanta nothing lies between n and n+1; a wider gap needs a stated rule.
        if after > before + 1 and table.between is None:
            raise StandardError(
                f"{where}: nothing covers the concentrations just below index {first}: "
                'close the gap or say between = "upper"'
            )
    if segments[0][0] != 0 and table.below is None:
        raise StandardError(f'{where}: the table starts above zero: say below = "ignore" or start it at 0')


def _whole(edge: Decimal, digits: int, where: str) -> int:
    scaled = edge.scaleb(digits)
    if scaled != scaled.to_integral_value():
        raise StandardError(f"{where}: {edge} has more than {digits} digits after the point")
    return int(scaled)
