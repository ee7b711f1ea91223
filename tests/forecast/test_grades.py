"""From quantiles to categories, against samples of the same distribution and the standards' own tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqi import standards
from forecast.grades import graded, share_below
from forecast.panel import QUANTILES
from schemas.parameters import POLLUTANTS

ALL = np.ones((1, len(POLLUTANTS)), np.bool_)
PLAIN = [name for name in standards.available() if name not in ("cn", "us-epa")]


def spread(levels: list[float], hours: int = 72) -> np.ndarray:
    """The same seven quantiles and mean for every hour and pollutant."""
    return np.broadcast_to(np.array(levels, np.float32), (1, hours, len(POLLUTANTS), 8)).copy()


@given(st.lists(st.floats(0, 500), min_size=7, max_size=7), st.floats(0, 1200))
@settings(max_examples=200, deadline=None)
def test_shares_are_the_levels_at_the_quantiles_and_rise(values: list[float], edge: float) -> None:
    quantiles = np.sort(np.array(values))
    share = float(share_below(quantiles, edge))
    assert 0.0 <= share <= 1.0
    assert share <= float(share_below(quantiles, edge + 1.0))
    for level, quantile in zip(QUANTILES, quantiles, strict=True):
        if edge >= quantile:
            assert share >= level - 1e-9
        if edge < quantile:
            assert share <= level + 1e-9


@pytest.mark.parametrize("name", PLAIN)
def test_categories_are_those_of_the_standards_own_table(name: str) -> None:
    """Where the quantiles lie close together, one category is certain: that of the median's index."""
    standard = standards.load(name)
    for value in (3.0, 30.0, 90.0, 160.0, 300.0):
        said = spread([value - 0.03 + 0.01 * n for n in range(7)] + [value])
        [found] = graded(said, ALL, standard, standard.reference_celsius)
        assert found is not None
        assert found.categories == tuple(category.name for category in standard.categories)
        np.testing.assert_allclose(np.sum(found.probabilities, axis=0), 1.0, atol=1e-3)
        low, index, high = found.lo[0], found.index[0], found.hi[0]
        assert low is not None and index is not None and high is not None  # noqa: PT018
        assert low <= index <= high
        if standard.category(low) == standard.category(high):
            place = standard.categories.index(standard.category(index))
            assert found.probabilities[place][0] > 0.99


def test_epa_unhealthy_begins_above_55_4() -> None:
    standard = standards.load("us-epa-2024")
    said = spread([0.0] * 8)
    said[0, :, 0] = [35, 40, 50, 55.45, 60, 70, 80, 56]
    [found] = graded(said, ALL, standard, 25.0)
    assert found is not None
    unhealthy = sum(row[0] for name, row in zip(found.categories, found.probabilities, strict=True)
                    if name not in ("Good", "Moderate", "Unhealthy for Sensitive Groups"))  # fmt: skip
    assert unhealthy == pytest.approx(0.5, abs=0.01)


def test_near_an_edge_an_index_belongs_to_both_sides_whatever_its_spread() -> None:
    standard = standards.load("us-epa-2024")
    said = spread([0.0] * 8)
    said[0, :, 0] = [20, 25, 30, 36.1, 40, 50, 60, 40]  # the median's index: 102
    [found] = graded(said, ALL, standard, 25.0)
    assert found is not None and found.index[0] == 102  # noqa: PT018
    degrees = {name: row[0] for name, row in zip(found.categories, found.membership, strict=True)}
    assert degrees["Unhealthy for Sensitive Groups"] == pytest.approx(0.65)
    assert degrees["Moderate"] == pytest.approx(0.35)
    assert sum(degrees.values()) == pytest.approx(1.0)


def test_an_index_is_made_of_what_leads() -> None:
    standard = standards.load("us-epa-2024")
    said = np.concatenate([spread([500.0] * 8)] * 3)
    said[:, :, 0] = 9.0  # PM2.5: at the end of "Good"
    only = np.zeros((3, len(POLLUTANTS)), np.bool_)
    only[0], only[1, 0] = True, True
    whole, particles, nothing = graded(said, only, standard, 25.0)
    assert nothing is None
    assert whole is not None and particles is not None  # noqa: PT018
    assert (whole.index[0] or 0) > 300
    assert particles.index[0] == 50
    assert particles.probabilities[0][0] == pytest.approx(1.0)
