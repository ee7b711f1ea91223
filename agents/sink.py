"""The sink stage: estimates into the local store, InfluxDB and the latest-state cache, then acknowledge.

Alert events go into InfluxDB only, for dashboards: their own store is the compacted topic.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from schemas.alert import Alert
from schemas.annotation import Annotation
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.forecast import Forecast
from sinks.aggregator import Aggregator
from sinks.cache import LatestCache
from sinks.directory import Directory
from sinks.errors import PointError
from sinks.influx import InfluxSink, Rejection
from sinks.points import Point, alert_point, annotation_point, forecast_points
from sinks.store import Store
from streams import metrics
from streams.accept import read_annotation, read_estimate, read_forecast
from streams.boundary import isolated
from streams.errors import WaitStopped
from streams.letters import Letters
from streams.stage import KafkaRecord, StageIo
from streams.stations import StationBook
from streams.topics import ALERTS, ANNOTATIONS, ESTIMATES, FORECASTS

log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """An estimate, and the record that it came in."""

    record: KafkaRecord
    estimate: Estimate


@dataclass(frozen=True)
class Sinks:
    """Where estimates go: the local store always, the others where settings name them.

    `aggregator` goes with `influx`.
    """

    store: Store
    influx: InfluxSink | None = None
    aggregator: Aggregator | None = None
    cache: LatestCache | None = None


class _RefusedRecord(NamedTuple):
    """A record that a sink refused, and whether the others have it."""

    record: KafkaRecord
    why: Refused
    used: bool


class SinkStage:
    """Estimates of one partition. One batch at a time; while a sink waits, nothing more is read."""

    def __init__(
        self,
        io: StageIo,
        sinks: Sinks,
        stations: StationBook,
        executor: Executor,
        stopping: threading.Event,
    ) -> None:
        self._io = io
        self._store = sinks.store
        self._influx = sinks.influx
        self._aggregator = sinks.aggregator
        self._cache = sinks.cache
        self._stations = stations
        self._directory = Directory()
        self._executor = executor
        self._stopping = stopping
        self._topic = io.names.of(ESTIMATES)
        self._written, _ = io.start(ESTIMATES)
        self._alerts_topic = io.names.of(ALERTS)
        self._alerts_read = 0
        self._annotations_topic = io.names.of(ANNOTATIONS)
        self._annotations_read = 0
        self._forecasts_topic = io.names.of(FORECASTS)
        self._forecasts_read = 0

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Write one poll's estimates to every sink, or keep station records."""
        loop = asyncio.get_running_loop()
        if topic == self._stations.topic:
            # The fusion stage reads them too and dead-letters the unreadable.
            retired = self._stations.apply(records).retired
            for station in retired:
                self._directory.forget(station)
            if self._cache is not None and retired:
                await loop.run_in_executor(self._executor, self._cache.remove, retired)
            known = list(self._stations.all().values())
            try:
                await loop.run_in_executor(self._executor, self._store.write_stations, known)
            except WaitStopped:
                return
            return
        if topic == self._alerts_topic:
            await self._take_alerts(records)
            return
        if topic == self._annotations_topic:
            await self._take_annotations(records)
            return
        if topic == self._forecasts_topic:
            await self._take_forecasts(records)
            return
        letters = Letters(self._io.names, "sink")
        read: list[_Read] = []
        for record in records:
            estimate = letters.read(record, partial(read_estimate, record, self._stations.keys))
            if estimate is not None:
                read.append(_Read(record, estimate))
        metrics.SINK_POINTS.labels("all").set(len(read))
        try:
            rejected = await loop.run_in_executor(self._executor, self._write, read)
        except WaitStopped:
            return  # the worker or the assignment ends: nothing is acknowledged, it will be read again
        for refusal in rejected:
            letters.add(refusal.record, refusal.why, used=refusal.used)
        letters.count(records)
        await self._io.publish(letters.out())
        metrics.SINK_POINTS.labels("all").set(0)
        self._written = records[-1].offset + 1
        # Twice what came: so what leaves keeps up with a backlog too.
        await loop.run_in_executor(self._executor, self._store.tidy, 2 * len(read))

    async def _keep(
        self, records: Sequence[KafkaRecord], letters: Letters, write: Callable[[], list[Rejection]]
    ) -> bool:
        """Write what stands beside the estimates; False where the wait for a server was ended."""
        try:
            rejected = await asyncio.get_running_loop().run_in_executor(self._executor, write)
        except WaitStopped:
            return False  # nothing is acknowledged, it will be read again
        _complain(rejected)
        letters.count(records)
        await self._io.publish(letters.out())
        return True

    async def _take_alerts(self, records: Sequence[KafkaRecord]) -> None:
        assert self._influx is not None, "alerts are read for InfluxDB only"
        newest: dict[str, Point] = {}
        letters = Letters(self._io.names, "sink")
        for record in records:
            if record.value is None:
                continue  # a tombstone: what was written of the alert ends with the bucket's retention
            found = letters.read(record, lambda record=record: _alert_point(record))  # type: ignore[misc]
            if found is not None:
                newest[found[0]] = found[1]
        if await self._keep(records, letters, partial(self._influx.write_points, list(newest.values()))):
            self._alerts_read = records[-1].offset + 1

    async def _take_annotations(self, records: Sequence[KafkaRecord]) -> None:
        newest: dict[str, Annotation] = {}
        letters = Letters(self._io.names, "sink")
        for record in records:
            if record.value is None:
                continue  # a tombstone: what was written of the annotation stays
            annotation = letters.read(record, partial(read_annotation, record, self._stations.keys))
            if annotation is not None:
                newest[annotation.id] = annotation
        if await self._keep(records, letters, partial(self._write_annotations, list(newest.values()))):
            self._annotations_read = records[-1].offset + 1

    def _write_annotations(self, annotations: Sequence[Annotation]) -> list[Rejection]:
        self._store.write_annotations(annotations)
        if self._influx is None:
            return []
        return self._influx.write_points([annotation_point(one) for one in annotations])

    async def _take_forecasts(self, records: Sequence[KafkaRecord]) -> None:
        letters = Letters(self._io.names, "sink")
        found = [
            letters.read(record, partial(read_forecast, record, self._stations.keys)) for record in records
        ]
        forecasts = [one for one in found if one is not None]
        if await self._keep(records, letters, partial(self._write_forecasts, forecasts)):
            self._forecasts_read = records[-1].offset + 1

    def _write_forecasts(self, forecasts: Sequence[Forecast]) -> list[Rejection]:
        # An older one has the hours until the next in InfluxDB, and its scores: also where many are read
        # together after a rest, or again after a crash.
        told = self._store.write_forecasts(forecasts)
        if self._influx is None:
            return []
        return self._influx.write_points([point for one in told for point in forecast_points(*one)])

    def _write(self, read: Sequence[_Read]) -> list[_RefusedRecord]:
        """Write to every sink; gives the records that were refused, and whether they are used in part."""
        with metrics.SINK_SECONDS.labels("store").time():
            stored, failed = isolated(self._store_them, read)
        refused = [_RefusedRecord(one.record, why, False) for one, why in failed]
        newest = [one for part in stored for one in part]
        if self._influx is not None and newest:
            influx = self._influx
            with metrics.SINK_SECONDS.labels("influx").time():
                rejected, failed = isolated(lambda part: _to_influx(influx, part), newest)
                refused += [_RefusedRecord(one.record, why, True) for part in rejected for one, why in part]
                refused += [_RefusedRecord(one.record, why, True) for one, why in failed]
                self._write_derived(influx, [one.estimate for one in newest])
        if self._cache is not None:
            self._cache.write([one.estimate for one in newest])
        return refused

    def _store_them(self, read: Sequence[_Read]) -> list[_Read]:
        kept = {id(estimate) for estimate in self._store.write([one.estimate for one in read])}
        return [one for one in read if id(one.estimate) in kept]

    def _write_derived(self, influx: InfluxSink, newest: Sequence[Estimate]) -> None:
        """The station directory and the aggregates: made from what is written, so a refusal loses nothing."""
        refused = influx.write_withdrawn(self._store.withdrawn(newest))
        refused += influx.write_points(self._directory.points(newest, self._stations.all()))
        if self._aggregator is not None:
            refused += self._aggregator.after(newest)
        _complain(refused)

    async def tick(self) -> None:
        """What is over its time leaves the store also while nothing comes."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._store.tidy)

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Everything before this offset is in every sink."""
        settled = {self._topic: (self._written, ""), **self._stations.settled()}
        if self._alerts_read:
            settled[self._alerts_topic] = self._alerts_read, ""
        if self._annotations_read:
            settled[self._annotations_topic] = self._annotations_read, ""
        if self._forecasts_read:
            settled[self._forecasts_topic] = self._forecasts_read, ""
        return settled

    def committed(self) -> None:
        """Nothing hangs on a commit here."""

    def paused(self) -> set[str]:
        """Never: `handle` waits instead."""
        return set()

    async def close(self) -> None:
        """Let a waiting write go."""
        self._stopping.set()


