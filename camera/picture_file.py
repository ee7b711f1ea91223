"""What a frame's file says of itself, read by our own walk before an image library sees a byte.

Frames come from cameras and so from strangers: kind, size and structure are checked here, and metadata is
left behind (its parser is the part of an image library that breaks most). One thing is read from it, by a few
lines of our own: the EXIF orientation, without which a picture is not as every viewer shows it.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final, Literal

from camera.errors import ImageRefused
from schemas.frame import MAX_FRAME_BYTES

#: Largest frame in pixels: an 8K camera (33 MP) passes. Below Pillow's own bomb limit, so that never acts.
MAX_PIXELS: Final = 40_000_000
#: Smallest side in pixels that can show haze.
MIN_SIDE: Final = 48

#: Codes of `ImageRefused`, with their meaning.
REFUSALS: Final[dict[str, str]] = {
    "empty": "no bytes at all",
    "too_many_bytes": f"more than {MAX_FRAME_BYTES} bytes",
    "not_an_image": "does not start like an image of any kind",
    "unsupported_format": "an image, but no JPEG, PNG or still WebP, or of a kind that has no 8-bit colours",
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
    (b"RIFF", "RIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\x01\0", "ICO"),
)
#: The first bytes of any JPEG, and that of the marker that follows them.
JPEG_START: Final = b"\xff\xd8\xff"
#: Bytes of a text that is short: a picture in letters (base64) is longer.
_SHORT_TEXT: Final = 2048
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_WEBP_MAGIC: Final = re.compile(rb"RIFF....WEBP", re.DOTALL)
#: Frame headers of Huffman-coded baseline, extended and progressive JPEG; 8 bits a sample.
_SOF_SUPPORTED: Final = frozenset((0xC0, 0xC1, 0xC2))
_SOF_ALL: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EXIF_PREFIX: Final = b"Exif\0\0"
_ORIENTATION_TAG: Final = 0x0112
_TIFF_SHORT: Final = 3
#: What fits a segment of a JPEG; PNG and WebP would let an EXIF block be as long as the file.
_MAX_EXIF: Final = 65_533


PictureKind = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A frame's file that passed.

    Attributes:
        kind: how it is coded.
        lean: the file without metadata, to be decoded.
        size: (width, height) of the pixels as stored.
        orientation: EXIF's, 1 to 8: where the first stored row and column belong (`camera.image.upright`).
    """

    kind: PictureKind
    lean: bytes
    size: tuple[int, int]
    orientation: int


def kind_of(data: bytes) -> PictureKind | None:
    """How a picture is coded, by its first bytes; None: as none that is taken."""
    if data.startswith(JPEG_START[:2]):
        return "jpeg"
    if data.startswith(_PNG_MAGIC):
        return "png"
    return "webp" if _WEBP_MAGIC.match(data) else None


def may_show(data: bytes) -> bool:
    """Whether bytes that came as a picture may show anything: all may but a short text (an error page)."""
    if len(data) > _SHORT_TEXT:
        return True
    try:
        return not all(one.isprintable() or one.isspace() for one in data.decode())
    except UnicodeDecodeError:
        return True


