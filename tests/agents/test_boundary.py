"""No record stops a worker: every stage, fed with what strangers send, uses, delays or refuses each record.

Stages are the real ones with the real join, assessor, head, encoder and store; only the broker is a list.
"""

import asyncio
import atexit
import itertools
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiokafka import ConsumerRecord
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from agents import alert as alert_stage
from agents import fusion as fusion_stage
from agents import refusals
from agents.alert import AlertStage
from agents.fleet import FleetStage
from agents.forecast import ForecastStage
from agents.fusion import FusionCheckpoints, FusionStage
from agents.network import NetworkStage
from agents.sink import Sinks, SinkStage
from agents.vision import VisionPipeline, VisionStage
from alerting.rules import default
from aqi.known_names import check_station
from camera.picture_file import may_show
from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.outlook import Outlook
from fusion import assessor
from fusion.assessor import Assessor
from fusion.conclusion import conclude
from fusion.intake import DEFAULT_STANDARDS, Prepared
from fusion.sensors.declared import humidity_ms
from fusion.together.meeting import Meeting
from fusion.together.progress import MeetingRules
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from model.bundle.runtime import Head
from schemas.alert import Alert
from schemas.alone import MARK_TYPE, Alone, Mark
from schemas.amendment import AMENDMENT_TYPE, Amendment
from schemas.base import from_ms
from schemas.dead_letter import DeadLetter
from schemas.estimate import Estimate, FrameUse, Inputs
from schemas.features import Features, Punctuation
from schemas.forecast import Forecast
from schemas.frame import FrameHeader
from schemas.health import StationHealth
from schemas.limits import (
    CAMERAS_PER_STATION,
    FORGOTTEN_AFTER_MS,
    SENSORS_PER_STATION,
    SERIES_PER_STATION,
    STATIONS_PER_PARTITION,
)
from schemas.reading import Reading
from schemas.station import CameraBands, Station
from schemas.weather import WeatherIssue
from sinks.store import Store
from streams import metrics, topics
from streams.accept import LATE_FROM, PUNCTUATION_TYPE, Keys
from streams.bands import BandBook
from streams.cadences import Cadences
from streams.census import Census
from streams.checkpoint import Checkpoints
from streams.join import Item, Join, Output, Rules
from streams.stage import Appended, Out, StageIo
from streams.standing import Periods
from streams.stations import StationBook
from tests.agents import strangers
from tests.agents.strangers import NOON, NOW
from tests.samples import estimate, index

MINUTE = 60_000
RULES = Rules(
    size=MINUTE, grace=5_000, lateness=120_000, disorder={"features": 10_000, "readings": 10_000},
    idle_timeout=None, hold=120_000,
)  # fmt: skip
Record: TypeAlias = ConsumerRecord[bytes, bytes]


class Broker:
    """What was produced; refuses what a real one would."""

    def __init__(self) -> None:
        self.out: list[Out] = []

    async def publish(self, records: Iterable[Out], /) -> None:
        for one in records:
            limit = next(topic.max_bytes for topic in topics.TOPICS if topic.name == one.topic)
            size = len(one.key or b"") + len(one.value or b"")
            size += sum(len(name.encode()) + len(raw or b"") for name, raw in one.headers)
            assert size + 100 < limit, f"{one.topic} would refuse {size} bytes"
            self.out.append(one)

    def on(self, topic: topics.Topic) -> list[Out]:
        return [one for one in self.out if one.topic == topic.name]


class Log:
    """Records on the topics of one partition."""

    def __init__(self) -> None:
        self._offsets: Counter[str] = Counter()

    def record(
        self,
        topic: topics.Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        partition: int = 0,
        timestamp: int = NOW,
    ) -> Record:
        offset = self._offsets[topic.name]
        self._offsets[topic.name] += 1
        sizes = len(key or b""), len(value or b"")
        return ConsumerRecord(
            topic.name, partition, offset, timestamp, 1, key, value, None, *sizes, tuple(headers)
        )


class WatchedJoin(Join):
    """A join that remembers which records it took something of into a window."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self.taken: set[tuple[str, int]] = set()

    def feed(self, source: str, items: Iterable[Item], position: int, now: int) -> Output:
        items = list(items)
        output = super().feed(source, items, position, now)
        made = Counter(item.offset for item in items)
        made -= Counter(item.offset for _, item in [*output.late, *output.conflicts])
        self.taken |= {(source, offset) for offset in made}
        return output


@cache
def bundle() -> Bundle:
    return Bundle.load(DEFAULT_BUNDLE)


@cache
def forecasts() -> ForecastBundle:
    return ForecastBundle.load(DEFAULT_FORECAST_BUNDLE)


@cache
def head() -> Head:
    return Head(bundle())


@cache
def executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


@cache
def loop() -> asyncio.AbstractEventLoop:
    """One for all examples: the vision pipeline's tasks live in it."""
    return asyncio.new_event_loop()


@cache
def pipeline() -> VisionPipeline:
    """The heavy encoder, once."""
    return VisionPipeline(bundle(), batch=3, threads=1)


def keys() -> Keys:
    return Keys(1)


def station_book() -> StationBook:
    return StationBook(topics.STATIONS.name, keys(), check_station)


