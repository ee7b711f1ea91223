"""Features: the same bits whatever is around a row, and nothing of the future in them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.averages import coming
from forecast.columns import columns
from forecast.features import (
    TOLD,
    Normalisation,
    OriginFeatures,
    carried,
    future,
    neighbours,
    outermost,
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
    at = np.array([hour])
    rows = [features.origin(p, at) for p in range(P)]
    rows += [features.ahead(p, at, horizon, None) for p in range(P) for horizon in (1, 5, 24, 72)]
    rows += [features.shifts(p, at) for p in range(P)]
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


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_outermost_are_the_lowest_and_highest_of_the_others(stations: int, seed: int) -> None:
    series = np.round(made(stations, 12, seed, 0.4).values[..., :2] / 20).astype(np.float32)  # ties
    found = outermost(series)
    for row in range(stations):
        others = np.delete(series, row, axis=0)
        for place in np.ndindex(12, 2):
            known = others[(slice(None), *place)]
            known = known[np.isfinite(known)]
            want = (known.min(), known.max()) if len(known) else (np.nan, np.nan)
            assert found[(slice(None), row, *place)].tolist() == pytest.approx(want, nan_ok=True)


def test_stations_far_apart_are_no_neighbours() -> None:
    """Regions that are mixed in the panel give what each of them gives alone."""
    panel = made(5, 60)
    regions, at = (0, 7, 0, 7, 3), np.array([50])
    together = OriginFeatures(replace(panel, regions=regions))
    for region in set(regions):
        rows = [row for row, own in enumerate(regions) if own == region]
        alone = OriginFeatures(panel.only([panel.stations[row] for row in rows]))
        for pollutant in range(P):
            np.testing.assert_array_equal(together.shifts(pollutant, at)[rows], alone.shifts(pollutant, at))
            np.testing.assert_array_equal(together.origin(pollutant, at)[rows], alone.origin(pollutant, at))


def test_some_of_the_stations_have_the_same_neighbours() -> None:
    features, rows, at = OriginFeatures(made(5, 60)), [3, 0], np.array([50])
    some = features.only(rows)
    for pollutant in range(P):
        for found, whole in (
            (some.origin(pollutant, at), features.origin(pollutant, at)),
            (some.shifts(pollutant, at), features.shifts(pollutant, at)),
            (some.ahead(pollutant, at, 12, None), features.ahead(pollutant, at, 12, None)),
            (some.last(pollutant, 30.0), features.last(pollutant, 30.0)),
        ):
            np.testing.assert_array_equal(found, whole[rows])
    by = Normalisation((30.0,) * P, (10.0,) * 7, (5.0,) * 7)
    np.testing.assert_array_equal(past(some, by), past(features, by)[rows])


def test_shifts_are_what_they_are_called() -> None:
    panel = made(3, 60, gaps=0.0)
    columns_ = [column.name for column in columns(0)]
    shifts = OriginFeatures(panel).shifts(0, np.array([40]))[:, 0]
    first = len(columns_) - shifts.shape[1]
    own, air = panel.values[:, :, 0], panel.values[:, :, :P]

    def of(name: str) -> Float32:
        return shifts[:, columns_.index(name, first) - first]

    np.testing.assert_allclose(of("change in 3 h"), own[:, 40] - own[:, 37], rtol=1e-5)
    np.testing.assert_allclose(of("change in the hour before"), own[:, 39] - own[:, 38], rtol=1e-5)
    lowest = np.array([np.delete(own[:, 40], row).min() - own[row, 40] for row in range(3)])
    np.testing.assert_allclose(of("lowest neighbour: beside here"), lowest, rtol=1e-5)
    change = own[:, 40] - own[:, 39]
    highest = [np.delete(change, row).max() for row in range(3)]
    np.testing.assert_allclose(of("highest neighbour: change in 1 h"), highest, rtol=1e-5)
    np.testing.assert_allclose(
        of("other pollutant 2: change in 3 h"), air[:, 40, 2] - air[:, 37, 2], rtol=1e-4
    )
    wind = panel.values[:, :, CHANNELS.index("wind_speed")]
    near = np.array([[np.median(np.delete(wind[:, h], row)) for h in (40, 37)] for row in range(3)])
    np.testing.assert_allclose(
        of("neighbours' wind_speed, change in 3 h"), near[:, 0] - near[:, 1], rtol=1e-4
    )


def test_the_weather_to_come_stands_where_it_is_said_to() -> None:
    assert all("to come" in column.subject for column in columns(1)[TOLD])
    assert (*columns(1)[: TOLD.start], *columns(1)[TOLD.stop :]) == columns(0)


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
