"""Which stations have a record, and in which zone they keep time: as the compacted topic has them."""

import asyncio
import contextlib
import logging
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.limits import STATIONS_PER_PARTITION
from schemas.station import Station
from settings.sections import KafkaSettings
from streams.credentials import for_aiokafka
from streams.header_names import read_any_name
from streams.stations import note_station
from streams.topics import MAX_RECORD_BYTES, STATIONS

read_any_name()

log = logging.getLogger(__name__)

#: Seconds between two tries to reach a broker that is away.
_RETRY_S: Final = 2.0


class _ZoneAndPlace(NamedTuple):
    """Zone of a station's civil time, and degrees north and east, where it says."""

    zone: str
    place: tuple[float, float] | None

    @classmethod
    def of(cls, record: Station) -> "_ZoneAndPlace":
        if record.latitude is None or record.longitude is None:
            return cls(record.timezone, None)
        return cls(record.timezone, (record.latitude, record.longitude))


class StationDirectory:
    """Follows the topic of station records; a way in, of what operators record."""

    name = "directory"

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._known: dict[str, _ZoneAndPlace] = {}
        self._most = STATIONS_PER_PARTITION * kafka.partitions
        #: Set when all there was at the start is known.
        self.read = asyncio.Event()

    def zone_of(self, station: str) -> ZoneInfo | None:
        """The zone of a station's civil time; None: it has no record."""
        known = self._known.get(station)
        return None if known is None else ZoneInfo(known.zone)

    def place_of(self, station: str) -> tuple[float, float] | None:
        """Degrees north and east of a station; None: its record does not say."""
        known = self._known.get(station)
        return None if known is None else known.place

    def __contains__(self, station: str) -> bool:
        return station in self._known

    async def serve(self) -> None:
        """Follow it until cancelled; while the broker is away, what is known stays."""
        warned = False
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                if not warned:
                    log.warning("station records cannot be read, and are waited for: %r", error)
                    warned = True
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            **for_aiokafka(self._kafka),
        )
        try:
            await consumer.start()
            topic = self._kafka.names.of(STATIONS)
            places = [TopicPartition(topic, number) for number in range(self._kafka.partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            while True:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        self.note(record.key, record.value)
                if not self.read.is_set():
                    behind = [place for place in places if await consumer.position(place) < ends[place]]
                    if not behind:
                        self.read.set()
        finally:
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    def note(self, key: bytes | None, value: bytes | None) -> None:
        """A record of the topic."""
        note_station(self._known, key, value, _ZoneAndPlace.of, self._most)
