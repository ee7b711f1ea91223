"""The shipped bundle's models: finite, in order, the same bits in any batch, wider where less is known."""

from pathlib import Path

import numpy as np
import pytest

from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.errors import ForecastBundleError
from forecast.features import weather_ahead
from forecast.models import ForecastInputs, ForecastModel
from forecast.panel import CHANNELS, Panel
from schemas.parameters import POLLUTANTS
from tests.forecast.test_features import made

HORIZONS = (1, 5, 24, 72)


@pytest.fixture(scope="module")
def bundle() -> ForecastBundle:
    return ForecastBundle.load(DEFAULT_FORECAST_BUNDLE)


@pytest.fixture(scope="module")
def models(bundle: ForecastBundle) -> list[ForecastModel]:
    return bundle.models()


def test_the_default_bundle_is_small_and_says_where_it_is_from(bundle: ForecastBundle) -> None:
    assert sum(file.stat().st_size for file in DEFAULT_FORECAST_BUNDLE.iterdir()) < 5e6
    assert bundle.manifest.training.licence
    assert bundle.manifest.training.ends < "2016"


@pytest.mark.parametrize("told", [False, True])
def test_quantiles_are_in_order_and_finite_whatever_is_missing(
    models: list[ForecastModel], told: bool
) -> None:
    panel = made(3, 200)
    values = panel.values.copy()
    values[1, -120:] = np.nan  # silent for five days
    values[2, :-6] = np.nan  # six hours old
    values[0, :, 1:] = np.nan  # one pollutant alone, no weather
    panel = Panel(panel.stations, panel.begins, panel.offsets, values)
    inputs = ForecastInputs(panel, weather_ahead(panel) if told else None)
    for model in models:
        said = model.predict(inputs, np.array([199]), HORIZONS)
        assert said.shape == (3, 1, 4, len(POLLUTANTS), 8), model.name
        assert np.isfinite(said).all(), model.name
        assert (np.diff(said[..., :7], axis=-1) >= 0).all(), model.name
        assert (said >= 0).all(), model.name


def test_nothing_at_all_still_gives_a_forecast(models: list[ForecastModel]) -> None:
    empty = Panel(("s",), 400_000, (0.0,), np.full((1, 1, len(CHANNELS)), np.nan, np.float32))
    for model in models:
        assert np.isfinite(model.predict(ForecastInputs(empty), np.array([0]), HORIZONS)).all(), model.name


def test_the_same_bits_alone_and_among_others(models: list[ForecastModel]) -> None:
    panel = made(4, 230)
    origins = np.array([100, 170, 229])
    for model in models:
        together = model.predict(ForecastInputs(panel), origins, HORIZONS)
        for place, origin in enumerate(origins):
            alone = model.predict(ForecastInputs(panel.until(int(origin))), np.array([origin]), HORIZONS)
            np.testing.assert_array_equal(alone[:, 0], together[:, place], err_msg=model.name)


def test_silence_makes_persistence_wider(models: list[ForecastModel]) -> None:
    panel = made(1, 200, gaps=0.0)
    silent = panel.values.copy()
    silent[:, -24:] = np.nan
    floor = models[0]
    known = floor.predict(ForecastInputs(panel), np.array([199]), (1,))
    old = floor.predict(
        ForecastInputs(Panel(panel.stations, panel.begins, panel.offsets, silent)), np.array([199]), (1,)
    )
    assert ((old[..., 6] - old[..., 0]) > (known[..., 6] - known[..., 0]))[0, 0, 0, 0]


def test_an_altered_bundle_is_refused(tmp_path: Path) -> None:
    for file in DEFAULT_FORECAST_BUNDLE.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tables = tmp_path / "tables.npz"
    tables.write_bytes(tables.read_bytes()[:-1] + b"x")
    with pytest.raises(ForecastBundleError, match="not the file that the manifest names"):
        ForecastBundle.load(tmp_path)
    with pytest.raises(ForecastBundleError, match="no forecast bundle"):
        ForecastBundle.load(tmp_path / "nowhere")
