"""From a frame's bytes to the few pixels the encoder needs, or a reasoned refusal.

`camera.picture_file` has looked at the file's structure first. A JPEG is decoded at the DCT scale (1/1 to
1/8) that just covers what is asked, and strictly: damaged data is refused, not painted over. Everything that
comes out is as a viewer shows the picture: turned by its EXIF orientation. Pure and thread-safe: no library's
limit or flag is changed, so the same bytes give the same pixels anywhere.
"""

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from camera.errors import ImageRefused
from camera.far_band import BAND_SIZE, Strip
from camera.lost_part import lost_share
from camera.picture_file import MIN_SIDE, PictureFile, inspect

#: Size (width, height) of the luminance picture for the quality gate.
LUMINANCE_SIZE: Final = (192, 144)

_COLOUR_MODES: Final = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA"))
#: libjpeg's warning of bytes that belong to nothing; cheap cameras pad a frame's end with a few.
_PADDING: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MAX_PADDING: Final = 16
#: A picture as a camera takes it, before it is made smaller: of 12 megapixels, in good quality.
MAX_ORIGINAL_BYTES: Final = 12 * 1024 * 1024
#: What Pillow's readers raise on broken input.
_PILLOW_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    struct.error,
    zlib.error,
)
#: What brings a stored picture of each EXIF orientation (CIPA DC-008, table 6) upright.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Orientations whose stored rows are columns of the picture.
_SIDEWAYS: Final = frozenset((5, 6, 7, 8))
#: Side of the upright picture at which the last stored rows lie.
_LAST_ROWS: Final = dict(
    zip(range(1, 9), ("bottom", "bottom", "top", "top", "right", "left", "left", "right"), strict=True)
)


@dataclass(frozen=True, slots=True)
class Area:
    """A part of a picture: its edges as fractions of width and height, from the upper left corner."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Those of pixels (H, W, ...) of the whole picture that lie in it."""
        height, width = pixels.shape[:2]
        return pixels[
            round(self.top * height) : round(self.bottom * height),
            round(self.left * width) : round(self.right * width),
        ]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """Pixels of one frame, as a viewer shows it.

    Attributes:
        whole: uint8 (H, W, 3) RGB, the whole picture squeezed to the network's size.
        far: uint8 (96, 448, 3) RGB, the far band, or None where no band is known.
        luminance: uint8 (144, 192), for the quality gate.
        source_size: (width, height) of the picture as shown.
        lost: share of the picture that a decoder before us painted (`camera.lost_part`).
        intact: the part that it did not paint.
    """

    whole: NDArray[np.uint8]
    far: NDArray[np.uint8] | None
    luminance: NDArray[np.uint8]
    source_size: tuple[int, int]
    lost: float
    intact: Area


def decode(data: bytes, width: int, height: int, far_band: Strip | None = None) -> DecodedFrame:
    """Decode a JPEG, PNG or still WebP frame to the sizes the encoder needs.

    Args:
        data: the file's bytes.
        width: pixels of `whole` across (the encoder's input size, usually 224).
        height: pixels of `whole` down.
        far_band: the part of the picture, as a viewer shows it, that is far away, if the camera's is known.

    Raises:
        ImageRefused: with a code of `camera.picture_file.REFUSALS`.
    """
    file = inspect(data)
    sideways = file.orientation in _SIDEWAYS
    size = _swapped(file.size) if sideways else file.size
    needed = _needed_size(size, width, height, far_band)
    if file.kind == "jpeg":
        stored = Image.fromarray(_decode_jpeg(file.lean, _swapped(needed) if sideways else needed))
    else:
        stored = _decode_by_pillow(file)
    stored_grey = stored.convert("L")
    lost = lost_share(np.asarray(stored_grey), file.size[1])
    picture, grey = upright(stored, file.orientation), upright(stored_grey, file.orientation)

    far = None
    if far_band is not None:
        box = (
            far_band.left * picture.width,
            far_band.top * picture.height,
            far_band.right * picture.width,
            far_band.bottom * picture.height,
        )
        far = _pixels(picture.resize(BAND_SIZE, Image.Resampling.BILINEAR, box=box))
    whole = (
        picture
        if picture.size == (width, height)
        else picture.resize((width, height), Image.Resampling.BILINEAR)
    )
    luminance = _pixels(grey.resize(LUMINANCE_SIZE, Image.Resampling.BILINEAR))
    return DecodedFrame(_pixels(whole), far, luminance, size, lost, _intact(lost, file.orientation))


