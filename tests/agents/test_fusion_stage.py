"""A fusion worker dies anywhere and its successor goes on: the same bytes, from what the topics hold alone.

The worker's own `open`, join, assessor and checkpoints are real; only the broker is a list.
"""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import agents.fusion
from agents.builders import FusionBuilder
from agents.fusion import FusionStage
from schemas.amendment import AMENDMENT_TYPE, AmendedHour, Amendment
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.features import Punctuation
from schemas.station import Sensor, Station
from settings.sections import KafkaSettings, Settings, WindowSettings
from streams import topics
from streams.accept import PUNCTUATION_TYPE
from streams.cadences import CADENCE
from streams.checkpoint import AT
from streams.join import Close, Settled, WindowView
from streams.stage import Committed, Out, StageIo
from tests.agents.test_boundary import Log, Record
from tests.fusion.town import DAY, MINUTE, SECOND, reading, value

READINGS, FEATURES = topics.READINGS.name, topics.FEATURES.name
WINDOW = WindowSettings(allowed_lateness=timedelta(minutes=3), idle_timeout=None)
#: When the readings end, and a time at which all that they are inputs of is final and settled.
OVER, LATER = DAY + 40 * MINUTE, DAY + 120 * MINUTE


def punctuation(log: Log, topic: topics.Topic, at: int) -> Record:
    body = Punctuation(kind="watermark", at=from_ms(at)).model_dump_json().encode()
    return log.record(topic, None, body, [("ce_type", PUNCTUATION_TYPE)], timestamp=at)


@cache
def logs() -> Mapping[str, list[Record]]:
    """Three stations with a rhythm of their own; one is corrected, one has doubtful values and gaps."""
    log, dice = Log(), random.Random(3)
    station = Station(
        station="c", sensors=(Sensor(sensor="main", parameters=("pm25",), correction="barkjohn-2021"),)
    )
    messages: list[dict[str, Any]] = []
    for name, every, skip in (("a", 145, 0.0), ("b", 61, 0.2), ("c", 290, 0.1)):
        for number in count():
            at = DAY + (number * every + dice.randint(-2, 2) + 5) * SECOND
            if at >= OVER:
                break
            if dice.random() < skip:
                continue
            level = 20.0 + dice.uniform(-3, 3) + (400 if name == "b" and number % 13 == 7 else 0)
            values = [value("pm25", round(level, 2), channel="cf_1" if name == "c" else "value")]
            if name == "c" and number % 2 == 0:
                values.append(value("relativehumidity", round(dice.uniform(40, 60), 1), "%"))
            messages.append(reading(name, at, *values))
    messages.sort(key=lambda message: message["observed_at"])
    readings = [
        log.record(
            topics.READINGS, message["station"].encode(), json.dumps(message).encode(),
            timestamp=message["observed_at"] + 500,
        )
        for message in messages
    ]  # fmt: skip
    return {
        topics.STATIONS.name: [
            log.record(topics.STATIONS, b"c", station.model_dump_json().encode(), timestamp=DAY)
        ],
        FEATURES: [punctuation(log, topics.FEATURES, LATER)],
        READINGS: [*readings, punctuation(log, topics.READINGS, LATER)],
    }


@dataclass
class Kept:
    """A record of a compacted topic."""

    key: bytes
    value: bytes
    headers: Iterable[tuple[str, bytes | None]]


class Died(Exception):
    """The worker was killed."""


