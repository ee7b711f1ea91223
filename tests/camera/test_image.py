"""Safe decoding: what is refused and why, what comes out of the rest, and that nothing else ever comes
out.
"""

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from camera.errors import ImageRefused
from camera.far_band import BAND_SIZE, Strip
from camera.image import LUMINANCE_SIZE, MAX_PADDING, decode
from camera.picture_file import REFUSALS, orientation_of
from schemas.frame import MAX_FRAME_BYTES
from streams.topics import FRAMES
from tests.camera.cameras import jpeg, png, scene

GOOD = jpeg(scene())


def code_of(data: bytes) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode(data, 224, 224)
    assert refused.value.code in REFUSALS
    return refused.value.code


def test_one_limit_for_a_frame_everywhere() -> None:
    docs = Path(__file__).parents[2] / "docs"
    stated = f"{MAX_FRAME_BYTES // 2**20} MiB"
    assert f"at most {stated} each" in (docs / "data-layout.md").read_text()
    assert f"too large ({stated}," in (docs / "camera.md").read_text()
    assert f"more than {MAX_FRAME_BYTES} bytes" == REFUSALS["too_many_bytes"]
    assert FRAMES.max_bytes > 2 * MAX_FRAME_BYTES, "refused with a reason, not by the broker"
    assert code_of(GOOD + bytes(MAX_FRAME_BYTES + 1 - len(GOOD))) == "too_many_bytes"
    assert decode(GOOD + bytes(MAX_FRAME_BYTES - len(GOOD)), 224, 224).source_size == (480, 360)


