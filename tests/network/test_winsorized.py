"""What a place that never measured is let to expect beside one neighbour that stands out, and beside two."""

import numpy as np
import pytest

from network.cell import Cell, estimate, fresh, learned
from network.members import Members, Position, Variable
from network.winsorized import level_of_others
from tests.network.cities import end

#: Kilometres north of the place that never measured.
PLACES = {"never": 0.0, "a": 4.0, "b": -5.0, "c": 6.0, "d": -7.0, "e": 8.0}
USUAL = 20.0
FIRE = 150.0


def town(places: dict[str, float]) -> Members:
    variables = tuple(Variable(name, "pm25") for name in places)
    return Members(variables, tuple(Position(45.0 + km / 111.2, 9.0) for km in places.values()))


def said(burning: str, hours: int, places: dict[str, float] = PLACES, fire_hours: int = 0) -> float:
    """What the place is let to expect while some burn, after some hours in which they are much alike."""
    of = town(places)
    random = np.random.default_rng(3)
    cell: Cell = fresh(of)

    def row(burns: str) -> np.ndarray:
        values = [FIRE if name in burns else USUAL for name in places]
        heard = np.array(values) * np.exp(random.normal(0.0, 0.1, len(of)))
        heard[0] = np.nan
        return heard

    for hour in range(hours):
        cell = learned(cell, end(hour), row(""))
    for hour in range(hours, hours + fire_hours):
        cell = learned(cell, end(hour), row(burning))
    return float(estimate(cell, end(hours + fire_hours), row(burning)).value[0])


@pytest.mark.parametrize("hours", [0, 1, 5, 100])
def test_a_fire_that_one_alone_sees_is_not_spread_over_a_place_that_never_measured(hours: int) -> None:
    assert 15.0 < said("", hours) < 25.0
    assert said("a", hours) < 31.0
    assert said("b", hours, fire_hours=3) < 31.0


@pytest.mark.parametrize("hours", [0, 1, 5])
def test_what_two_see_counts_whole(hours: int) -> None:
    assert said("ab", hours) > 40.0


def test_what_lies_nearer_than_all_others_together_counts_whole() -> None:
    """A gradient: the one beside it burns, and all others are far."""
    near = {"never": 0.0, "a": 1.0, "b": 60.0, "c": -60.0, "d": 70.0}
    assert said("a", 1, near) > 60.0
    assert said("b", 1, near) < 25.0


def test_of_two_that_differ_neither_is_believed_more() -> None:
    two = {"never": 0.0, "a": 5.0, "b": -5.0}
    level = np.array([np.nan, 3.0, 5.0])
    near = np.array([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert level_of_others(town(two), near, level)[0] == pytest.approx(4.0)


def test_one_neighbour_is_all_there_is() -> None:
    level = np.array([np.nan, 5.0])
    assert (
        level_of_others(town({"never": 0.0, "a": 9.0}), np.array([[0.0, 1.0], [0.0, 0.0]]), level)[0] == 5.0
    )


def test_a_stations_own_others_are_believed_whole() -> None:
    """It never measured PM10; its own PM2.5 says what no neighbour shows."""
    places = {name: km for name, km in PLACES.items() if name != "never"}
    of = Members(
        tuple(Variable(name, pollutant) for name in places for pollutant in ("pm25", "pm10")),
        tuple(Position(45.0 + km / 111.2, 9.0) for km in places.values() for _ in range(2)),
    )
    values = np.array([USUAL, 1.6 * USUAL] * len(places))
    values[1] = np.nan  # a's PM10
    cell = learned(fresh(of), end(0), values)
    calm = float(estimate(cell, end(1), values).value[1])
    values[0] = FIRE
    burning = float(estimate(cell, end(1), values).value[1])
    others = values.copy()
    others[0], others[2] = USUAL, FIRE
    beside = float(estimate(cell, end(1), others).value[1])
    assert burning > 1.8 * calm
    assert beside < 1.25 * calm