class World(FusionBuilder):
    """The broker's side of the story, and a worker that may die at every step."""

    def __init__(self) -> None:
        settings = Settings(
            data_dir=Path("unused"), kafka=KafkaSettings(bootstrap="unused", partitions=1), window=WINDOW
        )
        super().__init__(settings)
        self.state: dict[bytes, Kept] = {}
        self.estimates: dict[tuple[str, int], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.letters: list[Out] = []
        self.committed: dict[str, tuple[int, str]] = {}
        self.opened = 0
        self.stage: FusionStage

    async def compacted(self, topic: topics.Topic, partition: int) -> Mapping[bytes, Any]:
        assert partition == 0
        if topic == topics.STATIONS:
            return {record.key: record for record in logs()[topic.name] if record.key is not None}
        assert topic == topics.STATE
        return dict(self.state)

    async def publish(self, records: Iterable[Out]) -> None:
        for out in records:
            if out.topic == topics.STATE.name:
                assert out.key is not None
                assert out.value is not None
                self.state[out.key] = Kept(out.key, out.value, out.headers)
            elif out.topic == topics.ESTIMATES.name:
                estimate = Estimate.model_validate_json(out.value or b"")
                key = estimate.station, to_ms(estimate.window.end)
                self.estimates[key][estimate.revision].add((out.value or b"").decode())
            else:
                self.letters.append(out)

    def io(self, partition: int, committed: Committed) -> StageIo:
        return replace(super().io(partition, committed), clock=lambda: LATER / 1000)

    async def start(self) -> None:
        stage = await self.open(0, self.committed)
        assert isinstance(stage, FusionStage)
        self.stage = stage
        self.opened += 1
        self.at = {topic: self.committed.get(topic, (0, ""))[0] for topic in (FEATURES, READINGS)}
        # Its station records are restored from the topic; what is committed of them does not matter.

    async def read(self, topic: str, records: int) -> None:
        log, start = logs()[topic], self.at[topic]
        batch = log[start : start + records]
        if batch:
            await self.stage.handle(topic, batch)
            self.at[topic] = start + len(batch)

    async def commit(self, torn: bool = False) -> None:
        settled = await self.stage.settle()
        if torn:
            raise Died
        self.committed |= settled
        self.stage.committed()

    def last(self) -> dict[tuple[str, int], set[str]]:
        """The newest revision of each window: its bytes."""
        return {key: revisions[max(revisions)] for key, revisions in self.estimates.items()}


async def lived(dice: random.Random | None) -> World:
    """A worker's life without any death, or with many, by the dice."""
    world = World()
    await world.start()
    while world.at[READINGS] < len(logs()[READINGS]) or world.at[FEATURES] < 1:
        try:
            await world.read(FEATURES, 1)
            await world.read(READINGS, 6 if dice is None else dice.randint(1, 9))
            fate = 0.5 if dice is None else dice.random()
            if fate < 0.12:
                raise Died
            if fate < 0.7:
                await world.commit(torn=fate < 0.3)
        except Died:
            await world.start()
    await world.commit()
    return world


@cache
def straight() -> World:
    return asyncio.run(lived(None))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_worker_that_is_killed_at_any_step_publishes_the_same_bytes(seed: int) -> None:
    world = asyncio.run(lived(random.Random(seed)))
    assert world.opened > 6
    assert all(len(found) == 1 for revisions in world.estimates.values() for found in revisions.values())
    for key, revisions in straight().estimates.items():
        for revision in revisions.keys() & world.estimates[key].keys():
            assert revisions[revision] == world.estimates[key][revision]
    assert world.last() == straight().last()
    assert {name for name, _ in world.last()} == {"a", "b", "c"}
    assert not world.letters
    # What is left for a successor is the same too, whatever slot it lies in.
    assert newest(world) == newest(straight())


async def at_once() -> tuple[World, int]:
    """All readings first, then the features' watermark passes them: every window is final at one blow."""
    world, most = World(), 0
    publish = world.publish

    async def measured(records: Iterable[Out]) -> None:
        nonlocal most
        kept = list(records)
        most = max(most, sum(out.topic == topics.ESTIMATES.name for out in kept))
        await publish(kept)

    world.publish = measured  # type: ignore[method-assign]
    await world.start()
    await world.read(READINGS, len(logs()[READINGS]))
    await world.read(FEATURES, 1)
    await world.commit()
    return world, most


@pytest.mark.parametrize("portion", [1, 7, 10_000])
def test_windows_that_are_final_at_one_blow_are_worked_on_in_portions_that_change_nothing(
    monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(agents.fusion, "_PORTION", portion)
    world, most = asyncio.run(at_once())
    assert most <= portion
    assert world.last() == straight().last()
    assert newest(world) == newest(straight())


def test_a_portion_lets_go_no_state_that_a_later_one_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision of a window that is open, before a jump that makes all final, reads older state."""
    monkeypatch.setattr(agents.fusion, "_PORTION", 2)
    ends = [10, 20, 30, 15, 40, 50, 60]
    steps = [Close(WindowView("a", end - 10, end, 1, {})) for end in ends]
    parts = [([step.view.end for step in part], done) for part, done in agents.fusion._portions(steps, 45)]
    assert parts == [([10, 20], 15), ([30, 15], 40), ([40, 50], 45), ([60], 45)]
    assert not list(agents.fusion._portions([], 45))


def test_a_source_is_paused_by_the_windows_that_its_readings_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Months of hourly readings lie before a camera's frames are encoded, and each makes sixty windows."""
    monkeypatch.setattr(agents.fusion, "_MAX_BUFFERED", 1_000)
    log = Log()
    hourly = [
        log.record(topics.READINGS, b"a", json.dumps(message).encode(), timestamp=message["observed_at"])
        for message in (
            reading("a", DAY + number * 60 * MINUTE, value("pm25", 20.0)) | {"period": 3600}
            for number in range(20)
        )
    ]

    async def story() -> list[set[str]]:
        world = World()
        await world.start()
        told = []
        for record in hourly:
            await world.stage.handle(READINGS, [record])
            told.append(world.stage.paused())
        over = DAY + 30 * 60 * MINUTE
        await world.stage.handle(FEATURES, [punctuation(log, topics.FEATURES, over)])
        return [*told, world.stage.paused()]

    told = asyncio.run(story())
    # The sixteenth is the first with which they hold a thousand.
    assert told == [*[set()] * 16, *[{READINGS}] * 4, set()]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_polls_that_come_while_a_source_is_to_be_paused_wait_unread_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """They are on their way when it is paused; a worker that dies meanwhile reads them again."""
    monkeypatch.setattr(agents.fusion, "_MAX_BUFFERED", 20)
    monkeypatch.setattr(agents.fusion, "_LEAD", 1)
    dice = random.Random(seed)

    async def story() -> tuple[World, int]:
        world, most = World(), 0
        await world.start()
        while world.at[READINGS] < len(logs()[READINGS]):
            await world.read(READINGS, 6)
            most = max(most, world.stage.join.buffered)
            await world.stage.tick()
            if dice.random() < 0.2:
                await world.commit(torn=False)
                await world.start()
        assert READINGS in world.stage.paused()
        await world.read(FEATURES, 1)
        assert not world.stage.paused()
        await world.commit()
        return world, most

    world, most = asyncio.run(story())
    assert most < 80
    assert world.last() == straight().last()
    assert newest(world) == newest(straight())


def newest(world: World) -> dict[str, tuple[int, bytes]]:
    found: dict[str, tuple[int, bytes]] = {}
    for kept in world.state.values():
        name, at = kept.key.decode().rpartition("#")[0], int(dict(kept.headers)[AT] or b"")
        found[name] = max(found.get(name, (at, kept.value)), (at, kept.value))
    # Cadences are stamped with the offset of the commit that they went with, which may differ.
    return {name: (0 if CADENCE in name else at, data) for name, (at, data) in found.items()}


def test_when_everything_is_final_everything_is_settled_to_the_last_record() -> None:
    world = straight()
    for topic in (READINGS, FEATURES):
        offset, metadata = world.committed[topic]
        assert offset == len(logs()[topic])
        assert Settled.parse(offset, metadata).position == len(logs()[topic])


def test_after_an_amendment_the_next_record_is_the_first_that_was_not_read() -> None:
    change = Amendment(station="a", hours=(AmendedHour(end=from_ms(DAY), means={}),))
    record = Log().record(
        topics.READINGS, b"a", change.model_dump_json().encode(), [("ce_type", AMENDMENT_TYPE)], timestamp=DAY
    )

    async def position() -> int:
        world = World()
        await world.start()
        await world.stage.handle(READINGS, [record])
        assert not world.letters
        return Settled.parse(*(await world.stage.settle())[READINGS]).position

    assert asyncio.run(position()) == record.offset + 1


def test_what_a_station_learned_is_stored_by_the_offset_that_is_committed() -> None:
    world = straight()
    names = {kept.key.decode().rpartition("#")[0] for kept in world.state.values()}
    assert {name + CADENCE for name in "abc"} | set("abc") <= names
    for kept in world.state.values():
        if CADENCE.encode() in kept.key:
            assert int(dict(kept.headers)[AT] or b"") <= world.committed[READINGS][0]


def test_a_committed_snapshot_is_never_overwritten_by_the_next() -> None:
    """Two slots in turn: a death between a snapshot and its commit leaves the one that the commit needs."""

    async def story() -> list[set[bytes]]:
        world = World()
        await world.start()
        await world.read(FEATURES, 1)
        written: list[set[bytes]] = []
        while world.at[READINGS] < len(logs()[READINGS]):
            before = dict(world.state)
            await world.read(READINGS, 6)
            await world.commit()
            written.append({key for key, kept in world.state.items() if before.get(key) is not kept})
        return written

    last: dict[bytes, bytes] = {}
    turns = 0
    for written in asyncio.run(story()):
        for key in written:
            name, _, slot = key.rpartition(b"#")
            assert last.get(name) != slot, f"{name!r} was written to slot {slot!r} twice running"
            turns += name in last
            last[name] = slot
    assert turns > 20
