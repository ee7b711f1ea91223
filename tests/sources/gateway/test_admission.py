"""Who is let in at the gateway, and what devices say of themselves."""

import asyncio
import json
from collections import OrderedDict

import pytest

from schemas.base import from_ms
from schemas.device import DeviceReport
from schemas.reading import READING_EXAMPLE, Reading
from schemas.times import MINUTE_MS
from settings.sections import GatewaySettings
from sources.adapters.core.translation import Facts
from sources.gateway import remembered
from sources.gateway.admission import Admission
from sources.gateway.arrival import Picture
from sources.gateway.devices import DeviceReporter, SourceChange
from sources.gateway.errors import KafkaAway
from sources.gateway.key_scope import KeyScope
from sources.gateway.reception import Reception
from streams.topics import DEVICES, QUARANTINE, QUARANTINED_FRAMES, READINGS
from tests.sources.cameras.servers import picture
from tests.sources.gateway.desk import NOW, Log, arrival, desk

HOUR = 3_600_000


def reading(station, at=NOW):
    values = [{"parameter": "pm25", "value": 9.0, "unit": "ug/m3"}]
    return json.dumps({"station": station, "observed_at": at, "values": values})


def take(reception, station, **more):
    return asyncio.run(reception.take(arrival("skyfuse-json", reading(station), **more)))


def test_strangers_wait_and_all_others_are_let_in():
    known, ready = {"roof"}, True
    reception, log = desk(Admission(("school-*",), known.__contains__, lambda: ready))
    for station, scope in (
        ("roof", KeyScope(("*",))),
        ("school-7", KeyScope(("*",))),
        ("mine", KeyScope(("mine",))),
    ):
        said = take(reception, station, scope=scope).remarks
        assert "waits" not in {part.code for part in said}
    waits = take(reception, "stranger", origin="10.0.0.7")
    assert "skyfuse stations adopt stranger" in waits.remarks[-1].why
    assert [one.key for one in log.readings] == [b"roof", b"school-7", b"mine"]
    (kept,) = log.on(QUARANTINE.name)
    assert kept.key == b"stranger"
    assert dict(kept.headers)["x-gateway-origin"] == b"10.0.0.7"
    known.add("stranger")
    take(reception, "stranger")
    assert log.readings[-1].key == b"stranger"


def test_before_the_records_are_read_nobody_is_taken_for_a_stranger():
    reception, log = desk(Admission((), lambda _: False, lambda: False))
    with pytest.raises(KafkaAway):
        take(reception, "roof")
    assert log.records == []


BOX = (45.3, 9.0, 45.6, 9.4)


@pytest.mark.parametrize(
    ("place", "let_in"),
    [((45.46, 9.19), True), ((45.3, 9.0), True), ((45.7, 9.19), False), ((45.46, 9.5), False), (None, False)],
)
def test_who_says_that_it_stands_in_the_region_is_let_in(place, let_in):
    admission = Admission((), lambda _: False, lambda: True, [BOX])
    reception, log = desk(admission)
    body = {"SensorId": "84:f3:eb:7b:c8:ee", "DateTime": "2026/08/21T09:59:56z", "pm2_5_cf_1": 15.5}
    plain = json.dumps(body)
    if place is not None:
        body |= {"lat": place[0], "lon": place[1]}
    fleet = KeyScope(("*",))
    asyncio.run(reception.take(arrival("purpleair", json.dumps(body), scope=fleet)))
    asyncio.run(reception.take(arrival("purpleair", plain, scope=fleet)))  # it says so once
    assert len(log.readings) == (2 if let_in else 0)
    assert len(log.on(QUARANTINE.name)) == (0 if let_in else 2)


def test_a_region_may_reach_over_the_date_line():
    fiji = Admission((), lambda _: False, lambda: True, [(-20.0, 176.0, -15.0, -178.0)])
    places = {"a": 177.0, "b": -179.0, "c": 0.0}
    facts = [Facts(name, latitude=-17.0, longitude=east) for name, east in places.items()]
    topics = []
    for name in ("a", "b", "c"):
        one = Reading.model_validate_json(reading(name))
        topics.append(fiji.of_reading(one, arrival("skyfuse-json", b"", scope=KeyScope(("*",))), facts))
    assert topics == [READINGS, READINGS, QUARANTINE]