class Fusion:
    """A fusion stage and what it has put out."""

    def __init__(self, snapshots: Mapping[str, Any] | None = None) -> None:
        self.broker = Broker()
        self.join = WatchedJoin(RULES)
        self.assessor = Assessor(
            head(), size_ms=RULES.size, lateness_ms=RULES.lateness, snapshots=snapshots or {}
        )
        self.stations = station_book()
        self.cadences = Cadences()
        self.stage = FusionStage(
            StageIo(0, self.broker.publish, clock=lambda: NOW / 1000),
            self.join,
            self.assessor,
            self.stations,
            Periods(RULES.size, self.cadences, self.stations.get, humidity_ms),
            FusionCheckpoints(Checkpoints(topics.STATE.name, 0), Checkpoints(topics.STATE.name, 0)),
            executor(),
        )

    def handle(self, *batches: Sequence[Record]) -> None:
        async def run() -> None:
            for batch in batches:
                await self.stage.handle(batch[0].topic, batch)
            await self.stage.tick()
            await self.stage.settle()
            self.stage.committed()

        loop().run_until_complete(run())

    @property
    def census(self) -> Census:
        return self.stage.census

    def estimates(self) -> list[Estimate]:
        return [Estimate.model_validate_json(one.value or b"") for one in self.broker.on(topics.ESTIMATES)]


class Vision:
    """A vision stage and what it has put out."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.stations = station_book()
        self.stage = VisionStage(
            StageIo(0, self.broker.publish),
            pipeline(),
            self.stations,
            BandBook(topics.CAMERA_BANDS.name, keys()),
            lambda _: False,
        )

    def handle(self, *batches: Sequence[Record]) -> None:
        async def run() -> None:
            last = 0
            for batch in batches:
                await self.stage.handle(batch[0].topic, batch)
                if batch[0].topic == topics.FRAMES.name:
                    last = batch[-1].offset + 1
            deadline = time.monotonic() + 60
            while (await self.stage.settle())[topics.FRAMES.name][0] < last:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.0005)

        loop().run_until_complete(run())


@cache
def store() -> Store:
    """One for all examples; it goes with the process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Store(Path(folder.name) / "s.sqlite", aggregates=True)


def sink() -> tuple[SinkStage, Broker]:
    """A sink stage."""
    broker = Broker()
    stage = SinkStage(
        StageIo(0, broker.publish), Sinks(store()), station_book(), executor(), threading.Event(),
    )  # fmt: skip
    return stage, broker


