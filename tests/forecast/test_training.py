"""A training from hours to a bundle that the pure room loads (the `train` extra)."""

from dataclasses import replace
from pathlib import Path

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

    small = NetworkConfig("cnn-lstm-attention", window=24, width=8, epochs=2, batches=2, batch=16)
    plan = run.TrainingPlan(
        networks=(replace(small, kind="cnn-lstm"), small), rows=400, trees=5, leaves=8, every=24
    )
    told: dict[str, int] = {}
    run.train(
        panel, tmp_path, "made", "1", Provenance("made up", "none"), plan,
        lambda what, done, _total: told.__setitem__(what, done),
    )  # fmt: skip
    assert {"trees", "cnn-lstm", "cnn-lstm-attention", "mix"} <= told.keys()
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


def test_too_short_a_time_is_refused_in_words(tmp_path: Path) -> None:
    from forecast.training import run

    with pytest.raises(ForecastError, match="too few to train on"):
        run.train(made(1, 200), tmp_path, "x", "1", Provenance("x", "x"), run.TrainingPlan(), lambda *_: None)
