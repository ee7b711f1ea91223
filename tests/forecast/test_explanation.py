"""Why a forecast is what it is: shares that are Shapley's by their definition, and that sum to it."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from forecast.bundle import ForecastBundle
from forecast.columns import columns
from forecast.explanation import ForecastExplanation, dependences, explained, sentence, shapley
from forecast.features import weather_ahead
from forecast.models import ForecastInputs, PollutantRows
from forecast.reasons import facts
from forecast.trees import Forest
from schemas.arrays import Float32, Float64
from tests.forecast.small import small_bundle
from tests.forecast.test_evaluation import write
from tests.forecast.test_features import made


def by_definition(forest: Forest, row: Float32, beside: Float32) -> Float64:
    """The mean, over all orders in which columns become the row's, of what each changes."""
    values, orders = np.zeros(len(row)), list(permutations(range(len(row))))
    for order in orders:
        now = beside.copy()
        before = float(forest.predict(now[None])[0])
        for column in order:
            now[column] = row[column]
            after = float(forest.predict(now[None])[0])
            values[column] += (after - before) / len(orders)
            before = after
    return values


def tree(random: np.random.Generator, columns: int) -> Forest:
    """A full tree of depth 3, a stump, and a leaf alone."""
    left = [1, 3, 5, 7, 9, 11, 13, *range(7, 15), 16, 16, 17, 18]
    right = [2, 4, 6, 8, 10, 12, 14, *range(7, 15), 17, 16, 17, 18]
    count = len(left)
    return Forest(
        np.array([0, 15, 18], np.int32), random.integers(0, columns, count).astype(np.uint8),
        random.normal(size=count).astype(np.float32), random.random(count) < 0.5,
        np.array(left, np.int32), np.array(right, np.int32),
        random.normal(size=count).astype(np.float32), 3, 0.5,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_shares_are_the_mean_over_all_orders(seed: int) -> None:
    random = np.random.default_rng(seed)
    forest = tree(random, 4)
    row, beside = random.normal(size=(2, 4)).astype(np.float32)
    row[random.integers(4)] = np.nan
    other = random.normal(size=4).astype(np.float32)
    found, second = shapley(forest, np.stack([row, other]), beside)
    np.testing.assert_allclose(found, by_definition(forest, row, beside), atol=1e-6)
    np.testing.assert_allclose(second, by_definition(forest, other, beside), atol=1e-6)
    total = forest.predict(np.stack([row, beside]))
    assert found.sum() == pytest.approx(float(total[0] - total[1]), abs=1e-6)


@pytest.mark.parametrize("told", [0, 1])
def test_a_forecast_is_the_sum_of_its_shares(told: int) -> None:
    bundle, panel = ForecastBundle.load(small_bundle()), made(3, 230)
    inputs = ForecastInputs(panel, weather_ahead(panel) if told else None)
    assert PollutantRows(inputs, 0, np.array([200])).at(12).shape[1] == len(columns(told))
    mix = bundle.mix()
    found = explained(mix, inputs, 1, 200, 0, 12)
    assert found.mean == mix.predict(inputs, np.array([200]), (12,))[1, 0, 0, 0, -1]
    total = found.last + found.usual + sum(found.shares.values()) + found.unshared
    assert total == pytest.approx(found.mean, abs=1e-3)
    assert any("to come" in subject for subject in found.shares) == bool(told)
    assert found.shares["horizon"] == pytest.approx(0, abs=1e-6)


def test_what_trees_and_ridge_say_is_shared_out_whole() -> None:
    """A mix of these two alone leaves nothing over (but what the floor at zero takes)."""
    bundle, panel = ForecastBundle.load(small_bundle()), made(2, 230, gaps=0.0)
    mix = bundle.mix()
    weights = np.zeros_like(mix.weights)
    weights[:, :, :, :2] = 0.5
    both = type(mix)(mix.members, weights, np.zeros_like(mix.offsets))
    found = explained(both, ForecastInputs(panel), 0, 220, 0, 6)
    assert found.mean > 0
    assert found.unshared == pytest.approx(0, abs=0.05)


def test_in_words() -> None:
    up = ForecastExplanation("pm25", 12, 20.0, 32.0, 1.0, {"wind": 9.0, "rain": 0.1, "own": -3.0}, 4.9)
    assert sentence(up) == (
        "rising by 12.0 ug/m3: the wind now +9.0, what cannot be shared out (the neural network, zero as the"
        " floor) +4.9; against it: what it was here in the last days -3.0; all else together +1.1"
    )
    assert (
        sentence(ForecastExplanation("pm25", 12, 20.0, 20.5, 0.0, {}, 0.5))
        == "about as now: nothing stands out"
    )


def test_what_goes_against_a_change_is_never_its_cause() -> None:
    """Trees and ridge may cancel each other: the largest share of a rise may be a fall."""
    up = ForecastExplanation("pm25", 12, 20.0, 32.0, 0.0, {"heat": -188.0, "heat to come": 150.0}, 50.0)
    assert sentence(up, {"heat": "not known here"}) == (
        "rising by 12.0 ug/m3: warmth and damp to come +150, what cannot be shared out (the neural network,"
        " zero as the floor) +50.0; against it: warmth and damp -188 (not known here); all else together +0.0"
    )


@pytest.mark.parametrize(
    ("near", "pull", "told"),
    [
        (6.0, 4.0, "beside an average hour; their level now is 70 % below here"),
        (6.0, -4.0, "70 % below here"),
        (28.0, 4.0, "40 % above here"),
        (28.0, -4.0, "beside an average hour; their level now is 40 % above here"),
        (20.5, -4.0, "as here"),
    ],
)
def test_neighbours_that_pull_away_from_their_level_are_said_to(near: float, pull: float, told: str) -> None:
    panel = made(2, 230, gaps=0.0)
    inputs = ForecastInputs(panel)
    inputs.features.neighbours[0, -1, 0] = near
    one = ForecastExplanation("pm25", 12, 20.0, 24.0, 0.0, {"neighbours": pull}, 4.0 - pull)
    found = facts(inputs, 0, 0, one, measured=True)
    assert found["neighbours"] == told
    assert "own" not in found


def test_what_was_not_measured_is_not_said_to_have_been_here() -> None:
    inputs = ForecastInputs(made(2, 230, gaps=0.0))
    one = ForecastExplanation("pm25", 12, 20.0, 24.0, 0.0, {}, 4.0)
    assert facts(inputs, 0, 0, one, measured=False)["own"] == "estimated, not measured"
    inputs.panel.values[0, :, 0] = np.nan
    assert facts(inputs, 0, 0, one, measured=True)["own"] == "not measured here"


def test_dependence_is_shown_where_it_is_most() -> None:
    bundle, panel = ForecastBundle.load(small_bundle()), made(2, 230, gaps=0.0)
    found = dependences(bundle.mix(), ForecastInputs(panel), np.array([200, 210, 220]), 0, 12, 8)
    assert len(found) == 8
    assert found[0].weight >= found[1].weight >= found[2].weight > 0
    assert all(np.isfinite(one.changes).all() for one in found)
    # A made-up pressure is further off than a line is drawn: there nothing changes.
    assert any(len(set(one.changes)) > 1 for one in found)
    assert {one.column for one in found} <= {column.name for column in columns(0)}


def test_the_command_says_why(tmp_path: Path) -> None:
    write(tmp_path, 24 * 9)
    result = CliRunner().invoke(app, ["forecast", "explain", str(tmp_path), "a", "--ahead", "6", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["horizon"] == 6
    assert told["words"]
    shown = CliRunner().invoke(app, ["forecast", "explain", str(tmp_path), "a"])
    assert "change in an average hour" in shown.stdout
    for arguments, word in ((["b2"], "no station"), (["a", "--at", "2020-01-01"], "no hour that ends then")):
        refused = CliRunner().invoke(app, ["forecast", "explain", str(tmp_path), *arguments])
        assert word in str(refused.exception)


def test_an_evaluation_can_be_a_page(tmp_path: Path) -> None:
    write(tmp_path, 24 * 9)
    page = tmp_path.parent / "report.md"
    arguments = ["--every", "12", "--pollutant", "pm25", "--report", str(page), "--json"]
    result = CliRunner().invoke(app, ["forecast", "evaluate", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "| 1 | persistence |" in text
    assert "## What PM2.5 24 h ahead depends on" in text
    assert any(f"| {column.name} | " in text for column in columns(0))
    assert "not beyond" in text
    assert "three forecasts 12 h ahead" in text
    assert text.count("| what was known | exact | line |") == 3
