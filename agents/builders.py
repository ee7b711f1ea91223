"""What a worker needs to open the stages of its partitions: a builder for each role, made from settings."""

import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from agents.alert import AlertStage, AlertStages, Quiet
from agents.fleet import Beside, FleetStage
from agents.forecast import ForecastStage
from agents.fusion import FusionCheckpoints, FusionStage
from agents.network import NetworkStage, put_together, read_piece
from agents.regions import Regions
from agents.rules_file import RulesSource
from agents.sink import Sinks, SinkStage
from agents.vision import VisionPipeline, VisionStage
from alerting.stored import FORESEEN
from alerting.stored import read as read_alerts
from aqi.known_names import check_station
from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.outlook import Outlook
from forecast.stored import read_outlook
from fusion import stored
from fusion.assessor import Assessor
from fusion.intake import DEFAULT_STANDARDS
from fusion.sensors.declared import humidity_ms
from fusion.together.meeting import Meeting, MeetingStand
from fusion.together.progress import MeetingRules
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.times import HOUR_MS, in_ms
from settings.sections import RetentionSettings, Settings
from settings.values import FOREVER
from sinks.aggregator import Aggregator
from sinks.cache import LatestCache
from sinks.influx import InfluxBucket, InfluxSink
from sinks.retention import Retention
from sinks.store import Store
from streams import metrics, topics
from streams.accept import Keys
from streams.bands import BandBook
from streams.cadences import CADENCE, Cadences, by_station, read_cadences
from streams.checkpoint import Checkpoints
from streams.compacted import appended_since, read_all_of, read_compacted
from streams.credentials import for_aiokafka
from streams.driver import BatchApp
from streams.join import BEGINNING, Join, Settled
from streams.join_rules import join_rules
from streams.patience import Hindrance, Patience
from streams.stage import Appended, Committed, Out, Stage, StageIo
from streams.standing import Periods
from streams.stations import StationBook

log = logging.getLogger(__name__)

#: From the moment when a window can be estimated to its estimate on the topic, at most.
_ESTIMATED_IN: Final = timedelta(minutes=1)


class StageBuilder:
    inputs: tuple[topics.Topic, ...]
    max_poll_records = 2000
    model = ""
    app: BatchApp

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.kafka.partitions)
        self.names = settings.kafka.names

    async def open(self, partition: int, committed: Committed) -> Stage:
        raise NotImplementedError

    def io(self, partition: int, committed: Committed) -> StageIo:
        return StageIo(partition, self.publish, self.names, committed)

    async def publish(self, records: Iterable[Out]) -> None:
        await self.app.host.publish(records)

    async def compacted(self, topic: topics.Topic, partition: int) -> Mapping[bytes, Any]:
        kafka = self.settings.kafka
        assert kafka.bootstrap is not None
        return await read_compacted(kafka.bootstrap, self.names.of(topic), partition, for_aiokafka(kafka))

    def all_of(
        self, topic: topics.Topic, partition: int, keys: Collection[bytes]
    ) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
        kafka = self.settings.kafka
        assert kafka.bootstrap is not None
        return read_all_of(kafka.bootstrap, self.names.of(topic), partition, for_aiokafka(kafka), keys)

    def _waiting(self, topic: str, partition: int, position: int) -> bool:
        return self.app.host.highwater(topic, partition) > position

    async def appended_before(self, topic: topics.Topic, partition: int, at: int) -> Appended:
        return await self.app.host.appended_before(self.names.of(topic), partition, at)

    async def stations(self, partition: int) -> StationBook:
        book = StationBook(self.names.of(topics.STATIONS), self.keys, check_station)
        refused = book.restore((await self.compacted(topics.STATIONS, partition)).values())
        if refused:
            async for record in self.all_of(topics.STATIONS, partition, refused):
                book.restore([record])
        return book


class VisionBuilder(StageBuilder):
    inputs = (topics.FRAMES, topics.STATIONS, topics.CAMERA_BANDS)
    max_poll_records = 64

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        bundle = Bundle.load(settings.bundle)
        self.model = bundle.id
        self._pipeline = VisionPipeline(bundle, batch=settings.vision.batch, threads=settings.vision.threads)

    async def open(self, partition: int, committed: Committed) -> Stage:
        bands = BandBook(self.names.of(topics.CAMERA_BANDS), self.keys)
        bands.restore((await self.compacted(topics.CAMERA_BANDS, partition)).values())
        return VisionStage(
            self.io(partition, committed),
            self._pipeline,
            await self.stations(partition),
            bands,
            functools.partial(self._waiting, self.names.of(topics.FRAMES), partition),
        )


