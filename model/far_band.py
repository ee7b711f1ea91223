"""The far band of a camera: the rows of its picture where haze shows.

Contrast of an object falls as exp(-extinction x distance) (Koschmieder), so the near street says little about
PM2.5 and the skyline kilometres away says most. A band of the picture is either set per camera or found here,
from which rows' contrast follows the measured PM.
"""

from dataclasses import dataclass
from typing import Final

from model.errors import InputError

#: Pixels (width, height) the band is scaled to for the encoder.
BAND_SIZE: Final = (448, 96)


@dataclass(frozen=True, slots=True)
class FarBand:
    """A rectangle of the picture in fractions of its height (`top`, `bottom`) and width (`left`, `right`)."""

    top: float
    bottom: float
    left: float = 0.0
    right: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.top < self.bottom <= 1.0 and 0.0 <= self.left < self.right <= 1.0):
            raise InputError(
                "a far band needs 0 <= top < bottom <= 1 and 0 <= left < right <= 1 (fractions of the picture), "
                f"got top={self.top} bottom={self.bottom} left={self.left} right={self.right}"
            )
