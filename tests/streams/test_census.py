"""Limits: as a plain list of names would have them, and the same again after a crash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Refused
from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.reading import Quantity
from streams import census
from streams.census import Census

HOUR = 3_600_000


@pytest.fixture(autouse=True, scope="module")
def small_limits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "STATIONS_PER_PARTITION", 3)
        patch.setattr(census, "SENSORS_PER_STATION", 2)
        patch.setattr(census, "SERIES_PER_STATION", 3)
        patch.setattr(census, "CAMERAS_PER_STATION", 2)
        yield


def value(sensor, channel="value"):
    return Quantity("pm25", 1.0, "ug/m3", sensor, channel)


def admit(people, station, values, seen=0):
    try:
        kept, refused = people.admit(station, seen, values)
    except Refused as error:
        return error.code
    return [(one.sensor, one.channel) for one in kept], refused and refused.code


READINGS = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.lists(
            st.builds(value, st.sampled_from("xyz"), st.sampled_from(["value", "atm"])),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=25,
)


@given(READINGS)
def test_the_first_names_are_taken_in_and_no_others(readings):
    people = Census()
    stations: dict[str, list[tuple[str, str]]] = {}
    for station, values in readings:
        told = admit(people, station, values)
        if station not in stations and len(stations) == 3:
            assert told == "too_many_stations"
            continue
        known = stations.setdefault(station, [])
        kept = []
        for one in values:
            name = one.sensor, one.channel
            sensors = {sensor for sensor, _ in known}
            fits = len(known) < 3 and (name[0] in sensors or len(sensors) < 2)
            if name in known or fits:
                known += [] if name in known else [name]
                kept.append(name)
        assert told[0] == kept
        assert (told[1] is None) == (len(kept) == len(values))
        assert people.names(station)[1] == len(known)


@given(READINGS, st.integers(0, 25))
def test_a_successor_that_knows_the_series_of_the_settled_log_decides_the_same(readings, settled):
    before = Census()
    known: dict[str, dict[tuple[str, str, str], int]] = {}
    for station, values in readings[:settled]:
        told = admit(before, station, values)
        for sensor, channel in told[0] if isinstance(told, tuple) else ():
            known.setdefault(station, {})[sensor, "pm25", channel] = 0
    after = Census()
    for station, series in known.items():
        after.restore(station, 0, series.items())
    for station, values in readings[settled:]:
        assert admit(before, station, values) == admit(after, station, values)


def test_who_was_not_heard_for_long_makes_room():
    people = Census()
    for station in "abc":
        admit(people, station, [value("x"), value("y")])
    admit(people, "a", [value("x")], FORGOTTEN_AFTER_MS)
    assert admit(people, "d", [value("x")], FORGOTTEN_AFTER_MS) == "too_many_stations"
    later = FORGOTTEN_AFTER_MS + 2 * HOUR
    assert admit(people, "a", [value("z"), value("x")], later) == ([("z", "value"), ("x", "value")], None)
    assert admit(people, "d", [value("x")], later) == ([("x", "value")], None)
    assert "b" not in people
    assert people.leave(later) == []


def test_cameras():
    people = Census()
    people.admit_camera("a", 0, "m")
    people.admit_camera("a", 0, "n")
    with pytest.raises(Refused, match="counter"):
        people.admit_camera("a", HOUR, "o")
    people.admit_camera("a", FORGOTTEN_AFTER_MS + HOUR, "o")
    assert people.names("a") == (0, 0, 1)
