"""The quality gate: each way a camera fails is named, haze is not one of them, and its memory is honest."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from camera.errors import ImageRefused
from camera.gate import REASONS, REMEMBERED, STALE_AFTER_MS, FrameVerdict, GateState, judge, remember
from camera.image import DecodedFrame, decode
from camera.sun import sun_elevation
from schemas.state import pack, unpack
from tests.camera.cameras import jpeg, png, scene

NOON = int(datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp() * 1000)
GREENWICH = (51.48, 0.0)
DATA = Path(__file__).parents[3] / "shared" / "data"


def frame(picture: np.ndarray, quality: int = 90) -> DecodedFrame:
    return decode(jpeg(picture, quality), 224, 224)


def reasons(picture: np.ndarray, **options: object) -> tuple[str, ...]:
    return judge(frame(picture), NOON, **options).reasons  # type: ignore[arg-type]


@pytest.mark.parametrize("haze", [0.0, 0.3, 0.6, 0.9])
def test_haze_is_no_failure(haze: float) -> None:
    assert reasons(scene(haze=haze)) == ()
    assert reasons(scene(haze=haze), position=GREENWICH) == ()


def test_night_and_dark() -> None:
    dim = scene(light=0.3)
    assert reasons(dim) == ("night",)
    assert reasons(dim, position=GREENWICH) == ("dark",)
    midnight = NOON + 12 * 3_600_000
    assert judge(frame(scene()), midnight, GREENWICH).reasons == ("night",)
    assert judge(frame(scene()), midnight).reasons == ()


@pytest.mark.parametrize(("elevation", "night"), [(2.0, False), (0.0, False), (-2.5, False), (-3.5, True)])
def test_night_begins_when_the_sun_is_three_degrees_down(elevation: float, night: bool) -> None:
    """A bright picture at sunset is one: street lamps take over later."""
    evening = range(NOON, NOON + 12 * 3_600_000, 30_000)
    at = next(ms for ms in evening if sun_elevation(ms, *GREENWICH) < elevation)
    assert judge(frame(scene()), at, GREENWICH).reasons == (("night",) if night else ())


def test_blurred() -> None:
    blurred = Image.fromarray(scene()).filter(ImageFilter.GaussianBlur(6))
    assert reasons(np.asarray(blurred)) == ("blurred",)


def test_blur_under_a_sharp_caption_is_seen() -> None:
    blurred = Image.fromarray(scene()).filter(ImageFilter.GaussianBlur(6))
    ImageDraw.Draw(blurred).text((5, 5), "CAM 12  2025-06-01 12:00:00", fill=(255, 255, 255))
    assert reasons(np.asarray(blurred)) == ("blurred",)


def test_blocked() -> None:
    cover = np.full((360, 480, 3), (170, 160, 150)) + np.random.default_rng(0).normal(0, 1, (360, 480, 3))
    assert reasons(cover.astype(np.uint8)) == ("blocked",)


@pytest.mark.parametrize("text", ["CAMERA OFFLINE", "Camera in use\nkeeping traffic moving"])
def test_card(text: str) -> None:
    card = Image.new("RGB", (480, 360), (120, 125, 160))
    ImageDraw.Draw(card).multiline_text((60, 120), text, fill=(255, 255, 255), font_size=44)
    assert "card" in reasons(np.asarray(card))


def test_greyscale() -> None:
    grey = np.asarray(Image.fromarray(scene()).convert("L").convert("RGB"))
    assert reasons(grey) == ("greyscale",)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("colour", [(128, 128, 128), (0, 135, 0), (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_fill_at_one_side_is_corrupt(share: float, colour: tuple[int, int, int], side: str) -> None:
    picture = scene(1)
    columns = int(share * picture.shape[1])
    if side == "left":
        picture[:, :columns] = colour
    else:
        picture[:, -columns:] = colour
    for data in (jpeg(picture), jpeg(picture, 50), png(picture)):
        assert "corrupt" in judge(decode(data, 224, 224), NOON, GREENWICH).reasons


def test_equal_bars_a_thin_one_and_a_wall_of_sky_are_no_fill() -> None:
    bars, thin, sky = scene(1), scene(1), scene(1)
    bars[:, :60] = bars[:, -60:] = 0
    thin[:, :24] = 0
    noise = np.random.default_rng(3).normal(195, 1.7, (360, 100, 1))
    sky[:, :100] = np.clip(noise, 0, 255).astype(np.uint8)
    for picture in (bars, thin):
        assert "corrupt" not in judge(decode(jpeg(picture), 224, 224), NOON, GREENWICH).reasons
    small = np.asarray(Image.fromarray(sky).resize((224, 224), Image.Resampling.NEAREST))
    assert "corrupt" not in judge(decode(png(small), 224, 224), NOON, GREENWICH).reasons


def test_burnt_out_is_not_haze() -> None:
    def seen(picture: np.ndarray) -> tuple[str, ...]:
        return reasons(np.clip(picture, 0, 255).astype(np.uint8))

    street = scene(1).astype(float)
    assert "overexposed" in seen(street * 6 + 60)
    assert "overexposed" in seen(street * 0.06 + 0.94 * 255)
    burnt = street.copy()
    burnt[: int(0.94 * len(burnt))] = 255
    assert "overexposed" in seen(burnt)
    half = street.copy()
    half[: len(half) // 2] = 255  # a sky that is, above a street that is not
    assert "overexposed" not in seen(half)
    for haze in (0.5, 0.9, 0.97):
        assert "overexposed" not in seen(scene(1, haze).astype(float))


def test_corrupt_rows() -> None:
    picture = scene()
    picture[200:] = picture[199]
    assert reasons(picture) == ("corrupt",)


def test_frozen_then_stale_but_not_when_judged_again() -> None:
    seen = frame(scene())
    first = judge(seen, NOON)
    state = remember(None, first, NOON)
    assert judge(seen, NOON, previous=state).reasons == ()
    again = judge(seen, NOON + 60_000, previous=state)
    assert again.reasons == ("frozen",)
    state = remember(state, again, NOON + 60_000)
    assert judge(seen, NOON, previous=state).reasons == ()
    assert judge(seen, NOON + STALE_AFTER_MS, previous=state).reasons == ("frozen", "stale")
    assert judge(frame(scene(seed=1)), NOON + 60_000, previous=state).reasons == ()


def test_frozen_scene_under_a_running_clock() -> None:
    stills = []
    for clock in ("12:00:00", "12:05:00"):
        still = Image.fromarray(scene())
        ImageDraw.Draw(still).rectangle((0, 0, 200, 14), fill=(0, 0, 0))
        ImageDraw.Draw(still).text((2, 2), clock, fill=(255, 255, 255))
        stills.append(frame(np.asarray(still)))
    state = remember(None, judge(stills[0], NOON), NOON)
    assert judge(stills[1], NOON + 300_000, previous=state).reasons == ("frozen",)


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.integers(0, 50)), max_size=60))
def test_memory_is_bounded_idempotent_and_keeps_first_sightings(sights: list[tuple[str, int]]) -> None:
    state: GateState | None = None
    for digest, at in sights:
        state = remember(state, FrameVerdict(True, (), {}, digest), at)
        assert (
            remember(state, FrameVerdict(True, (), {}, digest), at) == state or len(state.seen) == REMEMBERED
        )
    if state is not None:
        assert len(state.seen) <= REMEMBERED
        assert unpack(GateState, pack(state)) == state
        if len({digest for digest, _ in sights}) <= REMEMBERED:
            assert dict(state.seen) == {d: min(a for e, a in sights if e == d) for d, _ in sights}


@pytest.mark.parametrize(
    ("at", "latitude", "longitude", "expected"),
    [
        # At the solstice noon the elevation is 90 - |latitude - 23.44|;
        ("2024-06-20T12:01:45+00:00", 51.48, 0.0, 61.96),
        ("2024-12-21T11:58:00+00:00", 51.48, 0.0, 15.08),
        # Polar night and midnight sun at 78 N.
        ("2024-12-21T12:00:00+00:00", 78.0, 0.0, -11.44),
        ("2024-06-21T00:00:00+00:00", 78.0, 0.0, 11.44),
        # True noon (12:07:30 by the equation of time) on the equator, three quarters of a day of sun
        # from the equinox.
        ("2024-03-20T12:07:30+00:00", 0.0, 0.0, 89.8),
    ],
)
def test_sun_elevation(at: str, latitude: float, longitude: float, expected: float) -> None:
    ms = int(datetime.fromisoformat(at).timestamp() * 1000)
    assert sun_elevation(ms, latitude, longitude) == pytest.approx(expected, abs=0.15)


@settings(max_examples=60)
@given(st.integers(0, 4_102_444_800_000), st.floats(-90, 90), st.floats(-180, 180))
def test_sun_is_opposite_at_the_antipode(ms: int, latitude: float, longitude: float) -> None:
    here = sun_elevation(ms, latitude, longitude)
    there = sun_elevation(ms, -latitude, longitude + 180.0 if longitude < 0 else longitude - 180.0)
    assert here == pytest.approx(-there, abs=1e-6)


@pytest.mark.realdata
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
class TestRealFrames:
    """trafficcams, all of it; every 40th frame of india-nepal and every 10th of milan (docs/camera.md
    has all).
    """

    def test_failures(self) -> None:
        expected = {
            "Forced_Greyscale_TfL-images_20200620_2030_00001.01251.jpg": "greyscale",
            "NETravelData-images_20200508_1800_NT_A193H1.jpg": "card",
            "TfL-images_20200501_0520_00001.06592.jpg": "card",
            "TfL-images_20200504_0240_00001.08859.jpg": "corrupt",
            "this_isnt_an_image.jpeg": "not_an_image",
            "zero_length_image.jpeg": "empty",
        }
        for path in sorted((DATA / "trafficcams" / "failures").iterdir()):
            try:
                found: tuple[str, ...] = judge(decode(path.read_bytes(), 224, 224), 0).reasons
            except ImageRefused as refused:
                found = (refused.code,)
            assert expected.pop(path.name) in found
        assert expected == {}

    def test_sequences_pass_but_for_the_nights(self) -> None:
        state = None
        for at, path in enumerate(sorted((DATA / "trafficcams" / "sequences").iterdir())):
            verdict = judge(decode(path.read_bytes(), 224, 224), at, previous=state)
            state = remember(state, verdict, at)
            night = (
                any(stamp in path.name for stamp in ("0501-00", "0501-01", "0504_02"))
                and "-13" not in path.name
            )
            assert verdict.reasons == (("night",) if night else ()), path.name

    def test_polluted_frames_pass(self) -> None:
        paths = sorted((DATA / "india-nepal" / "images").glob("*.jpg"))[::40]
        refused = [path.name for path in paths if not judge(decode(path.read_bytes(), 224, 224), 0).usable]
        assert len(refused) <= 0.02 * len(paths), refused

    def test_a_city_by_day(self) -> None:
        paths = sorted((DATA / "milan-webcam" / "frames").glob("*-1[0-6]00.jpg"))[::4]
        assert all(judge(decode(path.read_bytes(), 224, 224), 0).usable for path in paths)
        assert set(REASONS) >= {"night", "blurred"}
