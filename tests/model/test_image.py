"""Safe decoding: what is refused and why, what comes out of the rest, and that nothing else ever comes
out.
"""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.errors import ImageRefused
from model.far_band import BAND_SIZE, FarBand
from model.image import LUMINANCE_SIZE, MAX_BYTES, MAX_PADDING, REFUSALS, decode
from tests.model.cameras import jpeg, png, scene

GOOD = jpeg(scene())


def code_of(data: bytes) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode(data, 224, 224)
    assert refused.value.code in REFUSALS
    return refused.value.code


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
    frame = decode(GOOD, 224, 200, FarBand(0.3, 0.5))
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
    far = decode(png(picture), 224, 224, FarBand(0.25, 0.5, 0.5, 1.0)).far
    assert far is not None
    assert (far[2:-2, 2:-2] == (200, 120, 40)).all()  # the rim interpolates with its neighbours


def test_reduced_decode_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as many pixels leave the JPEG decoder as the outputs need."""
    shapes = []
    full = simplejpeg.decode_jpeg

    def noted(*args: object, **options: object) -> np.ndarray:
        shapes.append(full(*args, **options).shape)
        return full(*args, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noted)
    big = jpeg(scene(size=(1920, 1440)))
    decode(big, 224, 224)
    decode(big, 224, 224, FarBand(0.3, 0.6))
    assert shapes == [(360, 480, 3), (360, 480, 3)]
    decode(big, 224, 224, FarBand(0.3, 0.35))
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
    assert code_of(b"\xff\xd8" + bytes(MAX_BYTES)) == "too_many_bytes"
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


@pytest.mark.parametrize("data", [png_header(20_000, 20_000), resized_jpeg(20_000, 20_000)])
def test_bomb_is_refused_from_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
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
    base = data.draw(st.sampled_from([SMALL_JPEG, SMALL_PNG]))
    damaged = bytearray(base)
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    candidate = bytes(damaged[:cut] if data.draw(st.booleans()) else damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            frame = decode(candidate, 64, 64, FarBand(0.2, 0.6))
        except ImageRefused as refused:
            outcome = refused.code
        else:
            outcome = str(frame.whole.shape)
        assert outcome in {*REFUSALS, "(64, 64, 3)"}


SMALL_JPEG = jpeg(scene(size=(96, 72)), quality=50)
SMALL_PNG = png(scene(size=(60, 50)))


def test_threads_agree() -> None:
    frames = [jpeg(scene(seed)) for seed in range(6)]
    expected = [decode(data, 224, 224, FarBand(0.3, 0.6)).whole for data in frames]
    wrong: list[int] = []

    def work() -> None:
        for index, data in enumerate(frames):
            if not np.array_equal(decode(data, 224, 224, FarBand(0.3, 0.6)).whole, expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