class FusionBuilder(StageBuilder):
    inputs = (topics.FEATURES, topics.READINGS, topics.STATIONS)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        bundle = Bundle.load(settings.bundle)
        self.model = bundle.id
        self._head = Head(bundle)
        self._rules = join_rules(settings.window)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="assess")

    async def open(self, partition: int, committed: Committed) -> Stage:
        sides = {"features": self.names.of(topics.FEATURES), "readings": self.names.of(topics.READINGS)}
        restored = {
            side: Settled.parse(*committed[topic]) for side, topic in sides.items() if topic in committed
        }
        horizon = min((kept.done for kept in restored.values()), default=-(2**62)) - self._rules.hold
        checkpoints = Checkpoints(self.names.of(topics.STATE), partition)
        kept = await self.compacted(topics.STATE, partition)
        cadence_mark = f"{CADENCE}#".encode()
        snapshots = checkpoints.load(
            (record for key, record in kept.items() if cadence_mark not in key), horizon, stored.read
        )
        period_checkpoints = Checkpoints(self.names.of(topics.STATE), partition)
        cadences = period_checkpoints.load(
            (record for key, record in kept.items() if cadence_mark in key),
            restored["readings"].offset if "readings" in restored else -1,
            read_cadences,
        )
        stations = await self.stations(partition)
        return FusionStage(
            self.io(partition, committed),
            Join(self._rules, restored, int(time.time() * 1000)),
            Assessor(
                self._head,
                size_ms=self._rules.size,
                lateness_ms=self._rules.lateness,
                snapshots=snapshots,
                timed=metrics.head_run,
            ),
            stations,
            Periods(self._rules.size, Cadences(by_station(cadences)), stations.get, humidity_ms),
            FusionCheckpoints(checkpoints, period_checkpoints),
            self._executor,
            self._regions(partition),
        )

    def _regions(self, partition: int) -> Regions | None:
        if not self.settings.network.enabled:
            return None
        return Regions(self.names, self.keys, self.settings.kafka.partitions, partition)


class NetworkBuilder(StageBuilder):
    inputs = (topics.ALONE,)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def open(self, partition: int, committed: Committed) -> Stage:
        window = self.settings.window
        rules = MeetingRules(
            size=in_ms(window.size),
            lateness=in_ms(window.allowed_lateness),
            sources=self.settings.kafka.partitions,
            idle_timeout=None if window.idle_timeout is None else in_ms(window.idle_timeout),
            radius_km=self.settings.network.radius_km,
        )
        io = self.io(partition, committed)
        restored = MeetingStand.parse(*io.start(topics.ALONE)) if committed else None
        checkpoints = Checkpoints(self.names.of(topics.NETWORK_STATE), partition)
        kept = await self.compacted(topics.NETWORK_STATE, partition)
        pieces = checkpoints.load(
            kept.values(), rules.kept_since(BEGINNING if restored is None else restored.done), read_piece
        )
        return NetworkStage(
            io,
            Meeting(rules, restored, put_together(pieces), int(time.time() * 1000)),
            self.keys,
            checkpoints,
            self._executor,
        )


