"""A picture that broke off is found from a tenth on, in whatever way it is painted over; a scene is not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from camera.gate import judge
from camera.image import decode
from camera.lost_part import MACROBLOCK, lost_share
from tests.camera.cameras import jpeg, png, scene

NOON = 1_748_779_200_000
GREENWICH = (51.48, 0.0)
COLOURS = {
    "grey": (128, 128, 128),
    "green": (0, 135, 0),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "blue": (30, 60, 200),
}


def webp(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "WEBP", quality=80)
    return out.getvalue()


def reasons(data: bytes) -> tuple[str, ...]:
    return judge(decode(data, 224, 224), NOON, GREENWICH).reasons


def share_of(data: bytes) -> float:
    return decode(data, 224, 224).lost


def filled(picture: np.ndarray, share: float, colour: tuple[int, int, int]) -> np.ndarray:
    broken = picture.copy()
    broken[int(len(picture) * (1 - share)) :] = colour
    return broken


def broken_off(picture: np.ndarray, share: float, colour: tuple[int, int, int]) -> np.ndarray:
    """Filled from somewhere within a row of macroblocks on."""
    broken = picture.copy()
    height, width = picture.shape[:2]
    good = int((1 - share) * height * width / MACROBLOCK)  # pixels along rows of blocks
    row, column = good // width * MACROBLOCK, good % width // MACROBLOCK * MACROBLOCK
    broken[row : row + MACROBLOCK, column:] = colour
    broken[row + MACROBLOCK :] = colour
    return broken


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("share", [0.1, 0.2, 0.35, 0.54, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("encode", [jpeg, png, webp])
def test_a_lower_part_of_one_colour_is_corrupt(colour, share, encode) -> None:
    data = encode(filled(scene(), share, COLOURS[colour]))
    assert reasons(data) == ("corrupt",)
    assert share_of(data) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize("size", [(224, 224), (640, 360), (1920, 1080)])
def test_compressed_again_and_of_any_size(size, quality) -> None:
    picture = scene(size=size)
    assert reasons(jpeg(filled(picture, 0.1, (128, 128, 128)), quality)) == ("corrupt",)
    assert reasons(jpeg(broken_off(picture, 0.12, (0, 135, 0)), quality)) == ("corrupt",)


def test_colour_noise_in_the_fill() -> None:
    ycc = np.asarray(Image.fromarray(scene()).convert("YCbCr")).copy()
    ycc[300:, :, 0] = 80
    ycc[300:, :, 1:] = np.random.default_rng(1).normal(112, 4, ycc[300:, :, 1:].shape)
    assert reasons(jpeg(np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB")))) == ("corrupt",)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 0.9), st.sampled_from(sorted(COLOURS)), st.integers(0, 3))
def test_an_end_within_a_row_of_blocks(share: float, colour: str, seed: int) -> None:
    assert share_of(png(broken_off(scene(seed), share, COLOURS[colour]))) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("size", [(480, 360), (960, 540)])
@pytest.mark.parametrize("encode", [jpeg, png])
def test_the_last_row_or_row_of_macroblocks_again_and_again(share, size, encode) -> None:
    picture = scene(size=size)
    start = int(len(picture) * (1 - share)) // MACROBLOCK * MACROBLOCK
    for rows in (1, MACROBLOCK):
        smeared = picture.copy()
        smeared[start:] = np.resize(picture[start - rows : start], picture[start:].shape)
        assert reasons(encode(smeared)) == ("corrupt",)


def test_where_only_soft_grey_clouds_are_left_nothing_else_is_said() -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 255, (36, 48)).astype(np.uint8))
    clouds = np.asarray(noise.resize((480, 360), Image.Resampling.BICUBIC).convert("RGB"))
    whole = 120 + clouds // 2
    assert {"blurred", "greyscale"} <= set(reasons(jpeg(whole)))
    for share in (0.11, 0.5):
        assert reasons(jpeg(filled(whole, share, (128, 128, 128)))) == ("corrupt",)


def test_of_a_turned_camera_the_last_rows_are_elsewhere() -> None:
    exif = Image.Exif()
    for orientation, (left, top, right, bottom) in {
        3: (0, 0.3, 1, 1),
        6: (0.3, 0, 1, 1),
        8: (0, 0, 0.7, 1),
    }.items():
        exif[0x0112] = orientation
        frame = decode(jpeg(filled(scene(), 0.3, (128, 128, 128)), exif=exif), 224, 224)
        assert judge(frame, NOON, GREENWICH).reasons == ("corrupt",)
        part = frame.intact
        assert (part.left, part.top, part.right, part.bottom) == pytest.approx(
            (left, top, right, bottom), abs=0.02
        )


@pytest.mark.parametrize("share", [0.03, 0.05, 0.08])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_low_bar_of_one_colour_is_none(share: float, colour: str) -> None:
    assert reasons(jpeg(filled(scene(), share, COLOURS[colour]))) == ()


@pytest.mark.parametrize("share", [0.06, 0.1, 0.14, 0.2, 0.3])
@pytest.mark.parametrize("text", ["CAM 12", "Camera 12  2025-06-01 12:00:00  Piazza Duomo  21 C"])
def test_nor_is_a_bar_with_text(share: float, text: str) -> None:
    picture = Image.fromarray(scene())
    top = int(360 * (1 - share))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, top, 480, 360), fill=(0, 0, 0))
    draw.text((8, top + 0.2 * (360 - top)), text, fill=(255, 255, 255), font_size=max(8, (360 - top) / 2))
    assert reasons(jpeg(np.asarray(picture))) == ()


def test_nor_are_bars_above_and_below() -> None:
    picture = scene()
    picture[:45] = picture[-45:] = 0
    assert reasons(jpeg(picture)) == ()


@pytest.mark.parametrize("haze", [0.0, 0.9])
def test_nor_is_a_smooth_sky(haze: float) -> None:
    sky = np.empty((360, 480, 3))
    sky[:] = np.linspace(180, 200, 360)[:, None, None] * np.array([0.85, 0.93, 1.0])
    sky += np.linspace(0, 8, 480)[None, :, None] * (1 - haze)
    assert share_of(jpeg(sky.astype(np.uint8), 60)) == 0.0
    sky[300:] = 185  # nor a field of snow under it
    assert share_of(jpeg(sky.astype(np.uint8), 60)) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(48, 300), st.integers(48, 300), st.integers(0, 255), st.integers(1, 8))
def test_any_plane_has_a_share(height: int, width: int, level: int, times: int) -> None:
    sent = height * times - times // 2
    plane = np.full((height, width), level, np.uint8)
    assert lost_share(plane, sent) == 0.0, "nothing of a scene is left to lose"
    noise = np.random.default_rng(level).integers(0, 255, (height, width)).astype(np.uint8)
    assert 0.0 <= lost_share(noise, sent) < 1.0
