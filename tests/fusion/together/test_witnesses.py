"""What a region says of its stations: silent, never measured, doubted, lying, gone."""

import numpy as np
import pytest

from aqi.flags import GOOD, GROSS_RANGE, NEIGHBOURS, RATE_OF_CHANGE, STUCK, SUSPECT
from fusion.together.meeting import RetiredStation
from fusion.together.witnesses import possible_in_region
from network.cell import Estimates
from network.members import Members, Variable
from schemas.alone import Alone
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.times import HOUR_MS
from tests.fusion.together.towns import START, Content, Life, air, alone, ends, marks, rules

NAMES = ("a", "b", "c", "d", "e")
HOURS = 200
LAST = START + HOURS * HOUR_MS


def place(number: int) -> tuple[float, float]:
    return 45.0 + 0.03 * number, 9.0


def lived(change: dict[tuple[str, int], Alone | None], *, tail: tuple[Content, ...] = ()) -> Life:
    """A town of five that measure PM2.5; `change`: by station and hour, what one says instead."""
    truth = air(len(NAMES), HOURS, seed=8)
    log: list[Content] = []
    for hour, end in enumerate(ends(HOURS), 1):
        for number, name in enumerate(NAMES):
            one = alone(name, end, {"pm25": float(truth[hour - 1, number])}, place=place(number))
            said = change.get((name, hour), one)
            if said is not None:
                log.append(said)
        if hour == HOURS:
            log += tail
        log += marks(end)
    life = Life(rules(), log).run(len(log))
    assert life.failed == 0
    return life


def at(life: Life, station: str, hour: int = HOURS) -> Estimate:
    return life.estimates()[station, START + hour * HOUR_MS]


@pytest.fixture(scope="module")
def calm() -> Life:
    return lived({("e", hour): None for hour in (4, *range(190, HOURS + 1))})


def test_a_station_that_says_nothing_has_windows_of_its_neighbours(calm: Life) -> None:
    truth = air(len(NAMES), HOURS, seed=8)
    silent = at(calm, "e")
    found = silent.pollutants["pm25"]
    assert silent.unheard
    assert silent.sides == "none"
    assert found.kind == "imputed"
    assert found.weights["neighbours"] > 0.5
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo <= truth[-1, 4] <= found.hi
    assert abs(found.value - truth[-1, 4]) < 0.25 * truth[-1, 4]
    assert silent.indices[0].imputed_share > 0


def test_how_many_intervals_held_is_told_when_some_were_checked(calm: Life) -> None:
    """And not the nine in ten that are meant, before that."""
    early, late = (at(calm, "e", hour).pollutants["pm25"] for hour in (4, HOURS))
    assert (early.kind, early.weights["neighbours"] > 0.0) == ("imputed", True)
    assert early.coverage is None
    assert late.coverage is not None
    assert 0.7 < late.coverage < 1.0
    assert late.coverage != 0.9


def test_a_liar_moves_its_neighbours_by_no_more_than_their_interval(calm: Life) -> None:
    change: dict[tuple[str, int], Alone | None] = {("e", hour): None for hour in range(190, HOURS + 1)}
    for hour in range(192, HOURS + 1):
        end = START + hour * HOUR_MS
        change["a", hour] = alone("a", end, {"pm25": 2000.0}, place=place(0))
    lying = lived(change)
    honest, moved = at(calm, "e").pollutants["pm25"], at(lying, "e").pollutants["pm25"]
    assert honest.lo is not None
    assert honest.hi is not None
    assert honest.lo <= moved.value <= honest.hi
    liar = at(lying, "a")
    assert liar.pollutants["pm25"].value == 2000.0
    assert liar.pollutants["pm25"].qc == SUSPECT
    assert liar.pollutants["pm25"].qc_tests & NEIGHBOURS
    assert "contradicted by the neighbours" in liar.indices[0].reason
    assert liar.indices[0].status != "valid"
    assert at(lying, "b").pollutants["pm25"].qc == GOOD


