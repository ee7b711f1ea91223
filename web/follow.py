"""Follows the topics from outside any group: each server of the page sees all of them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import redis
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from schemas.alert import Alert
from schemas.dead_letter import DeadLetter
from schemas.estimate import Estimate, check_size
from schemas.health import StationHealth
from schemas.station import stored_station
from settings.sections import Settings
from sinks.cache import LatestCache
from sinks.store import Store
from streams import topics
from streams.admin import dial
from streams.boundary import guarded
from streams.checkpoint import AT
from streams.credentials import for_aiokafka
from streams.errors import StoreError, TopicError
from streams.header_names import read_any_name
from web.live import EventStream, LiveState, TopicPlace

read_any_name()

log = logging.getLogger(__name__)

_RETRY_S: Final = 2.0
#: Seconds between two looks at whether the broker answers.
_DIAL_S: Final = 2.0
#: Seconds that it has to answer a question in.
_ANSWER_S: Final = 8.0
#: Records of a partition that are read again at the start, for listeners that come back.
_BACK: Final = 2_000
#: Dead letters and pictures likewise: one may have megabytes.
_LARGE_BACK: Final = 50
_COMPACTED: Final = (topics.STATIONS, topics.FLEET, topics.ALERT_STATE)
_TopicRecord: TypeAlias = "ConsumerRecord[bytes, bytes]"


class Follower:
    """Fills a `LiveState` from the topics, and before that from the cache and the store.

    Args:
        settings: of the broker, the cache and the store.
        live: what is filled.
        pictures: takes each frame's record; None: frames are not read.
    """

    def __init__(
        self, settings: Settings, live: LiveState, pictures: Callable[[_TopicRecord], None] | None = None
    ) -> None:
        self._settings = settings
        self._live = live
        self._pictures = pictures
        self._names = {settings.kafka.names.of(topic): topic for topic in self._topics()}
        #: Where those that are no events go on after the broker was away.
        self._reached: dict[TopicPartition, int] = {}
        #: Whom the broker is asked through, and for the end of what.
        self._asks: tuple[AIOKafkaConsumer, TopicPartition] | None = None
        #: Since when the broker is away, s since 1970; None: it is there.
        self.away_since: float | None = None
        #: When a window that is newer than all before it came last, s since 1970; what was there at the start
        #: is no news.
        self.moved_at = float("-inf")
        #: Set, and made anew, with every news.
        self.news = asyncio.Event()
        #: Set when all there was at the start is known.
        self.read = asyncio.Event()

    def _topics(self) -> Iterable[topics.Topic]:
        yield from (*_COMPACTED, topics.ESTIMATES, topics.ALERTS, topics.DEAD_LETTERS)
        if self._pictures is not None:
            yield topics.FRAMES

    async def serve(self) -> None:
        """Follow until cancelled; while the broker is away, what is known stays."""
        await asyncio.to_thread(self.remember)
        watching = asyncio.create_task(self._watch(), name="watches the broker")
        try:
            while True:
                try:
                    await self._follow()
                except (KafkaError, OSError, TopicError) as error:
                    log.warning("the topics cannot be read, and are waited for: %r", error)
                await asyncio.sleep(_RETRY_S)
        finally:
            watching.cancel()

    def remember(self) -> None:
        """What the cache and the store know: at once, without reading a topic.

        Both: a cache that was flushed has only the stations that have spoken since.
        """
        if self._settings.redis.url is not None:
            cache = LatestCache(self._settings.redis.url)
            try:
                for estimate in cache.read():
                    self._live.estimate(estimate, None)
            except (redis.RedisError, ValidationError) as error:
                log.warning("the cache is passed over: %r", error)
            finally:
                cache.close()
        if self._settings.store_path.is_file():
            try:
                with Store(self._settings.store_path, read_only=True) as store:
                    for name, record in store.stations().items():
                        self._live.station(name, record)
                    for estimate in store.latest():
                        self._live.estimate(estimate, None)
            except StoreError as error:
                log.warning("the store is passed over: %s", error)

    async def _watch(self) -> None:
        """Whether the broker answers: its client waits without a word while it does not."""
        while True:
            looked = time.time()
            try:
                await asyncio.to_thread(dial, self._settings.kafka)
                await self._ask()
            except (TopicError, KafkaError, TimeoutError) as error:
                if self.away_since is None:
                    self.away_since = looked
                    log.warning("the broker is away: %r", error)
                    self.stir()
            else:
                if self.away_since is not None:
                    log.warning("the broker is back after %.0f s", time.time() - self.away_since)
                    self.away_since = None
                    self.stir()
            await asyncio.sleep(_DIAL_S)

    async def _ask(self) -> None:
        """Raises TimeoutError where the broker takes connections and does not answer: it hangs."""
        if self._asks is not None:
            consumer, place = self._asks
            await asyncio.wait_for(consumer.end_offsets([place]), _ANSWER_S)

    async def _follow(self) -> None:
        kafka = self._settings.kafka
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=topics.MAX_RECORD_BYTES,
            **for_aiokafka(kafka),
        )
        try:
            await consumer.start()
            places = [
                TopicPartition(name, number) for name in self._names for number in range(kafka.partitions)
            ]
            consumer.assign(places)
            self._asks = consumer, places[0]
            ends = await consumer.end_offsets(places)
            begins = await consumer.beginning_offsets(places)
            for place in places:
                self._seek(consumer, place, begins[place], ends[place])
            while True:
                fetched = await consumer.getmany(timeout_ms=1000)
                before = self._live.furthest
                for place, records in fetched.items():
                    topic = self._names[place.topic]
                    for record in records:
                        self._take(topic, record)
                    self._reached[place] = records[-1].offset + 1
                if self.read.is_set() and self._live.furthest != before:
                    self.moved_at = time.time()
                if fetched:
                    self.stir()
                if not self.read.is_set() and not [
                    place for place in places if await consumer.position(place) < ends[place]
                ]:
                    self.read.set()
                    self.stir()
        finally:
            self._asks = None
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    def _seek(self, consumer: Any, place: TopicPartition, begin: int, end: int) -> None:
        topic = self._names[place.topic]
        start = begin
        if topic is topics.ESTIMATES:
            start = max(begin, end - _BACK)
        elif topic in (topics.DEAD_LETTERS, topics.FRAMES):
            reached = self._reached.get(place, -1)
            start = reached if begin <= reached <= end else max(begin, end - _LARGE_BACK)
        stream = _stream(topic)
        if stream is not None:
            reached = self._live.reached(stream, place.partition)
            if begin <= reached <= end and reached > 0:
                start = reached  # the broker was away: go on where we were
            else:
                self._live.begin(stream, place.partition, start)
        consumer.seek(place, start)

    def _take(self, topic: topics.Topic, record: _TopicRecord) -> None:
        """A record; what cannot be read is left to the stages, which refuse it and say so."""
        why = guarded(lambda: self._note(topic, record))
        if why is not None:
            log.info("%s/%d/%d is passed over: %s", record.topic, record.partition, record.offset, why)

    def _note(self, topic: topics.Topic, record: _TopicRecord) -> None:
        live = self._live
        key, value = (record.key or b"").decode(errors="replace"), record.value
        if topic is topics.ESTIMATES:
            if value is not None:
                estimate = Estimate.model_validate_json(value)
                check_size(estimate)
                if estimate.station == key:
                    live.estimate(estimate, TopicPlace("estimate", record.partition, record.offset))
        elif topic is topics.ALERTS:
            if value is None:
                live.no_alert(key)
            else:
                live.alert(
                    Alert.model_validate_json(value), TopicPlace("alert", record.partition, record.offset)
                )
        elif topic is topics.STATIONS:
            live.station(key, None if value is None else stored_station(value).record)
        elif topic is topics.FLEET:
            live.fares(key, None if value is None else StationHealth.model_validate_json(value))
        elif topic is topics.ALERT_STATE:
            station, _, slot = key.rpartition("#")
            headers: Mapping[str, bytes] = dict(record.headers)
            live.alert_state(station, slot, None if value is None else (int(headers[AT]), value))
        elif topic is topics.DEAD_LETTERS:
            live.letter(DeadLetter.from_headers(record.headers))
        elif self._pictures is not None:
            self._pictures(record)

    def stir(self) -> None:
        """Wake who listens."""
        self.news.set()
        self.news = asyncio.Event()


def _stream(topic: topics.Topic) -> EventStream | None:
    if topic is topics.ESTIMATES:
        return "estimate"
    return "alert" if topic is topics.ALERTS else None
