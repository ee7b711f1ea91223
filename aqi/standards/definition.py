"""A standard once it is read: exact integer tables.

A concentration is brought to whole *quanta* of 10**-digits of the measure's unit, by the standard's own rule
(truncate, round half up, round half to even) or, where the standard rounds nothing, to a millionth. From
there on everything is integer arithmetic, so no binary fraction can move an index: 0.078 ppm is 78 quanta.
Before the rule is applied, a value within 1e-12 (relative) of a whole quantum *is* that quantum: 0.07 ppm
that went through ug/m3 and came back as 0.06999999999999999 must not be truncated to 0.069.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aqi.errors import StandardError
from schemas.times import DAY_MS, HOUR_MS, QUARTER_MS

Rounding = Literal["truncate", "half_up", "half_even", "exact"]
IndexRounding = Literal["half_up", "up"]
Averaging = Literal["15min", "1h", "8h", "24h"]

#: Length of an averaging period in milliseconds.
AVERAGING_MS: Final[dict[str, int]] = {"15min": QUARTER_MS, "1h": HOUR_MS, "8h": 8 * HOUR_MS, "24h": DAY_MS}
#: Digits kept where a standard rounds no concentration.
EXACT_DIGITS: Final = 6
#: A value this close to a whole quantum, relatively, is that quantum.
SNAP: Final = 1e-12
#: Largest count of quanta that still leaves the integer arithmetic exact in 64 bits; more is taken as this.
MOST_QUANTA: Final = 10**13


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
