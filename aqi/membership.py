"""Fuzzy membership near a category's edge, so that a consumer can grade instead of flip.

Categories meet halfway between the last index of one and the first of the next. Within `WIDTH` of the edge,
or half the narrower neighbouring category if that is less, membership passes linearly from one to the other;
elsewhere it is 1. Only two neighbours ever share, and the shares sum to 1.
"""

import itertools
from functools import cache
from typing import Final

import numpy as np

from aqi import standards
from aqi.standards import Category, Standard
from schemas.arrays import Float64

#: Index points on either side of an edge in which both categories hold to a degree.
WIDTH: Final = 5.0


def membership(standard: Standard, index: float) -> dict[str, float]:
    """Degrees, by category key, to which `index` belongs to the categories of `standard`.

    An index below the scale belongs to the first category, one above it to the last.
    """
    categories = standard.categories
    for lower, upper in itertools.pairwise(categories):
        assert lower.high is not None
        edge = (lower.high + upper.low) / 2
        width = min(WIDTH, _half(lower), _half(upper))
        share = (index - (edge - width)) / (2 * width)
        if share <= 0:
            return {lower.key: 1.0}
        if share < 1:
            return {lower.key: 1.0 - share, upper.key: share}
    return {categories[-1].key: 1.0}


def degrees(edition: str, indices: Float64) -> Float64:
    """The same for whole indices (...) on the scale of `edition`: (categories, ...), the best category first,
    to four digits; 0 where there is no index (NaN).
    """
    table = _table(edition)
    known = np.isfinite(indices)
    places = np.clip(np.where(known, indices, 0.0), 0, table.shape[1] - 1).astype(np.int64)
    found: Float64 = np.where(known, table[:, places], 0.0)
    return found


@cache
def _table(edition: str) -> Float64:
    """(categories, indices from 0 until the last category alone holds)."""
    standard = standards.load(edition)
    last = standard.categories[-1].low + round(WIDTH) + 1
    shares = [membership(standard, index) for index in range(last + 1)]
    return np.array(
        [[round(one.get(category.key, 0.0), 4) for one in shares] for category in standard.categories]
    )


def _half(category: Category) -> float:
    if category.high is None:
        return WIDTH
    return (category.high - category.low + 1) / 2
