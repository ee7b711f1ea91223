"""Ways between places on the earth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.distances import distances

PLACE = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def along(place: tuple[float, float], other: tuple[float, float]) -> float:
    """By the angle between two unit vectors."""
    one, two = (
        np.array([math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)])
        for a, b in (map(math.radians, place), map(math.radians, other))
    )
    return 6371.0 * math.atan2(float(np.linalg.norm(np.cross(one, two))), float(one @ two))


@given(st.lists(PLACE, min_size=1, max_size=4), st.lists(PLACE, min_size=1, max_size=3))
def test_each_way_is_that_of_the_angle_between(
    places: list[tuple[float, float]], others: list[tuple[float, float]]
) -> None:
    wanted = np.array([[along(one, other) for other in others] for one in places])
    # The haversine loses digits where places are opposite each other.
    np.testing.assert_allclose(distances(places, others), wanted, rtol=1e-9, atol=1e-3)
    np.testing.assert_array_equal(distances(np.array(places), np.array(others)), distances(places, others))
    np.testing.assert_array_equal(distances(places), distances(places, places))


def test_cities_and_the_date_line() -> None:
    delhi, mumbai = (28.6139, 77.2090), (19.0760, 72.8777)
    assert distances([delhi], [mumbai])[0, 0] == pytest.approx(1148, abs=5)
    assert distances([(10.0, 179.9)], [(10.0, -179.9)])[0, 0] == pytest.approx(21.9, abs=0.1)