def reduced(data: bytes, longest: int, area: Area | None = None) -> bytes:
    """A frame's file without metadata, cut to `area`, with no side over `longest` pixels; upright then.

    A file that is small enough is kept as it is coded. What is coded anew is a JPEG of quality 92.

    Args:
        data: a JPEG, PNG or still WebP file.
        longest: pixels.
        area: the part of the picture, as a viewer shows it, that is kept; None: all of it.

    Raises:
        ImageRefused: with a code of `camera.picture_file.REFUSALS`.
    """
    file = inspect(data, MAX_ORIGINAL_BYTES)
    if area is None and max(file.size) <= longest and file.orientation == 1:
        return file.lean
    part = area or Area()
    width, height = _swapped(file.size) if file.orientation in _SIDEWAYS else file.size
    # The kept part may use up the whole of what is allowed.
    share = max((part.right - part.left) * width, (part.bottom - part.top) * height) / longest
    size = file.size if share <= 1 else (math.ceil(file.size[0] / share), math.ceil(file.size[1] / share))
    stored = (
        Image.fromarray(_decode_jpeg(file.lean, size)) if file.kind == "jpeg" else _decode_by_pillow(file)
    )
    picture = upright(stored, file.orientation)
    box = (part.left * picture.width, part.top * picture.height,
           part.right * picture.width, part.bottom * picture.height)  # fmt: skip
    scale = min(1.0, longest / max(box[2] - box[0], box[3] - box[1]))
    kept = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
    if min(kept) < MIN_SIDE:
        raise ImageRefused("too_small", f"what is kept of the picture is {kept[0]} x {kept[1]} pixels")
    small = picture.resize(kept, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST, box=box)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=92, colorspace="RGB"))


def upright(stored: Image.Image, orientation: int) -> Image.Image:
    """The picture that a viewer shows of stored pixels with an EXIF orientation (1 to 8)."""
    turn = _TURNS.get(orientation)
    return stored if turn is None else stored.transpose(turn)


def _intact(lost: float, orientation: int) -> Area:
    """What is left of an upright picture whose last stored rows are lost."""
    match _LAST_ROWS[orientation]:
        case "bottom":
            return Area(bottom=1.0 - lost)
        case "top":
            return Area(top=lost)
        case "right":
            return Area(right=1.0 - lost)
        case _:
            return Area(left=lost)


def _swapped(size: tuple[int, int]) -> tuple[int, int]:
    return size[1], size[0]


def _decode_jpeg(data: bytes, needed: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB pixels at the smallest DCT scale that covers `needed` (width, height).

    Strict: libjpeg would fill what is missing with grey, or go on with shifted colours, and only warn.
    """

    def run(strict: bool) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_width=needed[0], min_height=needed[1], strict=strict
        )
        return pixels

    try:
        return run(strict=True)
    except ValueError as error:
        padding = _PADDING.search(str(error))
        if padding is None or int(padding[1]) > MAX_PADDING:
            raise ImageRefused("corrupt", f"the JPEG's data is damaged: {error}") from error
    try:
        return run(strict=False)
    except ValueError as error:
        raise ImageRefused("corrupt", f"the JPEG's data is damaged: {error}") from error


def _decode_by_pillow(file: PictureFile) -> Image.Image:
    name = {"png": "PNG", "webp": "WebP"}[file.kind]
    try:
        with Image.open(io.BytesIO(file.lean), formats=(name.upper(),)) as opened:
            if opened.mode not in _COLOUR_MODES:
                raise ImageRefused(
                    "unsupported_format",
                    f"the picture has pixel mode {opened.mode}; send 8-bit RGB or greyscale",
                )
            opened.load()
            return opened.convert("RGB")
    except _PILLOW_ERRORS as error:
        raise ImageRefused("corrupt", f"the {name}'s data cannot be decoded: {error}") from error


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    pixels = np.array(picture, dtype=np.uint8)
    pixels.setflags(write=False)
    return pixels


def _needed_size(size: tuple[int, int], width: int, height: int, far_band: Strip | None) -> tuple[int, int]:
    """Pixels the whole picture must keep for every output to be a reduction, at most its own size."""
    across, down = max(width, LUMINANCE_SIZE[0]), max(height, LUMINANCE_SIZE[1])
    if far_band is not None:
        across = max(across, round(BAND_SIZE[0] / (far_band.right - far_band.left)))
        down = max(down, round(BAND_SIZE[1] / (far_band.bottom - far_band.top)))
    return min(across, size[0]), min(down, size[1])
