"""Faust, driven in batches: one event per partition and poll, settled offsets instead of acknowledgements.

Faust keeps the app, the agents, the assignment, the web server and the life cycle. What changes:

* `getmany` yields one message per partition and poll whose value is the list of Kafka records (50 times the
  stock rate; docs/performance.md).
* Nothing is acknowledged per message. A `Stage` per partition number says up to which offset its work is
  settled, and all its sources are committed together, in one request, with metadata.
* Partitions of the same number are assigned together (range assignor), since they are joined.
* After every rebalance all stages are dropped and rebuilt from what is committed: Faust seeks there anyway.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams import metrics
from streams.errors import DeliveryError
from streams.header_names import read_any_name
from streams.stage import Appended, OpenStage, Out, Stage
from streams.topics import MAX_RECORD_BYTES, STATIONS

log = logging.getLogger(__name__)
read_any_name()


class BatchConsumer(driver.Consumer):
    """Delivers the records of one partition and poll as one message; commits what the host has settled."""

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        """One (partition, message) per partition with records; the message's value is the list of records."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            # A rebalance is under way; Faust seeks to the committed offsets when it is over.
            return
        # Station records first: what follows in this poll may depend on them.
        for tp, batch in sorted(
            records.items(), key=lambda polled: not polled[0].topic.endswith(STATIONS.name)
        ):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is not None and tp not in active:
                continue
            last = batch[-1]
            yield (
                tp,
                ConsumerMessage(
                    last.topic, last.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
                    [], None, cast(bytes, batch), None, None, None, tp, generation_id=generation,
                ),
            )  # fmt: skip

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is settled, all partitions in one request."""
        del topics, start_new_transaction
        return await cast("BatchApp", self.app).host.commit()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's check reads acknowledgements, which do not exist here; /readyz watches progress instead."""


class _Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        conf = self.app.conf
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=30_000,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def fetch_committed(self, tps: Sequence[TP]) -> dict[TP, tuple[int, str]]:
        """Committed offset and metadata of those partitions that have any."""

        async def fetch() -> Mapping[TopicPartition, OffsetAndMetadata]:
            coordinator = self._ensure_consumer()._coordinator
            return cast(
                Mapping[TopicPartition, OffsetAndMetadata],
                await coordinator.fetch_committed_offsets([TopicPartition(*tp) for tp in tps]),
            )

        found = await self.call_thread(fetch)
        return {TP(*tp): (kept.offset, kept.metadata) for tp, kept in found.items() if kept.offset >= 0}

    async def appended_before(self, tp: TP, at: int) -> Appended:
        """What of a partition had come to the broker before `at`, ms."""

        async def ask() -> Appended:
            consumer, asked = self._ensure_consumer(), TopicPartition(*tp)
            later = (await consumer.offsets_for_times({asked: at}))[asked]
            first = (await consumer.beginning_offsets([asked]))[asked]
            end = (await consumer.end_offsets([asked]))[asked] if later is None else later.offset
            return Appended(first, end)

        return cast(Appended, await self.call_thread(ask))

    async def commit_with_metadata(self, offsets: Mapping[TP, tuple[int, str]]) -> bool:
        """One OffsetCommit request. False where this member does not own the partitions any more."""

        async def commit() -> None:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): OffsetAndMetadata(*kept) for tp, kept in offsets.items()}
            )

        try:
            await self.call_thread(commit)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("not committed, the partitions have moved on: %s", error)
            return False
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("not committed, will be tried again: %r", error)
            return False
        return True


