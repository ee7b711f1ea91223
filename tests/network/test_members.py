"""How alike places are taken for before anything is known."""

import numpy as np
import pytest

from network.cell import estimate, fresh, learned
from network.members import Members, Position, Variable
from network.newcomers import means_of_others
from tests.network.cities import end

KM = 1.0 / 111.2  # degrees north


def placed(*north_km: float) -> Members:
    """Stations of PM2.5, so far north of the first."""
    return Members(
        tuple(Variable(f"s{number}", "pm25") for number in range(len(north_km))),
        tuple(Position(40.0 + apart * KM, 116.0) for apart in north_km),
    )


def test_what_comes_and_goes_reaches_three_times_as_far_as_what_lasts() -> None:
    """Anchors: Taiwan's low-cost fleet has 0.75, 0.6 and 0.3 at 7, 30 and 120 km, Beijing 0.85 at 40."""
    of = placed(0.0, 7.0, 30.0, 40.0, 120.0)
    assert of.prior[0, 1:].tolist() == pytest.approx([0.8, 0.63, 0.6, 0.25], abs=0.05)
    np.testing.assert_allclose(of.nearness[0, 1:] / 0.9, (of.prior[0, 1:] / 0.9) ** 3, rtol=1e-6)


def test_a_place_never_heard_follows_the_only_neighbour_forty_km_away() -> None:
    """A young region of two: an hour of smoke at the one is more than a third of it at the other."""
    of, random = placed(0.0, 40.0), np.random.default_rng(3)
    cell = fresh(of)
    for hour in range(12 * 24):
        cell = learned(cell, end(hour), np.array([30.0 * np.exp(0.4 * random.normal()), np.nan]))
    usual, smoke = (
        estimate(cell, end(12 * 24), np.array([value, np.nan])).value[1] + 20.0 for value in (30.0, 110.0)
    )
    assert 0.4 < np.log(smoke / usual) / np.log(130.0 / 50.0) < 0.75


def test_the_level_of_a_place_never_heard_is_that_of_the_nearest() -> None:
    """Forty km away the same day is seen, and not the same mean."""
    near = means_of_others(placed(0.0, 10.0, 40.0), np.array([np.nan, 3.0, 4.0]))
    assert near[0, 1] > 0.95
