"""Calibration: what a wrong forecast's quantiles become, and from when on an outcome counts."""

import numpy as np
import pytest

from forecast.calibration import FURTHEST, Calibration, as_published, calibrated, rate, rates
from forecast.panel import QUANTILES


def shifted(stations: int, origins: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts far too narrow and too low of a normal outcome."""
    random = np.random.default_rng(seed)
    truth = (50 + 10 * random.standard_normal((stations, origins, 2, 1))).astype(np.float32)
    said = np.tile(np.array([38, 40, 42, 44, 46, 48, 50, 44], np.float32), (stations, origins, 2, 1, 1))
    return said, truth


def test_wrong_quantiles_come_to_hold() -> None:
    said, truth = shifted(3, 6000)
    late = calibrated(said, truth, (1, 24), 1)[:, 3000:, :, :, :7]
    held = (truth[:, 3000:, :, :, None] <= late).mean(axis=(0, 1, 3))
    np.testing.assert_allclose(held, np.tile(QUANTILES, (2, 1)), atol=0.03)
    assert (np.diff(late, axis=-1) >= 0).all()


def test_an_outcome_counts_only_when_its_hour_has_come() -> None:
    said, truth = shifted(1, 60)
    truth[:, 10] = 1000
    altered = truth.copy()
    altered[:, 10] = 0
    first = [
        int(np.flatnonzero((a != b).any(axis=(0, 2, 3)))[0])
        for a, b in zip(
            np.moveaxis(calibrated(said, truth, (1, 24), 1), 2, 0),
            np.moveaxis(calibrated(said, altered, (1, 24), 1), 2, 0),
            strict=True,
        )
    ]
    assert first == [11, 34]


def test_of_origins_some_hours_apart_no_hour_to_come_is_learned_from() -> None:
    """Five hours apart: an hour after origin 10 has come at origin 11, 24 hours after it at origin 15."""
    said, truth = shifted(1, 60)
    truth[:, 10] = 1000
    altered = truth.copy()
    altered[:, 10] = 0
    differ = (calibrated(said, truth, (1, 24), 5) != calibrated(said, altered, (1, 24), 5)).any(
        axis=(0, 3, 4)
    )
    assert [int(np.flatnonzero(column)[0]) for column in differ.T] == [11, 15]


def test_what_was_not_measured_teaches_nothing_and_no_outcome_moves_it_far() -> None:
    state = Calibration.new(1, 1, 1)
    said = np.array([1, 2, 3, 4, 5, 6, 7, 4], np.float32).reshape(1, 1, 8)
    state.learn(0, said, as_published(said), np.full((1, 1), np.nan, np.float32), rates(1))
    assert not state.offsets.any()
    for _ in range(2000):
        state.learn(0, said, as_published(said), np.full((1, 1), 1e9, np.float32), rates(1))
    assert state.offsets.max() <= FURTHEST


def test_who_forecasts_seldom_learns_as_fast_and_nobody_runs_after_a_long_error() -> None:
    """Offsets after as many hours, of origins every hour and every sixth; far ahead they follow less."""
    assert rate(1, 6) == pytest.approx(0.03)
    assert rate(24, 3) == pytest.approx(3 * rate(24))
    assert rate(1, 168) == rate(1, 6)
    assert rate(72) < rate(24) < rate(6) == rate(1)
    assert rates(72)[[0, 3, 6]].tolist() == pytest.approx([0.003, rate(72) / 3, 0.003])
    reached = []
    for step in (1, 3):
        state = Calibration.new(1, 1, 1)
        said = np.array([1, 2, 3, 4, 5, 6, 7, 4], np.float32).reshape(1, 1, 8)
        for _ in range(0, 60, step):
            state.learn(0, said, as_published(said), np.full((1, 1), 50.0, np.float32), rates(24, step))
        reached.append(state.offsets[0, 0, 0].copy())
    np.testing.assert_allclose(reached[0], reached[1], rtol=1e-4)
    # The middle follows least: its level times a third.
    np.testing.assert_allclose(reached[0][3] / reached[0][6], 0.5 / 3 / 0.95, rtol=1e-4)
