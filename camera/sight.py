"""What a camera shows, as the numbers that a readout is learned on. Pure."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from camera.far_band import Strip
from camera.haze import HAZE_SIZE, TILES, contrast, haze
from schemas.errors import ArrayError

__all__ = ["CAMERA_SIZE", "COMPONENTS", "Sight", "camera_vector", "layout", "plain_part", "with_projection"]

#: Leading principal components of the network's pooled features that enter the camera vector.
COMPONENTS: Final = 17
#: Length of the camera vector: components, tile contrasts, haze statistics.
CAMERA_SIZE: Final = COMPONENTS + TILES[0] * TILES[1] + HAZE_SIZE


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What a camera shows.

    Attributes:
        layout: what `vector` was made of (`layout`).
        vector: `camera_vector`, or the mean of several.
        humidity: relative humidity (%) at the time, where it is measured: droplets swell and look like dust.
        fallback: the same pictures in an older layout (the whole frame, after a far band was set), so
            that the estimate does not go blind while the readout learns the new one.
    """

    layout: str
    vector: NDArray[np.float32]
    humidity: float | None = None
    fallback: "Sight | None" = None

    def check(self) -> None:
        """Raise ArrayError where a vector is not of the size or not finite."""
        if self.vector.shape != (CAMERA_SIZE,) or not np.isfinite(self.vector).all():
            raise ArrayError(
                f"a camera vector is {CAMERA_SIZE} finite numbers, got shape {self.vector.shape}"
            )
        if self.fallback is not None:
            self.fallback.check()


def camera_vector(pixels: NDArray[np.uint8], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the readout sees of a picture.

    Args:
        pixels: uint8 (H, W, 3): the far band if the camera has one, else the whole frame.
        projection: the encoder's projection of the same pixels, (64,), components in order of falling
        variance.

    Returns:
        float32 (64,): leading components, tile contrasts, haze statistics.
    """
    return with_projection(projection, plain_part(pixels))


def plain_part(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The part of the camera vector that needs no network: tile contrasts and haze statistics."""
    return np.concatenate((contrast(pixels), haze(pixels)))


def with_projection(projection: NDArray[np.float32], plain: NDArray[np.float32]) -> NDArray[np.float32]:
    """The camera vector of a projection (64,) and the `plain_part` of the same pixels."""
    if projection.ndim != 1 or projection.shape[0] < COMPONENTS:
        raise ArrayError(
            f"the projection needs {COMPONENTS} components or more, got shape {projection.shape}"
        )
    return np.concatenate((projection[:COMPONENTS].astype(np.float32), plain))


def layout(far_band: Strip | None) -> str:
    """Name of the layout of a camera vector: vectors of different bands must not be mixed."""
    if far_band is None:
        return "whole"
    return f"far:{far_band.top:.3f}-{far_band.bottom:.3f},{far_band.left:.3f}-{far_band.right:.3f}"
