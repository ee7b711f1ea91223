"""Who is made silent when."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.region_outages import EVERYWHERE, outage_kinds, rotating
from schemas.parameters import POLLUTANTS
from tests.network.cities import members


@settings(max_examples=40, deadline=None)
@given(
    stations=st.integers(2, 6),
    pollutants=st.integers(1, len(POLLUTANTS)),
    length=st.integers(1, 30),
)
def test_every_sensor_is_silent_and_heard_at_every_hour_of_the_day(
    stations: int, pollutants: int, length: int
) -> None:
    of = members(stations, POLLUTANTS[:pollutants])
    for name, kind in outage_kinds(of, of.stations).items():
        for silent in rotating(kind, 24 * 2 * length * (kind.turns + 28), 0, length):
            taking_part = np.isin(of.pollutants, (0, 1)) | (name != "both PM of a station")
            days = silent.reshape(-1, 24, len(of))[:, :, taking_part]
            assert days.any(axis=0).all()
            assert not days.all(axis=0).any()


@given(length=st.integers(1, 400))
def test_a_region_is_whole_as_long_as_nobody_measured_a_pollutant_but_a_week_at_most(length: int) -> None:
    kind = outage_kinds(members(2), members(2).stations)[EVERYWHERE]
    second = length + min(length, 168)
    one, other = rotating(kind, 10 * length, 0, length)
    for silent in (one, other):
        np.testing.assert_array_equal(
            silent[: second + length].any(axis=1),
            [*[True] * length, *[False] * (second - length), *[True] * length],
        )
    np.testing.assert_array_equal(one[second], other[0])
    assert (one[0] != other[0]).any()


def test_of_a_large_region_all_that_are_tested_are_silent_at_once() -> None:
    """They are a tenth of all, and outages of days are few."""
    of = members(400, ("pm25",))
    kind = outage_kinds(of, of.stations[::10])["one sensor"]
    assert kind.turns == 1
    np.testing.assert_array_equal(np.flatnonzero(kind.silenced(0)), np.arange(0, 400, 10))


@pytest.mark.parametrize(("stations", "pollutants"), [(400, 2), (60, 6)])
def test_each_sensor_that_is_tested_of_a_large_region_takes_its_turn(stations: int, pollutants: int) -> None:
    """Those that are not tested are heard, so that they tell."""
    of = members(stations, POLLUTANTS[:pollutants])
    tested = of.stations[:: stations // 40]
    kind = outage_kinds(of, tested)["one sensor"]
    silent = np.stack([kind.silenced(turn) for turn in range(kind.turns)])
    assert kind.turns > 1
    np.testing.assert_array_equal(silent.any(axis=0), [one.station in tested for one in of.variables])
