"""What every stage keeps, whichever it is: found by itself for each role that a worker has.

A stage that is killed anywhere, between any two steps of its driver, and is opened again by the worker's own
`open` from what is committed and what the topics hold, puts out what one does that was never killed.
That no record stops a stage is in `test_boundary`, for the same roles.
"""

import asyncio
import importlib
import json
import pkgutil
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import agents
from agents import builders, worker
from agents.sink import SinkStage
from agents.vision import VisionStage
from schemas.alone import MARK_TYPE, Mark
from schemas.base import from_ms
from schemas.dead_letter import DeadLetter
from schemas.features import Punctuation
from schemas.frame import FrameHeader
from schemas.weather import WeatherHour, WeatherIssue
from settings.sections import ForecastSettings, KafkaSettings, Settings, WindowSettings
from streams import topics
from streams.stage import Appended, Committed, Out, Stage
from tests.agents import strangers
from tests.agents.strangers import NOON
from tests.agents.test_alert_stage import city
from tests.agents.test_boundary import CHECKS, Log, Record
from tests.agents.test_fusion_stage import logs as fusion_logs
from tests.forecast.small import small_bundle
from tests.fusion.together.towns import alone
from tests.samples import T0, estimate, measured

BUILDERS = {
    builder.__name__.removesuffix("Builder").lower(): builder
    for builder in builders.StageBuilder.__subclasses__()
}
#: Topics of which a stage's successor is given the newest record of each key.
KEPT = {
    topics.STATE.name, topics.ALERT_STATE.name, topics.FORECAST_STATE.name, topics.NETWORK_STATE.name,
}  # fmt: skip
BUSY = Punctuation(kind="busy").model_dump_json().encode()
#: Records a poll.
POLL = 7
#: Broker's time (ms) of estimates.
LATER = (T0 + 86_400) * 1000
Polls = list[tuple[str, list[Record]]]


def in_polls(logs: Mapping[str, Sequence[Record]]) -> Polls:
    """All topics in turn, a few records each."""
    longest = max(map(len, logs.values()))
    return [
        (topic, list(records[at : at + POLL]))
        for at in range(0, longest, POLL)
        for topic, records in logs.items()
        if records[at : at + POLL]
    ]


def frames() -> Polls:
    log = Log()
    headers = FrameHeader(id="f", source="/s", time=from_ms(NOON), station="a").to_headers()
    good, cut = strangers.pictures()[0], strangers.pictures()[0][:900]
    made = [log.record(topics.FRAMES, b"a", data, headers) for data in (good, b"no picture", cut) * 5]
    return in_polls({topics.FRAMES.name: made})


def readings() -> Polls:
    logs = {topic: [*records[:60], *records[60:][-1:]] for topic, records in fusion_logs().items()}
    return in_polls(logs)


def estimates() -> Polls:
    log = Log()
    made = [
        estimate(name, T0 + 60 * n, 1 + n % 3, {"pm25": measured(float(n))})
        for n in range(20)
        for name in "ab"
    ]
    records = [
        log.record(topics.ESTIMATES, one.station.encode(), one.model_dump_json().encode(), timestamp=LATER)
        for one in made
    ]
    station = json.dumps({"station": "a", "standards": ["us-epa-2024"]}).encode()
    return in_polls(
        {
            topics.STATIONS.name: [log.record(topics.STATIONS, b"a", station)],
            topics.ESTIMATES.name: [*records, log.record(topics.ESTIMATES, b"a", b"{")],
        }
    )


def watched() -> Polls:
    log = Log()
    records = [
        log.record(topics.ESTIMATES, one.station.encode(), one.model_dump_json().encode(), timestamp=LATER)
        for one in city(seed=3, count=150)
    ]
    return in_polls({topics.ESTIMATES.name: [*records, log.record(topics.ESTIMATES, b"a", b"{")]})