class SinkBuilder(StageBuilder):
    inputs: tuple[topics.Topic, ...] = (
        topics.ESTIMATES,
        topics.STATIONS,
        topics.ANNOTATIONS,
        topics.FORECASTS,
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.influx.url is not None:
            self.inputs = (*self.inputs, topics.ALERTS)  # for the dashboards' annotations
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sink")
        settings.data_dir.mkdir(parents=True, exist_ok=True)

    async def open(self, partition: int, committed: Committed) -> Stage:
        # Each assignment has its own patience: a write that waits is let go when the partition moves on.
        stopping = threading.Event()
        patience = Patience.until(stopping, _waiting, _waited)
        settings = self.settings.influx
        store = Store(
            self.settings.store_path,
            aggregates=settings.url is not None,
            patience=patience,
            retention=retention_of(self.settings.retention),
        )
        influx = aggregator = None
        if settings.url is not None:
            influx = InfluxSink(
                InfluxBucket(settings.url, settings.org, settings.bucket),
                settings.read_token,
                patience,
            )
            aggregator = Aggregator(
                store, influx, settings.bucket, lambda station: self.keys.partition(station) == partition
            )
        stations = await self.stations(partition)
        store.write_stations(list(stations.all().values()))
        cache = None if self.settings.redis.url is None else LatestCache(self.settings.redis.url)
        return SinkStage(
            self.io(partition, committed),
            Sinks(store, influx, aggregator, cache),
            stations,
            self._executor,
            stopping,
        )


class AlertBuilder(StageBuilder):
    inputs: tuple[topics.Topic, ...] = (topics.ESTIMATES, topics.STATIONS, topics.FORECASTS)
    #: Of the fleet's health, which is watched where time passes: a replay has none of its own.
    _fleet = (topics.READINGS, topics.FEATURES, topics.DEVICES)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.window.idle_timeout is not None:
            self.inputs = (*self.inputs, *self._fleet)
        self._rules = RulesSource.when_right(settings.alerts.rules)

    async def open(self, partition: int, committed: Committed) -> Stage:
        topic = self.names.of(topics.ESTIMATES)
        io = self.io(partition, committed)
        states = await self.compacted(topics.ALERT_STATE, partition)
        foreseen = FORESEEN.encode()
        window = self.settings.window
        rules = join_rules(window)
        quiet = None
        if window.idle_timeout is not None:  # in a replay time is that of the data alone
            wait = window.size + window.grace + window.disorder + window.idle_timeout
            quiet = Quiet(
                time.monotonic,
                functools.partial(self._waiting, topic, partition),
                functools.partial(self._unheard_since, partition),
                in_ms(wait + _ESTIMATED_IN),
            )
        checkpoints = Checkpoints(self.names.of(topics.ALERT_STATE), partition)
        ahead = Checkpoints(self.names.of(topics.ALERT_STATE), partition)
        alerts = AlertStages(
            io,
            AlertStage(
                io,
                self.keys,
                self._rules,
                checkpoints,
                checkpoints.load(
                    (record for key, record in states.items() if not key.startswith(foreseen)),
                    io.start(topics.ESTIMATES)[0],
                    read_alerts,
                ),
                # A window may be revised until it is final.
                horizon_ms=rules.size + rules.final_after,
                quiet=quiet,
            ),
            AlertStage(
                io,
                self.keys,
                self._rules,
                ahead,
                {
                    name.removeprefix(FORESEEN): state
                    for name, state in ahead.load(
                        (record for key, record in states.items() if key.startswith(foreseen)),
                        io.start(topics.FORECASTS)[0],
                        read_alerts,
                    ).items()
                },
                # A forecast may be made again until the next hour's.
                horizon_ms=HOUR_MS,
                on="forecasts",
            ),
        )
        if quiet is None:
            return alerts
        kept = await self.compacted(topics.FLEET, partition)
        return Beside(
            alerts,
            FleetStage(io, self.keys, (record.value for record in kept.values()), self._rules),
            [self.names.of(topic) for topic in self._fleet],
            self.names.of(topics.STATIONS),
        )

    async def _unheard_since(self, partition: int, at: int) -> bool:
        kafka = self.settings.kafka
        assert kafka.bootstrap is not None
        inputs = [self.names.of(topic) for topic in (topics.READINGS, topics.FRAMES, topics.FEATURES)]
        try:
            return not await appended_since(kafka.bootstrap, inputs, partition, at, for_aiokafka(kafka))
        except KafkaError as error:
            log.warning("whether stations are silent or the broker is, cannot be told: %r", error)
            return False


class ForecastBuilder(StageBuilder):
    inputs = (topics.ESTIMATES, topics.STATIONS, topics.WEATHER)
    #: In a replay each may be the first of an hour, whose forecasts take a while.
    max_poll_records = 200

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        bundle = ForecastBundle.load(settings.forecast.bundle or DEFAULT_FORECAST_BUNDLE)
        self._bundle = bundle
        self._models = bundle.models()
        self.model = f"{bundle.manifest.name} {bundle.manifest.version}/{self._models[-1].name}"
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    async def open(self, partition: int, committed: Committed) -> Stage:
        io = self.io(partition, committed)
        checkpoints = Checkpoints(self.names.of(topics.FORECAST_STATE), partition)
        kept = await self.compacted(topics.FORECAST_STATE, partition)
        start, _ = io.start(topics.ESTIMATES)
        found = checkpoints.load(kept.values(), start, read_outlook)
        return ForecastStage(
            io,
            Outlook(
                self._models,
                self.model,
                self._bundle.normalisation.typical,
                DEFAULT_STANDARDS,
                {station: state for station, (_, state) in found.items()},
            ),
            await self.stations(partition),
            checkpoints,
            functools.partial(self.appended_before, topics.WEATHER, partition),
            self._executor,
            lateness_ms=join_rules(self.settings.window).final_after,
        )


def retention_of(kept: RetentionSettings) -> Retention:
    """What the store lets go, in ms; None: never."""
    return Retention(
        *(None if length >= FOREVER else in_ms(length) for length in (kept.windows, kept.hours, kept.days))
    )


#: Since when which sink waits, s since 1970; empty while none does.
_since: dict[str, float] = {}
_since_lock = threading.Lock()


def _waiting(trouble: Hindrance, seconds: float) -> None:
    """A sink waits for its server: said, counted and shown, for the operator and the alert rules."""
    log.warning("a sink waits %.1f s: %s", seconds, trouble.words)
    metrics.SINK_ERRORS.labels(trouble.sink).inc()
    with _since_lock:
        since = _since.setdefault(trouble.sink, time.time())
        metrics.SINK_WAITS.clear()  # what it waited for before
        metrics.SINK_WAITS.labels(trouble.sink, trouble.kind).set(since)


def _waited() -> None:
    """A sink need not wait any more. One thread writes for all partitions, so nothing else waits."""
    with _since_lock:
        _since.clear()
        metrics.SINK_WAITS.clear()
