"""From quantiles of concentrations to an index and its categories, hour by hour.

An index is made of means over hours or a day. What a forecast says of an hour is put on the scale as if it
lasted: in the table of the standard's NowCast where it has one, else the hourly one, else its first.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aqi import standards
from aqi.membership import degrees
from aqi.standards import Measure, Standard
from aqi.units import CANONICAL_UNIT, factor
from forecast.panel import QUANTILES
from schemas.arrays import Float32, Float64
from schemas.forecast import IndexForecast
from schemas.parameters import POLLUTANTS

_LEVELS: Final = (0.0, *QUANTILES, 1.0)
#: Quantiles closer together are one, ug/m3.
_NARROW: Final = 1e-9
#: What no air holds, ug/m3: some tables have no end for categories that a pollutant alone does not reach.
_BEYOND: Final = 1e6
_LOW, _MEDIAN, _HIGH = 0, QUANTILES.index(0.5), len(QUANTILES) - 1


@dataclass(frozen=True)
class _PollutantScale:
    """A pollutant's table, in ug/m3 times `factor`; `edges`: where categories but the last end, ug/m3."""

    column: int
    measure: Measure
    factor: float
    edges: tuple[float, ...]


def graded(
    said: Float32, leading: NDArray[np.bool_], standard: Standard, reference_celsius: float
) -> list[IndexForecast | None]:
    """Of each station, from (stations, hours, pollutants, 8) in ug/m3 at `reference_celsius`; `leading`
    (stations, pollutants): those that make its index. None where the standard has none of these.

    The index is the highest of the pollutants', as are its ends. That no pollutant is beyond a category is as
    probable as it is of the one that is likeliest to be: they are taken to rise and fall together. How far
    the index belongs to each category is that of the index alone, as in alerts: how sure it is says the rest.
    """
    scales = _scales(standard.id, reference_celsius)
    last = len(standard.categories) - 1
    below = np.ones((last, *said.shape[:2]))
    indices = np.full((3, *said.shape[:2]), np.nan)
    has = np.zeros(said.shape[0], np.bool_)
    for scale in scales:
        counts = leading[:, scale.column]
        has |= counts
        quantiles = said[:, :, scale.column, :-1].astype(np.float64)
        for row, level in enumerate((_LOW, _MEDIAN, _HIGH)):
            found = scale.measure.indices(quantiles[..., level] * scale.factor)
            indices[row] = np.fmax(indices[row], np.where(counts[:, None], found, np.nan))
        for category, edge in enumerate(scale.edges):
            share = np.where(counts[:, None], share_below(quantiles, edge), 1.0)
            below[category] = np.minimum(below[category], share)
    cumulative = np.concatenate([below, np.ones((1, *said.shape[:2]))])
    cumulative = np.maximum.accumulate(cumulative, axis=0)
    probabilities = np.round(np.diff(cumulative, axis=0, prepend=0.0), 4)
    belongs = degrees(standard.id, indices[1])
    names = tuple(category.name for category in standard.categories)
    return [
        IndexForecast(
            standard=standard.id, lo=_whole(indices[0, row]), index=_whole(indices[1, row]),
            hi=_whole(indices[2, row]), categories=names,
            probabilities=tuple(tuple(probabilities[category, row].tolist()) for category in range(last + 1)),
            membership=tuple(tuple(belongs[category, row].tolist()) for category in range(last + 1)),
        )
        if has[row]
        else None
        for row in range(said.shape[0])
    ]  # fmt: skip


def category_edges(edition: str, reference_celsius: float) -> dict[int, tuple[float, ...]]:
    """Where the categories of each pollutant (its column) end, ug/m3, those that it reaches."""
    return {
        scale.column: tuple(edge for edge in scale.edges if edge < _BEYOND)
        for scale in _scales(edition, reference_celsius)
    }


def share_below(quantiles: Float64, edge: float) -> Float64:
    """How probable it is that a value is not above `edge`, from its quantiles (..., 7).

    Straight lines between them, and beyond the outer ones as far again as the median is from them.
    """
    median = quantiles[..., _MEDIAN : _MEDIAN + 1]
    bottom = np.maximum(2 * quantiles[..., :1] - median, 0.0)
    ends = np.concatenate([bottom, quantiles, 2 * quantiles[..., -1:] - median], axis=-1)
    share = np.zeros(quantiles.shape[:-1])
    for place in range(len(_LEVELS) - 1):
        low, high = ends[..., place], ends[..., place + 1]
        wide = high - low
        along = np.where(wide > _NARROW, (edge - low) / np.where(wide > _NARROW, wide, 1.0), 1.0)
        part = _LEVELS[place] + (_LEVELS[place + 1] - _LEVELS[place]) * np.clip(along, 0.0, 1.0)
        share = np.where(edge >= low, part, share)
    return np.where(edge >= ends[..., -1], 1.0, share)


def _whole(row: Float64) -> tuple[int | None, ...]:
    return tuple(None if np.isnan(one) else int(one) for one in row)


@cache
def _scales(edition: str, reference_celsius: float) -> tuple[_PollutantScale, ...]:
    standard = standards.load(edition)
    found = []
    for column, name in enumerate(POLLUTANTS):
        measure = _measure(standard, name)
        if measure is None:
            continue
        by = factor(name, CANONICAL_UNIT, measure.unit, reference_celsius, standard.reference_celsius)
        edges = tuple(_edge(measure, category.high) / by for category in standard.categories[:-1])
        found.append(_PollutantScale(column, measure, by, edges))
    return tuple(found)


def _measure(standard: Standard, name: str) -> Measure | None:
    rule = standard.nowcast.get(name)
    if rule is not None:
        return standard.measure(name, rule.averaging)
    own = [one for one in standard.reports[standard.default_report] if one.parameter == name]
    hourly = [one for one in own if one.averaging == "1h" and not one.ignore_below]
    return next(iter([*hourly, *own]), None)


def _edge(measure: Measure, highest: int | None) -> float:
    """The concentration, in the table's unit, above which the index is beyond `highest`."""
    assert highest is not None, "the last category has no end"
    low, high = 0, 10**9
    while low < high:
        middle = (low + high + 1) // 2
        index = measure.index(middle * 10.0**-measure.digits)
        if index is None or index <= highest:
            low = middle
        else:
            high = middle - 1
    half = 0.5 if measure.rounding.startswith("half") else 1.0
    return (low + half) * 10.0**-measure.digits