class Alerts:
    """An alert stage and what it has told."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.stage = AlertStage(
            StageIo(0, self.broker.publish), Keys(1), default, Checkpoints(topics.ALERT_STATE.name, 0), {},
            horizon_ms=10 * MINUTE,
        )  # fmt: skip

    def handle(self, *batches: Sequence[Record]) -> None:
        async def run() -> None:
            for batch in batches:
                await self.stage.handle(batch[0].topic, batch)
                await self.stage.settle()
                self.stage.committed()

        loop().run_until_complete(run())

    def alerts(self) -> list[Alert]:
        return [Alert.model_validate_json(one.value or b"") for one in self.broker.on(topics.ALERTS)]


AMENDED = (("ce_type", AMENDMENT_TYPE),)

# -- accounts ----------------------------------------------------------------------------------------------

Place = tuple[str, int]


def letters_of(broker: Broker, records: Iterable[Record]) -> dict[Place, DeadLetter]:
    """The dead letters by where their record stood: one each, of the record as it came.

    One that was used in part may be refused once more, where nothing could be made of its window.
    """
    by_place = {(record.topic, record.offset): record for record in records}
    found: dict[Place, DeadLetter] = {}
    for letter in broker.on(topics.DEAD_LETTERS):
        story = DeadLetter.from_headers(letter.headers)
        place = story.topic, story.offset
        known = found.get(place)
        again = known is not None and known.partly_used and story.reason.startswith("nothing could be made")
        assert known is None or again, f"two dead letters of {place}: {known}; {story.reason}"
        found[place] = story
        assert len(story.reason) > 10
        if not story.reason.startswith("nothing could be made of the window"):
            origin = by_place[place]
            if story.code == "unexpected" and AMENDED[0] in origin.headers:
                continue  # it waited for its hour in the join, and is made again of what that holds
            # A picture stays where it is: dead letters are kept for longer than frames.
            picture = origin.topic == topics.FRAMES.name and origin.value and may_show(origin.value)
            value = None if picture else origin.value
            assert (letter.key, letter.value) == (origin.key, value)
            assert list(letter.headers)[: len(origin.headers)] == list(origin.headers)
    return found


def late_of(broker: Broker) -> set[Place]:
    found = set()
    for late in broker.on(topics.LATE):
        topic, _, offset = (dict(late.headers)[LATE_FROM] or b"").decode().split("/")
        assert (topic, int(offset)) not in found
        found.add((topic, int(offset)))
    return found


def account(fusion: Fusion, records: Sequence[Record]) -> None:
    """Each record is used, late or refused; none twice."""
    letters, late = letters_of(fusion.broker, records), late_of(fusion.broker)
    names = {"readings": topics.READINGS.name, "features": topics.FEATURES.name}
    taken = {(names[source], offset) for source, offset in fusion.join.taken}
    for record in records:
        place = record.topic, record.offset
        letter = letters.get(place)
        if record.topic == topics.STATIONS.name or (record.key is None and place not in letters):
            continue  # kept, or a punctuation
        if AMENDED[0] in record.headers:
            continue  # a change of the past: no input of a window
        assert (place in taken) + (place in late) <= 1
        if letter is None:
            assert place in taken or place in late, record
        elif not letter.partly_used and not letter.reason.startswith("nothing could"):
            assert place not in taken
            assert place not in late
        event(letter.code if letter is not None else "late" if place in late else "used")


# -- what is drawn -----------------------------------------------------------------------------------------


Kinds = tuple[tuple[topics.Topic, Any], ...]
FUSION: Kinds = ((topics.READINGS, Reading), (topics.FEATURES, Features), (topics.STATIONS, Station))
VISION: Kinds = ((topics.FRAMES, None), (topics.STATIONS, Station), (topics.CAMERA_BANDS, CameraBands))
TOGETHER: Kinds = ((topics.ALONE, Alone), (topics.ALONE, Mark))
ESTIMATED: Kinds = ((topics.ESTIMATES, Estimate),)
FORECAST: Kinds = (
    (topics.ESTIMATES, Estimate),
    (topics.ESTIMATES, Estimate),
    (topics.WEATHER, WeatherIssue),
    (topics.STATIONS, Station),
)
SINK: Kinds = ((topics.ESTIMATES, Estimate), (topics.STATIONS, Station))


@st.composite
def envelope(
    draw: st.DrawFn, log: Log, topic: topics.Topic, station: str, value: bytes | None, headers: Any = ()
) -> Record:
    """A record around `value`, mostly a good one."""
    odd = draw(st.sampled_from([9] * 15 + [0, 1, 2, 3]))
    return log.record(
        topic,
        draw(strangers.odd_keys) if odd == 0 else station.encode(),
        None if odd == 1 else value,
        [*headers, *(draw(strangers.odd_headers) if odd < 4 else ())],
        partition=7 if odd == 2 else 0,
        timestamp=draw(strangers.timestamps),
    )


#: Good records of each kind, from which those of the examples are taken to be spoilt.
POOL = 150


@st.composite
def of_model(draw: st.DrawFn, log: Log, topic: topics.Topic, model: Any, headers: Any = ()) -> Record:
    good = draw(st.sampled_from(strangers.pool(model, POOL)))
    station = good.get("station", "a")
    return draw(envelope(log, topic, station, draw(strangers.spoilt(good)), headers))


@st.composite
def punctuation(draw: st.DrawFn, log: Log, topic: topics.Topic) -> Record:
    value = draw(strangers.punctuation_values())
    headers = [("ce_type", PUNCTUATION_TYPE), *draw(strangers.odd_headers)]
    return log.record(topic, None, value, headers, timestamp=draw(strangers.timestamps))


def repeated(draw: st.DrawFn, log: Log, records: list[Record]) -> list[Record]:
    """Sometimes one of them once more."""
    if records and draw(st.integers(0, 3)) == 0:
        one = draw(st.sampled_from(records))
        topic = next(topic for topic in topics.TOPICS if topic.name == one.topic)
        records.append(log.record(topic, one.key, one.value, one.headers, timestamp=one.timestamp))
    return records


@st.composite
def batches(draw: st.DrawFn, kinds: Kinds, punctuated: bool) -> list[list[Record]]:
    """Some polls, each of one topic."""
    log = Log()
    made = []
    for _ in range(draw(st.integers(1, 3))):
        topic, model = draw(st.sampled_from(kinds))
        batch = []
        for _ in range(draw(st.integers(1, 3))):
            if punctuated and topic is not topics.STATIONS and draw(st.integers(0, 4)) == 0:
                batch.append(draw(punctuation(log, topic)))
            elif topic is topics.FRAMES:
                batch.append(draw(a_frame(log)))
            elif topic is topics.READINGS and draw(st.integers(0, 7)) == 7:
                batch.append(draw(of_model(log, topic, Amendment, AMENDED)))
            else:
                batch.append(draw(of_model(log, topic, model)))
        made.append(repeated(draw, log, batch))
    return made


@st.composite
def a_frame(draw: st.DrawFn, log: Log) -> Record:
    station = draw(st.sampled_from(strangers.STATIONS))
    header = FrameHeader(
        id="f", source="/s", time=from_ms(NOON + draw(st.integers(0, 10**6))), station=station
    )
    headers: list[tuple[str, bytes | None]] = list(header.to_headers())
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(headers) - 1))
        raw = draw(st.sampled_from([None, b"", b"\xff", b"NaN", b"9" * 40, b"x" * 300]))
        headers[at] = (headers[at][0], raw)
    data = draw(strangers.bitten(draw(st.sampled_from(strangers.pictures()))))
    return draw(envelope(log, topics.FRAMES, station, data, headers))


def closing(log_offset: int = 10**6) -> list[list[Record]]:
    """Progress on both sides that makes every window final."""
    value = b'{"kind":"watermark","at":%d}' % (NOON + 10 * 3_600_000)
    return [
        [ConsumerRecord(name, 0, log_offset, NOW, 1, None, value, None, 0, len(value), headers)]
        for name in (topics.READINGS.name, topics.FEATURES.name)
        for headers in ((("ce_type", PUNCTUATION_TYPE),),)
    ]


def check_fusion(drawn: list[list[Record]]) -> None:
    fusion = Fusion()
    fusion.handle(*drawn, *closing())
    account(fusion, list(itertools.chain(*drawn)))
    assert fusion.join.open_windows == 0 or fusion.join.done < NOON + 9 * 3_600_000
    fusion.estimates()
    for station in strangers.STATIONS:
        sensors, series, cameras = fusion.census.names(station)
        assert sensors <= SENSORS_PER_STATION
        assert series <= SERIES_PER_STATION
        assert cameras <= CAMERAS_PER_STATION
    assert fusion.assessor.stations().keys() <= set(strangers.STATIONS)


def check_vision(drawn: list[list[Record]]) -> None:
    vision = Vision()
    vision.handle(*drawn)
    records = [record for batch in drawn for record in batch]
    letters = letters_of(vision.broker, records)
    features = [one for one in vision.broker.on(topics.FEATURES) if one.key is not None]
    for one in features:
        Features.model_validate_json(one.value or b"")
    frames = [record for record in records if record.topic == topics.FRAMES.name and record.key is not None]
    # What shows a fault of the camera has both; everything else either.
    assert len(features) + len(letters) >= len(frames)


def check_sink(drawn: list[list[Record]]) -> None:
    stage, broker = sink()

    async def run() -> None:
        for batch in drawn:
            await stage.handle(batch[0].topic, batch)
            await stage.settle()

    loop().run_until_complete(run())
    records = [one for batch in drawn for one in batch if one.topic == topics.ESTIMATES.name]
    letters = letters_of(broker, records)
    good = [
        Estimate.model_validate_json(r.value or b"") for r in records if (r.topic, r.offset) not in letters
    ]
    stored = {(one.station, one.window.end) for one in store().read()}
    assert {(one.station, one.window.end) for one in good} <= stored


def check_alerts(drawn: list[list[Record]]) -> None:
    alerts = Alerts()
    alerts.handle(*drawn)
    letters_of(alerts.broker, itertools.chain(*drawn))
    alerts.alerts()


def check_forecast(drawn: list[list[Record]]) -> None:
    """Every hour has forecasts, of whoever speaks, and what cannot be used is told once."""
    broker, read = Broker(), [record for batch in drawn for record in batch]
    stations = StationBook(topics.STATIONS.name, Keys(1), check_station)
    floor = forecasts().models()[:1]

    async def appended(at: int) -> Appended:
        del at
        return Appended(0, sum(record.topic == topics.WEATHER.name for record in read))

    stage = ForecastStage(
        StageIo(0, broker.publish),
        Outlook(floor, "floor", forecasts().normalisation.typical, DEFAULT_STANDARDS, {}),
        stations, Checkpoints(topics.FORECAST_STATE.name, 0), appended, executor(), lateness_ms=120_000,
    )  # fmt: skip

    async def run() -> None:
        for batch in drawn:
            await stage.handle(batch[0].topic, batch)
            await stage.settle()
            stage.committed()
        # Two hours later whatever waited for weather has been read, and the hour is over.
        last = Log().record(
            topics.ESTIMATES, b"a", estimate("a", NOON // 1000 // 60 * 60 + 7200).model_dump_json().encode()
        )
        await stage.handle(last.topic, [last])
        await stage.close()

    loop().run_until_complete(run())
    letters_of(broker, [one for one in read if one.topic != topics.STATIONS.name])
    told = [Forecast.model_validate_json(one.value or b"") for one in broker.on(topics.FORECASTS)]
    assert {one.station for one in told} <= set(strangers.STATIONS)
    for one in told:
        for pollutant in one.pollutants.values():
            for low, high in itertools.pairwise(pollutant.quantiles):
                assert all(a <= b for a, b in zip(low, high, strict=True))


def check_network(drawn: list[list[Record]]) -> None:
    broker = Broker()
    rules = MeetingRules(size=MINUTE, lateness=120_000, sources=1)
    with ThreadPoolExecutor(1) as executor:
        stage = NetworkStage(
            StageIo(0, broker.publish, clock=lambda: NOW / 1000), Meeting(rules), Keys(1),
            Checkpoints(topics.NETWORK_STATE.name, 0), executor,
        )  # fmt: skip

        async def run() -> None:
            for batch in drawn:
                await stage.handle(batch[0].topic, batch)
                await stage.settle()
            end = Mark(source=0, final=NOON + 10 * 3_600_000).model_dump_json().encode()
            last = Log().record(topics.ALONE, None, end, [("ce_type", MARK_TYPE)])
            last.offset = 10**6
            await stage.handle(topics.ALONE.name, [last])
            await stage.settle()
            await stage.close()

        loop().run_until_complete(run())
    letters_of(broker, itertools.chain(*drawn))
    for one in broker.on(topics.ESTIMATES):
        Estimate.model_validate_json(one.value or b"")
    assert stage.meeting.held == 0


def check_fleet(drawn: list[list[Record]]) -> None:
    broker = Broker()
    now = NOW / 1000
    stage = FleetStage(StageIo(0, broker.publish, clock=lambda: now), Keys(1), [])

    async def run() -> None:
        nonlocal now
        for batch in drawn:
            await stage.handle(batch[0].topic, batch)
            now += 20
            await stage.tick()
            await stage.settle()
        await stage.close()

    loop().run_until_complete(run())
    known = {one.key for one in broker.on(topics.FLEET)}
    assert known <= {station.encode() for station in strangers.STATIONS}
    # A station that was withdrawn has a record without a value.
    told = [one.value for one in broker.on(topics.FLEET) if one.value is not None]
    FleetStage(StageIo(0, broker.publish), Keys(1), told)
    for value in told:
        StationHealth.model_validate_json(value)


# -- known ones, one by one --------------------------------------------------------------------------------


def reading(log: Log, at: int, *values: tuple[str, float], station: str = "a", **more: Any) -> Record:
    listed = [{"parameter": name, "value": value, "unit": "ug/m3"} for name, value in values]
    plain = {"station": station, "observed_at": at, "values": listed}
    return log.record(topics.READINGS, station.encode(), json.dumps(plain).encode(), **more)


def counted(topic: topics.Topic) -> dict[str, float]:
    """aq_messages_total of a topic by result."""
    return {
        sample.labels["result"]: sample.value
        for metric in metrics.MESSAGES.collect()
        for sample in metric.samples
        if sample.name == "aq_messages_total" and sample.labels["topic"] == topic.name
    }


@pytest.mark.parametrize(
    ("first", "second", "letters", "mean"),
    [
        ([("pm25", 20.0)] * 3, [], 0, 20.0),
        ([("pm25", 20.0), ("pm25", 21.0), ("pm25", 22.0)], [], 1, 20.0),
        ([("pm25", 20.0), ("no2", 9.0), ("o3", 7.0)], [("pm25", 30.0), ("no2", 30.0), ("o3", 30.0)], 1, 20.0),
        ([("pm25", 20.0), ("no2", 9.0)], [("pm25", 30.0), ("no2", 9.0)], 1, 20.0),
    ],
)
def test_a_record_is_refused_once_however_many_of_its_values_conflict(
    first: list[tuple[str, float]], second: list[tuple[str, float]], letters: int, mean: float
) -> None:
    before = counted(topics.READINGS)
    log, fusion = Log(), Fusion()
    records = [reading(log, NOON + 1000, *values) for values in (first, second) if values]
    fusion.handle(records, *closing())
    found = letters_of(fusion.broker, records)
    assert [letter.code for letter in found.values()] == ["conflict"] * letters
    (estimate,) = fusion.estimates()
    assert estimate.pollutants["pm25"].value == mean
    after = counted(topics.READINGS)
    assert sum(after.values()) - sum(before.values()) == len(records) + 1  # the punctuation
    if letters:
        (letter,) = found.values()
        # Of a minute that was corrected as a whole nothing is used.
        assert letter.partly_used == (not second or second[1] == first[1])


def test_a_station_of_which_every_window_raises_costs_its_own_windows_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever fault of our own that may be: here one that shows at values of 900 and more."""

    def faulty(window: Prepared, *rest: Any) -> Any:
        if any(found.value >= 900.0 for found in window.measured.values()):
            raise OverflowError("a fault of our own")
        return conclude(window, *rest)

    monkeypatch.setattr(assessor, "conclude", faulty)  # behind quality control, which has moved on by then
    log, fusion = Log(), Fusion()
    before = [reading(log, NOON - 70 * MINUTE, ("pm25", 10.0))]  # longer ago than any reading stands
    final = [punctuation_at(NOON - 30 * MINUTE, topic) for topic in (topics.READINGS, topics.FEATURES)]
    fusion.handle(before, *([one] for one in final))
    bad = [reading(log, NOON + n * MINUTE, ("pm25", 900.0 + n)) for n in range(3)]
    good = [reading(log, NOON + n * MINUTE, ("pm25", 20.0 + n), station="b") for n in range(3)]
    known = fusion.assessor.stations()["a"]
    fusion.handle([*bad, *good], *closing())
    assert fusion.assessor.stations()["a"] == known  # as if they had not been
    letters = letters_of(fusion.broker, [*bad, *good])
    assert set(letters) == {(one.topic, one.offset) for one in bad}
    assert [one.station for one in fusion.estimates()] == ["a", "b", "b", "b"]
    # What is refused for its window can be sent again: it is made again of what the join held.
    letter = fusion.broker.on(topics.DEAD_LETTERS)[0]
    again = Reading.model_validate_json(letter.value or b"")
    assert (letter.key, again.values[0].value) == (b"a", 900.0)


