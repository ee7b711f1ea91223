"""From a frame's bytes to the few pixels the encoder needs, or a reasoned refusal.

Frames come from cameras and so from strangers: sizes and structure are read from the header by our own
walk before an image library sees a byte, and metadata segments are dropped (nothing here needs EXIF, and
its parser is the part of an image library that breaks most). A JPEG is decoded at the DCT scale (1/1 to
1/8) that just covers what is asked, and strictly: damaged data is refused, not painted over. Pure and
thread-safe: no library's limit or flag is changed, so the same bytes give the same pixels anywhere.
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from model.errors import ImageRefused
from model.far_band import BAND_SIZE, FarBand

#: Largest frame in bytes. Kafka's default message limit is about 1 MiB; brokers may be set higher.
MAX_BYTES: Final = 8 * 2**20
#: Largest frame in pixels: an 8K camera (33 MP) passes. Below Pillow's own bomb limit, so that never acts.
MAX_PIXELS: Final = 40_000_000
#: Smallest side in pixels that can show haze.
MIN_SIDE: Final = 48
#: Size (width, height) of the luminance picture for the quality gate.
LUMINANCE_SIZE: Final = (192, 144)

#: Codes of `ImageRefused`, with their meaning.
REFUSALS: Final[dict[str, str]] = {
    "empty": "no bytes at all",
    "too_many_bytes": f"more than {MAX_BYTES} bytes",
    "not_an_image": "does not start like an image of any kind",
    "unsupported_format": "an image, but neither JPEG nor PNG, or of a kind that has no 8-bit colours",
    "truncated": "the file ends before the picture does",
    "corrupt": "the file's structure or its compressed data is broken",
    "too_many_pixels": f"more than {MAX_PIXELS} pixels",
    "too_small": f"a side under {MIN_SIDE} pixels",
}

_OTHER_FORMATS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WebP or another RIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\x01\0", "ICO"),
)
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
#: Frame headers of Huffman-coded baseline, extended and progressive JPEG; 8 bits a sample.
_SOF_SUPPORTED: Final = frozenset((0xC0, 0xC1, 0xC2))
_SOF_ALL: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COLOUR_MODES: Final = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA"))
#: libjpeg's warning of bytes that belong to nothing; cheap cameras pad a frame's end with a few.
_PADDING: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MAX_PADDING: Final = 16
#: What Pillow's PNG reader raises on broken input.
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


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """Pixels of one frame.

    Attributes:
        whole: uint8 (H, W, 3) RGB, the whole picture squeezed to the network's size.
        far: uint8 (96, 448, 3) RGB, the far band, or None where no band is known.
        luminance: uint8 (144, 192), for the quality gate.
        source_size: (width, height) of the picture as sent.
    """

    whole: NDArray[np.uint8]
    far: NDArray[np.uint8] | None
    luminance: NDArray[np.uint8]
    source_size: tuple[int, int]


def decode(data: bytes, width: int, height: int, far_band: FarBand | None = None) -> DecodedFrame:
    """Decode a JPEG or PNG frame to the sizes the encoder needs.

    Args:
        data: the file's bytes.
        width: pixels of `whole` across (the encoder's input size, usually 224).
        height: pixels of `whole` down.
        far_band: the part of the picture that is far away, if the camera's is known.

    Raises:
        ImageRefused: with a code of `REFUSALS`. A 20,000 x 20,000 picture is refused from its header.
    """
    lean, size = _inspect(data)
    needed = _needed_size(size, width, height, far_band)
    if lean.startswith(_PNG_MAGIC):
        picture = _decode_png(lean)
    else:
        picture = Image.fromarray(_decode_jpeg(lean, needed))

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
    grey = picture.convert("L").resize(LUMINANCE_SIZE, Image.Resampling.BILINEAR)
    return DecodedFrame(_pixels(whole), far, _pixels(grey), size)


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


def _decode_png(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
            if opened.mode not in _COLOUR_MODES:
                raise ImageRefused(
                    "unsupported_format",
                    f"the picture has pixel mode {opened.mode}; send 8-bit RGB or greyscale",
                )
            opened.load()
            return opened.convert("RGB")
    except _PILLOW_ERRORS as error:
        raise ImageRefused("corrupt", f"the PNG's data cannot be decoded: {error}") from error


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    pixels = np.array(picture, dtype=np.uint8)
    pixels.setflags(write=False)
    return pixels


def _needed_size(size: tuple[int, int], width: int, height: int, far_band: FarBand | None) -> tuple[int, int]:
    """Pixels the whole picture must keep for every output to be a reduction, at most its own size."""
    across, down = max(width, LUMINANCE_SIZE[0]), max(height, LUMINANCE_SIZE[1])
    if far_band is not None:
        across = max(across, round(BAND_SIZE[0] / (far_band.right - far_band.left)))
        down = max(down, round(BAND_SIZE[1] / (far_band.bottom - far_band.top)))
    return min(across, size[0]), min(down, size[1])


def _inspect(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Check structure and size without decoding; return the bytes to decode and (width, height)."""
    if not data:
        raise ImageRefused("empty", "the frame has no bytes; the camera or its gateway sent nothing")
    if len(data) > MAX_BYTES:
        raise ImageRefused(
            "too_many_bytes",
            f"the frame has {len(data)} bytes, over {MAX_BYTES}; downscale it at the station",
        )
    if data.startswith(b"\xff\xd8"):
        lean, size = _inspect_jpeg(data)
    elif data.startswith(_PNG_MAGIC):
        lean, size = _inspect_png(data)
    else:
        for magic, name in _OTHER_FORMATS:
            if data.startswith(magic):
                raise ImageRefused("unsupported_format", f"the frame is a {name} file; send JPEG or PNG")
        raise ImageRefused("not_an_image", f"the frame starts with {data[:16]!r}, which is no JPEG or PNG")
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageRefused(
            "too_many_pixels",
            f"the picture is {width} x {height}, over {MAX_PIXELS} pixels; downscale it at the station",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageRefused(
            "too_small", f"the picture is {width} x {height}; each side needs {MIN_SIDE} pixels"
        )
    return lean, size


def _inspect_jpeg(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Walk the marker segments up to the first scan (ITU-T T.81, annex B); drop metadata segments."""
    kept = [b"\xff\xd8"]
    size: tuple[int, int] | None = None
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at + 4 > len(data):
            raise ImageRefused("truncated", f"the JPEG file ends in its header, after {len(data)} bytes")
        if data[at] != 0xFF:
            raise ImageRefused("corrupt", f"the JPEG header is broken at byte {at}: a marker was due")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if marker in (0x00, 0x01, 0xD8, 0xD9) or 0xD0 <= marker <= 0xD7 or length < 2:
            raise ImageRefused("corrupt", f"the JPEG header is broken at byte {at}: marker {marker:#04x}")
        if end > len(data):
            raise ImageRefused("truncated", f"the JPEG file ends in its header, after {len(data)} bytes")
        if marker in _SOF_ALL:
            if marker not in _SOF_SUPPORTED:
                raise ImageRefused(
                    "unsupported_format", f"JPEG coding process {marker:#04x} is not supported"
                )
            if length < 8:
                raise ImageRefused("corrupt", "the JPEG frame header is too short")
            bits, down, across, components = struct.unpack(">BHHB", data[at + 4 : at + 10])
            if components not in (1, 3):
                raise ImageRefused(
                    "unsupported_format",
                    f"the JPEG has {components} colour components; send RGB or greyscale",
                )
            if bits != 8:
                raise ImageRefused("unsupported_format", f"the JPEG has {bits} bits a sample; send 8")
            size = (across, down)
        # Kept: tables, the frame header, JFIF (APP0) and Adobe's colour transform (APP14).
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[at:end])
        if marker == 0xDA:
            break
        at = end
    if size is None:
        raise ImageRefused("corrupt", "the JPEG has a scan but no frame header")
    # Within entropy-coded data FF is followed by 00 or a restart marker, so FF D9 there is the end of
    # the image.
    finish = data.rfind(b"\xff\xd9", end)
    if finish < 0:
        raise ImageRefused("truncated", f"the JPEG file stops after {len(data)} bytes, before its end marker")
    kept.append(data[end : finish + 2])
    return b"".join(kept), size


def _inspect_png(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Walk the chunks (ISO/IEC 15948, clause 5); drop text, profiles and other ancillary chunks."""
    kept = [_PNG_MAGIC]
    size: tuple[int, int] | None = None
    at = len(_PNG_MAGIC)
    while True:
        if at + 12 > len(data):
            raise ImageRefused(
                "truncated", f"the PNG file stops after {len(data)} bytes, before its IEND chunk"
            )
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise ImageRefused("truncated", f"the PNG file stops after {len(data)} bytes, in chunk {kind!r}")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise ImageRefused("corrupt", f"the PNG begins with chunk {kind!r} instead of IHDR")
            across, down, bits = struct.unpack(">IIB", data[at + 8 : at + 17])
            if bits > 8:
                raise ImageRefused("unsupported_format", f"the PNG has {bits} bits a sample; send 8")
            size = (across, down)
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"):
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept), size
        at = end
