"""Haze statistics against direct definitions, and that they move as haze does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from camera.haze import HAZE_NAMES, PATCH, TILES, contrast, haze
from schemas.errors import ArrayError
from tests.camera.cameras import scene

pictures = hnp.arrays(np.uint8, st.tuples(st.integers(24, 50), st.integers(24, 50), st.just(3)))


def by_name(picture: np.ndarray) -> dict[str, float]:
    return dict(zip(HAZE_NAMES, haze(picture).tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(pictures)
def test_against_plain_definitions(picture: np.ndarray) -> None:
    found = by_name(picture)
    pixels = picture.astype(float)
    height, width = picture.shape[:2]
    patches = [
        [pixels[r : r + PATCH, c : c + PATCH].min() for c in range(0, width - PATCH + 1, PATCH)]
        for r in range(0, height - PATCH + 1, PATCH)
    ]
    assert found["dark_p95"] == pytest.approx(np.percentile(patches, 95) / 255, abs=1e-4)
    top, bottom = pixels[: height // 3], pixels[2 * height // 3 :]
    luma = top @ np.array([77, 150, 29]) / 256
    assert found["luminance_top"] == pytest.approx(luma.mean() / 255, abs=1e-4)
    assert found["contrast_top"] == pytest.approx(luma.std() / 255, abs=1e-4)
    highest = top.max(axis=2)
    saturation = (highest - top.min(axis=2)) / np.maximum(highest, 1)
    assert found["saturation_top"] == pytest.approx(saturation.mean(), abs=1e-4)
    assert found["blue_minus_red_bottom"] == pytest.approx(
        (bottom[..., 2] - bottom[..., 0]).mean() / 255, abs=1e-4
    )
    assert np.isfinite(haze(picture)).all()
    assert np.abs(haze(picture)).max() <= 2.0


def test_haze_brightens_the_dark_channel_and_flattens_the_rest() -> None:
    steps = [by_name(scene(haze=amount)) for amount in (0.0, 0.3, 0.6, 0.9)]
    for name, rises in (("dark_middle", True), ("contrast_middle", False), ("gradient_bottom", False)):
        values = [step[name] for step in steps]
        assert values == sorted(values, reverse=not rises), name


def test_contrast_is_linear_in_extinction() -> None:
    """Log contrast of a tile falls by the same amount for the same factor of transmission (Koschmieder)."""
    values = [contrast(scene(haze=1 - 0.8**k)) for k in range(4)]
    falls = np.diff(np.stack(values), axis=0)[:, -8:]
    assert (falls < 0).all()
    assert np.abs(falls[0] - falls[2]).max() < 0.1


@settings(max_examples=40, deadline=None)
@given(pictures)
def test_contrast_against_plain_definition(picture: np.ndarray) -> None:
    luma = picture.astype(float) @ np.array([77, 150, 29]) / 256
    height, width = luma.shape
    row, column = 2, 1
    top, bottom = height * row // TILES[0], height * (row + 1) // TILES[0]
    left, end = width * column // TILES[1], width * (column + 1) // TILES[1]
    tile = luma[top:bottom, left:end]
    expected = np.log(np.abs(np.diff(tile, axis=1)).mean() + np.abs(np.diff(tile, axis=0)).mean() + 0.3)
    assert contrast(picture)[row * TILES[1] + column] == pytest.approx(expected, abs=1e-3)


def test_wrong_pictures_are_refused() -> None:
    for wrong in (np.zeros((224, 224), np.uint8), np.zeros((10, 10, 3), np.uint8), np.zeros((64, 64, 3))):
        with pytest.raises(ArrayError):
            haze(wrong)  # type: ignore[arg-type]
        with pytest.raises(ArrayError):
            contrast(wrong[:8])  # type: ignore[arg-type]
