"""The network stage's core: windows of a region meet, whatever the order, the batches and the crashes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aqi.flags import GOOD, RATE_OF_CHANGE, SUSPECT
from fusion.together.meeting import RetiredStation
from network import region as network
from network.members import Members, Position, Variable
from schemas.alone import Alone, Mark
from schemas.parameters import Pollutant
from schemas.times import HOUR_MS
from tests.fusion.together.towns import START, Content, Life, air, alone, ends, marks, rules

SIZE = 20 * 60_000
LATE = 40 * 60_000
STATIONS = ("a", "b", "c", "d")


def sources_logs(seed: int, hours: int = 6) -> list[list[Content]]:
    """Per source, what fusion sends: windows, later revisions of some, marks."""
    random = np.random.default_rng(seed)
    truth = air(len(STATIONS), hours * 3 + 1, seed)
    logs: list[list[Content]] = [[], []]
    for source in (0, 1):
        late: list[tuple[int, Alone]] = []
        for number in range(1, hours * 3 + 1):
            end = START + number * SIZE
            for column, name in enumerate(STATIONS):
                if column % 2 != source or random.random() < 0.15:
                    continue
                value = float(truth[number, column])
                measured: dict[Pollutant, float] = {"co": 10 * value}
                if random.random() < 0.7:
                    measured["pm25"] = value
                if name == "c":
                    measured.pop("co")
                    if not measured:
                        continue
                logs[source].append(alone(name, end, measured, size=SIZE, source=source))
                if random.random() < 0.2:
                    more: dict[Pollutant, float] = {**measured, "no2": value / 2}
                    late.append((end, alone(name, end, more, size=SIZE, source=source, revision=2)))
            # What was late comes some time before its window is final.
            for due, one in list(late):
                if random.random() < 0.5 or due + LATE <= end:
                    logs[source].append(one)
                    late.remove((due, one))
            logs[source].append(Mark(source=source, final=end - LATE))
        logs[source] += [one for _, one in late]
        logs[source].append(Mark(source=source, final=START + (hours * 3 + 3) * SIZE))
    return logs


def interleaved(logs: list[list[Content]], order: np.random.Generator) -> list[Content]:
    """One log of both, in an order of its own."""
    places = [0, 0]
    log: list[Content] = []
    while any(place < len(of) for place, of in zip(places, logs, strict=True)):
        source = int(order.random() < 0.5)
        count = int(order.integers(1, 12))
        log += logs[source][places[source] : places[source] + count]
        places[source] += count
    return log


RULES = rules(size=SIZE, lateness=LATE, sources=2)


# Shrinking costs minutes, and the log is as small as it gets.
@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 10**6), st.integers(1, 40), st.lists(st.integers(1, 60), max_size=4))
def test_neither_order_nor_batches_nor_crashes_change_what_stays(
    seed: int, step: int, lives: list[int]
) -> None:
    logs = sources_logs(seed)
    plain = interleaved(logs, np.random.default_rng(0))
    expected = Life(RULES, plain).run(len(plain)).newest()
    assert len(expected) > 50

    other = interleaved(logs, np.random.default_rng(seed + 1))
    life = Life(RULES, other)
    at = 0
    for length in lives:
        life.run(min(at + length, len(other)), step)
        if length % 2:
            life.commit()
            life.run(min(at + length + 7, len(other)), step)
        life.die()
        at += length
    life.run(len(other), step)
    assert life.failed == 0
    assert life.late == 0
    assert life.newest() == expected


def test_of_one_log_a_revision_has_one_body() -> None:
    log = interleaved(sources_logs(3), np.random.default_rng(3))
    bodies: dict[tuple[str, str, int], str] = {}
    for step in (1, 7, 50):
        for one in Life(RULES, log).run(len(log), step).published:
            key = one.station, str(one.window.end), one.revision
            assert bodies.setdefault(key, one.model_dump_json()) == one.model_dump_json()


def test_revisions_only_grow_and_count_what_others_sent() -> None:
    log = interleaved(sources_logs(4), np.random.default_rng(4))
    seen: dict[tuple[str, object], list[int]] = {}
    for one in Life(RULES, log).run(len(log), 5).published:
        seen.setdefault((one.station, one.window.end), []).append(one.revision)
        assert one.revision - one.amended == one.inputs.readings
    assert all(before < after for found in seen.values() for before, after in pairwise(found))


PLACES = {name: (45.0 + 0.05 * number, 9.0) for number, name in enumerate(STATIONS)}


def test_a_silent_sensor_reads_what_the_offline_network_says_of_it() -> None:
    """Hour by hour as `skyfuse evaluate --network` plays it, with outages and a pollutant never measured."""
    hours = 120
    truth = air(4, hours, seed=5)
    values = np.full((hours, 8), np.nan)
    values[:, 0::2], values[:, 1::2] = truth, truth * 10
    values[60:90, 0] = np.nan  # a's pm25
    values[100:, 4:6] = np.nan  # all of c
    values[:, 7] = np.nan  # d never measured co
    values[95:98] = np.nan  # nobody speaks
    both: tuple[Pollutant, ...] = ("pm25", "co")
    variables = tuple(Variable(name, one) for name in STATIONS for one in both)
    members = Members(variables, tuple(Position(*PLACES[one.station]) for one in variables))
    region = network.fresh(members)
    log: list[Content] = []
    expected: dict[tuple[str, int, Pollutant], list[float]] = {}
    for row, end in zip(values, ends(hours), strict=True):
        said = network.estimate(region, end, row)
        for index, (station, name) in enumerate(variables):
            if np.isnan(row[index]) and not np.isnan(row).all():
                expected[station, end, name] = [part[index] for part in said[:3]]
        if not np.isnan(row).all():
            region = network.learned_with_silence(region, end, row)
        # A jump that quality control doubts is heard, and teaches.
        qc, tests = (SUSPECT, RATE_OF_CHANGE) if end % (7 * HOUR_MS) == 0 else (GOOD, 0)
        for number, station in enumerate(STATIONS):
            own = zip(both, row[2 * number :][:2].tolist(), strict=True)
            heard = {one: value for one, value in own if not np.isnan(value)}
            if heard:
                log.append(alone(station, end, heard, place=PLACES[station], qc=qc, qc_tests=tests))
        log += marks(end)
    made = Life(rules(), log).run(len(log)).estimates()
    compared = 0
    for (station, end, name), (value, lo, hi) in expected.items():
        found = made[station, end].pollutants[name]
        assert found.kind == "imputed"
        assert found.method == "network"
        assert sum(found.weights.values()) == pytest.approx(1.0, abs=1e-5)
        # From the third hour on: before that the stations have just met.
        if end > START + 3 * HOUR_MS:
            assert [found.value, found.lo, found.hi] == pytest.approx([value, lo, hi], rel=1e-6)
            compared += 1
    assert compared > 180


def moved_town() -> list[Content]:
    """Four of a town; the last one is of another region from within the 11th hour on, and back after two."""
    log: list[Content] = []
    told = air(4, 60)
    for number in range(1, 61):
        end = START + number * SIZE
        there = not 31 < number <= 37
        for column, name in enumerate(STATIONS):
            region = "town" if name != "d" or there else "hills"
            if name == "d" and number in (32, 38):
                log.append(RetiredStation("d", end - SIZE, "town" if number == 32 else "hills"))
            log.append(alone(name, end, {"pm25": float(told[number - 1, column])}, region=region, size=SIZE))
        log += marks(end)
    return log


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_station_that_is_of_another_region_is_not_filled_by_the_one_before(step: int) -> None:
    log = moved_town()
    life = Life(rules(size=SIZE), log).run(len(log), step)
    of_station = {end: one for (name, end), one in life.estimates().items() if name == "d"}
    assert len(of_station) == 60
    assert {one.pollutants["pm25"].kind for one in of_station.values()} == {"measured"}


def test_crashes_do_not_bring_it_back() -> None:
    log = moved_town()
    calm = Life(rules(size=SIZE), log).run(len(log)).newest()
    life = Life(rules(size=SIZE), log)
    for upto in range(20, len(log) + 20, 20):
        life.run(min(upto, len(log)), 5)
        life.commit()
        life.die()
    assert life.run(len(log)).newest() == calm
