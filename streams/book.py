"""The newest record per station of one partition, as a compacted topic has them."""

import logging
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from schemas.errors import Refused
from schemas.limits import STATIONS_PER_PARTITION
from streams.accept import KafkaRecord, Keys
from streams.boundary import guarded

log = logging.getLogger(__name__)

#: Bytes of a record; its topic takes no more by default.
_MAX_BYTES: Final = 1024 * 1024


class OfStation(Protocol):
    """A record about one station."""

    @property
    def station(self) -> str:
        """Its id, and the Kafka key."""


_R = TypeVar("_R", bound=KafkaRecord)
V = TypeVar("V", bound=OfStation)


class Applied(NamedTuple, Generic[_R]):
    """What came of newer records: those that cannot be used, and the stations that tombstones ended."""

    refused: list[tuple[_R, Refused]]
    retired: list[str]


class Book(Generic[V]):
    """Newest record per station. A record that is refused leaves the one before in force.

    `read` makes a record of its JSON; `check` raises Refused for what the schema cannot know, such as a
    standard that does not exist. `stored` reads what an earlier version took in (`restore`), and says in
    words what of it does not hold any more.
    """

    def __init__(
        self,
        topic: str,
        keys: Keys,
        read: Callable[[bytes], V],
        check: Callable[[V], None] = lambda _: None,
        stored: Callable[[bytes], tuple[V, list[str]]] | None = None,
    ) -> None:
        self.topic = topic
        self._keys = keys
        self._read = read
        self._check = check
        self._stored = stored
        self._newest: dict[str, V] = {}
        self._position = 0

    def restore(self, records: Iterable[_R]) -> None:
        """Take what the topic holds when a worker starts. Nobody waits for a dead letter: it is logged."""
        for record in records:
            kept = guarded(lambda record=record: self._kept(record))  # type: ignore[misc]
            if isinstance(kept, Refused):
                log.warning("%s/%d/%d is skipped: %s", record.topic, record.partition, record.offset, kept)
            self._position = max(self._position, record.offset + 1)

    def _kept(self, record: KafkaRecord) -> None:
        if self._stored is None or record.value is None:
            self._take(record)
            return
        found, left_out = self._stored(record.value)
        self._put(record, found)
        for words in left_out:
            log.warning("the record of station %s needs mending: %s", found.station, words)

    def apply(self, records: Iterable[_R]) -> Applied[_R]:
        """Take newer records."""
        applied: Applied[_R] = Applied([], [])
        for record in records:
            self._position = max(self._position, record.offset + 1)
            taken = guarded(lambda record=record: self._take(record))  # type: ignore[misc]
            if isinstance(taken, Refused):
                applied.refused.append((record, taken))
            elif taken is not None:
                applied.retired.append(taken)
        return applied

    def _take(self, record: KafkaRecord) -> str | None:
        """Keep a record; gives the station if it is a tombstone. Raises Refused, ValidationError."""
        if record.value is None and record.key is not None:
            station = record.key.decode(errors="replace")
            self._keys.check(record, station)
            self._newest.pop(station, None)
            return station
        value = record.value or b""
        if len(value) > _MAX_BYTES:
            raise Refused("too_large", f"a record of {len(value)} bytes; {_MAX_BYTES} are enough")
        self._put(record, self._read(value))
        return None

    def _put(self, record: KafkaRecord, found: V) -> None:
        self._keys.check(record, found.station)
        self._check(found)
        if found.station not in self._newest and len(self._newest) >= STATIONS_PER_PARTITION:
            raise Refused(
                "too_many_stations",
                f"{STATIONS_PER_PARTITION} stations have records on this partition, so {found.station} gets"
                " none: retire those that are gone (a record without a value), or use more partitions; a"
                " counter in the id?",
            )
        self._newest[found.station] = found

    def settled(self) -> dict[str, tuple[int, str]]:
        """The topic's offset to commit (a successor reads the whole topic anyway)."""
        return {self.topic: (self._position, "")} if self._position else {}
