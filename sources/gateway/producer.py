"""Producing from an event loop: confirmed, bounded in time and memory, quick to say that Kafka is away.

What comes for a partition while a batch of it is under way makes up the next batch: a single record goes at
once, and under load a request to the broker carries many. A batch is one thing to wait for, so a record costs
little more than its bytes.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from settings.sections import KafkaSettings
from sources.gateway.errors import KafkaAway
from streams.credentials import for_aiokafka
from streams.stage import Out
from streams.topics import MAX_RECORD_BYTES

log = logging.getLogger(__name__)

#: Unconfirmed bytes at most; beyond them senders wait, and after a while are turned away.
_MOST_BYTES: Final = 32 * 1024 * 1024
#: What a record costs beside its bytes.
_RECORD_BYTES: Final = 500
_BATCH_BYTES: Final = 256 * 1024
#: Seconds between tries to reach a broker that is away.
_RETRY_S: Final = 1.0
#: Seconds after which the number of a topic's partitions is asked for again.
_METADATA_S: Final = 30.0


class _Publication:
    """Records that somebody waits for."""

    __slots__ = ("confirmed", "left", "sent_at", "size")

    def __init__(self, records: int, size: int, sent_at: float) -> None:
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = records
        self.size = size
        self.sent_at = sent_at

    def fail(self, error: Exception) -> None:
        """Whoever waits is told; nobody may any more."""
        if not self.confirmed.done():
            self.confirmed.set_exception(error)
            self.confirmed.exception()


_Unsent = tuple[Out, _Publication]


class _Lane:
    """The way to a partition.

    Args:
        producer: that sends.
        place: the partition.
        settle: called for each record that needs no more waiting for.
        broken: called with the error after which the producer may be of no more use.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        place: TopicPartition,
        settle: Callable[[_Publication], None],
        broken: Callable[[AIOKafkaProducer, KafkaError], None],
    ) -> None:
        self._producer = producer
        self._place = place
        self._settle = settle
        self._broken = broken
        self._waiting: deque[_Unsent] = deque()
        self._under_way: list[_Publication] = []
        self.task: asyncio.Task[None] | None = None

    def put(self, record: Out, publication: _Publication) -> None:
        """Send it with the next batch."""
        self._waiting.append((record, publication))
        if self.task is None:
            self.task = asyncio.create_task(self._send(), name="kafka-sends")

    async def _send(self) -> None:
        topic, partition = self._place
        try:
            while self._waiting:
                batch = self._batch()
                try:
                    if batch.record_count():
                        await (await self._producer.send_batch(batch, topic, partition=partition))
                except KafkaError as error:
                    self.end(KafkaAway(f"Kafka has not confirmed: {error!r}"))
                    self._broken(self._producer, error)
                    return
                for publication in self._under_way:
                    self._settle(publication)
                self._under_way.clear()
        except Exception as error:
            log.exception("%s, partition %d: what nobody expected", topic, partition)
            self.end(KafkaAway(f"the producer failed: {error!r}"))
        finally:
            self.task = None

    def _batch(self) -> BatchBuilder:
        """As many of those that wait as fit."""
        batch = self._producer.create_batch()
        while self._waiting:
            record, publication = self._waiting[0]
            try:
                full = batch.append(
                    timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
                )
            except Exception as error:  # noqa: BLE001  told to whoever sent it: others are not to suffer
                publication.fail(error)
                self._settle(publication)
            else:
                if full is None:
                    break
                self._under_way.append(publication)
            self._waiting.popleft()
        batch.close()  # it does not linger
        return batch

    def end(self, error: KafkaAway) -> None:
        """Whoever waits is told to come again."""
        publications = [*self._under_way, *(publication for _, publication in self._waiting)]
        self._under_way.clear()
        self._waiting.clear()
        for publication in publications:
            publication.fail(error)
            self._settle(publication)