def _to_influx(influx: InfluxSink, read: Sequence[_Read]) -> list[tuple[_Read, Refused]]:
    """Write points; gives the estimates of which any was refused, each once."""
    found: dict[int, list[Rejection]] = {}
    for rejection in influx.write([one.estimate for one in read]):
        found.setdefault(rejection.position, []).append(rejection)
    return [
        (
            read[position],
            Refused("sink_rejected", f"InfluxDB refused {_points(refused)}{_cause(refused)}"),
        )
        for position, refused in found.items()
    ]


def _points(refused: Sequence[Rejection]) -> str:
    return f"{len(refused)} points of this estimate" if len(refused) > 1 else "a point of this estimate"


def _cause(refused: Sequence[Rejection]) -> str:
    """Why, what can be done, and the server's words."""
    reason = refused[0].reason
    if not refused[0].too_old:
        return f": {reason}"
    return (
        ", which are older than its bucket keeps: the local store has them; to have them in InfluxDB too,"
        " lengthen the bucket's retention and send them again (skyfuse dlq redrive, skyfuse replay)."
        f" It says: {reason}"
    )


def _alert_point(record: KafkaRecord) -> tuple[str, Point]:
    alert = Alert.model_validate_json(record.value or b"")
    try:
        return alert.id, alert_point(alert)
    except PointError as error:
        raise Refused("sink_rejected", str(error)) from error


def _complain(refused: Sequence[Rejection]) -> None:
    """What was made from what is kept elsewhere: a refusal loses nothing, but somebody should know."""
    if refused:
        metrics.SINK_ERRORS.labels("influx").inc(len(refused))
        log.error("InfluxDB refused %d derived points%s", len(refused), _cause(refused))
