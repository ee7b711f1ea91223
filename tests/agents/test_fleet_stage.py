"""The fleet's stage: what it told last is what it goes on with, wherever a crash falls."""

import asyncio
import random
from dataclasses import dataclass, field

import msgspec
from aiokafka import ConsumerRecord

from agents.fleet import FleetStage
from alerting.rules import AlertRules, Rule
from schemas.alert import Alert
from schemas.base import from_ms
from schemas.device import DeviceReport, SourceState
from schemas.health import StationHealth
from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.reading import Reading, Value, encode
from streams.accept import Keys
from streams.metrics import REGISTRY
from streams.stage import StageIo

READINGS, FEATURES, DEVICES, STATIONS = "aq.readings.v1", "aq.features.v1", "aq.devices.v1", "aq.stations.v1"
T0 = 1_787_306_400_000
MINUTE = 60_000


def record(topic, offset, station, value, at):
    key = station if isinstance(station, bytes) else station.encode()
    return ConsumerRecord(topic, 0, offset, at, 1, key, value, None, 0, 0, [])


def reading(offset, station, at, stamped=None, **more):
    value = Value(parameter="pm25", value=9.0, unit="ug/m3")
    one = Reading(station=station, observed_at=from_ms(stamped or at), values=(value,), **more)
    return record(READINGS, offset, station, encode(one), at)


def report(offset, station, at, **more):
    text = DeviceReport(station=station, at=from_ms(at), **more).model_dump_json()
    return record(DEVICES, offset, station, text.encode(), at)


@dataclass
class World:
    """The broker as the stage sees it."""

    now: float = T0 / 1000
    fleet: dict[bytes, bytes] = field(default_factory=dict)
    #: By id and sequence.
    alerts: dict[tuple[str, int], Alert] = field(default_factory=dict)
    rules: AlertRules = field(default_factory=AlertRules)
    committed: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def publish(self, out):
        for one in out:
            if one.topic == "aq.alerts.v1":
                event = Alert.model_validate_json(one.value)
                assert (one.key.decode(), one.partition) == (event.id, 0)
                # What is told again is the same again.
                assert self.alerts.setdefault((event.id, event.sequence), event) == event
                continue
            assert one.topic == "aq.fleet.v1"
            if one.value is None:
                self.fleet.pop(one.key, None)
            else:
                self.fleet[one.key] = one.value

    def open(self):
        io = StageIo(0, self.publish, committed=self.committed, clock=lambda: self.now)
        return FleetStage(io, Keys(1), list(self.fleet.values()), lambda: self.rules)

    def settle(self, stage, dies=False):
        """`dies`: after the records are out, and before the commit."""
        settled = asyncio.run(stage.settle())
        if not dies:
            self.committed.update(settled)

    def health(self, station):
        return StationHealth.model_validate_json(self.fleet[station.encode()])


def log(draw):
    records, now = [], T0
    offsets = {READINGS: 0, DEVICES: 0}
    for _ in range(120):
        now += draw.randrange(40_000)
        station = draw.choice(["a", "b", "c"])
        if draw.random() < 0.1:
            at = from_ms(now)
            state = draw.choice(["ok", "timeout"])
            source = SourceState(
                source="camera mast", state=state, well=state == "ok", since=at, reported_at=at
            )
            records.append(report(offsets[DEVICES], station, now, source=source))
            offsets[DEVICES] += 1
        elif draw.random() < 0.2:
            records.append(report(offsets[DEVICES], station, now, battery_percent=draw.randrange(100)))
            offsets[DEVICES] += 1
        else:
            own = draw.choice(["device", "server", None])
            records.append(
                reading(offsets[READINGS], station, now, now - draw.randrange(9_000), time_source=own)
            )
            offsets[READINGS] += 1
    return records


def rule(trouble, **more):
    return Rule(
        id=trouble, what="trouble", trouble=trouble, steps=({"severity": "minor", "enter": 1},), **more
    )


RULES = AlertRules(rule=(rule("battery"), rule("camera", open_after="1m", clear_after="30s"), rule("clock")))


