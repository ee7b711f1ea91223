"""The newest record per station of one partition, as a compacted topic has them."""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError

from schemas.base import first_error
from schemas.errors import Refused
from streams.accept import KafkaRecord, Keys


class OfStation(Protocol):
    """A record about one station."""

    @property
    def station(self) -> str:
        """Its id, and the Kafka key."""


_R = TypeVar("_R", bound=KafkaRecord)
V = TypeVar("V", bound=OfStation)


class Book(Generic[V]):
    """Newest record per station. A record that is refused leaves the one before in force.

    `read` makes a record of its JSON; `check` raises Refused for what the schema cannot know, such as a
    standard that does not exist.
    """

    def __init__(
        self, topic: str, keys: Keys, read: Callable[[bytes], V], check: Callable[[V], None] = lambda _: None
    ) -> None:
        self.topic = topic
        self._keys = keys
        self._read = read
        self._check = check
        self._newest: dict[str, V] = {}
        self._position = 0

    def apply(self, records: Iterable[_R]) -> list[tuple[_R, Refused]]:
        """Take newer records; gives back those that cannot be used, with the reason."""
        refused = []
        for record in records:
            self._position = max(self._position, record.offset + 1)
            if record.value is None and record.key is not None:
                self._newest.pop(record.key.decode(errors="replace"), None)
                continue
            try:
                found = self._read(record.value or b"")
                self._keys.check(record, found.station)
                self._check(found)
                self._newest[found.station] = found
            except ValidationError as error:
                refused.append((record, Refused(*first_error(error))))
            except Refused as reason:
                refused.append((record, reason))
        return refused

    def settled(self) -> dict[str, tuple[int, str]]:
        """The topic's offset to commit (a successor reads the whole topic anyway)."""
        return {self.topic: (self._position, "")} if self._position else {}