def png_header(width: int, height: int, bits: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def resized_jpeg(width: int, height: int) -> bytes:
    """A valid JPEG whose frame header claims another size."""
    at = GOOD.index(b"\xff\xc0")
    return GOOD[: at + 5] + struct.pack(">HH", height, width) + GOOD[at + 9 :]


def test_shapes_and_source_size() -> None:
    frame = decode(GOOD, 224, 200, Strip(0.3, 0.5))
    assert frame.whole.shape == (200, 224, 3)
    assert frame.far is not None
    assert frame.far.shape == (BAND_SIZE[1], BAND_SIZE[0], 3)
    assert frame.luminance.shape == (LUMINANCE_SIZE[1], LUMINANCE_SIZE[0])
    assert frame.source_size == (480, 360)
    assert decode(GOOD, 224, 224).far is None
    with pytest.raises(ValueError, match="read-only"):
        frame.whole[0, 0, 0] = 1


def test_pixels_are_those_of_a_plain_decode_and_resize() -> None:
    whole = decode(GOOD, 480, 360).whole
    assert np.array_equal(whole, np.asarray(Image.open(io.BytesIO(GOOD)).convert("RGB")))
    # Larger than twice what is needed: the DCT-scaled decode may differ from full decode and resize,
    # but not much.
    big = jpeg(scene(size=(1920, 1440)))
    plain = Image.open(io.BytesIO(big)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    assert np.abs(decode(big, 224, 224).whole.astype(int) - np.asarray(plain).astype(int)).mean() < 3.0


def test_far_band_is_the_named_part() -> None:
    picture = np.zeros((400, 600, 3), np.uint8)
    picture[100:200, 300:] = (200, 120, 40)
    far = decode(png(picture), 224, 224, Strip(0.25, 0.5, 0.5, 1.0)).far
    assert far is not None
    assert (far[2:-2, 2:-2] == (200, 120, 40)).all()  # the rim interpolates with its neighbours


def test_reduced_decode_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as many pixels leave the JPEG decoder as the outputs need."""
    shapes = []
    full = simplejpeg.decode_jpeg

    def noted(*args: object, **options: object) -> np.ndarray:
        pixels: np.ndarray = full(*args, **options)
        shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noted)
    big = jpeg(scene(size=(1920, 1440)))
    decode(big, 224, 224)
    decode(big, 224, 224, Strip(0.3, 0.6))
    assert shapes == [(360, 480, 3), (360, 480, 3)]
    decode(big, 224, 224, Strip(0.3, 0.35))
    assert shapes[-1] == (1440, 1920, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_png_modes(mode: str) -> None:
    assert decode(png(scene(), mode), 224, 224).whole.shape == (224, 224, 3)


def test_kinds_of_jpeg() -> None:
    out = io.BytesIO()
    Image.fromarray(scene()).convert("CMYK").save(out, "JPEG")
    assert code_of(out.getvalue()) == "unsupported_format"
    assert decode(jpeg(scene(), progressive=True), 224, 224).whole.shape == (224, 224, 3)
    grey = io.BytesIO()
    Image.fromarray(scene()).convert("L").save(grey, "JPEG")
    whole = decode(grey.getvalue(), 480, 360).whole
    assert (whole[:, :, :1] == whole).all()
    assert np.array_equal(whole, np.asarray(Image.open(grey).convert("RGB")))


def test_damaged_data_is_refused_but_a_cameras_padding_is_not() -> None:
    middle = len(GOOD) * 2 // 3
    assert code_of(GOOD[:middle] + b"\xff\xd9") == "corrupt"
    assert code_of(GOOD[:middle] + GOOD[middle + 400 :]) == "corrupt"
    padded = GOOD[:-2] + bytes(MAX_PADDING) + GOOD[-2:]
    assert np.array_equal(decode(padded, 224, 224).whole, decode(GOOD, 224, 224).whole)
    assert code_of(GOOD[:-2] + bytes(3 * MAX_PADDING) + GOOD[-2:]) == "corrupt"


def test_refusals() -> None:
    assert code_of(b"") == "empty"
    assert code_of(b"This is not a JPEG") == "not_an_image"
    assert code_of(b"\xff\xd8" + bytes(MAX_FRAME_BYTES)) == "too_many_bytes"
    assert code_of(b"GIF89a" + bytes(50)) == "unsupported_format"
    assert code_of(GOOD[: len(GOOD) // 2]) == "truncated"
    assert code_of(GOOD[:100]) == "truncated"
    assert code_of(png(scene())[:-20]) == "truncated"
    assert code_of(jpeg(scene(size=(47, 300)))) == "too_small"
    assert code_of(png_header(300, 300, bits=16)) == "unsupported_format"
    assert code_of(png_header(300, 300)) == "corrupt"
    lossless = GOOD.replace(b"\xff\xc0", b"\xff\xc3", 1)
    assert code_of(lossless) == "unsupported_format"
    assert code_of(b"\xff\xd8\x00" + GOOD[3:]) == "corrupt"


@pytest.mark.parametrize("kind", ["png", "jpeg", "lossy webp", "lossless webp"])
def test_bomb_is_refused_from_its_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {
        "png": png_header(20_000, 20_000),
        "jpeg": resized_jpeg(20_000, 20_000),
        "lossy webp": webp_bombs()[0],
        "lossless webp": webp_bombs()[1],
    }[kind]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the picture was opened")

    monkeypatch.setattr(Image, "open", never)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", never)
    assert code_of(data) == "too_many_pixels"


def test_metadata_is_not_parsed() -> None:
    """A broken EXIF block, which Pillow warns about, does not touch the picture."""
    exif = b"Exif\0\0MM\0*" + b"\xff" * 200
    broken = GOOD[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + GOOD[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode(broken, 224, 224).whole, decode(GOOD, 224, 224).whole)


# -- EXIF orientation ---------------------------------------------------------------------------------

#: How a camera stores an upright picture (H, W, 3) for each orientation, written down from the text of
#: CIPA DC-008: which side of the scene the first stored row shows, and which the first stored column.
STORED = {
    1: lambda up: up,  # row: top, column: left
    2: lambda up: up[:, ::-1],  # top, right
    3: lambda up: up[::-1, ::-1],  # bottom, right
    4: lambda up: up[::-1],  # bottom, left
    5: lambda up: up.swapaxes(0, 1),  # left, top
    6: lambda up: up[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda up: up[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda up: up[::-1].swapaxes(0, 1),  # left, bottom
}


def with_orientation(picture: np.ndarray, orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](picture)))
    stored.save(out, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_every_output_is_as_a_viewer_shows_it(orientation: int, kind: str) -> None:
    picture, band = scene(), Strip(0.3, 0.5, 0.1, 0.7)
    sent = with_orientation(picture, orientation, kind)
    shown, expected = decode(sent, 224, 200, band), decode(png(picture), 224, 200, band)
    assert shown.source_size == expected.source_size == (480, 360)
    assert shown.far is not None
    assert expected.far is not None
    off = 0.0 if kind != "JPEG" else 4.0
    for name in ("whole", "far", "luminance"):
        difference = getattr(shown, name).astype(int) - getattr(expected, name)
        assert np.abs(difference).mean() <= off, name
    with Image.open(io.BytesIO(sent)) as opened:
        viewed = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert np.abs(viewed.astype(int) - picture).mean() <= off, "a viewer agrees"


def test_a_turned_picture_is_reduced_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    full = simplejpeg.decode_jpeg

    def noted(*args: object, **options: object) -> np.ndarray:
        pixels: np.ndarray = full(*args, **options)
        shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noted)
    big = scene(size=(1920, 1440))
    decode(with_orientation(big, 6, "JPEG"), 224, 224)
    assert shapes == [(480, 360, 3)]
    # A band of a third of the width of what is shown, which is the height of what is stored.
    decode(with_orientation(big, 6, "JPEG"), 224, 224, Strip(0.0, 1.0, 0.0, 1 / 3))
    assert shapes[-1] == (1440, 1080, 3)


def tiff(order: str, *entries: tuple[int, int, int, int], at: int = 8, count: int | None = None) -> bytes:
    """A TIFF block with one directory of (tag, type, count, value); values stand as SHORT."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(order + "H", len(entries) if count is None else count)
    for tag, kind, number, value in entries:
        body += struct.pack(order + "HHIHH", tag, kind, number, value, 0)
    return head + struct.pack(order + "I", at) + body + struct.pack(order + "I", 8)  # next: itself, a loop


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_from_the_first_directory_alone(order: str) -> None:
    other = (0x0100, 3, 1, 3)
    assert orientation_of(b"Exif\0\0" + tiff(order, other, (0x0112, 3, 1, 6))) == 6
    assert orientation_of(tiff(order, (0x0112, 3, 1, 8), (0x0112, 3, 1, 3))) == 8
    for wrong in (0, 9, 65535):
        assert orientation_of(tiff(order, (0x0112, 3, 1, wrong))) == 1
    assert orientation_of(tiff(order, other)) == 1
    assert orientation_of(tiff(order, (0x0112, 2, 1, 6))) == 1  # text
    assert orientation_of(tiff(order, (0x0112, 3, 2, 6))) == 1  # two of them: an offset, not a value
    for at in (0xFFFFFFFF, 0x7FFFFFFF, 10_000):
        assert orientation_of(tiff(order, (0x0112, 3, 1, 6), at=at)) == 1
    assert orientation_of(tiff(order, other, count=65535)) == 1
    assert orientation_of(tiff(order, (0x0112, 3, 1, 6), count=65535)) == 6
    whole = tiff(order, (0x0112, 3, 1, 6))
    assert [orientation_of(whole[:cut]) for cut in range(len(whole) - 4)] == [1] * (len(whole) - 4)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"Exif\0\0", b"II*\0", b"MM\0*", b"Exif\0\0II*\0\x08\0\0\0"]),
)
def test_orientation_of_anything(rest: bytes, head: bytes) -> None:
    assert orientation_of(head + rest) in range(1, 9)


