"""The far bands found for the cameras of one partition, as the compacted topic has them."""

from schemas.station import CameraBands, FarBand
from streams.accept import Keys
from streams.book import Book


class BandBook(Book[CameraBands]):
    """Newest found bands per station."""

    def __init__(self, topic: str, keys: Keys) -> None:
        super().__init__(topic, keys, CameraBands.model_validate_json)

    def get(self, station: str, camera: str) -> FarBand | None:
        """The band found for a camera, None where there is none."""
        found = self._newest.get(station)
        return None if found is None else {one.camera: one.far_band for one in found.bands}.get(camera)
