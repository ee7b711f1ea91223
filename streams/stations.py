"""The station records of one partition, as the compacted topic has them."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import TypeVar

from pydantic import ValidationError

from schemas.station import Station, stored_station
from streams.accept import Keys
from streams.book import Book

T = TypeVar("T")


def note_station(
    known: MutableMapping[str, T],
    key: bytes | None,
    value: bytes | None,
    of: Callable[[Station], T],
    most: int | None = None,
) -> None:
    """Take a record of the topic in: newer ones count, one without a value takes the station out.

    What cannot be read changes nothing: the fusion stage refuses it, too, and says so.

    Args:
        known: by station.
        key, value: of the record.
        of: what is kept of a station.
        most: stations that are kept; None: all.
    """
    station = (key or b"").decode(errors="replace")
    if value is None:
        known.pop(station, None)
        return
    try:
        record, _ = stored_station(value)
    except ValidationError:
        return
    if record.station == station and (station in known or most is None or len(known) < most):
        known[station] = of(record)


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