@pytest.mark.parametrize(
    "plain",
    [
        {"station": "a", "timezone": "Europe/Milan"},
        {"station": "a", "timezone": "../../etc/passwd"},
        {"station": "a", "timezone": "localtime"},
        {
            "station": "a",
            "cameras": [{"camera": "main", "far_band": {"top": 0, "bottom": 1, "left": 0.9, "right": 0.3}}],
        },
        {"station": "a", "cameras": [{"camera": f"c{n}"} for n in range(17)]},
        {"station": "a", "sensors": [{"sensor": f"s{n}", "parameters": ["pm25"]} for n in range(65)]},
    ],
)
def test_a_station_record_that_no_stage_can_use_is_refused_by_fusion_and_harms_none(
    plain: dict[str, Any],
) -> None:
    log = Log()
    record = log.record(topics.STATIONS, b"a", json.dumps(plain).encode())
    fusion, vision, (stage, broker) = Fusion(), Vision(), sink()
    fusion.handle([record])
    assert set(letters_of(fusion.broker, [record])) == {(topics.STATIONS.name, 0)}
    header = FrameHeader(id="f", source="/s", time=from_ms(NOON), station="a").to_headers()
    frame = log.record(topics.FRAMES, b"a", strangers.pictures()[0], list(header))
    vision.handle([record], [frame])
    assert len(vision.broker.on(topics.FEATURES)) == 1
    loop().run_until_complete(stage.handle(topics.STATIONS.name, [record]))
    assert "a" not in store().stations()
    assert not broker.out


