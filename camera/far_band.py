"""The far band of a camera: the rows of its picture where haze shows.

Contrast of an object falls as exp(-extinction x distance) (Koschmieder), so the near street says little
about PM2.5 and the skyline kilometres away says most. A band of the picture is either set per camera or
found here, from which rows' contrast follows the measured PM2.5: the slope of log contrast on log
concentration is, row by row, a measure of distance.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ArrayError

#: Pixels (width, height) the band is scaled to for the encoder.
BAND_SIZE: Final = (448, 96)
#: Rows of a `row_profile`.
ROWS: Final = 36
#: Height of a band that is found, as a fraction of the picture's.
BAND_HEIGHT: Final = 0.28
#: Pairs before a band is found: about two weeks of daylight hours. Fewer days show few kinds of weather, and
#: lamps and shadows follow the PM of a few days by chance.
MIN_PAIRS: Final = 120
#: Correlation of log contrast and log concentration that the best row must reach.
MIN_CORRELATION: Final = 0.3
#: Luminance step (levels a pixel) added before the logarithm: a clear sky has 1, and its noise is no scene.
_NOISE: Final = 6.0
#: Weights over neighbouring rows when the best is sought.
_SMOOTH: Final = np.array((1.0, 2.0, 3.0, 2.0, 1.0)) / 9.0


@dataclass(frozen=True, slots=True)
class Strip:
    """A rectangle of the picture in fractions of its height (`top`, `bottom`) and width (`left`, `right`)."""

    top: float
    bottom: float
    left: float = 0.0
    right: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.top < self.bottom <= 1.0 and 0.0 <= self.left < self.right <= 1.0):
            raise ArrayError(
                "a far band needs 0 <= top < bottom <= 1 and 0 <= left < right <= 1 (fractions of the "
                f"picture), got top={self.top} bottom={self.bottom} left={self.left} right={self.right}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class BandFinder:
    """Moments of (row profile, log concentration) pairs of one camera; immutable.

    Attributes:
        count: pairs so far; those that it was found from, once it is.
        level: mean of log1p(ug/m3); `level_square`: its sum of squared departures.
        mean: float64 (36,), mean row profile; `square`: its sum of squared departures; `product`:
            that of products with the level's.
        found: the band, once it was sure; it stays, for a readout is learned on it.
    """

    count: int
    level: float
    level_square: float
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    product: NDArray[np.float64]
    found: Strip | None = None

    def __post_init__(self) -> None:
        for profile in (self.mean, self.square, self.product):
            if profile.shape != (ROWS,):
                raise ArrayError(f"a row profile has {ROWS} numbers, got shape {profile.shape}")

    def band(self) -> Strip | None:
        """The far band, None while it is not sure."""
        return self.found


def row_profile(luminance: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Log contrast of the picture's rows.

    Args:
        luminance: uint8 (H, W) with H a multiple of 36, as `DecodedFrame.luminance`.

    Returns:
        float32 (36,), top to bottom: log of the mean absolute step between horizontal neighbours, plus noise.
    """
    if luminance.ndim != 2 or luminance.shape[0] % ROWS or luminance.dtype != np.uint8:
        raise ArrayError(
            f"a row profile needs a uint8 (H, W) picture, H a multiple of {ROWS}, got {luminance.shape}"
        )
    steps = np.abs(np.diff(luminance.astype(np.int16), axis=1))
    profile: NDArray[np.float32] = np.log(steps.reshape(ROWS, -1).mean(axis=1) + _NOISE).astype(np.float32)
    return profile


def observe(finder: BandFinder | None, rows: NDArray[np.float32], pm25: float) -> BandFinder:
    """Take in one hour; once a band is found, nothing more is taken in.

    Args:
        finder: the state before, None at the start.
        rows: mean row profile over the hour's usable frames, (36,).
        pm25: mean PM2.5 over the hour, ug/m3.
    """
    if rows.shape != (ROWS,) or not np.isfinite(rows).all():
        raise ArrayError(f"a row profile is {ROWS} finite numbers, got shape {rows.shape}")
    if not (math.isfinite(pm25) and pm25 >= 0.0):
        raise ArrayError(f"a measured concentration is finite and not negative, got {pm25}")
    if finder is None:
        zero = np.zeros(ROWS)
        finder = BandFinder(0, 0.0, 0.0, zero, zero, zero)
    if finder.found is not None:
        return finder
    profile, value = rows.astype(np.float64), math.log1p(pm25)
    count = finder.count + 1
    off, apart = profile - finder.mean, value - finder.level
    mean, level = finder.mean + off / count, finder.level + apart / count
    grown = BandFinder(
        count=count,
        level=level,
        level_square=finder.level_square + apart * (value - level),
        mean=mean,
        square=finder.square + off * (profile - mean),
        product=finder.product + off * (value - level),
    )
    found = _find(grown)
    return grown if found is None else replace(grown, found=found)


def _find(finder: BandFinder) -> Strip | None:
    if finder.count < MIN_PAIRS or finder.level_square <= 0.0:
        return None
    falls = np.maximum(-finder.product / finder.level_square, 0.0)
    best = int(np.convolve(falls, _SMOOTH, mode="same").argmax())
    spread = math.sqrt(finder.square[best] * finder.level_square)
    if spread <= 0.0 or -finder.product[best] / spread < MIN_CORRELATION:
        return None
    top = min(max((best + 0.5) / ROWS - BAND_HEIGHT / 2.0, 0.0), 1.0 - BAND_HEIGHT)
    return Strip(round(top, 3), round(top + BAND_HEIGHT, 3))
