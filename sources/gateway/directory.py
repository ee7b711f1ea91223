"""Which stations have a record, and in which zone they keep time: as the compacted topic has them."""

import asyncio
import contextlib
import logging
from typing import Final
from zoneinfo import ZoneInfo

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from schemas.limits import STATIONS_PER_PARTITION
from schemas.station import stored_station
from settings.sections import KafkaSettings
from streams.credentials import for_aiokafka
from streams.header_names import read_any_name
from streams.topics import MAX_RECORD_BYTES, STATIONS

read_any_name()

log = logging.getLogger(__name__)

#: Seconds between two tries to reach a broker that is away.
_RETRY_S: Final = 2.0


class StationDirectory:
    """Follows the topic of station records; a way in, of what operators say."""

    name = "directory"

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._zones: dict[str, str] = {}
        self._places: dict[str, tuple[float, float]] = {}
        self._most = STATIONS_PER_PARTITION * kafka.partitions
        #: Set when all there was at the start is known.
        self.read = asyncio.Event()

    def zone_of(self, station: str) -> ZoneInfo | None:
        """The zone of a station's civil time; None: it has no record."""
        name = self._zones.get(station)
        return None if name is None else ZoneInfo(name)

    def place_of(self, station: str) -> tuple[float, float] | None:
        """Degrees north and east of a station; None: its record does not say."""
        return self._places.get(station)

    def __contains__(self, station: str) -> bool:
        return station in self._zones

    async def serve(self) -> None:
        """Follow it until cancelled; while the broker is away, what is known stays."""
        said = False
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                if not said:
                    log.warning("station records cannot be read, and are waited for: %r", error)
                    said = True
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
        """A record of the topic: newer ones count, one without a value takes the station out."""
        station = (key or b"").decode(errors="replace")
        if value is None:
            self._zones.pop(station, None)
            self._places.pop(station, None)
            return
        try:
            record, _ = stored_station(value)
        except ValidationError:
            return  # the fusion stage refuses it, and says so
        if record.station == station and (station in self._zones or len(self._zones) < self._most):
            self._zones[station] = record.timezone
            if record.latitude is not None and record.longitude is not None:
                self._places[station] = record.latitude, record.longitude
            else:
                self._places.pop(station, None)
