"""The far band: finds the rows whose contrast follows the PM, and nothing where nothing does."""

import numpy as np
import pytest

from camera.far_band import BAND_HEIGHT, MIN_PAIRS, ROWS, BandFinder, Strip, observe, row_profile
from schemas.errors import ArrayError, DamagedState
from schemas.state import pack, unpack


def pairs(count: int, far_row: int | None, seed: int = 0) -> list[tuple[np.ndarray, float]]:
    """Rows' log contrast with common light, noise, and a fall with log PM around `far_row`."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        pm25 = float(np.exp(random.normal(3, 0.7)))
        rows = random.normal(2, 0.15, ROWS) + random.normal(0, 0.1)
        if far_row is not None:
            rows -= 0.3 * np.log1p(pm25) * np.exp(-(((np.arange(ROWS) - far_row) / 2.0) ** 2))
        found.append((rows.astype(np.float32), pm25))
    return found


def run(history: list[tuple[np.ndarray, float]]) -> BandFinder:
    finder = None
    for rows, pm25 in history:
        finder = observe(finder, rows, pm25)
    assert finder is not None
    return finder


@pytest.mark.parametrize("far_row", [2, 13, 20, 34])
def test_finds_the_far_rows(far_row: int) -> None:
    history = pairs(MIN_PAIRS, far_row)
    assert run(history[:-1]).band() is None
    band = run(history).band()
    assert band is not None
    assert band.top <= (far_row + 0.5) / ROWS <= band.bottom
    assert band.bottom - band.top == pytest.approx(BAND_HEIGHT, abs=2e-3)


def test_stays_once_found() -> None:
    assert (
        run(pairs(MIN_PAIRS, 10) + pairs(4 * MIN_PAIRS, 30, seed=1)).band()
        == run(pairs(MIN_PAIRS, 10)).band()
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_band_where_no_row_follows(seed: int) -> None:
    assert run(pairs(3 * MIN_PAIRS, None, seed)).band() is None


def test_moments_equal_a_batch() -> None:
    history = pairs(90, 12)
    finder = run(history)
    rows = np.stack([row for row, _ in history]).astype(float)
    level = np.log1p([pm25 for _, pm25 in history])
    assert finder.mean == pytest.approx(rows.mean(axis=0))
    assert finder.square == pytest.approx(((rows - rows.mean(axis=0)) ** 2).sum(axis=0))
    assert finder.product == pytest.approx(
        ((rows - rows.mean(axis=0)) * (level - level.mean())[:, None]).sum(axis=0)
    )


def test_state_survives() -> None:
    for count in (50, MIN_PAIRS + 5):
        finder = run(pairs(count, 15))
        back = unpack(BandFinder, pack(finder))
        assert pack(back) == pack(finder)
        assert back.band() == finder.band()
    with pytest.raises(DamagedState, match="36 numbers"):
        unpack(
            BandFinder,
            pack({name: getattr(finder, name) for name in finder.__slots__} | {"mean": np.zeros(3)}),
        )


def test_row_profile() -> None:
    picture = np.zeros((144, 192), np.uint8)
    picture[40:44, ::2] = 100
    profile = row_profile(picture)
    assert profile.shape == (ROWS,)
    assert profile[10] == pytest.approx(np.log(106))
    assert np.delete(profile, 10) == pytest.approx(np.log(6))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ArrayError):
        row_profile(np.zeros((100, 100), np.uint8))
    with pytest.raises(ArrayError):
        observe(None, np.zeros(ROWS, np.float32), -1.0)
    with pytest.raises(ArrayError):
        observe(None, np.zeros(3, np.float32), 1.0)
    with pytest.raises(ArrayError):
        Strip(0.5, 0.4)
