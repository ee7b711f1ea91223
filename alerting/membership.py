"""Fuzzy membership near a category's edge, so that a consumer can grade instead of flip.

Categories meet halfway between the last index of one and the first of the next. Within `WIDTH` of the edge,
or half the narrower neighbouring category if that is less, membership passes linearly from one to the other;
elsewhere it is 1. Only two neighbours ever share, and the shares sum to 1.
"""

import itertools
from typing import Final

from aqi.standards import Category, Standard

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


def _half(category: Category) -> float:
    if category.high is None:
        return WIDTH
    return (category.high - category.low + 1) / 2