class IdempotentProducer(driver.Producer):
    """Retries neither duplicate nor reorder."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class BatchTransport(driver.Transport):
    """The aiokafka transport with the two classes above."""

    Consumer = BatchConsumer
    Producer = IdempotentProducer


class BatchApp(faust.App):
    """A Faust app with a host for its stages."""

    host: "Host"


@dataclass
class _RunningStage:
    stage: Stage
    generation: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Host:
    """Owns the stages of a worker: opens them on first data, drops them when partitions are revoked."""

    def __init__(self, app: BatchApp, topics: Sequence[str], open_stage: OpenStage) -> None:
        self.app = app
        self.topics = tuple(topics)
        self._open_stage = open_stage
        self._running: dict[int, _RunningStage] = {}
        self._committed: dict[TP, tuple[int, str]] = {}
        self._commit_lock = asyncio.Lock()
        self._open_lock = asyncio.Lock()
        #: Per partition: offset after the last record handled, and its broker time in seconds.
        self._seen: dict[TP, tuple[int, float]] = {}
        #: Monotonic time of the last commit, or of the last time when there was nothing to commit.
        self.committed_at = time.monotonic()

    # -- life cycle ----------------------------------------------------------------------------------------

    async def drop(self) -> None:
        """Partitions were revoked: forget everything, the next owner starts from what is committed."""
        running, self._running = self._running, {}
        self._committed.clear()
        for entry in running.values():
            await entry.stage.close()

    async def _get(self, partition: int, generation: int) -> _RunningStage | None:
        async with self._open_lock:
            entry = self._running.get(partition)
            if entry is not None and entry.generation == generation:
                return entry
            return await self._open(partition, generation)

    async def _open(self, partition: int, generation: int) -> _RunningStage | None:
        tps = [TP(topic, partition) for topic in self.topics]
        found = await self._thread.fetch_committed(tps)
        stage = await self._open_stage(partition, {tp.topic: kept for tp, kept in found.items()})
        if self.app.consumer_generation_id != generation or self.app.rebalancing:
            await stage.close()
            return None
        entry = self._running[partition] = _RunningStage(stage, generation)
        return entry

    @property
    def _thread(self) -> _Thread:
        return cast(_Thread, cast(BatchConsumer, self.app.consumer)._thread)

    @property
    def stages(self) -> Mapping[int, Stage]:
        """The open stages by partition number."""
        return {partition: entry.stage for partition, entry in self._running.items()}

    # -- work ----------------------------------------------------------------------------------------------

    async def handle(self, message: Any) -> None:
        """One batch. Batches of an earlier generation are let go: they will be read again."""
        if message.generation_id != self.app.consumer_generation_id:
            return
        entry = await self._get(message.partition, message.generation_id)
        if entry is None:
            return
        async with entry.lock:
            await entry.stage.handle(message.topic, message.value)
        self._seen[message.tp] = message.offset + 1, message.timestamp
        self._apply_pauses()

    async def tick(self) -> None:
        """Let processing time pass in every stage; open those of partitions that have had no data so far."""
        if self.app.rebalancing or not cast(BatchConsumer, self.app.consumer).flow_active:
            return
        for partition in {tp.partition for tp in self.app.consumer.assignment()} - set(self._running):
            await self._get(partition, self.app.consumer_generation_id)
        for entry in list(self._running.values()):
            async with entry.lock:
                await entry.stage.tick()
        self._apply_pauses()

    def _apply_pauses(self) -> None:
        consumer = self.app.consumer
        wanted = {
            TP(topic, partition)
            for partition, entry in self._running.items()
            for topic in entry.stage.paused()
        }
        current = set(cast(BatchConsumer, consumer)._paused_partitions)
        if wanted - current:
            consumer.pause_partitions(wanted - current)
        if current - wanted and not self.app.rebalancing:
            consumer.resume_partitions(current - wanted)

    async def commit(self) -> bool:
        """Commit everything that is settled and has changed since; sources of a stage always together."""
        async with self._commit_lock:
            offsets: dict[TP, tuple[int, str]] = {}
            settling: list[Stage] = []
            for partition, entry in list(self._running.items()):
                async with entry.lock:
                    settled = await entry.stage.settle()
                kept = {TP(topic, partition): value for topic, value in settled.items()}
                if any(self._committed.get(tp) != value for tp, value in kept.items()):
                    offsets |= kept
                    settling.append(entry.stage)
            if not offsets:
                self.committed_at = time.monotonic()
                return False
            if not await self._thread.commit_with_metadata(offsets):
                return False
            self._committed |= offsets
            for stage in settling:
                stage.committed()
            self.committed_at = time.monotonic()
            self.app.monitor.on_tp_commit({tp: offset for tp, (offset, _) in offsets.items()})
            return True

    def highwater(self, topic: str, partition: int) -> int:
        """End of the partition's log as of the last fetch; huge while nothing was fetched yet."""
        consumer = self._thread._consumer
        mark = None if consumer is None else consumer.highwater(TopicPartition(topic, partition))
        return 2**62 if mark is None else int(mark)

    async def appended_before(self, topic: str, partition: int, at: int) -> Appended:
        """What of the partition of a topic had come to the broker before `at`, ms."""
        return await self._thread.appended_before(TP(topic, partition), at)

    def measure(self) -> None:
        """Refresh the gauges that are read, not counted."""
        metrics.COMMIT_AGE.set(time.monotonic() - self.committed_at)
        consumer = self._thread._consumer
        if consumer is None or self.app.rebalancing:
            return
        oldest: dict[str, float] = {}
        for tp in consumer.assignment():
            mark = consumer.highwater(tp)
            seen = self._seen.get(TP(*tp))
            if mark is None or seen is None:
                continue
            behind = max(0, mark - seen[0])
            metrics.LAG_MESSAGES.labels(tp.topic, str(tp.partition)).set(behind)
            age = time.time() - seen[1] if behind else 0.0
            oldest[tp.topic] = max(oldest.get(tp.topic, 0.0), age)
        for topic, age in oldest.items():
            metrics.LAG_SECONDS.labels(topic).set(age)

    async def publish(self, records: Iterable[Out]) -> None:
        """Produce in order, wait for every confirmation. DeliveryError stops the worker."""
        producer = cast(driver.Producer, self.app.producer)._ensure_producer()
        try:
            sent = [
                await producer.send(
                    record.topic, record.value, key=record.key, partition=record.partition,
                    headers=list(record.headers),
                )
                for record in records
            ]  # fmt: skip
            for future in sent:
                await future
        except KafkaError as error:
            raise DeliveryError(f"the broker did not confirm a record: {error!r}") from error


