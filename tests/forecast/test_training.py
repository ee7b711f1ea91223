"""A training from hours to a bundle that the pure room loads (the `train` extra)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.provenance import Provenance
from forecast.bundle import ForecastBundle
from forecast.errors import ForecastError
from forecast.models import ForecastInputs
from forecast.panel import Panel
from tests.forecast.test_features import made

pytestmark = pytest.mark.train
pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def panel() -> Panel:
    made_up = made(2, 168 * 16, gaps=0.05)
    day = np.sin(np.arange(made_up.hours) * 2 * np.pi / 24).astype(np.float32)
    made_up.values[:, :, 0] = 40 + 25 * day + made_up.values[:, :, 1] / 20
    return made_up


def test_a_network_s_hours_become_a_bundle(panel: Panel, tmp_path: Path) -> None:
    from forecast.training import run
    from forecast.training.fitting import NetworkConfig
    from forecast.training.tables import TablesPlan

    small = NetworkConfig("cnn-lstm-attention", window=24, width=8, epochs=2, batches=2, batch=16)
    plan = run.TrainingPlan(
        networks=(replace(small, kind="fl-cnn-lstm"), small), tabular=TablesPlan(400, 5, 8), every=24
    )
    told: dict[str, int] = {}
    run.train(
        panel, tmp_path, "made", "1", Provenance("made up", "none"), plan,
        lambda what, done, _total: told.__setitem__(what, done),
    )  # fmt: skip
    assert {"trees", "fl-cnn-lstm", "cnn-lstm-attention", "mix"} <= told.keys()
    bundle = ForecastBundle.load(tmp_path)
    assert bundle.manifest.training.learned[0] == "pm25"
    for model in bundle.models():
        said = model.predict(ForecastInputs(panel), np.array([500, 900]), (1, 24, 72))
        assert np.isfinite(said).all()
        assert (np.diff(said[..., :7], axis=-1) >= 0).all()


def test_trees_as_arrays_say_what_the_library_s_say() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from forecast.training import trees

    random = np.random.default_rng(0)
    rows = random.normal(size=(3000, 6)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    target = np.nan_to_num(rows[:, 0]) * 3 + np.isnan(rows[:, 1]) * 2
    model = HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=20).fit(rows, target)
    forest = trees.flattened(model)
    np.testing.assert_allclose(forest.predict(rows), model.predict(rows), atol=1e-4)
    kept = type(forest).unpacked("x", forest.packed("x"))
    np.testing.assert_allclose(kept.predict(rows), model.predict(rows), atol=2e-2)


def test_a_column_of_which_nothing_was_ever_known_splits_nothing() -> None:
    """Of a network without any weather, or a store's history."""
    from forecast.training import trees

    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 3)).astype(np.float32)
    rows[:, 1] = np.nan
    forest = trees.fit(rows, rows[:, 0] * 3, None, trees.Growth(20, 8), 0)
    found = forest.predict(rows)
    assert np.corrcoef(found, rows[:, 0])[0, 1] > 0.9
    told = rows.copy()
    told[:, 1] = random.normal(size=2000)
    np.testing.assert_array_equal(forest.predict(told), found)


def test_too_short_a_time_is_refused_in_words(tmp_path: Path) -> None:
    from forecast.training import run

    with pytest.raises(ForecastError, match="too few to train on"):
        run.train(made(1, 200), tmp_path, "x", "1", Provenance("x", "x"), run.TrainingPlan(), lambda *_: None)


def test_a_median_may_lean_on_another_member_than_the_mean() -> None:
    """Most hours are as the one before, a few are not: persistence, the last, has the median of that."""
    from forecast.training.tables import shares

    random = np.random.default_rng(0)
    base = random.uniform(20, 200, 2000)
    y = base + np.where(random.random(2000) < 0.3, 30.0, 0.0)
    said = np.empty((2000, 3, 8))
    said[:, 0] = (base + 9 + random.normal(0, 1, 2000))[:, None]  # the mean
    said[:, 1] = (0.5 * base + random.normal(0, 1, 2000))[:, None]
    said[:, 2] = base[:, None]
    said[:, :, :7] += np.array([-15, -10, -5, 0, 5, 10, 15])
    found = shares(said, y)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found.sum(axis=0), 1)
    assert (found >= 0).all()
    assert found[0, 0] > 0.75
    assert found[2, 1] > found[2, 0] + 0.3


def test_weights_agree_from_anchor_to_anchor() -> None:
    from forecast.training.tables import agreeing

    weights = np.zeros((1, 4, 2, 3), np.float32)
    weights[0, :, 0] = np.array([0.9, 0.0, 0.3, 0.3])[:, None]
    weights[0, :, 1] = 1 - weights[0, :, 0]
    found = agreeing(weights)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 0, 1], [0.6, 0.4, 0.2, 0.3], rtol=1e-6)


@pytest.mark.parametrize("kind", ["cnn-lstm-attention", "fl-cnn-lstm"])
def test_weights_in_half_precision_say_nearly_the_same(kind: Any) -> None:
    import onnxruntime as ort
    import torch

    from forecast.features import FUTURE, PAST
    from forecast.training.fitting import exported
    from forecast.training.network import Network

    torch.manual_seed(0)
    model = Network(kind, 24, 16, 0.0, (60.0,) * 6).eval()
    past, future = torch.randn(3, 24, PAST), torch.randn(3, 72, FUTURE)
    with torch.no_grad():
        want = model(past, future).numpy()
    graph = exported(model)
    weights = sum(one.numel() for one in model.parameters())
    assert len(graph) < 3.8 * weights
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(["change"], {"past": past.numpy(), "future": future.numpy()})[0]
    np.testing.assert_allclose(found, want, atol=0.02)


def test_fuzzy_grades_pass_from_the_middle_of_a_category_to_that_of_the_next() -> None:
    """PM2.5 of US EPA 2024: good to 9, moderate to 35.4 (middles 4.5 and 22.2), ... beyond 225.4 no end."""
    import torch

    from forecast.features import OWN_LEVELS, PAST
    from forecast.training.network import FuzzyGrades

    typical = 10.0
    grades = FuzzyGrades((typical,) * 6)
    past = torch.zeros(1, 6, PAST)
    past[0, :, OWN_LEVELS.start] = torch.tensor([0.0, 4.5, 13.4, 22.25, 45.5, 900.0]) / typical
    of_pm25 = grades(past)[0, :, :5].numpy()
    membership = -np.diff(of_pm25, axis=1, prepend=1.0, append=0.0)
    assert (membership >= 0).all()
    np.testing.assert_allclose(membership.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(membership[:2, 0], 1, atol=0.01)
    np.testing.assert_allclose(membership[2, :2], 0.5, atol=0.01)
    np.testing.assert_allclose(membership[3, 1], 1, atol=0.01)
    np.testing.assert_allclose(membership[4, 2], 1, atol=0.01)
    assert membership[5, 5] == 1


def test_a_network_is_trained_by_its_name() -> None:
    from forecast.training.network import architectures

    assert list(architectures(["fl-cnn-lstm", "gru", "fl-cnn-lstm"])) == ["fl-cnn-lstm", "gru"]
    with pytest.raises(ForecastError, match="'lstm'"):
        list(architectures(["cnn-lstm", "lstm"]))
