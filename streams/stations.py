"""The station records of one partition, as the compacted topic has them."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from schemas.base import first_error
from schemas.errors import Refused
from schemas.station import Station
from streams.accept import KafkaRecord, Keys

_R = TypeVar("_R", bound=KafkaRecord)


class StationBook:
    """Newest record per station. A record that is refused leaves the one before in force.

    `check` raises Refused for what the schema cannot know, such as a standard that does not exist.
    """

    def __init__(self, topic: str, keys: Keys, check: Callable[[Station], None] = lambda _: None) -> None:
        self.topic = topic
        self._keys = keys
        self._check = check
        self._stations: dict[str, Station] = {}
        self._position = 0

    def apply(self, records: Iterable[_R]) -> list[tuple[_R, Refused]]:
        """Take newer records; gives back those that cannot be used, with the reason."""
        refused = []
        for record in records:
            self._position = max(self._position, record.offset + 1)
            if record.value is None and record.key is not None:
                self._stations.pop(record.key.decode(errors="replace"), None)
                continue
            try:
                station = Station.model_validate_json(record.value or b"")
                self._keys.check(record, station.station)
                self._check(station)
                self._stations[station.station] = station
            except ValidationError as error:
                details = list(error.errors(include_url=False, include_context=False))
                refused.append((record, Refused(*first_error(details))))
            except Refused as reason:
                refused.append((record, reason))
        return refused

    def get(self, station: str) -> Station | None:
        """The station's record, None where there is none."""
        return self._stations.get(station)

    def all(self) -> Mapping[str, Station]:
        """Every station's record."""
        return self._stations

    def settled(self) -> dict[str, tuple[int, str]]:
        """The topic's offset to commit (a successor reads the whole topic anyway)."""
        return {self.topic: (self._position, "")} if self._position else {}
