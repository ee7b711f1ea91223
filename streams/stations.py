"""The station records of one partition, as the compacted topic has them."""

from collections.abc import Callable, Mapping

from schemas.station import Station, stored_station
from streams.accept import Keys
from streams.book import Book


class StationBook(Book[Station]):
    """Newest record per station."""

    def __init__(self, topic: str, keys: Keys, check: Callable[[Station], None] = lambda _: None) -> None:
        super().__init__(topic, keys, Station.model_validate_json, check, stored_station)

    def get(self, station: str) -> Station | None:
        """The station's record, None where there is none."""
        return self._newest.get(station)

    def all(self) -> Mapping[str, Station]:
        """Every station's record."""
        return self._newest