def test_a_refused_station_record_does_not_hide_the_good_one_from_workers_that_start_later() -> None:
    log, fusion = Log(), Fusion()
    sent = [
        log.record(topics.STATIONS, b"a", value)
        for value in (b'{"station":"a","name":"A"}', b'{"station":"a","timezone":"Europe/Milan"}')
    ]
    fusion.handle(sent)
    assert set(letters_of(fusion.broker, sent)) == {(topics.STATIONS.name, 1)}
    [again] = fusion.broker.on(topics.STATIONS)
    assert again.key is not None
    newest = log.record(topics.STATIONS, again.key, again.value, list(again.headers))
    later = station_book()
    assert later.restore([newest]) == set()
    assert later.all() == fusion.stations.all()
    fusion.handle([newest])
    assert fusion.broker.on(topics.STATIONS) == [again], "once is enough"


def test_what_an_earlier_version_took_holds_on_without_what_is_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    band = {"top": 0.6, "bottom": 0.2}
    plain = {
        "station": "a",
        "name": "A",
        "timezone": "Europe/Milan",
        "cameras": [{"camera": "m", "far_band": band}],
    }
    book = station_book()
    book.restore([Log().record(topics.STATIONS, b"a", json.dumps(plain).encode())])
    kept = book.get("a")
    assert kept is not None
    assert (kept.name, kept.timezone, kept.cameras[0].far_band) == ("A", "UTC", None)
    assert "Europe/Milan" in caplog.text
    assert "far_band of camera 1" in caplog.text


