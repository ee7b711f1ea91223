"""To what degree an index belongs to the categories at its nearest edge."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqi import standards
from aqi.membership import WIDTH, degrees, membership

PLAIN = [name for name in standards.available() if name not in ("cn", "us-epa")]


@given(
    st.sampled_from(["us-epa-2024", "in-naqi-2014", "uk-daqi", "eaqi-2025"]), st.floats(-50, 900, width=32)
)
def test_membership_is_shared_by_at_most_two_neighbours_and_sums_to_one(name, value):
    standard = standards.load(name)
    shares = membership(standard, value)
    keys = [category.key for category in standard.categories]
    assert sum(shares.values()) == pytest.approx(1)
    assert all(0 < share <= 1 for share in shares.values())
    places = [keys.index(key) for key in shares]
    assert places in ([places[0]], [places[0], places[0] + 1])
    if value == int(value) and value >= standard.categories[0].low:
        # The category the index lies in never holds less than its neighbour.
        assert shares[standard.category(int(value)).key] >= 0.5


def test_membership_passes_over_an_edge_without_a_step():
    standard = standards.load("us-epa-2024")
    shares = [membership(standard, 50.5 + n / 10).get("moderate", 0.0) for n in range(-60, 61)]
    assert all(0 <= after - before <= 0.1 / WIDTH for before, after in itertools.pairwise(shares))
    assert (shares[0], shares[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("name", PLAIN)
def test_degrees_of_many_are_those_of_each_and_none_of_no_index(name):
    standard = standards.load(name)
    indices = np.array([[0.0, 1.0, 47.0, 50.0, 51.0], [98.0, 150.0, 303.0, 900.0, np.nan]])
    found = degrees(name, indices)
    assert found.shape == (len(standard.categories), 2, 5)
    for place in np.ndindex(2, 5):
        wanted = {} if np.isnan(indices[place]) else membership(standard, float(indices[place]))
        keys = (category.key for category in standard.categories)
        assert found[:, *place].tolist() == pytest.approx([wanted.get(key, 0.0) for key in keys], abs=1e-4)
