"""Features: the same bits whatever is around a row, and nothing of the future in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.features import (
    Normalisation,
    OriginFeatures,
    carried,
    coming,
    future,
    neighbours,
    past,
    weather_ahead,
)
from forecast.panel import CHANNELS, HORIZON, WEATHER_CHANNELS, Panel
from schemas.arrays import Float32
from schemas.parameters import POLLUTANTS

P = len(POLLUTANTS)


def made(stations: int = 3, hours: int = 260, seed: int = 0, gaps: float = 0.2) -> Panel:
    random = np.random.default_rng(seed)
    values = random.gamma(2.0, 20.0, (stations, hours, len(CHANNELS))).astype(np.float32)
    values[random.random(values.shape) < gaps] = np.nan
    return Panel(tuple(f"s{k}" for k in range(stations)), 400_000, (8.0,) * stations, values)


def all_of(panel: Panel, hour: int) -> list[Float32]:
    features = OriginFeatures(panel)
    by = Normalisation((30.0,) * P, (10.0,) * 7, (5.0,) * 7)
    rows = [features.origin(p)[:, hour] for p in range(P)]
    rows += [features.ahead(p, horizon, None)[:, hour] for p in range(P) for horizon in (1, 5, 24, 72)]
    rows += [features.last(p, 1.0)[:, hour] for p in range(P)]
    return [*rows, past(features, by)[:, hour], future(panel, None, by)[:, hour + 1 : hour + 1 + HORIZON]]


@pytest.mark.parametrize("hour", [0, 5, 100, 200])
def test_no_feature_knows_the_future(hour: int) -> None:
    panel = made()
    altered = panel.values.copy()
    altered[:, hour + 1 :] = 1e4
    for before, after in zip(
        all_of(panel, hour),
        all_of(Panel(panel.stations, panel.begins, panel.offsets, altered), hour),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


def test_a_shorter_history_gives_the_same_bits() -> None:
    panel = made()
    for before, after in zip(all_of(panel, 200), all_of(panel.until(200), 200), strict=True):
        np.testing.assert_array_equal(before, after)
    # What lies further back than any feature looks is not missed.
    begins = panel.begins + 260 - 250
    late = panel.between(begins, panel.begins + 260)
    for before, after in zip(all_of(panel, 259), all_of(late, 249), strict=True):
        np.testing.assert_array_equal(before, after)


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_neighbours_are_the_median_of_the_others(stations: int, seed: int) -> None:
    series = made(stations, 12, seed, 0.4).values[..., :2]
    series = np.round(series / 20)  # ties
    found = neighbours(series)
    for row in range(stations):
        others = np.delete(series, row, axis=0)
        for place in np.ndindex(12, 2):
            known = others[(slice(None), *place)]
            known = known[np.isfinite(known)]
            want = np.median(known) if len(known) else np.nan
            assert found[(row, *place)] == pytest.approx(want, nan_ok=True)


def test_carried_forgets() -> None:
    series = np.full((1, 10, 1), np.nan, np.float32)
    series[0, 2] = 7.0
    assert carried(series, 3)[0, :, 0].tolist()[2:6] == [7.0] * 4
    assert np.isnan(carried(series, 3)[0, 6:]).all()


def test_weather_to_come_is_what_was_observed_after() -> None:
    panel = made(gaps=0.0)
    weather = weather_ahead(panel)
    found = coming(weather, panel.hours, (1, 24))
    width = len(WEATHER_CHANNELS)
    np.testing.assert_array_equal(found[24][:, 10, :width], panel.values[:, 34, P:])
    np.testing.assert_allclose(
        found[24][:, 10, width : 2 * width], panel.values[:, 11:35, P:].mean(1), rtol=1e-5
    )
    np.testing.assert_allclose(found[24][:, 10, 2 * width :], panel.values[:, 29:35, P:].mean(1), rtol=1e-5)
    np.testing.assert_allclose(found[1][:, 10, 2 * width :], panel.values[:, 11, P:], rtol=1e-5)
