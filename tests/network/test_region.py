"""Large regions: a station listens to those that tell most, at a cost that does not grow with the region."""

import numpy as np
import pytest

from network import region as network
from network.members import Members, Position, Variable
from network.stored import REGION
from tests.network.cities import city, end, members


@pytest.fixture(scope="module")
def large() -> tuple[Members, np.ndarray]:
    """320 boxes within 30 km; half of them stand on roads, half in parks, wherever they are."""
    random = np.random.default_rng(4)
    places = tuple(Position(45 + random.uniform(0, 0.3), 9 + random.uniform(0, 0.3)) for _ in range(320))
    of = Members(tuple(Variable(f"b{number:03d}", "pm25") for number in range(320)), places)
    one = Members(of.variables[:1], of.places[:1])
    airs = np.hstack([city(one, 24 * 5, seed=9), city(one, 24 * 5, seed=10)])
    noise = np.exp(random.normal(0, 0.05, (len(airs), 320)))
    return of, airs[:, np.arange(320) % 2] * noise


def test_a_large_region_has_a_small_cell_for_each_that_listens(large: tuple[Members, np.ndarray]) -> None:
    of, air = large
    region = network.fresh(of, ["b000", "b001"])
    assert [len(one.cell.members) for one in region.listeners] == [network.BUDGET] * 2
    for hour in range(24 * 4 + 2):
        region = network.learned(region, end(hour), air[hour])
        if hour == 60:
            assert REGION.encode(REGION.decode(REGION.encode(region))) == REGION.encode(region)
    for listener, kind in zip(region.listeners, (0, 1), strict=True):
        neighbours = listener.taken[1:]
        assert (neighbours % 2 == kind).mean() > 0.8, "it listens to those whose air is its own"
    row = air[hour + 1].copy()
    row[0] = np.nan
    said = network.estimate(region, end(hour + 1), row)
    assert said.lo[0] <= air[hour + 1, 0] <= said.hi[0]
    assert np.isnan(said.value[2]), "nobody asked for it"


def test_what_is_kept_of_a_large_region_is_bounded(
    large: tuple[Members, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, air = large
    monkeypatch.setattr(network, "KEPT_HOURS", 10)
    region = network.fresh(of, ["b000"])
    for hour in range(30):
        region = network.learned(region, end(hour), air[hour])
    assert region.kept.shape == (10, 320)
    assert region.times.tolist() == [end(hour) for hour in range(20, 30)]


def test_hours_in_which_nobody_spoke_are_silent_ones_up_to_a_month() -> None:
    of = members(3, ("pm25",))
    air = city(of, 20)
    region = network.fresh(of)
    assert network.newest(region) == 0
    for hour in range(1, 10):
        region = network.learned_with_silence(region, end(hour), air[hour])
    nobody = np.full(3, np.nan)
    stepwise = region
    for hour in (10, 11, 12):
        stepwise = network.learned(stepwise, end(hour), nobody)
    stepwise = network.learned(stepwise, end(13), air[13])
    after = network.learned_with_silence(region, end(13), air[13])
    assert REGION.encode(after) == REGION.encode(stepwise)
    assert network.newest(after) == end(13)
    far = end(10 + 30 * 24 + 1)
    assert REGION.encode(network.learned_with_silence(region, far, air[13])) == REGION.encode(
        network.learned(region, far, air[13])
    )