def test_no_more_exif_is_read_than_a_jpeg_could_have() -> None:
    """A PNG's may be as long as the file."""
    others = [(1, 3, 1, 1)] * 5_400
    assert orientation_of(tiff("<", *others, (0x0112, 3, 1, 6))) == 6
    assert orientation_of(tiff("<", *others, *others, (0x0112, 3, 1, 6))) == 1


def test_of_two_exif_blocks_the_first_counts() -> None:
    blocks = b""
    for stated in (6, 3):
        body = b"Exif\0\0" + tiff("<", (0x0112, 3, 1, stated))
        blocks += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    two = GOOD[:2] + blocks + GOOD[2:]
    with Image.open(io.BytesIO(two)) as opened:
        assert ImageOps.exif_transpose(opened).size == (360, 480), "a viewer agrees"
    assert decode(two, 224, 224).source_size == (360, 480)


def test_the_second_picture_of_a_camera_says_nothing() -> None:
    """MPF: a preview with an orientation of its own follows the picture's end."""
    out = io.BytesIO()
    preview = Image.fromarray(scene(size=(96, 72)))
    Image.fromarray(scene()).save(out, "MPO", save_all=True, append_images=[preview])
    assert decode(out.getvalue(), 224, 224).source_size == (480, 360)


# -- WebP ---------------------------------------------------------------------------------------------


