"""Made pictures and a made station for the camera tests: no file, no clock, no network."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camera.sight import CAMERA_SIZE

HOUR = 3_600_000


def scene(
    seed: int = 0, haze: float = 0.0, size: tuple[int, int] = (480, 360), light: float = 1.0
) -> NDArray[np.uint8]:
    """A street under a sky, uint8 (H, W, 3): buildings of sharp edges, colour and sensor noise.

    `haze` 0..1 mixes in airlight; `light` scales brightness.
    """
    width, height = size
    layout = np.random.default_rng(7)
    picture = np.empty((height, width, 3))
    picture[:] = np.linspace(235, 190, height)[:, None, None] * np.array([0.85, 0.93, 1.0])
    for _ in range(60):
        left, top = layout.integers(0, width - 20), layout.integers(height // 3, height - 30)
        wide, tall = layout.integers(10, 70), layout.integers(10, 90)
        picture[top : top + tall, left : left + wide] = layout.uniform(20, 200, 3)
    picture = picture * (1 - haze) + 200 * haze
    picture = picture * light + np.random.default_rng(seed).normal(0, 2.0, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def jpeg(picture: NDArray[np.uint8], quality: int = 90, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality, **options)
    return out.getvalue()


def png(picture: NDArray[np.uint8], mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, "PNG")
    return out.getvalue()


class MadeStation:
    """A log level that wanders and reverts, and a camera vector that is linear in it plus weather and
    noise.
    """

    def __init__(self, seed: int, noise: float = 0.2) -> None:
        self._random = np.random.default_rng(seed)
        self._slopes = self._random.normal(0, 1, CAMERA_SIZE)
        self._offset = self._random.normal(0, 3, CAMERA_SIZE)
        self._noise = noise
        self._level = 3.0
        self.hour = 480_000

    def step(self) -> tuple[int, float, NDArray[np.float32], bool]:
        """Next hour: (end ms, ug/m3, camera vector, is it day)."""
        self.hour += 1
        self._level += 0.03 * (3.0 - self._level) + self._random.normal(0, 0.2)
        shown = self._level + self._random.normal(0, self._noise)
        vector = self._offset + self._slopes * shown + self._random.normal(0, 1.0, CAMERA_SIZE)
        return (
            self.hour * HOUR,
            math.expm1(max(self._level, 0.1)),
            vector.astype(np.float32),
            7 <= self.hour % 24 <= 18,
        )

    def move(self) -> None:
        """Turn the camera: each number it shows jumps, in the same direction as haze would make it."""
        self._offset = self._offset + 0.7 * self._slopes

    def turn_to(self, seed: int) -> None:
        """Point the camera at something else altogether."""
        random = np.random.default_rng(seed)
        self._slopes = random.normal(0, 1, CAMERA_SIZE)
        self._offset = random.normal(0, 3, CAMERA_SIZE)

    def blur(self) -> None:
        """A dirty lens: weather and dirt show twice as strongly as before."""
        self._noise *= 2.0