def test_a_crash_anywhere_gives_the_same_fleet():
    told = set()
    for seed in range(20):
        draw = random.Random(seed)
        records = log(draw)
        calm, rough = World(rules=RULES), World(rules=RULES)
        for world, crashes in ((calm, False), (rough, True)):
            stage, at = world.open(), 0
            while at < len(records):
                one = records[at]
                world.now = one.timestamp / 1000
                asyncio.run(stage.handle(one.topic, [one]))
                at += 1
                if draw.random() < 0.3:
                    world.settle(stage)
                if crashes and draw.random() < 0.08:
                    world.settle(stage, dies=True)
                    asyncio.run(stage.close())
                    stage = world.open()
                    ends = {topic: offset for topic, (offset, _) in world.committed.items()}
                    done = [n for n, one in enumerate(records[:at]) if one.offset >= ends.get(one.topic, 0)]
                    for number in done:  # they are read again, topic by topic in order
                        asyncio.run(stage.handle(records[number].topic, [records[number]]))
            world.now += 60
            world.settle(stage)
            asyncio.run(stage.close())
        assert rough.committed == calm.committed
        for station in calm.fleet:
            assert rough.health(station.decode()) == calm.health(station.decode())
        assert rough.alerts == calm.alerts
        told |= {(alert.rule, alert.event) for alert in calm.alerts.values()}
    assert told == {(rule, event) for rule in ("battery", "camera") for event in ("open", "clear")}


def test_what_cannot_be_read_or_is_misplaced_stops_nobody():
    world = World()
    stage = world.open()
    strange = [
        b"",
        b"{",
        b"[]",
        b'{"station": 5}',
        b'{"station": "\xff", "observed_at": "soon"}',
        b"\xff" * 9,
        b'{"more": ' + b"[" * 5000,
    ]
    for offset, value in enumerate([*strange, None, b"x" * 2_000_000]):
        for topic in (READINGS, FEATURES, DEVICES):
            asyncio.run(stage.handle(topic, [record(topic, offset, "a", value, T0)]))
    for offset, station in enumerate(["my roof!", "", "x" * 65, "..", "ä"], 9):
        one = msgspec.json.encode({"station": station, "observed_at": "2026-08-21T10:00:00Z"})
        asyncio.run(stage.handle(READINGS, [record(READINGS, offset, station, one, T0)]))
    for at in (-1, T0 + 2 * 86_400_000, 2**62):
        asyncio.run(stage.handle(READINGS, [record(READINGS, 14, "a", reading(14, "a", T0).value, at)]))
    misplaced = record(READINGS, 15, b"other", reading(15, "b", T0).value, T0)
    asyncio.run(stage.handle(READINGS, [misplaced]))
    world.settle(stage)
    assert world.fleet == {}
    assert world.committed[READINGS] == (16, "")
    asyncio.run(stage.handle(READINGS, [reading(16, "a", T0)]))
    world.now += 20
    world.settle(stage)
    assert set(world.fleet) == {b"a"}


def test_a_week_of_old_readings_is_passed_over():
    world = World()
    stage = world.open()
    asyncio.run(stage.handle(READINGS, [reading(0, "a", T0 - 2 * 86_400_000), reading(1, "b", T0)]))
    world.settle(stage)
    assert set(world.fleet) == {b"b"}


def test_a_retired_station_leaves_and_one_that_speaks_after_it_stays():
    world = World()
    stage = world.open()
    for offset, (station, at) in enumerate([("a", T0), ("b", T0), ("b", T0 + 3 * MINUTE)]):
        asyncio.run(stage.handle(READINGS, [reading(offset, station, at)]))
    world.settle(stage)
    for station in ("a", "b"):
        asyncio.run(stage.handle(STATIONS, [record(STATIONS, 0, station, None, T0 + MINUTE)]))
    assert set(world.fleet) == {b"b"}