def hourly() -> Polls:
    """Ten hours of two stations, what was late, and weather that comes on the way."""
    log = Log()
    hour = 3_600
    issued = [
        WeatherIssue(
            station=name, issued_at=from_ms((T0 + n * hour) * 1000),
            hours=tuple(
                WeatherHour(
                    valid_at=from_ms((T0 + (n + k) * hour) * 1000), temperature=k / 2, dewpoint=1.0,
                    wind_speed=float(n), wind_direction=90.0,
                )
                for k in range(90)
            ),
        )
        for n in (1, 3, 6)
        for name in "ac"
    ]  # fmt: skip
    weather = [
        log.record(topics.WEATHER, one.station.encode(), one.model_dump_json().encode(), timestamp=stamp)
        for one, stamp in zip(issued, [LATER - 9, LATER - 8, LATER, LATER, LATER + 5, LATER + 9], strict=True)
    ]
    dice = random.Random(5)
    made = [
        log.record(
            topics.ESTIMATES, name.encode(),
            estimate(
                name, T0 + 60 * (n - late), 1 + late, {"pm25": measured(dice.uniform(0, 90), covered_s=600)}
            ).model_dump_json().encode(),
            timestamp=LATER + n // 60,
        )
        for n in range(30, 490, 10)
        for name, late in (("a", 0), ("b", 0), ("a", 30 if n % 60 == 0 else 0))
    ]  # fmt: skip
    bad = log.record(topics.WEATHER, b"a", b"{", timestamp=LATER + 9)
    return in_polls({topics.WEATHER.name: [*weather, bad], topics.ESTIMATES.name: made})


def together() -> Polls:
    """Two stations of a region, of which one falls silent, and a mark after each window."""
    log = Log()
    made = []
    for number in range(1, 80):
        end = NOON + number * 60_000
        for name, value in (("a", 10.0 + number % 7), ("b", 12.0 + number % 7)):
            if name == "b" and number > 70:
                continue
            one = alone(name, end, {"pm25": value}, size=60_000)
            body = one.model_dump_json().encode()
            made.append(log.record(topics.ALONE, name.encode(), body, timestamp=end))
        mark = Mark(source=0, final=end - 180_000).model_dump_json().encode()
        made.append(log.record(topics.ALONE, None, mark, [("ce_type", MARK_TYPE)], timestamp=end))
    return in_polls({topics.ALONE.name: [*made, log.record(topics.ALONE, b"a", b"{")]})


#: What each stage is given to read. A new one needs its own here.
POLLS: dict[str, Callable[[], Polls]] = {
    "vision": frames, "fusion": readings, "network": together, "sink": estimates, "alert": watched,
    "forecast": hourly,
}  # fmt: skip


@dataclass
class Broker:
    """What the topics hold, and what was produced and committed."""

    polls: Polls
    told: set[Any] = field(default_factory=set)
    kept: dict[str, dict[bytes, Record]] = field(default_factory=dict)
    committed: dict[str, tuple[int, str]] = field(default_factory=dict)
    log: Log = field(default_factory=Log)

    def compacted(self, topic: str) -> dict[bytes, Record]:
        """The newest record of each key."""
        if topic in KEPT:
            return dict(self.kept.get(topic, {}))
        read = [record for name, records in self.polls if name == topic for record in records]
        return {record.key: record for record in read if record.key is not None and record.value is not None}

    def take(self, records: Iterable[Out]) -> None:
        for out in records:
            if out.topic not in KEPT:
                if out.value == BUSY:
                    continue  # a sign of life, when time has passed
                self.told.add((out.topic, out.key, out.value, tuple(out.headers)))
                continue
            assert out.key is not None
            topic = next(one for one in topics.TOPICS if one.name == out.topic)
            kept = self.kept.setdefault(out.topic, {})
            if out.value is None:
                kept.pop(out.key, None)
            else:
                kept[out.key] = self.log.record(topic, out.key, out.value, out.headers)


@cache
def settings_of(folder: Path) -> Settings:
    return Settings(
        data_dir=folder,
        kafka=KafkaSettings(bootstrap="unused", partitions=1),
        window=WindowSettings(allowed_lateness=timedelta(minutes=3), idle_timeout=None),
        forecast=ForecastSettings(bundle=small_bundle()),
    )


def opener(role: str, folder: Path, broker: Broker) -> Callable[[], Any]:
    """Opens a stage as the worker of a role does, on a broker that is a list."""

    builder: Any = BUILDERS[role]

    class Opened(builder):  # type: ignore[misc]
        async def publish(self, records: Iterable[Out]) -> None:
            broker.take(records)

        async def compacted(self, topic: topics.Topic, partition: int) -> Mapping[bytes, Any]:
            assert partition == 0
            return broker.compacted(topic.name)

        def _waiting(self, *_: object) -> bool:
            return False

        async def appended_before(self, topic: topics.Topic, partition: int, at: int) -> Appended:
            assert partition == 0
            read = [one for name, records in broker.polls if name == topic.name for one in records]
            return Appended(0, sum(one.timestamp < at for one in read))

    built = Opened(settings_of(folder))
    return lambda: built.open(0, dict(broker.committed))


