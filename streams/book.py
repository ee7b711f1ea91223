"""The newest good record per station of one partition, as a compacted topic has them.

Such a topic keeps the newest record of a key, whatever it is worth: one that is refused would hide the good
one before it from every worker that starts later, and in the end erase it. So it is sent *again*, by the
stage that also writes the dead letter (`again`). It says which record it was sent again over: a newer one of
the station's own that came in between counts, and is then sent again in its turn.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from schemas.errors import Refused
from schemas.limits import STATIONS_PER_PARTITION
from streams.accept import Keys
from streams.boundary import guarded
from streams.stage import KafkaRecord, Out

log = logging.getLogger(__name__)

#: Bytes of a record; its topic takes no more by default.
_MAX_BYTES: Final = 1024 * 1024
#: Beside the value, the key and the header.
_ROOM: Final = 1024
#: Header of a record that was sent again: the offset of the one that had taken its place.
SENT_AGAIN: Final = "x-sent-again-over"


class OfStation(Protocol):
    """A record about one station."""

    @property
    def station(self) -> str:
        """Its id, and the Kafka key."""

    def model_dump_json(self) -> str:
        """The record as it travels."""


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
        self.keys = keys
        self._read = read
        self._check = check
        self._stored = stored
        self._newest: dict[str, V] = {}
        #: By station the offset of the record in force, and of the tombstone of those that had one.
        self._at: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        #: By station the offset of what has taken the place of its record, or of its tombstone.
        self._hidden: dict[str, int] = {}
        self._position = 0

    def restore(self, records: Iterable[_R]) -> set[bytes]:
        """Take what the topic holds when a worker starts. Nobody waits for a dead letter: it is logged.

        Gives the keys of which a record was refused: older ones may lie on the topic still.
        """
        refused: set[bytes] = set()
        for record in records:
            kept = guarded(lambda record=record: self._kept(record))  # type: ignore[misc]
            if isinstance(kept, Refused):
                log.warning("%s/%d/%d is skipped: %s", record.topic, record.partition, record.offset, kept)
                self._hides(record)
                refused |= set() if record.key is None else {record.key}
            self._position = max(self._position, record.offset + 1)
        return refused

    def again(self) -> list[Out]:
        """What is to be sent again, since other records have taken its place; each is given once."""
        out = []
        for station, offset in sorted(self._hidden.items()):
            known = self._newest.get(station)
            value = None if known is None else known.model_dump_json().encode()
            if value is not None and len(value) > _MAX_BYTES - _ROOM:
                log.error("the record of station %s is too large to be sent again: send it yourself", station)
                continue
            out.append(Out(self.topic, station.encode(), value, [(SENT_AGAIN, str(offset).encode())]))
        self._hidden.clear()
        return out

    def _hides(self, record: KafkaRecord) -> None:
        station = (record.key or b"").decode(errors="replace")
        if station in self._newest:
            self._hidden[station] = record.offset

    def _outdated(self, record: KafkaRecord, station: str) -> bool:
        """Whether a record was sent again while a newer one, or a tombstone, was on its way."""
        over = (dict(record.headers).get(SENT_AGAIN) or b"").decode(errors="replace")
        known = self._at.get(station, self._ended.get(station, -1))
        if not (over.isdecimal() and int(over) < known):
            return False
        self._hidden[station] = record.offset
        return True

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
                self._hides(record)
            elif taken is not None:
                applied.retired.append(taken)
        return applied

    def _take(self, record: KafkaRecord) -> str | None:
        """Keep a record; gives the station if it is a tombstone. Raises Refused, ValidationError."""
        if record.value is None and record.key is not None:
            station = record.key.decode(errors="replace")
            self.keys.check(record, station)
            if self._outdated(record, station):
                return None
            if self._newest.pop(station, None) is not None:
                del self._at[station]
                while len(self._ended) >= STATIONS_PER_PARTITION:
                    del self._ended[next(iter(self._ended))]
                self._ended[station] = record.offset
            self._hidden.pop(station, None)
            return station
        value = record.value or b""
        if len(value) > _MAX_BYTES:
            raise Refused("too_large", f"a record of {len(value)} bytes; {_MAX_BYTES} are enough")
        self._put(record, self._read(value))
        return None

    def _put(self, record: KafkaRecord, found: V) -> None:
        self.keys.check(record, found.station)
        self._check(found)
        if self._outdated(record, found.station):
            return
        if found.station not in self._newest and len(self._newest) >= STATIONS_PER_PARTITION:
            raise Refused(
                "too_many_stations",
                f"{STATIONS_PER_PARTITION} stations have records on this partition, so {found.station} gets"
                " none: retire those that are gone (a record without a value), or use more partitions; a"
                " counter in the id?",
            )
        self._newest[found.station] = found
        self._at[found.station] = record.offset
        self._ended.pop(found.station, None)
        self._hidden.pop(found.station, None)

    def settled(self) -> dict[str, tuple[int, str]]:
        """The topic's offset to commit (a successor reads the whole topic anyway)."""
        return {self.topic: (self._position, "")} if self._position else {}