def sample(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


def test_gauges_follow_time_and_are_given_back():
    world = World()
    before = {state: sample("aq_fleet_stations", state=state) or 0 for state in ("online", "silent")}
    stage = world.open()
    for number in range(5):
        asyncio.run(stage.handle(READINGS, [reading(number, "a", T0 + number * MINUTE)]))
    asyncio.run(stage.handle(DEVICES, [report(0, "a", T0 + 4 * MINUTE, battery_percent=3)]))
    source = SourceState(
        source="camera mast", state="timeout", well=False, since=from_ms(T0), reported_at=from_ms(T0)
    )
    asyncio.run(stage.handle(DEVICES, [report(1, "b", T0 + 4 * MINUTE, source=source)]))
    world.now = T0 / 1000 + 300
    asyncio.run(stage.tick())
    assert sample("aq_fleet_unwell", station="b", why="camera") == 1
    assert sample("aq_fleet_unwell", station="b", why="unheard") == 1
    assert sample("aq_fleet_stations", state="online") == before["online"] + 1
    assert sample("aq_fleet_unwell", station="a", why="battery") == 1
    world.now += 3600
    asyncio.run(stage.tick())
    assert sample("aq_fleet_stations", state="online") == before["online"]
    assert sample("aq_fleet_stations", state="silent") == before["silent"] + 1
    assert sample("aq_fleet_unwell", station="a", why="silent") == 1
    world.now += FORGOTTEN_AFTER_MS / 1000
    asyncio.run(stage.tick())
    assert sample("aq_fleet_unwell", station="a", why="silent") is None
    assert world.fleet == {}
    asyncio.run(stage.close())
    assert sample("aq_fleet_stations", state="silent") == before["silent"]


def told_of(world):
    return [
        (one.rule, one.event, one.sequence, round(one.at.timestamp() * 1000 - T0) // MINUTE)
        for one in sorted(world.alerts.values(), key=lambda one: (one.at, one.rule, one.sequence))
    ]


def test_troubles_of_a_station_are_alerts():
    """By hand: a clock three minutes ahead, a battery of 12 and then 80 %, a camera that fails."""
    clock = rule("clock", open_after="10m", clear_after="5m")
    world = World(rules=AlertRules(rule=(clock, *RULES.rule[:2])))
    stage = world.open()

    def at(minute, *records):
        world.now = T0 / 1000 + minute * 60
        for one in records:
            asyncio.run(stage.handle(one.topic, [one]))

    source = SourceState(
        source="camera mast", state="timeout", well=False, since=from_ms(T0), reported_at=from_ms(T0)
    )
    at(5, report(0, "a", T0 + 5 * MINUTE, battery_percent=12))
    at(6, report(1, "a", T0 + 6 * MINUTE, source=source))
    for minute in range(10, 70):
        now = T0 + minute * MINUTE
        ahead = 3 * MINUTE if minute < 30 else 0
        at(minute, reading(minute, "a", now, now + ahead, time_source="device"))
    still = source.model_copy(update={"reported_at": from_ms(T0 + 70 * MINUTE)})
    at(70, report(2, "a", T0 + 70 * MINUTE, source=still))
    at(71, report(3, "a", T0 + 71 * MINUTE, battery_percent=80))
    well = still.model_copy(update={"state": "ok", "well": True})
    at(72, report(4, "a", T0 + 72 * MINUTE, source=well), report(5, "a", T0 + 73 * MINUTE, source=well))
    # The clock is known to be off from the third arrival on (12), for ten minutes at 22. Of the 32 arrivals
    # that are remembered the ninth largest counts: with the 24th true one (53) eight are ahead, so it is
    # right from then on, for five minutes at 58.
    assert told_of(world) == [
        ("battery", "open", 0, 5),
        ("clock", "open", 0, 22),
        ("clock", "clear", 1, 58),
        ("camera", "open", 0, 70),
        ("battery", "clear", 1, 71),
        ("camera", "clear", 1, 73),
    ]
    [opened] = [one for one in world.alerts.values() if one.rule == "battery" and one.event == "open"]
    assert opened.reason.startswith("its battery is low since 2026-08-21T10:05:00Z")
    assert opened.id == "a/battery/2026-08-21T10:05:00Z"


def test_a_clock_whose_times_are_refused_is_an_alert_until_it_is_believed():
    world = World(rules=AlertRules(rule=(rule("clock", open_after="10m", clear_after="5m"),)))
    stage = world.open()
    at = T0
    for number in range(30):
        at = T0 + number * MINUTE
        source = SourceState(
            source="clock", state="clock_reset", well=False, since=from_ms(at), reported_at=from_ms(at)
        )
        world.now = at / 1000
        asyncio.run(stage.handle(DEVICES, [report(number, "a", at, source=source)]))
    for number in range(20):
        now = at + (number + 1) * MINUTE
        world.now = now / 1000
        asyncio.run(stage.handle(READINGS, [reading(number, "a", now, time_source="device")]))
    assert told_of(world) == [("clock", "open", 0, 10), ("clock", "clear", 1, 35)]


def test_a_rule_that_goes_and_a_station_that_leaves_end_their_alerts():
    world = World(rules=RULES)
    stage = world.open()
    for offset, station in enumerate("ab"):
        asyncio.run(stage.handle(DEVICES, [report(offset, station, T0, battery_percent=3)]))
    asyncio.run(stage.handle(STATIONS, [record(STATIONS, 0, "a", None, T0 + MINUTE)]))
    assert told_of(world) == [
        ("battery", "open", 0, 0),
        ("battery", "open", 0, 0),
        ("battery", "clear", 1, 1),
    ]
    world.rules = AlertRules(rule=RULES.rule[1:])
    world.now += 60
    asyncio.run(stage.tick())
    [gone] = [one for one in world.alerts.values() if one.station == "b" and one.event == "clear"]
    assert gone.reason == "withdrawn: the rule battery was changed or removed"
    world.settle(stage)
    assert world.health("b").alerts == ()
    asyncio.run(stage.close())