class WebAddress(NamedTuple):
    """Where a worker answers by HTTP."""

    host: str
    port: int


@dataclass(frozen=True)
class AppOptions:
    """How a worker reaches its broker, and what it may use.

    Attributes:
        bootstrap: the brokers, host:port, with commas between them.
        data_dir: Faust's own folder.
        credentials: Faust's, of the broker; None: it asks for none.
        max_poll_records: that a poll hands over at most.
        session_timeout: seconds after which the group takes a silent worker for dead.
        web: None: it does not answer.
    """

    bootstrap: str
    data_dir: str
    credentials: Any = None
    max_poll_records: int = 2000
    session_timeout: float = 10.0
    web: WebAddress | None = None


def build_app(
    app_id: str,
    topics: Sequence[str],
    open_stage: OpenStage,
    options: AppOptions,
) -> BatchApp:
    """A Faust app that runs `open_stage`'s stages over `topics` (equal partition counts)."""
    web = options.web or WebAddress("127.0.0.1", 6066)
    app = BatchApp(
        app_id,
        broker=[f"aiokafka://{server}" for server in options.bootstrap.split(",")],
        broker_credentials=options.credentials,
        datadir=options.data_dir,
        store="memory://",
        cache="memory://",
        agent_supervisor="mode.CrashingSupervisor",
        stream_wait_empty=False,
        stream_buffer_maxsize=8,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=1,
        table_standby_replicas=0,
        broker_max_poll_records=options.max_poll_records,
        broker_commit_interval=1.0,
        broker_session_timeout=options.session_timeout,
        broker_heartbeat_interval=2.0,
        broker_request_timeout=40.0,
        broker_rebalance_timeout=30.0,
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        producer_max_request_size=MAX_RECORD_BYTES,
        producer_linger=0.005,
        producer_max_batch_size=256 * 1024,
        stream_processing_timeout=3600.0,
        web_port=web.port,
        web_bind=web.host,
        web_enabled=options.web is not None,
        web_tables_enabled=False,
    )
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    app.producer_transport = BatchTransport(app.conf.broker_producer, app)
    app.host = Host(app, topics, open_stage)

    channel = app.topic(
        *topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
    )

    @app.agent(channel, name="stage")
    async def stage(stream: Any) -> None:
        async for event in stream.events():
            await app.host.handle(event.message)

    @app.timer(interval=1.0, name="tick")  # type: ignore[untyped-decorator]
    async def tick() -> None:
        await app.host.tick()

    @app.on_partitions_revoked.connect
    async def revoked(sender: Any, /, *args: Any, **kwargs: Any) -> None:
        del sender, args, kwargs
        await app.host.drop()

    return app