def webp(picture: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, "WEBP", **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp_is_read(mode: str, lossless: bool) -> None:
    picture = scene()
    sent = webp(picture, mode, lossless=lossless, exif=b"Exif\0\0" + tiff("<"), xmp=b"<x/>")
    frame = decode(sent, 480, 360)
    expected = decode(png(picture, mode), 480, 360)
    assert np.abs(frame.whole.astype(int) - expected.whole).mean() <= (0.0 if lossless else 6.0)
    assert frame.source_size == (480, 360)
    assert decode(webp(scene(size=(10_000, 60)), lossless=lossless), 224, 224).source_size == (10_000, 60)


def test_webp_refusals() -> None:
    plain, lossless = webp(scene()), webp(scene(), lossless=True)
    frames = [Image.fromarray(scene(seed)) for seed in range(2)]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    assert code_of(out.getvalue()) == "unsupported_format"
    for good in (plain, lossless):
        for cut in (13, 19, 25, len(good) // 2, len(good) - 3):
            assert code_of(good[:cut]) == "truncated"
        assert code_of(good[:20] + b"\xff" * 12 + good[32:]) == "corrupt"
    assert code_of(b"RIFF\x04\0\0\0WEBP") == "corrupt"
    assert code_of(b"RIFF\x04\0\0\0WAVE") == "unsupported_format"
    assert code_of(webp(scene(size=(47, 300)))) == "too_small"
    shorter = plain[:4] + struct.pack("<I", len(plain) // 2) + plain[8:]
    assert code_of(shorter) == "truncated"


def webp_bombs() -> list[bytes]:
    lossy, lossless = bytearray(webp(scene())), bytearray(webp(scene(), lossless=True))
    lossy[26:30] = struct.pack("<HH", 16_383, 16_383)
    lossless[21:25] = struct.pack("<I", 0x0FFFFFFF)
    return [bytes(lossy), bytes(lossless)]


def test_a_thumbnails_end_marker_does_not_hide_truncation() -> None:
    thumbnail = jpeg(scene(size=(64, 64)))[:40_000]
    body = b"JFXX\0\x10" + thumbnail
    cut = GOOD[:2] + b"\xff\xe0" + struct.pack(">H", len(body) + 2) + body + GOOD[2 : len(GOOD) // 2]
    assert code_of(cut) == "truncated"


def test_bytes_after_the_end_marker_do_not_matter() -> None:
    assert np.array_equal(decode(GOOD + b"trailer" * 9, 224, 224).whole, decode(GOOD, 224, 224).whole)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_decoded_or_refused_never_worse(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([SMALL_JPEG, SMALL_PNG, *SMALL_WEBP]))
    damaged = bytearray(base)
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    candidate = bytes(damaged[:cut] if data.draw(st.booleans()) else damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            frame = decode(candidate, 64, 64, Strip(0.2, 0.6))
        except ImageRefused as refused:
            outcome = refused.code
        else:
            outcome = str(frame.whole.shape)
        assert outcome in {*REFUSALS, "(64, 64, 3)"}


SMALL_JPEG = jpeg(scene(size=(96, 72)), quality=50)
SMALL_PNG = png(scene(size=(60, 50)))
SMALL_WEBP = [
    with_orientation(scene(size=(60, 50)), 6, "WEBP"),
    webp(scene(size=(60, 50)), "RGBA", quality=50),
]


def test_threads_agree() -> None:
    frames = [jpeg(scene(seed)) for seed in range(6)]
    expected = [decode(data, 224, 224, Strip(0.3, 0.6)).whole for data in frames]
    wrong: list[int] = []

    def work() -> None:
        for index, data in enumerate(frames):
            if not np.array_equal(decode(data, 224, 224, Strip(0.3, 0.6)).whole, expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