def test_what_the_operator_has_named_is_let_in():
    reception, log = desk(Admission((), lambda _: False, lambda: True))
    asyncio.run(reception.take(arrival("skyfuse-json", reading("roof"), station="roof")))
    assert len(log.readings) == 1
    asyncio.run(reception.take_picture(Picture("roof", NOW, picture(1), NOW, "camera")))
    assert len(log.frames) == 1


@pytest.mark.parametrize("vouched", [True, False])
def test_a_key_of_its_own_knows_a_station_and_a_topic_does_not(vouched):
    reception, log = desk(Admission((), lambda _: False, lambda: True))
    scope = KeyScope(("roof",), vouched=vouched)
    asyncio.run(reception.take(arrival("skyfuse-json", reading("roof"), scope=scope)))
    assert (len(log.readings), len(log.on(QUARANTINE.name))) == ((1, 0) if vouched else (0, 1))


def test_pictures_of_strangers_wait_too_one_a_minute():
    known: set[str] = set()
    reception, log = desk(Admission((), known.__contains__, lambda: True))
    fleet = KeyScope(("*",))

    def send(at):
        shot = Picture("stranger", at, picture(1), at, "http", origin="10.0.0.7", scope=fleet)
        return asyncio.run(reception.take_picture(shot))

    first, second = send(NOW), send(NOW + 30_000)
    send(NOW + 60_000)
    assert first.remarks[0].code == second.remarks[0].code == "waits"
    assert (first.published, second.published) == (1, 0)
    assert log.frames == []
    kept = log.on(QUARANTINED_FRAMES.name)
    times = [dict(one.headers)["ce_time"] for one in kept]
    assert times == [b"2026-08-21T10:00:00Z", b"2026-08-21T10:01:00Z"]
    assert dict(kept[0].headers)["x-gateway-adapter"] == b"frame"
    known.add("stranger")
    send(NOW + 61_000)
    assert len(log.frames) == 1


def reporter():
    log = Log()
    one = DeviceReporter(log, "")
    return Reception(log, GatewaySettings(), listeners=[one]), log, one


def reports(log):
    return [DeviceReport.model_validate_json(one.value) for one in log.on(DEVICES.name)]


LOCAL = '{"serialno": "ecda3b1eaaaf", "pm02": 7, "firmware": "%s", "model": "I-9PSL"}'


def test_facts_are_told_where_they_change_and_again_every_hour():
    reception, log, one = reporter()
    for number, firmware in enumerate(["3.1", "3.1", "3.2"]):
        asyncio.run(reception.take(arrival("airgradient", LOCAL % firmware, received_at=NOW + number)))
        asyncio.run(one.report())
    assert [found.firmware for found in reports(log)] == ["3.1", "3.2"]
    asyncio.run(reception.take(arrival("airgradient", LOCAL % "3.2", received_at=NOW + HOUR + 9)))
    asyncio.run(one.report())
    assert len(reports(log)) == 3


def test_two_addresses_in_turns_are_told_and_a_new_address_is_not():
    reception, log, one = reporter()
    for number, origin in enumerate(["a", "a", "b", "b", "b"]):  # it got another address
        take(reception, "roof", origin=origin, received_at=NOW + number)
    asyncio.run(one.report())
    assert reports(log) == []
    for number, origin in enumerate(["a", "b", "a"]):
        take(reception, "roof", origin=origin, received_at=NOW + 9 + number)
    asyncio.run(one.report())
    assert reports(log)[-1].origins == ("a", "b")
    for number in range(3):  # the other one is gone
        take(reception, "roof", origin="a", received_at=NOW + (2 + number) * HOUR)
    asyncio.run(one.report())
    assert reports(log)[-1].origins == ()


def test_births_and_wills_wait_while_kafka_is_away():
    reception, log, one = reporter()
    reception.link_changed("roof", True, NOW, "broker")
    reception.link_changed("roof", False, NOW + 5, "broker")
    log.there = False
    asyncio.run(one.report())
    assert log.records == []
    log.there = True
    asyncio.run(one.report())
    assert [found.online for found in reports(log)] == [True, False]


