"""The shipped bundle's models: finite, in order, the same bits in any batch, wider where less is known."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle, ForecastTables
from forecast.errors import ForecastBundleError
from forecast.features import LEVELS, TOLD, OriginFeatures, weather_ahead
from forecast.mix import weighed
from forecast.models import ForecastInputs, ForecastModel, PollutantRows, filled, moved
from forecast.panel import CHANNELS, Panel
from schemas.parameters import POLLUTANTS
from tests.forecast.small import small_bundle
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


def test_the_first_hours_have_trees_of_their_own() -> None:
    bundle = ForecastBundle.load(small_bundle())
    forests = bundle.tables.trees.forests
    swapped = {key: forests[key[0], (key[1] + 1) % len(POLLUTANTS)] for key in forests}
    inputs, origins = ForecastInputs(made(hours=200)), np.array([199])
    plain, other = (
        replace(bundle.tables.trees, first={}, near=near, middle={}, first_line=None, near_line=None).predict(
            inputs, origins, (1, 2, 3, 4, 24)
        )
        for near in ({}, swapped)
    )
    assert (plain[:, :, :3] != other[:, :, :3]).any(axis=-1).all()
    np.testing.assert_array_equal(plain[:, :, 3:], other[:, :, 3:])


def test_each_part_of_the_way_has_trees_of_its_own() -> None:
    trees = ForecastBundle.load(small_bundle()).tables.trees
    shifted = {
        key: tuple(replace(forest, base=forest.base + 100.0) for forest in some)
        for key, some in trees.forests.items()
    }
    inputs, origins = ForecastInputs(made(hours=200)), np.array([199])
    # Those between two horizons that are learned are of the trees of both.
    horizons = (1, 2, 3, 4, 9, 12, 18, 72)
    plain, other = (
        replace(trees, first={}, near={}, middle=middle, first_line=None, near_line=None).predict(
            inputs, origins, horizons
        )
        for middle in ({}, shifted)
    )
    changed = (plain != other).any(axis=(0, 1, 3, 4)).tolist()
    assert changed == [True] * 6 + [False] * 2


def test_the_mean_of_the_first_hours_stands_on_the_line() -> None:
    """Trees that say nothing leave the ridge's mean and the last value's quantiles."""
    tables = ForecastBundle.load(small_bundle()).tables
    silent = {
        (0, pollutant): tuple(
            replace(forest, value=np.zeros_like(forest.value), base=0.0)
            for forest in tables.trees.forests[0, pollutant]
        )
        for pollutant in range(len(POLLUTANTS))
    }
    panel, origins = made(hours=230, gaps=0.0), np.array([150])
    for inputs in (ForecastInputs(panel), ForecastInputs(panel, weather_ahead(panel))):
        trees = replace(
            tables.trees, first=silent, near=silent, first_line=tables.ridge, near_line=tables.ridge
        )
        said = trees.predict(inputs, origins, (1, 3))
        blind = tables.ridge.predict(ForecastInputs(panel), origins, (1, 3))
        np.testing.assert_allclose(said[..., 7], blind[..., 7], rtol=1e-5)
        last = np.stack([inputs.features.last(p, 1.0)[:, origins] for p in range(len(POLLUTANTS))], -1)
        np.testing.assert_allclose(said[..., 3], np.stack([last, last], 2), rtol=1e-6)
        # The next hour's stands on the last value where it was not learned on the line.
        apart = replace(trees, first_line=None).predict(inputs, origins, (1, 3))[..., 7]
        np.testing.assert_allclose(apart[:, :, 0], last, rtol=1e-6)
        np.testing.assert_array_equal(apart[:, :, 1], said[:, :, 1, :, 7])


def few_columns(inputs: ForecastInputs) -> int:
    return int(PollutantRows(inputs, 0, np.array([0])).at(1).shape[1])


def test_a_line_takes_what_is_unknown_to_be_as_the_last_value() -> None:
    columns = few_columns(ForecastInputs(made(hours=10)))
    rows = np.full((2, columns), np.nan, np.float32)
    rows[0, 0], rows[0, LEVELS[3]] = 7.0, 9.0
    found = filled(rows, 30.0)
    assert found[0, LEVELS[0]] == found[0, LEVELS[-1]] == 7.0
    assert found[0, LEVELS[3]] == 9.0
    assert (found[1, list(LEVELS)] == 30.0).all()
    others = [column for column in range(1, columns) if column not in LEVELS]
    assert np.isnan(found[:, others]).all()


def test_levels_are_columns_that_scale_with_the_air() -> None:
    """Twice the air gives twice the levels; ages, shares and clocks stay."""
    panel = made(hours=200, gaps=0.0)
    twice = replace(panel, values=panel.values * 2)
    plain, double = (OriginFeatures(one).origin(0, np.array([199]))[:, 0] for one in (panel, twice))
    np.testing.assert_allclose(double[:, list(LEVELS)], 2 * plain[:, list(LEVELS)], rtol=1e-5)


#: What the first bundles did not have.
_NEW = ("first.", "near.", "middle.", "ridge.filled", "ridge.furthest")


def test_a_bundle_of_before_is_read_as_it_was_made() -> None:
    tables = ForecastBundle.load(small_bundle()).tables
    with np.load(io.BytesIO(tables.packed())) as arrays:
        kept = {name: arrays[name] for name in arrays.files if not name.startswith(_NEW)}
        # One weight for each of ridge, trees and network, whatever it is for.
        kept["mix.weights"] = kept["mix.weights"][:, :, :, :3, 0]
    out = io.BytesIO()
    np.savez_compressed(out, **kept)
    found = ForecastTables.unpacked(out.getvalue(), tables.trees.typical)
    found_trees = found.trees
    assert (found_trees.first, found_trees.near, found_trees.middle) == ({}, {}, {})
    assert (found_trees.first_line, found_trees.near_line) == (None, None)
    assert (found.ridge.filled, found.ridge.furthest) == (False, 5.0)
    np.testing.assert_array_equal(found.weights, np.repeat(tables.weights[:, :, :, :3, :1], 3, axis=-1))
    again = ForecastTables.unpacked(tables.packed(), tables.trees.typical)
    assert again.packed() == tables.packed()


@pytest.mark.parametrize("on_line", [True, False])
def test_means_stand_on_the_line_that_they_were_learned_on(on_line: bool) -> None:
    """One flag was for the next hour and for two and three, before the next hour's mean left the line."""
    tables = ForecastBundle.load(small_bundle()).tables
    with np.load(io.BytesIO(tables.packed())) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "near.on_line"}
    kept["first.on_line"] = np.array(on_line)
    out = io.BytesIO()
    np.savez_compressed(out, **kept)
    before = ForecastTables.unpacked(out.getvalue(), tables.trees.typical)
    assert [line is not None for line in (before.trees.first_line, before.trees.near_line)] == [on_line] * 2
    apart = replace(before.trees, first_line=None, near_line=before.ridge)
    again = ForecastTables.unpacked(replace(before, trees=apart).packed(), tables.trees.typical).trees
    assert (again.first_line is None, again.near_line is None) == (True, False)


