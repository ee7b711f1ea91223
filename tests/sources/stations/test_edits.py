"""Station records as operators change them: validated, each for its time, nothing forgotten."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import to_ms
from schemas.errors import Refused
from schemas.limits import MAX_AHEAD_MS, VERSIONS_PER_STATION
from schemas.station import Station
from sources.stations.edits import changed, differences, made, read_records

NOW = datetime(2026, 8, 21, 10, tzinfo=UTC)
ROOF = made({"station": "roof", "latitude": 45.0, "longitude": 9.0})
HOUR = timedelta(hours=1)


def test_a_fault_is_a_sentence_with_its_place() -> None:
    for fields, words in (
        ({"station": "roof", "latitude": 95}, "latitude"),
        ({"station": "roof", "timezone": "Mars"}, "no IANA time zone"),
        ({"station": "roof", "standards": ["nobody"]}, "nobody"),
        ({"station": "roof", "colour": 1, "kind": "x"}, "colour"),
        ({"station": "roof", "sensors": [{"sensor": "a", "parameters": ["pm25"], "correction": "no"}]}, "no"),
    ):
        with pytest.raises(Refused, match=words):
            made(fields)


@given(
    st.lists(
        st.tuples(st.integers(-9, 9), st.sampled_from(["UTC", "Europe/Rome", "Asia/Kathmandu"])), max_size=12
    )
)
def test_at_each_time_the_last_word_for_it_counts(edits: list[tuple[int, str]]) -> None:
    record, said = ROOF, [(-(10**6), "UTC")]
    for hours, zone in edits:
        if zone != record.timezone:
            record = changed(record, {"timezone": zone}, NOW + hours * HOUR, NOW + 9 * HOUR).record
            said = [one for one in said if one[0] < hours] + [(hours, zone)]
    record = Station.model_validate_json(record.model_dump_json(exclude_defaults=True))
    for hour in range(-12, 12):
        due = [zone for since, zone in said if since <= hour][-1]
        assert record.at(to_ms(NOW + hour * HOUR)).timezone == due


@pytest.mark.parametrize("fields", [{"name": "Later"}, {"timezone": "Europe/Rome"}])
def test_nothing_is_changed_from_a_time_to_come_on(fields: dict[str, str]) -> None:
    """But a clock may run ahead of ours by some minutes."""
    ahead = timedelta(milliseconds=MAX_AHEAD_MS)
    assert changed(ROOF, fields, NOW + ahead, NOW).record != ROOF
    for since in (NOW + ahead + timedelta(seconds=1), datetime(9999, 12, 31, tzinfo=UTC)):
        with pytest.raises(Refused, match="still to come"):
            changed(ROOF, fields, since, NOW)


def test_labels_make_no_history_and_numbers_do() -> None:
    named = changed(ROOF, {"name": "Roof", "city": "Milan"}, NOW, NOW).record
    assert (named.name, named.earlier, named.valid_from) == ("Roof", (), None)
    two = changed(named, {"standards": ["eaqi-2025"]}, NOW, NOW).record
    assert two.valid_from == NOW
    assert [one.standards for one in two.earlier] == [ROOF.standards]
    assert differences(named, two) == ["standards"]


def test_a_station_that_moves_begins_anew_or_is_refused() -> None:
    near = changed(ROOF, {"latitude": 45.001}, NOW - HOUR, NOW)
    assert not near.anew
    far = {"latitude": 45.01, "longitude": 9.0}
    with pytest.raises(Refused, match=r"move by 1\.1 km"):
        changed(ROOF, far, NOW, NOW)
    with pytest.raises(Refused, match="leave --from out"):
        changed(ROOF, far, NOW - HOUR, NOW, moved=True)
    change = changed(ROOF, far, NOW, NOW, moved=True)
    assert change.anew
    assert change.record.at(to_ms(NOW) - 1).latitude == 45.0


def test_a_history_is_bounded_and_says_so() -> None:
    record, dropped = ROOF, 0
    for number in range(VERSIONS_PER_STATION + 3):
        zone = ["UTC", "Europe/Rome"][(number + 1) % 2]
        change = changed(record, {"timezone": zone}, NOW + number * HOUR, NOW + number * HOUR)
        record, dropped = change.record, dropped + change.dropped
    assert len(record.earlier) == VERSIONS_PER_STATION
    assert dropped == 3


def test_versions_that_contradict_one_another_are_refused() -> None:
    plain = ROOF.model_dump(mode="json", exclude_defaults=True)
    for wrong in (
        plain | {"earlier": [plain]},
        plain | {"valid_from": "2026-01-01T00:00:00Z", "earlier": [plain | {"station": "other"}]},
        plain | {"valid_from": "2026-01-01T00:00:00Z", "earlier": [plain, plain]},
        plain
        | {"valid_from": "2026-01-01T00:00:00Z", "earlier": [plain | {"valid_from": "2026-01-01T00:00:00Z"}]},
    ):
        with pytest.raises(Refused):
            made(wrong)


def test_files_are_a_list_or_a_record_a_line() -> None:
    one, two = {"station": "a"}, {"station": "b"}
    assert [found for _, found in read_records(json.dumps([one, two]))] == [one, two]
    lines = read_records(f"{json.dumps(one)}\n\n{json.dumps(two)}\n")
    assert lines == [("line 1", one), ("line 3", two)]
    for wrong in ("[1]", "x", '{"station": "a"', "[" * 100_000):
        with pytest.raises(Refused):
            read_records(wrong)