def test_how_a_camera_does_is_told_where_it_changes_and_again_every_hour():
    now = NOW / 1000
    log = Log()
    one = DeviceReporter(log, "", now=lambda: now)
    bad = SourceChange("roof", "camera mast", "unauthorized", "x" * 500, False)
    one.source_changed(bad)
    one.source_changed(bad._replace(source="pull cloud"))
    asyncio.run(one.report())
    assert [(found.source.source, found.source.state) for found in reports(log)] == [
        ("camera mast", "unauthorized"),
        ("pull cloud", "unauthorized"),
    ]
    one.report_again()
    asyncio.run(one.report())
    assert len(reports(log)) == 2
    now += 3601
    one.report_again()
    asyncio.run(one.report())
    again = reports(log)[2].source
    assert again.since == from_ms(NOW)
    assert again.reported_at > again.since
    one.source_changed(bad._replace(state="ok", well=True))
    asyncio.run(one.report())
    assert reports(log)[-1].source.well


def test_a_clock_that_is_not_believed_is_told_once_a_minute_until_it_is():
    reception, log, one = reporter()

    def send(after_s, year):
        body = (
            f'{{"station": "roof", "observed_at": "{year}-08-21T09:59:00Z",'
            ' "values": [{"parameter": "pm25", "value": 1, "unit": "ug/m3"}]}'
        )
        at = NOW + 1000 * after_s
        asyncio.run(reception.take(arrival("skyfuse-json", body, received_at=at)))
        asyncio.run(one.report())
        return [(found.source.source, found.source.state, found.source.well) for found in reports(log)]

    wrong = ("clock", "future_time", False)
    assert send(0, 2226) == [wrong]
    assert send(59, 2226) == [wrong]
    assert send(60, 2226) == [wrong] * 2
    assert send(70, 2026) == [wrong] * 2
    assert send(80, 2226) == [wrong] * 3


def test_of_strangers_that_wait_the_fleet_hears_nothing():
    log, known = Log(), {"roof"}
    one = DeviceReporter(log, "")
    admission = Admission((), known.__contains__, lambda: True)
    reception = Reception(log, GatewaySettings(), admission=admission, listeners=[one])
    message = '{"station": "%s", "observed_at": "2226-08-21T09:59:00Z", "values": [%s]}'
    for station in ("roof", "stranger"):
        value = '{"parameter": "pm25", "value": 1, "unit": "ug/m3"}'
        for adapter, body in (
            ("skyfuse-json", message % (station, value)),
            ("thingsboard", '{"battery": 7, "pm25": 3}'),
        ):
            sent = arrival(adapter, body, station=station, scope=KeyScope(("*",)))
            asyncio.run(reception.take(sent))
        reception.link_changed(station, True, NOW, "broker")
    asyncio.run(one.report())
    assert {found.station for found in reports(log)} == {"roof"}
    assert len(reports(log)) == 3  # of its clock, its battery, and its birth


def test_of_stations_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 3)
    known: OrderedDict[str, int] = OrderedDict()
    for at, station in enumerate(("a", "b", "c", "a", "d", "e")):
        remembered.remember(known, station, at)
    assert list(known.items()) == [("a", 3), ("d", 4), ("e", 5)]


def test_what_cannot_be_used_at_all_is_told_of_a_newcomer_at_once_and_else_the_third_time():
    reception, log, one = reporter()
    good = READING_EXAMPLE.replace("my-roof", "roof")
    numbers = iter(range(100))

    def send(body, station="roof"):
        at = NOW + MINUTE_MS * next(numbers)
        asyncio.run(reception.take(arrival("skyfuse-json", body, station=station, received_at=at)))
        asyncio.run(one.report())
        return [(found.station, found.source.state) for found in reports(log) if found.source is not None]

    told = send('{"a": 1}', station="new")
    assert told == []  # something of which nobody knows what it is: a letter says so
    value = '{"parameter": "pm25", "value": 1, "unit": "ug/m3"}'
    bad = f'{{"station": "%s", "observed_at": "x", "values": [{value}]}}'
    assert [name for name, _ in send(bad % "new", station="new")] == ["new"]
    send(good)
    send(bad % "roof")
    assert len(send(bad % "roof")) == 1
    send(good)
    send(bad % "roof")
    assert len(send(bad % "roof")) == 1
    assert [name for name, _ in send(bad % "roof")] == ["new", "roof"]