def test_a_mix_has_weights_of_their_own_for_mean_median_and_widths() -> None:
    one = np.array([1, 2, 3, 4, 5, 6, 7, 10], np.float32)
    other = np.array([0, 10, 20, 30, 40, 50, 60, 70], np.float32)
    shares = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], np.float32)
    blend = np.sum([weighed(said, by) for said, by in zip((one, other), shares, strict=True)], axis=0)
    wide = [
        (a + b) / 2 for a, b in zip((-3, -2, -1, 0, 1, 2, 3), (-30, -20, -10, 0, 10, 20, 30), strict=True)
    ]
    assert blend.tolist() == [*(30 + far for far in wide), 10]


def test_the_first_hours_do_not_see_the_weather_to_come() -> None:
    trees = ForecastBundle.load(small_bundle()).tables.trees
    panel, origins = made(hours=230, gaps=0.0), np.array([150])
    # All ask a column that stands behind the weather to come.
    near = {
        (0, pollutant): tuple(
            replace(forest, feature=np.full_like(forest.feature, TOLD.stop + 3))
            for forest in trees.forests[0, pollutant]
        )
        for pollutant in range(len(POLLUTANTS))
    }
    both = [ForecastInputs(panel), ForecastInputs(panel, weather_ahead(panel))]
    blind, told = (
        replace(trees, first={}, near=near, middle={}).predict(inputs, origins, (1, 2, 3, 4))
        for inputs in both
    )
    np.testing.assert_array_equal(blind[:, :, :3], told[:, :, :3])
    assert (blind[:, :, 3] != told[:, :, 3]).any()


def test_a_mean_lies_within_its_own_quantiles() -> None:
    """Other models make it; where they disagree it would be less likely than all that is likely."""
    said = np.array([[1.2, 2, 3, 4.5, 9, 20, 46, 0.1], [1, 2, 3, 4, 5, 6, 7, 90]], np.float32)
    assert moved(said, np.zeros((2, 7), np.float32))[:, -1].tolist() == pytest.approx([1.2, 7.0])
