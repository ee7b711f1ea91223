"""The forecast stage: what it tells follows from two logs, however their records come and when it dies."""

import asyncio
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pytest
from aiokafka import ConsumerRecord

from agents.forecast import ForecastStage
from forecast.bundle import ForecastBundle
from forecast.outlook import Outlook
from forecast.stored import read_outlook
from schemas.base import from_ms
from schemas.forecast import Forecast
from schemas.weather import WeatherHour, WeatherIssue
from streams import topics
from streams.accept import Keys
from streams.checkpoint import Checkpoints
from streams.stage import Appended, Out, StageIo
from streams.stations import StationBook
from tests.forecast.small import small_bundle
from tests.samples import T0, estimate, measured

Record: TypeAlias = ConsumerRecord[bytes, bytes]
HOURS = 9
#: The broker's clock: ms, some of which pass between two records.
NOW = (T0 + 86_400) * 1000


def record(topic: topics.Topic, offset: int, at: int, key: str, value: str) -> Record:
    return ConsumerRecord(topic.name, 0, offset, at, 1, key.encode(), value.encode(), None, 0, 0, ())


def issue(hour: int, temperature: float) -> str:
    return WeatherIssue(
        station="a", issued_at=from_ms((T0 + 3600 * hour) * 1000),
        hours=tuple(
            WeatherHour(
                valid_at=from_ms((T0 + 3600 * (hour + ahead)) * 1000), temperature=temperature, wind_speed=2.0
            )
            for ahead in range(90)
        ),
    ).model_dump_json()  # fmt: skip


def logs() -> tuple[list[Record], list[Record]]:
    """Estimates of two stations, and weather that comes to the broker between them."""
    dice = random.Random(2)
    estimates: list[Record] = []
    weather: list[Record] = []
    at = NOW
    for quarter in range(1, 4 * HOURS):
        if dice.random() < 0.4:
            at += dice.randint(0, 2)
            weather.append(
                record(topics.WEATHER, len(weather), at, "a", issue(quarter // 4, dice.uniform(0, 30)))
            )
        for name in "ab":
            at += dice.randint(0, 2)
            one = estimate(
                name, T0 + 900 * quarter, 1, {"pm25": measured(dice.uniform(5, 80), covered_s=900)}
            )
            estimates.append(record(topics.ESTIMATES, len(estimates), at, name, one.model_dump_json()))
    return estimates, weather


class Broker:
    """What the stage told, what it keeps, and how far it is committed."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.told: dict[tuple[str, str, int], set[bytes]] = {}
        self.state: dict[bytes, Record] = {}
        self.committed: dict[str, tuple[int, str]] = {}
        self.estimates, self.weather = logs()
        self._executor = executor
        self._bundle = ForecastBundle.load(small_bundle())
        self.waited = 0
        #: What the broker had taken of forecasts at each commit.
        self.at_commits: list[int] = []
        #: The stage's clock, and seconds that pass whenever it is read.
        self._time = 0.0
        self.seconds = 0.0

    def clock(self) -> float:
        self._time += self.seconds
        return self._time

    async def publish(self, records: Iterable[Out], /) -> None:
        for out in records:
            assert out.key is not None
            assert out.value is not None
            if out.topic == topics.FORECAST_STATE.name:
                kept = ConsumerRecord(
                    out.topic, 0, 0, 0, 1, out.key, out.value, None, 0, 0, tuple(out.headers)
                )
                self.state[out.key] = kept
            else:
                assert out.topic == topics.FORECASTS.name, out
                one = Forecast.model_validate_json(out.value)
                self.told.setdefault((one.station, str(one.issued_at), one.revision), set()).add(out.value)

    async def appended(self, at: int) -> Appended:
        return Appended(0, sum(one.timestamp < at for one in self.weather))

    def open(self) -> ForecastStage:
        checkpoints = Checkpoints(topics.FORECAST_STATE.name, 0)
        start, _ = self.committed.get(topics.ESTIMATES.name, (0, ""))
        found = checkpoints.load(self.state.values(), start, read_outlook)
        return ForecastStage(
            StageIo(0, self.publish, committed=self.committed, clock=self.clock),
            Outlook(
                self._bundle.models()[:4], "m", self._bundle.normalisation.typical, ("us-epa-2024",),
                {name: state for name, (_, state) in found.items()},
            ),
            StationBook(topics.STATIONS.name, Keys(1)), checkpoints, self.appended, self._executor,
            lateness_ms=180_000,
        )  # fmt: skip

    async def play(self, dice: random.Random, deaths: int, most: int = 9) -> None:
        stage = self.open()
        read = {topics.ESTIMATES.name: 0, topics.WEATHER.name: 0}
        answered = False
        while True:
            rest = {
                topics.ESTIMATES.name: self.estimates[read[topics.ESTIMATES.name] :],
                topics.WEATHER.name: self.weather[read[topics.WEATHER.name] :],
            }
            # A paused topic is not read, however much of it there is.
            ready = [name for name, left in rest.items() if left and name not in stage.paused()]
            self.waited += topics.ESTIMATES.name in stage.paused()
            if not ready and not stage.paused():
                break
            if ready and dice.random() < 0.9:
                name = dice.choice(ready)
                batch = rest[name][: dice.randint(1, most)]
                await stage.handle(name, batch)
                read[name] = batch[-1].offset + 1
            else:
                await stage.tick()
            # The broker's answer to a commit comes while the stage works on, and may never come.
            if answered:
                stage.committed()
                answered = False
            elif dice.random() < 0.4:
                settled = await stage.settle()
                if dice.random() < 0.7:
                    self.committed |= settled
                    self.at_commits.append(len(self.told))
                    answered = True
            if deaths and dice.random() < 0.15:
                deaths -= 1
                await stage.close()
                stage, answered = self.open(), False
                read = {topic: self.committed.get(topic, (0, ""))[0] for topic in read}


@pytest.fixture(scope="module")
def executor() -> Iterable[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def test_in_any_order_and_killed_anywhere_it_tells_the_same(executor: ThreadPoolExecutor) -> None:
    whole = Broker(executor)
    asyncio.run(whole.play(random.Random(0), 0))
    assert len(whole.told) == 2 * (HOURS - 1)
    with_weather = [
        one for values in whole.told.values() for one in values if b'"weather_issued_at":"' in one
    ]
    assert 0 < len(with_weather) < len(whole.told), "some rest on weather, those of the other station do not"
    waited = 0
    for seed in range(1, 6):
        other = Broker(executor)
        asyncio.run(other.play(random.Random(seed), 3))
        assert other.told == whole.told
        waited += other.waited
    assert waited, "estimates never had to wait for weather"


def test_a_poll_that_takes_long_is_worked_on_between_commits(executor: ThreadPoolExecutor) -> None:
    """A backlog of years comes in one poll: what has not moved for long is taken for stuck, or for dead."""
    whole, slow = Broker(executor), Broker(executor)
    asyncio.run(whole.play(random.Random(0), 0))
    slow.seconds = 1.0
    asyncio.run(slow.play(random.Random(1), 0, most=1000))
    assert slow.told == whole.told
    assert len(set(slow.at_commits)) > 2
