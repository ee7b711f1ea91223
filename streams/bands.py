"""The far bands found for the cameras of one partition, as the compacted topic has them."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from schemas.base import first_error
from schemas.errors import Refused
from schemas.station import CameraBands, FarBand
from streams.accept import KafkaRecord, Keys

_R = TypeVar("_R", bound=KafkaRecord)


class BandBook:
    """Newest found bands per station. A record that is refused leaves the one before in force."""

    def __init__(self, topic: str, keys: Keys) -> None:
        self.topic = topic
        self._keys = keys
        self._bands: dict[str, dict[str, FarBand]] = {}
        self._position = 0

    def apply(self, records: Iterable[_R]) -> list[tuple[_R, Refused]]:
        """Take newer records; gives back those that cannot be used, with the reason."""
        refused = []
        for record in records:
            self._position = max(self._position, record.offset + 1)
            if record.value is None and record.key is not None:
                self._bands.pop(record.key.decode(errors="replace"), None)
                continue
            try:
                found = CameraBands.model_validate_json(record.value or b"")
                self._keys.check(record, found.station)
                self._bands[found.station] = {one.camera: one.far_band for one in found.bands}
            except ValidationError as error:
                details = list(error.errors(include_url=False, include_context=False))
                refused.append((record, Refused(*first_error(details))))
            except Refused as reason:
                refused.append((record, reason))
        return refused

    def get(self, station: str, camera: str) -> FarBand | None:
        """The band found for a camera, None where there is none."""
        return self._bands.get(station, {}).get(camera)

    def settled(self) -> dict[str, tuple[int, str]]:
        """The topic's offset to commit (a successor reads the whole topic anyway)."""
        return {self.topic: (self._position, "")} if self._position else {}
