"""Boosted trees by scikit-learn's histogram method, as the flat arrays that `forecast.trees` walks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from forecast.trees import Forest
from schemas.arrays import Float32


@dataclass(frozen=True)
class Growth:
    """How trees are grown: how many, of how many leaves, the share of each that is taken on, the part of the
    columns that a node may ask, the fewest rows of a leaf, and rows of no error that count beside its own.
    """

    trees: int
    leaves: int
    rate: float = 0.08
    columns: float = 0.4
    least: int = 200
    doubt: float = 10.0


def fit(rows: Float32, target: Float32, quantile: float | None, growth: Growth, seed: int) -> Forest:
    """The mean of `target` (None) or its quantile, given `rows` (n, columns) with NaN where nothing is
    known.
    """
    kind: dict[str, Any] = (
        {"loss": "squared_error"} if quantile is None else {"loss": "quantile", "quantile": quantile}
    )
    model = HistGradientBoostingRegressor(
        **kind, max_iter=growth.trees, max_leaf_nodes=growth.leaves, learning_rate=growth.rate,
        min_samples_leaf=growth.least, l2_regularization=growth.doubt, max_features=growth.columns,
        early_stopping=False, random_state=seed,
    )  # fmt: skip
    # A column of which nothing was ever known, such as the weather of a place without any, splits nothing;
    # scikit-learn 1.9 cannot bin it.
    rows = np.where(np.isnan(rows).all(axis=0), np.float32(0.0), rows)
    # Other fits run beside this one, and more threads than cores wait for each other.
    with threadpool_limits(1, "openmp"):
        model.fit(rows, target)
    return flattened(model)


def flattened(model: HistGradientBoostingRegressor) -> Forest:
    """The trees that scikit-learn fitted, as arrays."""
    # Their nodes are private to scikit-learn, as they are to every exporter; a test compares the predictions.
    nodes = [stage[0].nodes for stage in model._predictors]
    roots = np.cumsum([0, *(len(tree) for tree in nodes[:-1])]).astype(np.int32)
    every = np.concatenate(nodes)
    start = np.repeat(roots, [len(tree) for tree in nodes]).astype(np.int64)
    itself = np.arange(len(every))
    leaf = every["is_leaf"].astype(bool)
    return Forest(
        roots,
        np.where(leaf, 0, every["feature_idx"]).astype(np.uint8),
        # At most the double is at most the largest float32 that is not above it: rows are float32.
        _not_above(np.where(leaf, 0.0, every["num_threshold"])),
        every["missing_go_to_left"].astype(bool),
        np.where(leaf, itself, every["left"] + start).astype(np.int32),
        np.where(leaf, itself, every["right"] + start).astype(np.int32),
        np.where(leaf, every["value"], 0.0).astype(np.float32),
        int(max(tree["depth"].max() for tree in nodes)),
        float(np.ravel(model._baseline_prediction)[0]),
    )


def _not_above(values: np.ndarray[Any, Any]) -> Float32:
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
