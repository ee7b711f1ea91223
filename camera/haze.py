"""Twenty plain haze statistics of a frame.

Haze adds airlight to every pixel, more of it the farther the scene (Koschmieder's law): dark pixels
brighten (He, Sun and Tang's dark channel, 2009), contrast and gradients fall, colours wash out. The
statistics are taken per horizontal third, because in a street scene the thirds are roughly sky, far and
near ground. On india-nepal they carry more about the air than a frozen ImageNet embedding does.
"""

import itertools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ArrayError

#: Side in pixels of the patches over which the dark channel takes its minimum.
PATCH: Final = 7

HAZE_NAMES: Final[tuple[str, ...]] = (
    "dark_top",
    "dark_middle",
    "dark_bottom",
    "dark_p95",
    "luminance_top",
    "luminance_middle",
    "luminance_bottom",
    "luminance_range",
    "contrast_top",
    "contrast_middle",
    "contrast_bottom",
    "saturation_top",
    "saturation_middle",
    "saturation_bottom",
    "gradient_top",
    "gradient_middle",
    "gradient_bottom",
    "gradient_p95",
    "blue_minus_red_top",
    "blue_minus_red_bottom",
)
HAZE_SIZE: Final = len(HAZE_NAMES)


def haze(whole: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Haze statistics of one frame.

    Args:
        whole: RGB frame, uint8 (H, W, 3), at least 24 x 24.

    Returns:
        float32 (20,), in the order of `HAZE_NAMES`. All are fractions of full scale: 0..1, the two
        blue-minus-red differences -1..1.
    """
    height, width = whole.shape[:2]
    if (
        whole.dtype != np.uint8
        or whole.ndim != 3
        or whole.shape[2] != 3
        or min(height, width) < 3 * PATCH + 3
    ):
        raise ArrayError(
            f"haze needs a uint8 (H, W, 3) frame of at least 24 x 24, got {whole.dtype} {whole.shape}"
        )
    # Contiguous planes: strided access to interleaved RGB costs more than the arithmetic.
    red, green, blue = (np.ascontiguousarray(whole[:, :, channel]) for channel in range(3))
    low = np.minimum(np.minimum(red, green), blue)
    high = np.maximum(np.maximum(red, green), blue)

    rows, columns = height // PATCH, width // PATCH
    patches = low[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
    dark = patches.min(axis=1).min(axis=2).astype(np.float32)
    luma = _luma(whole)
    saturation = (high - low).astype(np.float32) / np.maximum(high, 1).astype(np.float32)
    gradient = np.abs(luma[1:, :-1] - luma[:-1, :-1]) + np.abs(luma[:-1, 1:] - luma[:-1, :-1])

    def thirds(plane: NDArray[Any]) -> list[NDArray[Any]]:
        cut = [len(plane) * k // 3 for k in range(4)]
        return [plane[a:b] for a, b in itertools.pairwise(cut)]

    luma_thirds = thirds(luma)
    brightness = [float(part.mean()) for part in luma_thirds]
    spread = np.percentile(luma[::2, ::2], (5.0, 95.0))
    top, bottom = slice(0, height // 3), slice(2 * height // 3, height)
    values = (
        *(float(part.mean()) / 255.0 for part in thirds(dark)),
        float(np.percentile(dark, 95.0)) / 255.0,
        *(mean / 255.0 for mean in brightness),
        float(spread[1] - spread[0]) / 255.0,
        *(float(part.std()) / 255.0 for part in luma_thirds),
        *(float(part.mean()) for part in thirds(saturation)),
        *(float(part.mean()) / 255.0 for part in thirds(gradient)),
        float(np.percentile(gradient[::2, ::2], 95.0)) / 255.0,
        *((float(blue[part].mean()) - float(red[part].mean())) / 255.0 for part in (top, bottom)),
    )
    return np.asarray(values, dtype=np.float32)


def _luma(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """BT.601 luma, 0..255, float32 (H, W): (77 R + 150 G + 29 B) / 256 in integers."""
    red, green, blue = (picture[:, :, channel] for channel in range(3))
    total = red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29)
    luma: NDArray[np.float32] = total.astype(np.float32) / np.float32(256.0)
    return luma


#: Tiles (rows, columns) of `contrast`.
TILES: Final = (6, 4)


def contrast(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Log local contrast over a grid of tiles.

    An object's contrast falls as exp(-extinction x distance) (Koschmieder), so its logarithm is linear in the
    extinction, with a slope that is the tile's own distance: what a linear readout can learn.

    Args:
        picture: RGB, uint8 (H, W, 3), at least 12 x 8; usually the far band.

    Returns: float32 (24,), row by row: natural log of the mean absolute luminance step to the right and
        down neighbours (levels of 0..255) plus 0.3, which is about the noise of a camera.
    """
    rows, columns = TILES
    height, width = picture.shape[:2]
    if picture.dtype != np.uint8 or picture.ndim != 3 or height < 2 * rows or width < 2 * columns:
        raise ArrayError(f"contrast needs a uint8 (H, W, 3) picture of 12 x 8 or more, got {picture.shape}")
    luma = _luma(picture)
    right = np.abs(luma[:, 1:] - luma[:, :-1])
    down = np.abs(luma[1:] - luma[:-1])
    values = np.empty(rows * columns, dtype=np.float32)
    for row in range(rows):
        top, bottom = height * row // rows, height * (row + 1) // rows
        for column in range(columns):
            left, end = width * column // columns, width * (column + 1) // columns
            step = right[top:bottom, left : end - 1].mean() + down[top : bottom - 1, left:end].mean()
            values[row * columns + column] = np.log(step + 0.3)
    return values