def inspect(data: bytes, most: int = MAX_FRAME_BYTES) -> PictureFile:
    """Check kind, structure and size (`most` bytes) without decoding anything.

    Raises:
        ImageRefused: with a code of `REFUSALS`. A 20,000 x 20,000 picture is refused from its header.
    """
    if not data:
        raise ImageRefused("empty", "the frame has no bytes; the camera or its gateway sent nothing")
    if len(data) > most:
        raise ImageRefused(
            "too_many_bytes", f"the frame has {len(data)} bytes, over {most}; downscale it at the station"
        )
    kind = kind_of(data)
    if kind is None:
        for magic, name in _OTHER_FORMATS:
            if data.startswith(magic):
                raise ImageRefused(
                    "unsupported_format", f"the frame is a {name} file; send JPEG, PNG or WebP"
                )
        raise ImageRefused(
            "not_an_image", f"the frame starts with {data[:16]!r}, which is no JPEG, PNG or WebP"
        )
    match kind:
        case "jpeg":
            file = _inspect_jpeg(data)
        case "png":
            file = _inspect_png(data)
        case "webp":
            file = _inspect_webp(data)
    width, height = file.size
    if width * height > MAX_PIXELS:
        raise ImageRefused(
            "too_many_pixels",
            f"the picture is {width} x {height}, over {MAX_PIXELS} pixels; downscale it at the station",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageRefused(
            "too_small", f"the picture is {width} x {height}; each side needs {MIN_SIDE} pixels"
        )
    return file


def orientation_of(exif: bytes) -> int:
    """The orientation (tag 0x0112, one SHORT) in the first directory of an EXIF block; 1 where there is none.

    A block that is broken anywhere on the way says nothing, as in a viewer. Only the first directory is
    read, and of it no entry twice: there is no chain to run in circles.

    Args:
        exif: a TIFF header with what follows (CIPA DC-008, 4.5), with or without `Exif\\0\\0` before it.
    """
    tiff = exif[:_MAX_EXIF].removeprefix(_EXIF_PREFIX)
    order: Literal["little", "big"]
    if tiff[:4] == b"II*\0":
        order = "little"
    elif tiff[:4] == b"MM\0*":
        order = "big"
    else:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    directory = number(4, 4)
    entries = min(number(directory, 2), (len(tiff) - directory - 2) // 12)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            stated = number(entry + 8, 2)
            one_short = number(entry + 2, 2) == _TIFF_SHORT and number(entry + 4, 4) == 1
            return stated if one_short and 1 <= stated <= 8 else 1
    return 1


def _inspect_jpeg(data: bytes) -> PictureFile:
    """Walk the marker segments up to the first scan (ITU-T T.81, annex B); drop metadata segments."""
    kept = [JPEG_START[:2]]
    size: tuple[int, int] | None = None
    exif: bytes | None = None
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
        if marker == 0xE1 and exif is None and data[at + 4 : end].startswith(_EXIF_PREFIX):
            exif = data[at + 4 : end]  # of several the first counts
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
    return PictureFile("jpeg", b"".join(kept), size, orientation_of(exif or b""))


def _inspect_png(data: bytes) -> PictureFile:
    """Walk the chunks (ISO/IEC 15948, clause 5); drop text, profiles and other ancillary chunks."""
    kept = [_PNG_MAGIC]
    size: tuple[int, int] | None = None
    exif: bytes | None = None
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
        if kind == b"eXIf" and exif is None:
            exif = data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return PictureFile("png", b"".join(kept), size, orientation_of(exif or b""))
        at = end


def _inspect_webp(data: bytes) -> PictureFile:
    """Walk the chunks (RFC 9649, section 2); keep the one that holds the picture, without its alpha."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ImageRefused("truncated", f"the WebP file stops after {len(data)} of {end} bytes")
    image: tuple[bytes, bytes] | None = None
    exif: bytes | None = None
    at = 12
    while at + 8 <= end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + length]
        if at + 8 + length > end:
            raise ImageRefused("truncated", f"the WebP file ends within its chunk {kind!r}")
        if kind in (b"ANIM", b"ANMF"):
            raise ImageRefused("unsupported_format", "the WebP is an animation; send single pictures")
        if kind in (b"VP8 ", b"VP8L") and image is None:
            image = kind, body
        if kind == b"EXIF" and exif is None:
            exif = body
        at += 8 + length + length % 2
    if image is None:
        raise ImageRefused("corrupt", "the WebP has no picture in it (no chunk VP8 or VP8L)")
    kind, body = image
    chunk = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    lean = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    return PictureFile("webp", lean, _webp_size(kind, body), orientation_of(exif or b""))


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    """(width, height) from the head of a lossy (RFC 6386, 9.1) or lossless (RFC 9649, 3.4) picture."""
    if kind == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
        across, down = struct.unpack("<HH", body[6:10])
        return across & 0x3FFF, down & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        packed = int.from_bytes(body[1:5], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    raise ImageRefused("corrupt", f"the head of the WebP's chunk {kind!r} is broken")
