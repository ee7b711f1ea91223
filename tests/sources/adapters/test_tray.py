"""The rules that hold for all adapters, on one that is made for it."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import STATION_PATTERN
from sources.adapters.core import ledger
from sources.adapters.core import tray as core
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import station_id
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import Context, Field
from sources.adapters.core.translation import Translation, translate
from sources.adapters.core.tray import Tray

NOW = datetime(2026, 8, 21, 10, tzinfo=UTC)


def _read(payload: Node, tray: Tray) -> None:
    for entry in payload.one_or_each():
        device = tray.device(entry["id"].text(), "x-")
        draft = tray.draft(device, entry["at"], tray.seconds(entry["period"]), tray.stamp(entry["stamp"]))
        draft.fields(entry)


MADE = Adapter(
    name="made", title="made", versions="1", arrives="here", correction="none", read=_read, many=True,
    fields={"pm": Field("pm25", "ug/m3", missing=(500.0,)), "f": Field("temperature", "Cel", factor=0.1)},
    others={"radio": "reception", "*_count": "counts"}, missing=(777.0,),
)  # fmt: skip


def become(*entries: dict[str, Any], **context: Any) -> Translation:
    made = {"id": "1", "at": "2026-08-21T09:59:00Z"}
    payload = json.dumps([made | entry for entry in entries]).encode()
    return translate(MADE, payload, Context(received_at=NOW, **context))


def codes(made: Translation) -> tuple[list[str], list[str]]:
    return [part.code for part in made.refused], [part.code for part in made.left_out]


@pytest.mark.parametrize(
    ("raw", "refused", "left_out"),
    [
        (12, [], []), ("12.5", [], []), ("12,5", [], []), ("0,125", [], []), (" 7 ", [], []), (-3, [], []),
        (None, [], ["missing"]), ("nan", [], ["missing"]), ("unavailable", [], ["missing"]),
        ("", [], ["missing"]),
        (-999, [], ["sentinel"]), (65535, [], ["sentinel"]), (500, [], ["sentinel"]), (777, [], ["sentinel"]),
        ("1,234", ["not_a_number"], []), ("12 ug", ["not_a_number"], []), (True, ["not_a_number"], []),
        ([1], ["not_a_number"], []), ({"v": 1}, ["not_a_number"], []), (10**400, ["not_a_number"], []),
        (6000, ["out_of_range"], []), ("1e999", ["not_a_number"], []),
    ],
)  # fmt: skip
def test_a_value_is_used_or_named(raw: Any, refused: list[str], left_out: list[str]) -> None:
    made = become({"pm": raw})
    assert codes(made) == (refused, left_out)
    assert len(made.readings) == (not refused and not left_out)


def test_values_of_one_moment_and_period_are_one_reading() -> None:
    made = become({"pm": 1}, {"f": 215}, {"pm": 2, "period": 60}, {"pm": 3, "period": 60, "stamp": "begins"})
    told = [(r.period, r.stamp, [(v.parameter, v.value) for v in r.values]) for r in made.readings]
    assert told == [
        (None, "ends", [("pm25", 1.0), ("temperature", 21.5)]),
        (60, "ends", [("pm25", 2.0)]),
        (60, "begins", [("pm25", 3.0)]),
    ]


def test_of_two_values_that_contradict_the_second_is_refused() -> None:
    assert codes(become({"pm": 1}, {"pm": 1})) == ([], [])
    made = become({"pm": 1}, {"pm": 2})
    assert codes(made) == (["twice"], [])
    assert [v.value for r in made.readings for v in r.values] == [1.0]


def test_means_of_more_than_an_hour_and_periods_that_are_none_are_named() -> None:
    assert codes(become({"pm": 1, "period": 3600})) == ([], [])
    assert codes(become({"pm": 1, "period": 3601})) == (["period_too_long", "no_time"], [])
    made = become({"pm": 1, "period": "soon", "stamp": "middle"})
    assert codes(made) == (["not_a_period", "not_a_stamp", "no_time"], [])
    assert not made.readings


def test_a_clock_that_was_reset_takes_its_values_along() -> None:
    for at, code in (
        ("2010-01-01T00:03:00Z", "clock_reset"),
        (12, "clock_reset"),
        ("2007-01-05T10:00:00Z", "gps_rollover"),
    ):
        assert codes(become({"pm": 1, "at": at})) == ([code, "no_time"], [])


def test_rows_that_do_not_ascend_do_not_tell_a_repeated_hour() -> None:
    rome = replace(MADE, naive="station", archive=True)
    context = Context(received_at=datetime(2026, 11, 1, tzinfo=UTC), zone=ZoneInfo("Europe/Rome"))
    times = [f"2026-10-25T0{hour}:30" for hour in (1, 2, 2, 3)]

    def at(stated: list[str]) -> tuple[int, list[str]]:
        rows = [{"id": "1", "at": time, "pm": index} for index, time in enumerate(stated)]
        made = translate(rome, json.dumps(rows).encode(), context)
        return len({reading.observed_at for reading in made.readings}), codes(made)[0]

    assert at(times) == (4, [])
    assert at(["2026-10-26T01:00", "2026-10-25T01:30", *times[1:3]])[1] == ["repeated_hour", "no_time"]


def test_in_an_archive_a_missing_time_is_no_time_and_in_a_portals_an_old_one_no_reset() -> None:
    archive = replace(MADE, archive=True)
    context = Context(received_at=NOW)
    assert codes(translate(archive, b'{"id": "1", "pm": 1}', context)) == (["no_stamp", "no_time"], [])
    old = b'{"id": "1", "pm": 1, "at": "2010-01-01T00:03:00Z"}'
    assert codes(translate(archive, old, context)) == (["clock_reset", "no_time"], [])
    portal = replace(archive, time_source="server")
    assert codes(translate(portal, old, context)) == ([], [])
    to_come = b'{"id": "1", "pm": 1, "at": "2226-01-01T00:03:00Z"}'
    assert codes(translate(portal, to_come, context)) == (["future_time", "no_time"], [])


def test_whose_clock_is_wrong_is_told_once_for_each_device() -> None:
    made = become({"id": "1", "pm": 1, "at": 12}, {"id": "1", "pm": 2, "at": 13}, {"id": "2", "pm": 3})
    [clock] = made.wrong_clocks
    assert clock.code == "clock_reset"
    assert clock.station != made.readings[0].station
    server = replace(MADE, time_source="server")
    assert translate(server, b'{"id": "1", "pm": 1, "at": 12}', Context(received_at=NOW)).wrong_clocks == ()


@pytest.mark.parametrize(
    ("position", "told"),
    [
        ((52.5, "13.4"), {"latitude": 52.5, "longitude": 13.4}), ((0, 0), {}), ((-200, -200), {}),
        ((91, 0), {}), ((None, 13.4), {}), (("nan", 13.4), {}),
    ],
)  # fmt: skip
def test_a_position_is_one_or_none(position: tuple[object, object], told: dict[str, float]) -> None:
    def read(payload: Node, tray: Tray) -> None:
        tray.fact(tray.device("s"), "name", payload["name"])
        tray.place(tray.device("s"), payload["lat"], payload["lon"])

    adapter = replace(MADE, read=read)
    payload = json.dumps({"lat": position[0], "lon": position[1], "name": "Roof"}).encode()
    (facts,) = translate(adapter, payload, Context(received_at=NOW)).facts
    expected = {"station": "s", "name": "Roof"} | told
    assert {key: value for key, value in facts._asdict().items() if value not in ("", None)} == expected


def test_without_a_time_it_is_that_of_arrival_and_said() -> None:
    for receiver in ("broker", "server"):
        (reading,) = (made := become({"pm": 1, "at": None}, receiver=receiver)).readings
        assert (reading.observed_at, reading.time_source) == (NOW, receiver)
        assert [remark.code for remark in made.remarks] == ["no_stamp"]


def test_a_backlog_is_told_and_kept() -> None:
    made = become(*({"pm": hour, "at": f"2026-08-20T{hour:02}:00:00Z"} for hour in range(24)))
    assert len(made.readings) == 24
    assert [(remark.code, remark.times) for remark in made.remarks] == [("backlog", 24)]


def test_what_is_known_is_left_out_what_is_not_is_refused_by_name() -> None:
    made = become({"pm": 1, "radio": {"rssi": -3}, "big_count": 7, "new": {"thing": [5, None, ""]}})
    assert [(part.code, part.where) for part in made.left_out] == [
        ("no_reading", "[0].radio"),
        ("no_reading", "[0].big_count"),
    ]
    assert [(part.code, part.where) for part in made.refused] == [("unknown", "[0].new.thing[0]")]


def test_a_key_that_is_there_twice_counts_only_where_it_agrees() -> None:
    context = Context(received_at=NOW, station="s")
    assert codes(translate(MADE, b'{"pm": 1, "pm": 1}', context)) == ([], [])
    assert codes(translate(MADE, b'{"pm": 1, "pm": 2}', context)) == (["twice"], ["missing"])


def test_names_are_bounded_and_the_rest_is_counted() -> None:
    made = become({f"k{index}": 1 for index in range(1000)})
    assert len(made.refused) == 65
    assert sum(part.times for part in made.refused) == 1000


def test_values_entries_parts_and_depth_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_VALUES", 3)
    made = become(*({"pm": second, "at": f"2026-08-21T09:00:{second:02}Z"} for second in range(5)))
    assert len(made.readings) == 3
    assert "too_many" in codes(made)[0]
    monkeypatch.setattr(ledger, "MAX_LOOKS", 3)
    assert len(become(*({"pm": 1, "id": f"{index}"} for index in range(5))).readings) == 3
    monkeypatch.setattr(ledger, "MAX_LOOKS", 1000)
    monkeypatch.setattr(core, "MAX_PATHS", 2)
    assert "too_many_parts" in codes(become({"a": 1, "b": 2, "c": 3}))[0]
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    monkeypatch.setattr(core, "MAX_PATHS", 2000)
    assert codes(become({"deep": deep})) == (["too_deep"], [])


@given(st.text(max_size=90), st.text(max_size=90))
def test_ids_are_a_stations_and_two_stay_two(one: str, other: str) -> None:
    assert re.fullmatch(STATION_PATTERN, station_id(one))
    assert (station_id(one) == station_id(other)) == (one == other)


def test_the_way_in_names_the_station_of_a_payload_of_one() -> None:
    context = Context(received_at=NOW, station="gate")
    one, many = (replace(MADE, many=many) for many in (False, True))
    assert translate(one, b'{"id": "7", "pm": 1}', context).readings[0].station == "gate"
    assert translate(many, b'{"id": "7", "pm": 1}', context).readings[0].station == "x-7"
    assert translate(many, b'{"pm": 1}', context).readings[0].station == "gate"
    assert codes(translate(many, b'{"pm": 1}', Context(received_at=NOW))) == (["no_station"], [])


def test_more_values_than_a_message_may_have_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(payload: Node, tray: Tray) -> None:
        draft = tray.draft(tray.device("s"))
        for key, node in payload.items():
            draft.take(node, Field("pm25", "ug/m3", sensor=key))

    adapter = Adapter(name="a", title="a", versions="a", arrives="a", correction="a", read=read)
    payload = json.dumps({f"s{index}": 1 for index in range(600)}).encode()
    made = translate(adapter, payload, Context(received_at=NOW))
    assert [len(reading.values) for reading in made.readings] == [256, 256, 88]
    monkeypatch.setattr(ledger, "MAX_VALUES", 300)
    made = translate(adapter, payload, Context(received_at=NOW))
    assert [len(reading.values) for reading in made.readings] == [256, 44]
    assert {part.code for part in made.refused} == {"too_many", "more"}
    assert sum(part.times for part in made.refused) == 300


def test_tables_lines_by_themselves() -> None:
    rows = b'id;at;pm\r\n1;2026-08-21T09:00:00Z;1,5\r\n1;"2026;2\r\n1;2026-08-21T09:02:00Z;3\r\n1;4\r\n'
    made = translate(replace(MADE, form="table"), b"\xef\xbb\xbf" + rows, Context(received_at=NOW))
    assert [v.value for r in made.readings for v in r.values] == [1.5, 3.0]
    assert [(part.code, part.where) for part in made.refused] == [
        ("not_a_row", "line[3]"),
        ("not_a_row", "line[5]"),
    ]
    latin = translate(
        replace(MADE, form="table"),
        "id,at,pm,µ\n1,2026-08-21T09:00:00Z,1,\n".encode("latin-1"),
        Context(received_at=NOW),
    )
    assert [remark.code for remark in latin.remarks] == ["not_utf8"]
    twice = translate(replace(MADE, form="table"), b"id,at,pm,pm\n1,2,3,4\n", Context(received_at=NOW))
    assert codes(twice) == (["twice"], [])