class ConfirmedProducer:
    """An idempotent producer. `publish` returns when the broker has confirmed every record.

    A record that is not confirmed within `patience_s` raises KafkaAway. It may still arrive: whoever sends it
    again makes a copy, which the join of the stages does not count. While the oldest unconfirmed record is
    older than that, further ones are refused at once, so that nobody waits in line for a dead broker.
    """

    def __init__(
        self, kafka: KafkaSettings, *, patience_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._patience_s = patience_s
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._lanes: dict[TopicPartition, _Lane] = {}
        #: Numbers of partitions, by topic, and until when they count.
        self._partitions: dict[str, int] = {}
        self._partitions_until = 0.0
        #: What is not confirmed, in the order in which it was sent.
        self._unconfirmed: dict[_Publication, None] = {}
        self._bytes = 0
        self._impatience: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._reached = asyncio.Event()

    async def start(self) -> None:
        """Begin to connect; the broker need not be there."""
        self._connecting = asyncio.create_task(self._connect(), name="kafka-connects")

    async def stop(self, within_s: float = 5.0) -> None:
        """Wait a little for what is unconfirmed, and close."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        producer, self._producer = self._producer, None
        lanes, self._lanes = self._lanes, {}
        if producer is not None:
            await _close(producer, lanes.values(), within_s)
        if self._impatience is not None:
            self._impatience.cancel()

    @property
    def away(self) -> bool:
        """Whether the broker has not confirmed for longer than one waits for it."""
        if self._producer is None:
            return True
        oldest = next(iter(self._unconfirmed), None)
        return oldest is not None and self._clock() - oldest.sent_at > self._patience_s

    async def reached(self, timeout_s: float) -> bool:
        """Wait until a broker was reached for the first time; False: not within `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), timeout_s)
        return self._reached.is_set()

    async def publish(self, records: Sequence[Out]) -> None:
        """Produce in order and wait for every confirmation. Raises KafkaAway.

        A record larger than any topic takes raises ValueError: callers bound what they make.
        """
        if not records:
            return
        size = sum(map(_size, records))
        if self._bytes and self._bytes + size > _MOST_BYTES:
            await self._until_room(size)
        if self.away:
            raise KafkaAway("Kafka is away", round(self._patience_s))
        places = [
            TopicPartition(record.topic, _partition(record, await self._partitions_of(record.topic)))
            for record in records
        ]
        producer = self._producer
        if producer is None:
            raise KafkaAway("Kafka is away", round(self._patience_s))
        publication = _Publication(len(records), size, self._clock())
        self._bytes += size
        self._unconfirmed[publication] = None
        if self._impatience is None:
            self._look_later()
        for record, place in zip(records, places, strict=True):
            lane = self._lanes.get(place)
            if lane is None:
                lane = self._lanes[place] = _Lane(producer, place, self._settle, self._renew)
            lane.put(record, publication)
        # Where it is given up, what was sent is counted until it is confirmed.
        await publication.confirmed

    async def _until_room(self, size: int) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                while self._bytes and self._bytes + size > _MOST_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise KafkaAway("Kafka takes nothing more", round(self._patience_s)) from None

    async def _partitions_of(self, topic: str) -> int:
        now = self._clock()
        if now > self._partitions_until:
            self._partitions.clear()
            self._partitions_until = now + _METADATA_S
        known = self._partitions.get(topic)
        if known is not None:
            return known
        if self._producer is None:
            raise KafkaAway("Kafka is away", round(self._patience_s))
        try:
            async with asyncio.timeout(self._patience_s):
                count = len(await self._producer.partitions_for(topic))
        except (TimeoutError, KafkaError) as error:
            raise KafkaAway(f"Kafka does not know {topic}: {error!r}") from error
        self._partitions[topic] = count
        return count

    def _settle(self, publication: _Publication) -> None:
        """One record less to wait for."""
        publication.left -= 1
        if publication.left:
            return
        del self._unconfirmed[publication]
        self._bytes -= publication.size
        self._room.set()
        if not publication.confirmed.done():
            publication.confirmed.set_result(None)

    def _look_later(self) -> None:
        # One timer for all who wait, not one for each.
        every_s = min(0.5, self._patience_s / 20)
        self._impatience = asyncio.get_running_loop().call_later(every_s, self._look)

    def _look(self) -> None:
        """Those who have waited long enough are told."""
        self._impatience = None
        long_ago = self._clock() - self._patience_s
        for publication in self._unconfirmed:
            if publication.sent_at > long_ago:
                break
            publication.fail(
                KafkaAway(f"Kafka has not confirmed within {self._patience_s:g} s", round(self._patience_s))
            )
        if self._unconfirmed:
            self._look_later()

    async def _connect(self) -> None:
        warned = False
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka.bootstrap,
                acks="all",
                enable_idempotence=True,
                max_batch_size=_BATCH_BYTES,
                max_request_size=MAX_RECORD_BYTES,
                metadata_max_age_ms=round(_METADATA_S * 1000),
                **for_aiokafka(self._kafka),
            )
            try:
                await producer.start()
            except BaseException as error:
                with contextlib.suppress(KafkaError, asyncio.CancelledError):
                    await producer.stop()
                if not isinstance(error, KafkaError | OSError):
                    raise
                if not warned:
                    log.warning(
                        "no broker answers at %s, and is waited for: %r", self._kafka.bootstrap, error
                    )
                    warned = True
                await asyncio.sleep(_RETRY_S)
                continue
            self._producer = producer
            self._reached.set()
            return

    def _renew(self, broken: AIOKafkaProducer, error: KafkaError) -> None:
        """After an error that is not one of waiting, a producer may be of no more use: make a new one."""
        if broken is not self._producer:
            return
        self._producer = None
        lanes, self._lanes = self._lanes, {}
        log.warning("the producer failed and is made anew: %r", error)

        async def renew() -> None:
            await _close(broken, lanes.values(), 2.0)
            await self._connect()

        self._connecting = asyncio.create_task(renew(), name="kafka-reconnects")


async def _close(producer: AIOKafkaProducer, lanes: Collection[_Lane], within_s: float) -> None:
    """Wait a little for what is under way, and close. Who still waits is told to come again."""
    try:
        async with asyncio.timeout(within_s):
            sending = [lane.task for lane in lanes if lane.task is not None]
            if sending:
                await asyncio.wait(sending)
            await producer.stop()
    except (KafkaError, TimeoutError) as error:
        log.warning("the producer was closed before all was confirmed: %r", error)
    finally:
        for lane in lanes:
            if lane.task is not None:
                lane.task.cancel()
            lane.end(KafkaAway("the producer is closed"))


def _size(record: Out) -> int:
    """Bytes that a record takes up here. Raises ValueError for one that no topic takes."""
    size = len(record.value or b"") + len(record.key or b"") + _RECORD_BYTES
    if size > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {size} bytes for {record.topic} is more than Kafka takes")
    return size


def _partition(record: Out, count: int) -> int:
    if record.partition is not None:
        return record.partition
    return random.randrange(count) if record.key is None else _partition_of(record.key, count)


@lru_cache(65_536)
def _partition_of(key: bytes, count: int) -> int:
    """The partition of a key, as every Kafka client has it."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)