async def settle(stage: Stage, broker: Broker, *, dies: bool = False) -> Committed:
    """One settling of the driver; `dies`: after the snapshots, before the commit."""
    settled = await stage.settle()
    if not dies:
        broker.committed |= settled
        stage.committed()
    return settled


async def at_end(stage: Stage, broker: Broker, polls: Polls) -> None:
    """Settle what can be settled, when everything is out that is on its way."""
    last = {topic: records[-1].offset + 1 for topic, records in polls}
    async with asyncio.timeout(60):
        while True:
            settled = await settle(stage, broker)
            if (
                not isinstance(stage, VisionStage)
                or settled[topics.FRAMES.name][0] == last[topics.FRAMES.name]
            ):
                return
            await asyncio.sleep(0.001)


def store_of(stage: Stage) -> list[str]:
    return [one.model_dump_json() for one in stage._store.read()] if isinstance(stage, SinkStage) else []


async def life(role: str, folder: Path, dice: random.Random | None) -> tuple[set[Any], list[str]]:
    """What a stage has told, and stored, in the end; with `dice`, it dies on the way."""
    polls = POLLS[role]()
    broker = Broker(polls)
    again = opener(role, folder, broker)
    stage = await again()
    place, deaths = 0, 0
    while place < len(polls):
        topic, records = polls[place]
        start, _ = broker.committed.get(topic, (0, ""))
        fresh = [record for record in records if record.offset >= start]
        if fresh:
            await stage.handle(topic, fresh)
        place += 1
        fate = (
            "settle"
            if dice is None
            else dice.choice(["nothing", "tick", "settle", "settle", "die", "die late"])
        )
        if fate == "tick":
            await stage.tick()
        if fate in ("settle", "die late"):
            await settle(stage, broker, dies=fate == "die late")
        if fate.startswith("die") and deaths < 12:
            deaths += 1
            stored = getattr(stage, "_store", None)
            await stage.close()
            if stored is not None:
                stored.close()
            stage, place = await again(), 0
    await at_end(stage, broker, polls)
    found = store_of(stage)
    await stage.close()
    return broker.told, found


def test_every_role_is_tried_here_and_with_any_record() -> None:
    assert set(BUILDERS) == set(worker.ROLES) == set(POLLS)
    # The fleet's stage runs in the alerts' worker.
    assert set(CHECKS) == set(worker.ROLES) | {"fleet"}


def test_every_stage_is_one_of_a_role() -> None:
    """A class in `agents` with a stage's methods that no worker opens would be tried by nobody."""
    methods = {name for name in vars(Stage) if not name.startswith("_")}
    found = {
        kind.__name__
        for module in pkgutil.iter_modules(agents.__path__, "agents.")
        for kind in vars(importlib.import_module(module.name)).values()
        if isinstance(kind, type) and kind.__module__ == module.name and methods <= set(dir(kind))
    }
    # The fleet's runs in the alerts' worker, where time passes: test_fleet_stage kills it. That worker's are
    # two, of estimates and of forecasts: test_forecast_rules kills both.
    beside = {"FleetStage", "Beside", "AlertStages"}
    assert found == {f"{role.capitalize()}Stage" for role in worker.ROLES} | beside


@pytest.mark.parametrize("role", sorted(POLLS))
def test_killed_anywhere_a_stage_tells_the_same(role: str, tmp_path: Path) -> None:
    whole = asyncio.run(life(role, tmp_path / "whole", None))
    assert any(topic != topics.DEAD_LETTERS.name for topic, *_ in whole[0]) or whole[1]
    letters = [
        DeadLetter.from_headers(headers)
        for topic, _, _, headers in whole[0]
        if topic == topics.DEAD_LETTERS.name
    ]
    assert letters or role == "fusion", "something bad is read, too"
    for seed in range(4):
        told, stored = asyncio.run(life(role, tmp_path / str(seed), random.Random(seed)))
        assert not told ^ whole[0]
        assert stored == whole[1]