def test_a_late_record_that_its_topic_cannot_take_is_a_dead_letter() -> None:
    log, fusion = Log(), Fusion()
    pad = [("pad", b"x" * topics.LATE.max_bytes)]
    late = [
        reading(log, NOON, ("pm25", 9.0)),
        log.record(topics.READINGS, b"a", reading(Log(), NOON, ("pm25", 9.0)).value, pad),
    ]
    fusion.handle([reading(log, NOON + 3_000_000, ("pm25", 9.0))], late)
    assert late_of(fusion.broker) == {(topics.READINGS.name, late[0].offset)}
    (letter,) = letters_of(fusion.broker, late).values()
    assert letter.code == "late_too_large"


def test_an_estimate_that_its_topic_cannot_take_says_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_stage, "ESTIMATES", replace(topics.ESTIMATES, max_bytes=8_000))
    log, fusion = Log(), Fusion()
    names = [f"{'s' * 50}{number}" for number in range(60)]
    sent = named(log, "a", NOON, *names)
    fusion.handle([sent], *closing())
    [letter] = letters_of(fusion.broker, [sent]).values()
    assert letter.code == "estimate_too_large"
    assert "is what is said of its sensors: let a station have fewer" in letter.reason
    use = FrameUse(camera="c", captured_at=from_ms(NOON), usable=True)
    crowded = estimate("a", NOON // 1000, inputs=Inputs(readings=1, frames=(use,) * 500))
    assert "is 500 frames: send fewer frames" in refusals.largest(crowded)
    said = {f"a/{number}": 1 for number in range(500)}
    crowded = estimate("a", NOON // 1000, inputs=Inputs(readings=1, withheld=said))
    assert "is 500 invalidations: say them" in refusals.largest(crowded)


def test_a_punctuation_of_the_far_future_makes_nothing_late() -> None:
    log, fusion = Log(), Fusion()
    header = [("ce_type", PUNCTUATION_TYPE)]
    far = log.record(topics.READINGS, None, b'{"kind":"watermark","at":"9999-01-01T00:00:00Z"}', header)
    mine = reading(log, NOON, ("pm25", 9.0))
    fusion.handle([far, mine], *closing())
    assert [letter.code for letter in letters_of(fusion.broker, [far, mine]).values()] == ["future_time"]
    assert len(fusion.estimates()) == 1


def test_a_huge_punctuation_of_frames_is_not_passed_on() -> None:
    log, vision = Log(), Vision()
    header = [("ce_type", PUNCTUATION_TYPE)]
    huge = log.record(topics.FRAMES, None, b"[" * 3_000_000, header)
    padded = [*header, ("pad", b"x" * 2_000_000)]
    good = log.record(topics.FRAMES, None, b'{"kind":"watermark","at":%d}' % NOON, padded)
    vision.handle([huge, good])
    assert [letter.code for letter in letters_of(vision.broker, [huge]).values()] == ["not_a_punctuation"]
    (passed,) = vision.broker.on(topics.FEATURES)
    assert json.loads(passed.value or b"")["kind"] == "watermark"


def published(log: Log, one: Estimate) -> Record:
    return log.record(topics.ESTIMATES, one.station.encode(), one.model_dump_json().encode())


def test_an_estimate_of_the_far_future_does_not_end_the_watch() -> None:
    log, alerts = Log(), Alerts()
    far = estimate("b", 9_000_000_000)
    now = [estimate("a", NOW // 1000 + n * 60, indices=(index(400),)) for n in range(-70, 1)]
    records = [published(log, one) for one in (far, *now)]
    alerts.handle(records)
    assert [letter.code for letter in letters_of(alerts.broker, records).values()] == ["future_time"]
    assert "open" in {one.event for one in alerts.alerts()}


# -- limits, and leaving -------------------------------------------------------------------------------------


def named(log: Log, station: str, at: int, *sensors: str, channel: str = "value") -> Record:
    """A message of one PM2.5 value per sensor."""
    values = [
        {"parameter": "pm25", "value": 9.0, "unit": "ug/m3", "sensor": name, "channel": channel}
        for name in sensors
    ]
    plain = {"station": station, "observed_at": at, "values": values}
    return log.record(topics.READINGS, station.encode(), json.dumps(plain).encode())


def test_a_counter_in_the_sensors_id_ends_in_dead_letters_and_the_known_go_on() -> None:
    log, fusion = Log(), Fusion()
    first = [named(log, "a", NOON, *(f"s{n}" for n in range(200)))]
    flood = [named(log, "a", NOON + n, f"x{n}") for n in range(300)]
    again = [named(log, "a", NOON + MINUTE, *(f"s{n}" for n in range(SENSORS_PER_STATION)))]
    other = [named(log, "b", NOON, "s")]
    fusion.handle(first, flood, again, other, *closing())
    letters = letters_of(fusion.broker, [*first, *flood, *again, *other])
    assert {letter.code for letter in letters.values()} == {"too_many_sensors"}
    assert len(letters) == 1 + len(flood)
    assert letters[topics.READINGS.name, 0].partly_used
    assert "counter in its id" in letters[topics.READINGS.name, 5].reason
    counted = sorted(one.pollutants["pm25"].n for one in fusion.estimates())
    assert counted == [1, SENSORS_PER_STATION, SENSORS_PER_STATION]
    assert fusion.census.names("a") == (SENSORS_PER_STATION, SENSORS_PER_STATION, 0)


def test_at_its_limit_of_series_a_stations_checkpoint_fits_its_topic() -> None:
    log, fusion = Log(), Fusion()
    sensors = [f"s{n}" for n in range(SENSORS_PER_STATION)]
    readings = [
        named(log, "a", NOON + n * 1000, *sensors[:32] if half else sensors[32:], channel=f"c{channel}")
        for n in range(130)
        for channel in range(10)
        for half in (0, 1)
    ]
    fusion.handle(readings, *closing())
    assert fusion.census.names("a") == (SENSORS_PER_STATION, SERIES_PER_STATION, 0)
    assert "too_many_series" in {letter.code for letter in letters_of(fusion.broker, readings).values()}
    kept = [one for one in fusion.broker.on(topics.STATE) if (one.key or b"").startswith(b"a#")]
    assert kept
    assert max(len(one.value or b"") for one in kept) < topics.STATE.max_bytes


def test_a_counter_in_the_stations_id_ends_in_dead_letters_and_the_known_go_on() -> None:
    log, fusion = Log(), Fusion()
    flood = [named(log, f"s{n}", NOON, "main") for n in range(STATIONS_PER_PARTITION + 50)]
    known = named(log, "s7", NOON + 1, "main")
    fusion.handle(flood, [known])
    letters = letters_of(fusion.broker, flood)
    assert {letter.code for letter in letters.values()} == {"too_many_stations"}
    assert len(letters) == 50
    assert len(fusion.census) == STATIONS_PER_PARTITION
    # Those that were not heard for long make room.
    later = NOON + FORGOTTEN_AFTER_MS + 2 * 3_600_000
    fresh = [named(log, f"n{n}", later, "main") for n in range(3)]
    for record in fresh:
        record.timestamp = later
    fusion.handle(fresh)
    assert len(letters_of(fusion.broker, [*flood, *fresh])) == 50
    assert len(fusion.census) == 3


def test_the_watch_holds_no_more_stations_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_stage, "STATIONS_PER_PARTITION", 3)
    log, alerts = Log(), Alerts()
    made = [estimate(f"s{n % 5}", NOW // 1000 + n) for n in range(20)]
    records = [published(log, one) for one in made]
    alerts.handle(records)
    letters = letters_of(alerts.broker, records)
    assert {letter.code for letter in letters.values()} == {"too_many_stations"}
    assert sorted(offset % 5 for _, offset in letters) == [3] * 4 + [4] * 4


def test_changes_of_the_past_invent_no_more_stations_than_the_limit() -> None:
    log, fusion = Log(), Fusion()
    header = AMENDED
    records = [
        log.record(topics.READINGS, name.encode(), b'{"station":"%s"}' % name.encode(), header)
        for name in (f"s{n}" for n in range(STATIONS_PER_PARTITION + 2))
    ]
    fusion.handle(records)
    assert len(fusion.census) == STATIONS_PER_PARTITION
    assert len(letters_of(fusion.broker, records)) == 2


def test_cameras_beyond_the_limit_are_refused() -> None:
    log, fusion = Log(), Fusion()
    plain = {
        "station": "a", "captured_at": NOON, "frame_id": "f", "sha256": "0" * 64, "bundle": "b",
        "embeddings": {}, "quality": {"usable": False},
    }  # fmt: skip
    records = [
        log.record(topics.FEATURES, b"a", json.dumps(plain | {"camera": f"c{n}"}).encode())
        for n in range(CAMERAS_PER_STATION + 3)
    ]
    fusion.handle(records, *closing())
    letters = letters_of(fusion.broker, records)
    assert [letter.code for letter in letters.values()] == ["too_many_cameras"] * 3
    (estimate,) = fusion.estimates()
    assert len(estimate.inputs.frames) == CAMERAS_PER_STATION


def last_of(broker: Broker, topic: topics.Topic) -> dict[bytes, bytes | None]:
    """What compaction leaves, tombstones too."""
    return {one.key or b"": one.value for one in broker.on(topic)}


def snapshots(broker: Broker, name: str) -> bytes:
    """What was kept last under a name."""
    found = [one for one in broker.on(topics.STATE) if (one.key or b"").rpartition(b"#")[0] == name.encode()]
    return found[-1].value or b""


def test_who_is_not_heard_for_long_leaves_memory_and_checkpoints_and_begins_anew() -> None:
    log, fusion = Log(), Fusion()
    # An hour ends on the way, so that there are virtual sensors.
    learned = [
        reading(log, NOON + n * 5 * MINUTE, ("pm25", 9.0), ("no2", 9.0), station="b") for n in range(9)
    ]
    fusion.handle([named(log, "a", NOON, "main"), *learned], *closing())
    assert last_of(fusion.broker, topics.STATE)[b"a#0"] is not None
    later = NOON + FORGOTTEN_AFTER_MS + 24 * 3_600_000
    speaks = [named(log, "b", later, "main"), named(log, "b", later + 2 * 3_600_000, "main")]
    for record in speaks:
        record.timestamp = later + 3 * 3_600_000
    feature = punctuation_at(later + 2 * 3_600_000, topics.FEATURES)
    fusion.handle(speaks, [feature])
    assert "a" not in fusion.census
    assert set(fusion.assessor.stations()) == set(dict(fusion.cadences.stations())) == {"b"}
    kept = last_of(fusion.broker, topics.STATE)
    assert {name for name, value in kept.items() if value is None} >= {b"a#0", b"a#1", b"a|cadence#0"}
    # What b had learned before is forgotten by the same rule, whether or not it has left the memory.
    fresh = Fusion()
    fresh.handle(speaks, [feature])
    assert fusion.estimates()[-1].model_dump_json() == fresh.estimates()[-1].model_dump_json()
    assert snapshots(fusion.broker, "b") == snapshots(fresh.broker, "b")
    assert snapshots(fusion.broker, "b|cadence") == snapshots(fresh.broker, "b|cadence")


def punctuation_at(at: int, topic: topics.Topic) -> Record:
    value = b'{"kind":"watermark","at":%d}' % at
    return ConsumerRecord(
        topic.name, 0, 10**7, at, 1, None, value, None, 0, len(value), (("ce_type", PUNCTUATION_TYPE),)
    )


def test_a_retired_station_is_forgotten_and_begins_anew_as_one_that_nobody_knows() -> None:
    log, fusion = Log(), Fusion()
    record = log.record(topics.STATIONS, b"a", b'{"station":"a","standards":["eaqi-2025"]}')
    said = [named(log, "a", NOON + n * MINUTE, "main") for n in range(12)]
    side = punctuation_at(NOON + 11 * MINUTE + 30_000, topics.FEATURES)
    fusion.handle([record], said, [side])
    assert last_of(fusion.broker, topics.STATE)[b"a#0"] is not None
    fusion.handle([log.record(topics.STATIONS, b"a", None)])
    assert "a" not in fusion.census
    kept = last_of(fusion.broker, topics.STATE)
    assert {kept[name] for name in (b"a#0", b"a#1", b"a|sensors#0", b"a|cadence#0", b"a|cadence#1")} == {None}
    assert last_of(fusion.broker, topics.CAMERA_BANDS) == {b"a": None}
    assert "a" not in dict(fusion.cadences.stations())
    series = "a", "main", "pm25", "value"
    assert fusion.cadences.heard(series, NOON + 12 * MINUTE, 12).period == 0, "nothing is known of its rhythm"
    fusion.cadences.forget(["a"])
    # What it had said is published, but nothing is learned from it any more.
    later = NOON + 30 * MINUTE
    fusion.handle([punctuation_at(later, topics.READINGS)], [punctuation_at(later, topics.FEATURES)])
    assert len({one.window.end for one in fusion.estimates()}) == 12
    kept = last_of(fusion.broker, topics.STATE)
    assert {kept[b"a#0"], kept[b"a#1"]} == {None}
    again = named(log, "a", later + MINUTE, "main")
    fusion.handle([again], *closing())
    newest = fusion.estimates()[-1]
    assert newest.indices[0].standard == "us-epa-2024"
    assert last_of(fusion.broker, topics.STATE)[b"a#0"] is not None
    assert not letters_of(fusion.broker, [record, *said, again])


CHECKS: dict[str, tuple[Any, Any]] = {
    "fusion": (batches(FUSION, punctuated=True), check_fusion),
    "network": (batches(TOGETHER, punctuated=False), check_network),
    "vision": (batches(VISION, punctuated=True), check_vision),
    "sink": (batches(SINK, punctuated=False), check_sink),
    "alert": (batches(ESTIMATED, punctuated=False), check_alerts),
    "forecast": (batches(FORECAST, punctuated=False), check_forecast),
    "fleet": (batches(FUSION, punctuated=True), check_fleet),
}


def property_of(stage: str, examples: int) -> None:
    strategy, check = CHECKS[stage]
    models = (Reading, Features, Station, CameraBands, Estimate, Alone, Mark, Amendment, Punctuation)
    for model in (*models, WeatherIssue):
        strangers.pool(model, 20 if model is Punctuation else POOL)

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(strategy)
    def every_record_is_used_late_or_refused(drawn: list[list[Record]]) -> None:
        check(drawn)

    every_record_is_used_late_or_refused()


@pytest.mark.parametrize(
    ("stage", "examples"),
    [
        ("fusion", 90),
        ("network", 20),
        ("vision", 40),
        ("sink", 40),
        ("alert", 40),
        ("fleet", 40),
        ("forecast", 40),
    ],
)
def test_whatever_strangers_send_no_stage_stops(stage: str, examples: int) -> None:
    property_of(stage, examples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "examples"),
    [
        ("fusion", 5_000), ("network", 1_500), ("vision", 1_500), ("sink", 1_500), ("alert", 2_000),
        ("fleet", 2_000), ("forecast", 2_000),
    ],
)  # fmt: skip
def test_whatever_strangers_send_no_stage_stops_in_ten_thousand(stage: str, examples: int) -> None:
    property_of(stage, examples)