def test_what_neighbours_show_too_is_no_fault_and_what_one_shows_alone_may_be() -> None:
    change: dict[tuple[str, int], Alone | None] = {}
    truth = air(len(NAMES), HOURS, seed=8)
    for number, name in enumerate(NAMES):  # a fire: all rise at once, and quality control doubts the jump
        value = float(truth[-1, number]) * 8
        bits = RATE_OF_CHANGE | (STUCK if name == "c" else 0)
        change[name, HOURS] = alone(
            name, LAST, {"pm25": value}, qc=SUSPECT, qc_tests=bits, place=place(number)
        )
    fire = lived(change)
    for name in ("a", "b", "d", "e"):
        found = at(fire, name).pollutants["pm25"]
        assert (found.qc, found.qc_tests) == (GOOD, 0), name
        assert found.value > 50
    stuck = at(fire, "c").pollutants["pm25"]
    assert (stuck.qc, stuck.qc_tests) == (SUSPECT, RATE_OF_CHANGE | STUCK)
    lone = lived({("a", HOURS): alone(
        "a", LAST, {"pm25": float(truth[-1, 0]) * 8}, qc=SUSPECT, qc_tests=RATE_OF_CHANGE, place=place(0)
    )})  # fmt: skip
    found = at(lone, "a").pollutants["pm25"]
    assert found.qc == SUSPECT
    assert found.qc_tests & RATE_OF_CHANGE


def test_two_near_each_other_in_a_plume_bear_each_other_out_and_a_lone_one_does_not() -> None:
    """Far above all others, one neighbour is enough; a fault that two had alike is the documented limit."""

    def rising(*names: str) -> Life:
        change: dict[tuple[str, int], Alone | None] = {}
        for name in names:
            for hour, factor in ((HOURS - 1, 12), (HOURS, 20)):
                value = 40.0 * factor * (0.8 if name == "b" else 1.0)
                bits = RATE_OF_CHANGE if hour == HOURS - 1 else GROSS_RANGE | RATE_OF_CHANGE
                change[name, hour] = alone(
                    name, START + hour * HOUR_MS, {"pm25": value},
                    qc=SUSPECT, qc_tests=bits, place=place(NAMES.index(name)),
                )  # fmt: skip
        return lived(change)

    plume = rising("a", "b")
    for name in ("a", "b"):
        for hour in (HOURS - 1, HOURS):
            found = at(plume, name, hour).pollutants["pm25"]
            assert (found.qc, found.qc_tests) == (GOOD, 0), (name, hour)
            assert found.value > 300, "neither deleted nor clipped"
    lone = rising("a")
    for hour in (HOURS - 1, HOURS):
        found = at(lone, "a", hour).pollutants["pm25"]
        assert found.qc == SUSPECT
        assert found.value > 300


def test_a_retired_station_has_no_windows_any_more() -> None:
    change: dict[tuple[str, int], Alone | None] = {("e", hour): None for hour in range(190, HOURS + 1)}
    gone = lived(change, tail=(RetiredStation("e", LAST),)).estimates()
    assert ("e", LAST) not in gone
    assert ("e", LAST - HOUR_MS) in gone


def test_far_from_anybody_nothing_is_said_for_a_station() -> None:
    log: list[Content] = []
    for row, end in zip(air(3, 60).tolist(), ends(60), strict=True):
        log += [alone("a", end, {"pm25": row[0], "co": 500.0}), alone("b", end, {"pm25": row[1]})]
        if end < START + 40 * HOUR_MS:
            log.append(alone("far", end, {"pm25": row[2]}, place=(48.0, 9.0)))
        else:
            log.append(alone("far", end, {"no2": 20.0}, place=(48.0, 9.0)))
        log += marks(end)
    life = Life(rules(), log).run(len(log))
    last = START + 60 * HOUR_MS
    near, far = life.estimates()["b", last].pollutants, life.estimates()["far", last].pollutants
    assert near["co"].method == "network"
    assert near["co"].value == pytest.approx(500.0, rel=0.3)
    assert "co" not in far
    assert near.keys() == {"pm25", "co"}


