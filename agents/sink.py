"""The sink stage: estimates into the local store, InfluxDB and the latest-state cache, then acknowledge.

Alert events go into InfluxDB only, for dashboards: their own store is the compacted topic.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from schemas.alert import Alert
from schemas.base import first_error
from schemas.errors import Refused
from schemas.estimate import Estimate
from streams import metrics
from streams.accept import dead_letter
from streams.driver import Out, Publish
from streams.sinks.aggregator import Aggregator
from streams.sinks.cache import LatestCache
from streams.sinks.directory import Directory
from streams.sinks.errors import PointError, SinkStopped
from streams.sinks.influx import InfluxSink, Rejection
from streams.sinks.points import Point, alert_point
from streams.sinks.store import Store
from streams.stations import StationBook

log = logging.getLogger(__name__)


class SinkStage:
    """Estimates of one partition. One batch at a time; while a sink waits, nothing more is read."""

    def __init__(
        self,
        store: Store,
        influx: InfluxSink | None,
        aggregator: Aggregator | None,
        cache: LatestCache | None,
        stations: StationBook,
        publish: Publish,
        executor: Executor,
        stopping: threading.Event,
        *,
        topic: str,
        dead_letter_topic: str,
        start: int,
        alerts_topic: str | None = None,
    ) -> None:
        self._store = store
        self._influx = influx
        self._aggregator = aggregator
        self._cache = cache
        self._stations = stations
        self._directory = Directory()
        self._publish = publish
        self._executor = executor
        self._stopping = stopping
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._written = start
        self._alerts_topic = alerts_topic
        self._alerts_read = 0

    async def handle(self, topic: str, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Write one poll's estimates to every sink, or keep station records."""
        loop = asyncio.get_running_loop()
        if topic == self._stations.topic:
            self._stations.apply(records)  # the fusion stage reads them too and dead-letters the unreadable
            known = list(self._stations.all().values())
            try:
                await loop.run_in_executor(self._executor, self._store.write_stations, known)
            except SinkStopped:
                return
            return
        if topic == self._alerts_topic:
            await self._take_alerts(records)
            return
        out: list[Out] = []
        estimates: list[Estimate] = []
        origins: list[ConsumerRecord[bytes, bytes]] = []
        for record in records:
            try:
                estimates.append(Estimate.model_validate_json(record.value or b""))
                origins.append(record)
            except ValidationError as error:
                refused = Refused(*first_error(error))
                out.append(dead_letter(self._dead_letter_topic, "sink", record, refused))
        metrics.SINK_POINTS.labels("all").set(len(estimates))
        try:
            rejected = await loop.run_in_executor(self._executor, self._write, estimates)
        except SinkStopped:
            return  # the worker or the assignment ends: nothing is acknowledged, it will be read again
        for position, reason in rejected:
            refused = Refused("sink_rejected", f"InfluxDB refused a point of this estimate: {reason}")
            out.append(
                dead_letter(self._dead_letter_topic, "sink", origins[position], refused, partly_used=True)
            )
        for letter in out:
            metrics.DEAD_LETTERS.labels("sink", dict(letter.headers)["x-dlq-code"].decode()).inc()
        metrics.MESSAGES.labels(topic, "used").inc(len(estimates))
        metrics.MESSAGES.labels(topic, "refused").inc(len(out))
        await self._publish(out)
        metrics.SINK_POINTS.labels("all").set(0)
        self._written = records[-1].offset + 1

    async def _take_alerts(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        assert self._influx is not None, "alerts are read for InfluxDB only"
        newest: dict[str, Point] = {}
        out: list[Out] = []
        for record in records:
            if record.value is None:
                continue  # a tombstone: what was written of the alert ends with the bucket's retention
            try:
                alert = Alert.model_validate_json(record.value)
                newest[alert.id] = alert_point(alert)
                continue
            except ValidationError as error:
                refused = Refused(*first_error(error))
            except PointError as error:
                refused = Refused("sink_rejected", str(error))
            out.append(dead_letter(self._dead_letter_topic, "sink", record, refused))
            metrics.DEAD_LETTERS.labels("sink", refused.code).inc()
        try:
            rejected = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._influx.write_points, list(newest.values())
            )
        except SinkStopped:
            return  # nothing is acknowledged, it will be read again
        _complain(rejected)
        metrics.MESSAGES.labels(self._alerts_topic, "used").inc(len(records) - len(out))
        metrics.MESSAGES.labels(self._alerts_topic, "refused").inc(len(out))
        await self._publish(out)
        self._alerts_read = records[-1].offset + 1

    def _write(self, estimates: Sequence[Estimate]) -> list[tuple[int, str]]:
        with metrics.SINK_SECONDS.labels("store").time():
            newest = self._store.write(estimates)
        rejected = []
        if self._influx is not None and newest:
            positions = {id(estimate): position for position, estimate in enumerate(estimates)}
            with metrics.SINK_SECONDS.labels("influx").time():
                rejected = [
                    (positions[id(newest[rejection.position])], rejection.reason)
                    for rejection in self._influx.write(newest)
                ]
                self._write_derived(self._influx, newest)
        if self._cache is not None:
            self._cache.write(newest)
        return rejected

    def _write_derived(self, influx: InfluxSink, newest: Sequence[Estimate]) -> None:
        """The station directory and the aggregates: made from what is written, so a refusal loses nothing."""
        refused = influx.write_withdrawn(self._store.withdrawn(newest))
        refused += influx.write_points(self._directory.points(newest, self._stations.all()))
        if self._aggregator is not None:
            refused += self._aggregator.after(newest)
        _complain(refused)

    async def tick(self) -> None:
        """Nothing happens by time alone."""

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Everything before this offset is in every sink."""
        settled = {self._topic: (self._written, ""), **self._stations.settled()}
        if self._alerts_topic is not None and self._alerts_read:
            settled[self._alerts_topic] = self._alerts_read, ""
        return settled

    def committed(self) -> None:
        """Nothing hangs on a commit here."""

    def paused(self) -> set[str]:
        """Never: `handle` waits instead."""
        return set()

    async def close(self) -> None:
        """Let a waiting write go."""
        self._stopping.set()


def _complain(refused: Sequence[Rejection]) -> None:
    """What was made from what is kept elsewhere: a refusal loses nothing, but somebody should know."""
    if refused:
        metrics.SINK_ERRORS.labels("influx").inc(len(refused))
        log.error(
            "InfluxDB refused %d derived points (skyfuse influx init makes the buckets): %s",
            len(refused),
            refused[0].reason,
        )
