"""Who listens to whom: the same shares that an estimate says, with the stations told apart."""

from dataclasses import replace

import numpy as np
import pytest

from network import cell as cells
from network import region as network
from network.cell import estimate
from network.listening import SILENT_HOURS, listening
from network.region import Region
from schemas.times import HOUR_MS
from tests.network.cities import city, end, members


def grown(stations: int, hours: int) -> tuple[Region, np.ndarray]:
    of = members(stations)
    air = city(of, hours)
    air[:, 4] = np.nan  # never heard
    air[-4:, 7] = np.nan  # silent for some hours
    region = network.fresh(of)
    for hour in range(1, hours):
        region = network.learned(region, end(hour), air[hour])
    return region, air


def test_the_shares_are_those_of_an_estimate_after_a_day_of_silence() -> None:
    region, air = grown(4, 200)
    cell = region.whole
    assert cell is not None
    found = listening(region)
    assert [one.variable for one in found] == list(region.members.variables)
    for index, one in enumerate(found):
        values = air[150].copy()  # any hour of the others: shares do not ask for their values
        values[[4, 7, index]] = np.nan
        at = cell.t_ms + (SILENT_HOURS * HOUR_MS if one.heard else 0)
        # Nothing is distrusted, or the others would not be those that were heard.
        calm = replace(cell, intervals=replace(cell.intervals, size=np.full_like(cell.intervals.size, 1e6)))
        calm.__dict__["settled"] = cell.settled
        said = estimate(calm, at, values)
        shares = [sum(one.neighbours.values()), one.own]
        if one.heard:
            assert [*shares, one.past] == pytest.approx(
                [said.neighbours[index], said.own[index], said.past[index]], abs=1e-9
            )
        assert sum(shares) + one.past == pytest.approx(1.0)
        assert list(one.neighbours.values()) == sorted(one.neighbours.values(), reverse=True)
        assert one.variable.station not in one.neighbours


def test_what_was_not_heard_lately_tells_nobody_anything() -> None:
    region, _ = grown(4, 200)
    found = listening(region)
    assert [one.heard for one in found] == [index not in (4, 7) for index in range(len(found))]
    assert found[4].hours == 0.0
    assert found[4].past == 0.0
    of = members(2, ("pm25",))
    lonely = network.fresh(of)
    for hour, row in enumerate(city(of, 60)):
        if hour:
            lonely = network.learned(lonely, end(hour), np.array([row[0], np.nan if hour > 20 else row[1]]))
    first, second = listening(lonely)
    assert first.neighbours == {}
    assert set(second.neighbours) == {"s000"}


def test_in_a_large_region_each_station_has_its_own_cell() -> None:
    of = members(60, ("pm25", "pm10", "no2", "so2", "co", "o3"))
    assert len(of) > network.WHOLE
    wanted = ["s000", "s030"]
    region = network.fresh(of, wanted)
    for hour, row in enumerate(city(of, 4)):
        if hour:
            region = network.learned(region, end(hour), row)
    found = listening(region)
    assert [one.variable.station for one in found] == ["s000"] * 6 + ["s030"] * 6
    for one in found:
        assert len(one.neighbours) < network.BUDGET
        assert sum(one.neighbours.values()) + one.own + one.past == pytest.approx(1.0)
    near = found[6].neighbours
    assert {"s029", "s031"} & set(list(near)[:4])


def test_nobody_is_nobody() -> None:
    assert listening(Region(members(0), cells.fresh(members(0)), (), 0, *_nothing())) == []


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