def test_a_camera_is_one_more_witness_and_its_past_is_not() -> None:
    truth = air(3, 60, seed=2)
    last = START + 60 * HOUR_MS
    found = {}
    for method in ("camera", "last", "head"):
        log: list[Content] = []
        for row, end in zip(truth.tolist(), ends(60), strict=True):
            for number, name in enumerate("abc"):
                if name == "c" and end >= last - HOUR_MS:
                    sure = row[2] * 2.0
                    log.append(
                        alone(
                            name, end, {}, imputed={"pm25": (sure, sure * 0.9, sure * 1.1)}, method=method,
                            place=place(number),
                        )
                    )  # fmt: skip
                else:
                    log.append(alone(name, end, {"pm25": row[number]}, place=place(number)))
            log += marks(end)
        found[method] = Life(rules(), log).run(len(log)).estimates()["c", last].pollutants["pm25"]
    assert found["last"].method == found["head"].method == "network"
    assert found["last"].value == found["head"].value
    assert "camera" not in found["last"].weights
    mixed = found["camera"]
    assert mixed.weights["camera"] > 0.1
    assert mixed.value > found["last"].value * 1.05
    assert sum(mixed.weights.values()) == pytest.approx(1.0, abs=1e-5)


def test_within_an_hour_a_sensor_s_last_value_is_a_witness_too() -> None:
    """A region knows whole hours; what was read ten minutes ago tells more, and a day ago next to nothing."""
    size, hours = 10 * 60_000, 26
    truth, last = air(3, hours, seed=2), START + hours * HOUR_MS
    found = {}
    for wide in (1.1, 3.0):
        log: list[Content] = []
        for end in range(START + size, last + 1, size):
            row = truth[(end - START - 1) // HOUR_MS].tolist()
            for number, name in enumerate("abc"):
                if name == "c" and end == last:
                    held = row[2] * 2.0
                    said = (held, held / wide, held * wide)
                    one = alone(name, end, {}, size=size, imputed={"pm25": said}, place=place(number))
                else:
                    one = alone(name, end, {"pm25": row[number]}, size=size, place=place(number))
                log.append(one)
            log += marks(end)
        life = Life(rules(size=size), log).run(len(log))
        found[wide] = life.estimates()["c", last].pollutants["pm25"]
    held = 2.0 * float(truth[-1, 2])
    assert found[1.1].method == "last"
    assert found[1.1].value == pytest.approx(held, rel=0.25)
    assert found[1.1].weights["past"] > 0.5
    assert found[3.0].method == "network"
    assert found[3.0].value < 0.75 * held


def test_every_estimate_has_one_end(calm: Life) -> None:
    made = calm.estimates()
    assert {to_ms(one.window.end) for one in made.values()} == set(ends(HOURS))
    assert len(made) == len(NAMES) * HOURS
    assert np.isfinite([one.pollutants["pm25"].value for one in made.values()]).all()


def test_what_the_judge_has_a_region_say_is_possible_beside_what_is_heard() -> None:
    of = Members(tuple(Variable("a", name) for name in ("pm25", "pm10", "no2")), (None,) * 3)
    numbers = np.zeros(3, dtype=np.int64)
    share = np.zeros(3)
    said = Estimates(
        np.array([60.0, 50.0, -1.0]), np.array([30.0, 40.0, -9.0]), np.array([90.0, 70.0, 9.0]),
        numbers, np.zeros(3, dtype=np.bool_), share, share, share, share, share, share,
    )  # fmt: skip
    beside = possible_in_region(of, said, np.array([np.nan, 45.0, np.nan]))
    assert beside.value.tolist() == [45.0, 50.0, 0.0], "what is heard keeps what the others say of it"
    assert beside.hi.tolist() == [45.0, 70.0, 9.0]
    assert beside.lo.tolist()[1:] == [40.0, 0.0]
    assert said.value[0] == 60.0
