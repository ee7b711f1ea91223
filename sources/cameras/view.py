"""What a camera has shown last, so that the same picture is known when it comes again. Pure.

A camera that has hung up shows the same picture for hours, often with the clock in its corner running on. A
JPEG's blocks are coded apart from each other, so that such pictures are equal to the last bit but for the
rows of the clock; two pictures of a sensor that lives never are.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

#: Rows at the upper and the lower edge, as a share of the height, where clocks and names are written.
_WRITTEN: Final = 0.125
#: A picture that has been the same for so long (ms) is a fault.
FROZEN_AFTER_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture: its bytes, what it shows beside its clock, and since when (ms) that has been the same."""

    digest: bytes
    scene: bytes
    since_ms: int


def scene_digest(data: bytes) -> bytes:
    """What a picture shows between its upper and lower edge; of its bytes where it is no picture."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > 100_000_000:
                raise ValueError("too large to look at")
            image.draft("L", (image.width // 8, image.height // 8))
            grey = np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return hashlib.sha256(data).digest()
    rows = round(grey.shape[0] * _WRITTEN)
    middle = grey[rows : grey.shape[0] - rows]
    return hashlib.sha256(np.ascontiguousarray(middle).tobytes() + repr(grey.shape).encode()).digest()


def shown(data: bytes, before: Shown | None, now_ms: int) -> Shown:
    """What a picture is known by, after the one before it."""
    digest = hashlib.sha256(data).digest()
    if before is not None and before.digest == digest:
        return before
    scene = scene_digest(data)
    since = before.since_ms if before is not None and before.scene == scene else now_ms
    return Shown(digest, scene, since)
