"""What a standard's data file may say, and the form it takes once read: exact integer tables.

A concentration is brought to whole *quanta* of 10**-digits of the measure's unit, by the standard's own rule
(truncate, round half up, round half to even) or, where the standard rounds nothing, to a millionth. From
there on everything is integer arithmetic, so no binary fraction can move an index: 0.078 ppm is 78 quanta.
Before the rule is applied, a value within 1e-12 (relative) of a whole quantum *is* that quantum: 0.07 ppm
that went through ug/m3 and came back as 0.06999999999999999 must not be truncated to 0.069.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from aqi.errors import StandardError
from aqi.units import factor

Rounding = Literal["truncate", "half_up", "half_even", "exact"]
IndexRounding = Literal["half_up", "up"]
Averaging = Literal["15min", "1h", "8h", "24h"]

#: Length of an averaging period in milliseconds.
AVERAGING_MS: Final[dict[str, int]] = {"15min": 900_000, "1h": 3_600_000, "8h": 28_800_000, "24h": 86_400_000}
#: Digits kept where a standard rounds no concentration.
EXACT_DIGITS: Final = 6
#: A value this close to a whole quantum, relatively, is that quantum.
SNAP: Final = 1e-12
#: Largest count of quanta that still leaves the integer arithmetic exact in 64 bits; more is taken as this.
MOST_QUANTA: Final = 10**13


# --- the file ---------------------------------------------------------------------------------------------


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


# --- what is read from it ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Category:
    """A named range of the index. `high` is None for the last one, which has no end."""

    key: str
    low: int
    high: int | None
    colour: str
    colour_vision_assist: str | None
    names: Mapping[str, str]
    advices: Mapping[str, str]

    @property
    def name(self) -> str:
        """The English name."""
        return self.names["en"]

    def label(self, language: str = "en") -> str:
        """The name in `language`, in English where the data file has no such language."""
        return self.names.get(language, self.names["en"])

    def advice(self, language: str = "en") -> str:
        """One line of health advice, in English where the data file has no such language."""
        return self.advices.get(language, self.advices["en"])


@dataclass(frozen=True, slots=True)
class Requirement:
    """Which pollutants an index needs: how many, every one of `all_of`, and one of each group in `any_of`."""

    pollutants: int
    all_of: tuple[str, ...]
    any_of: tuple[tuple[str, ...], ...]

    def lacking(self, present: Sequence[str]) -> str:
        """In words, what `present` (parameters with a usable sub-index) lacks; empty when nothing."""
        if len(present) >= self.pollutants and not self.all_of and not self.any_of:
            return ""
        lacks = []
        if len(present) < self.pollutants:
            lacks.append(f"{len(present)} of at least {self.pollutants} pollutants")
        missing = [parameter for parameter in self.all_of if parameter not in present]
        if missing:
            lacks.append("no " + " and no ".join(missing))
        lacks.extend(
            f"none of {' or '.join(group)}" for group in self.any_of if not set(present) & set(group)
        )
        return ", ".join(lacks)


@dataclass(frozen=True, slots=True)
class NowCastRule:
    """Which NowCast a pollutant has and the averaging whose table its result is looked up in."""

    method: Literal["epa-pm", "epa-o3"]
    averaging: Averaging


@dataclass(frozen=True)
class Measure:
    """The table of one (parameter, averaging) of a standard, in whole quanta of 10**-digits `unit`.

    `segments` are (c_low, c_high, index_low, index_high); a step table has index_low == index_high.
    `above` is what holds beyond the last segment: None extrapolates its line, a number is a fixed index.
    `ignore_below` says that a concentration under the first segment has no sub-index at all (EPA's 1-hour
    ozone below 0.125 ppm), not a low one.
    """

    parameter: str
    averaging: Averaging
    unit: str
    rounding: Rounding
    digits: int
    segments: tuple[tuple[int, int, int, int], ...]
    above: int | None
    ignore_below: bool
    index_rounding: IndexRounding
    index_minimum: int
    slots_needed: int
    slots_indicative: int

    @property
    def key(self) -> str:
        """Name in reports and on the command line: `o3_8h`."""
        return f"{self.parameter}_{self.averaging}"

    @cached_property
    def _arrays(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Upper edges, and per segment (plus one for beyond) origin, first index, rise and run."""
        rows = list(self.segments)
        if self.above is None:
            rows.append(rows[-1])
        else:
            rows.append((rows[-1][1], rows[-1][1] + 1, self.above, self.above))
        table = np.array(rows, dtype=np.int64)
        upper = table[:-1, 1].copy()
        run = np.maximum(table[:, 1] - table[:, 0], 1)
        return upper, table[:, 0].copy(), table[:, 2].copy(), table[:, 3] - table[:, 2], run

    def quanta(self, value: float | Decimal) -> int:
        """`value` (in `unit`) in whole quanta by the standard's rounding rule; negatives are zero. Exact."""
        exact = value if isinstance(value, Decimal) else Decimal(value)
        if exact.is_nan():
            raise ValueError("a missing value has no quanta")
        if exact <= 0:
            return 0
        if exact >= Decimal(MOST_QUANTA).scaleb(-self.digits):
            return MOST_QUANTA
        scaled = exact.scaleb(self.digits)
        whole = int(scaled.to_integral_value(rounding="ROUND_FLOOR"))
        part = scaled - whole
        slack = Decimal(SNAP) * max(Decimal(1), scaled)
        if part <= slack:
            return whole
        if 1 - part <= slack:
            return whole + 1
        if self.rounding == "truncate":
            return whole
        off_half = part - Decimal("0.5")
        if abs(off_half) <= slack:  # a half that binary fractions may have moved
            return whole + (1 if self.rounding == "half_up" else whole % 2)
        return whole + (1 if off_half > 0 else 0)

    def index(self, value: float | Decimal) -> int | None:
        """Sub-index of one concentration in `unit`; None where the table ignores so low a value. Exact."""
        quanta = self.quanta(value)
        if self.ignore_below and quanta < self.segments[0][0]:
            return None
        for low, high, first, last in self.segments:
            if quanta <= high:
                # Between two bands the concentration belongs to the upper one and gets its lowest index.
                return max(
                    self._round((last - first) * (max(quanta, low) - low), high - low, first),
                    self.index_minimum,
                )
        if self.above is not None:
            return self.above
        low, high, first, last = self.segments[-1]
        return self._round((last - first) * (quanta - low), high - low, first)

    def beyond(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which `values` (in `unit`) lie above the last concentration that the table has an index for."""
        top = self.segments[-1][1]
        high: npt.NDArray[np.bool_] = values * 10.0**self.digits > top * (1 - 1e-6)
        for place in np.flatnonzero(high):
            high[place] = self.quanta(float(values[place])) > top
        return high

    def _round(self, rise: int, run: int, first: int) -> int:
        if run == 0 or rise == 0:
            return first
        if self.index_rounding == "up":
            return first - (-rise // run)
        return first + (2 * rise + run) // (2 * run)

    def indices(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Sub-indices of concentrations in `unit`, NaN where missing or ignored; equal to `index`."""
        array = np.asarray(values, dtype=np.float64)
        flat = np.atleast_1d(array).ravel()
        missing = np.isnan(flat)
        scaled = (
            np.clip(np.where(missing, 0.0, flat), 0.0, MOST_QUANTA * 10.0**-self.digits) * 10.0**self.digits
        )
        whole = np.floor(scaled)
        part = scaled - whole
        slack = SNAP * np.maximum(1.0, scaled)
        quanta = whole.astype(np.int64)
        below = part <= slack
        above = 1.0 - part <= slack
        off_half = part - 0.5
        if self.rounding == "truncate":
            up = above
        elif self.rounding == "half_up":
            up = ~below & (off_half >= -slack)
        else:
            up = ~below & ((off_half > slack) | ((np.abs(off_half) <= slack) & (quanta % 2 == 1)))
        quanta += up & ~below
        # Scaling and subtracting in binary are off by at most a few ulp of `scaled`; where that could decide,
        # ask the decimal path. Such values do not occur by chance: they sit on the border of the slack
        # itself.
        doubt = 8.0 * np.finfo(np.float64).eps * np.maximum(1.0, scaled)
        borders = (np.abs(part - slack), np.abs(1.0 - part - slack), np.abs(np.abs(off_half) - slack))
        for place in np.flatnonzero(np.minimum.reduce(borders) <= doubt):
            if not missing[place]:
                quanta[place] = self.quanta(float(flat[place]))
        result = self._of_quanta(quanta)
        result[missing] = np.nan
        return result.reshape(array.shape)

    def _of_quanta(self, quanta: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        upper, origin, first, rise, run = self._arrays
        segment = np.searchsorted(upper, quanta, side="left")
        start = origin[segment]
        up = rise[segment] * (np.maximum(quanta, start) - start)
        width = run[segment]
        if self.index_rounding == "up":
            index = first[segment] - (-up // width)
        else:
            index = first[segment] + (2 * up + width) // (2 * width)
        result = np.maximum(index, self.index_minimum).astype(np.float64)
        if self.ignore_below:
            result[quanta < origin[0]] = np.nan
        return result


@dataclass(frozen=True)
class Standard:
    """An air-quality index as one edition of one document defines it."""

    id: str
    name: str
    edition: str
    in_force: str
    source: str
    source_url: str
    health_source: str
    health_source_url: str
    reference_celsius: float
    kind: Literal["linear", "bands"]
    maximum_defined: int
    dominant_above: int | None
    hour_share: float
    categories: tuple[Category, ...]
    colours: tuple[str, ...]
    measures: Mapping[str, Measure]
    reports: Mapping[str, tuple[Measure, ...]]
    nowcast: Mapping[str, NowCastRule]
    requirement: Requirement
    requirement_by_site: Mapping[str, Requirement] = field(default_factory=dict)

    @property
    def default_report(self) -> str:
        """The report that a running index makes: the first one the data file names."""
        return next(iter(self.reports))

    @cached_property
    def _looks(self) -> dict[int, tuple[Category, str]]:
        """Category and colour of the indices that occur: every one up to a bit beyond the defined scale."""
        lowest = self.categories[0].low
        return {i: (self.category(i), self.colour(i)) for i in range(lowest, 2 * self.maximum_defined)}

    def look(self, index: int) -> tuple[Category, str]:
        """(`category(index)`, `colour(index)`), from a table."""
        return self._looks.get(index) or (self.category(index), self.colour(index))

    def category(self, index: int) -> Category:
        """The category that `index` lies in. ValueError for an index below the scale."""
        for category in self.categories:
            if category.low <= index and (category.high is None or index <= category.high):
                return category
        raise ValueError(f"{self.id} has no index {index}: the scale starts at {self.categories[0].low}")

    def colour(self, index: int) -> str:
        """#rrggbb of `index`: that of its category, or finer where the standard has one colour per index."""
        if self.colours:
            return self.colours[min(max(index, 1), len(self.colours)) - 1]
        return self.category(index).colour

    def measure(self, parameter: str, averaging: str) -> Measure:
        """The table of (parameter, averaging). StandardError names those that exist."""
        try:
            return self.measures[f"{parameter}_{averaging}"]
        except KeyError:
            raise StandardError(
                f"{self.id} has no table for {parameter} over {averaging}: it has {', '.join(self.measures)}"
            ) from None

    def requires(self, site: str | None = None) -> Requirement:
        """What a valid index of a station of kind `site` needs (EAQI asks less of `traffic` stations)."""
        return self.requirement_by_site.get(site, self.requirement) if site is not None else self.requirement


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
