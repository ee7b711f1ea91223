"""Trees: what ONNX Runtime makes of them is what a walk from node to node makes, to the last bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.trees import Forest
from schemas.arrays import Float32

_EXTREMES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38], np.float32)


def walked(forest: Forest, rows: Float32) -> Float32:
    """Node by node, tree by tree."""
    found = []
    for row in rows:
        total = forest.base
        for root in forest.roots.tolist():
            node = root
            while forest.left[node] != node:
                seen, limit = row[forest.feature[node]], forest.threshold[node]
                left = forest.missing_left[node] if np.isnan(seen) else seen <= limit
                node = int(forest.left[node] if left else forest.right[node])
            total += float(forest.value[node])
        found.append(total)
    return np.array(found, np.float64).astype(np.float32)


def grown(seed: int, trees: int, columns: int) -> Forest:
    """Of any shape, a leaf alone among them; a node's children lie behind it."""
    random = np.random.default_rng(seed)
    left: list[int] = []
    right: list[int] = []
    roots = []
    for _ in range(trees):
        roots.append(len(left))
        open_nodes = [len(left)]
        left.append(len(left))
        right.append(len(right))
        for _ in range(int(random.integers(0, 12))):
            node = open_nodes.pop(int(random.integers(len(open_nodes))))
            for children in (left, right):
                children[node] = len(left)
                open_nodes.append(len(left))
                left.append(len(left))
                right.append(len(right))
    count = len(left)
    values = [random.normal(size=count) * 10.0 ** random.integers(-6, 6, count) for _ in range(2)]
    threshold, value = (one.astype(np.float32) for one in values)
    threshold[random.random(count) < 0.2] = 0.0
    return Forest(
        np.array(roots, np.int32), random.integers(0, columns, count).astype(np.uint8), threshold,
        random.random(count) < 0.5, np.array(left, np.int32), np.array(right, np.int32), value, 12,
        float(random.normal()),
    )  # fmt: skip


@given(st.integers(0, 100_000), st.integers(0, 300), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_a_sum_is_that_of_the_walk_in_the_order_of_the_trees(seed: int, trees: int, columns: int) -> None:
    forest, random = grown(seed, trees, columns), np.random.default_rng(seed)
    rows = (random.normal(size=(7, columns)) * 10.0 ** random.integers(-6, 6, (7, columns))).astype(
        np.float32
    )
    extreme = np.asarray(random.random(rows.shape) < 0.2)
    rows[extreme] = random.choice(_EXTREMES, int(extreme.sum()))
    want = walked(forest, rows)
    assert forest.predict(rows).tobytes() == want.tobytes()
    alone = [forest.predict(rows[row : row + 1]).tobytes() for row in range(len(rows))]
    assert b"".join(alone) == want.tobytes()


def test_nothing_is_foretold_of_no_row() -> None:
    assert grown(1, 3, 4).predict(np.zeros((0, 4), np.float32)).shape == (0,)


def test_many_rows_of_the_default_bundle_and_columns_that_nobody_asks_for() -> None:
    trees = ForecastBundle.load(DEFAULT_FORECAST_BUNDLE).tables.trees
    forest = trees.first[0, 0][0]
    random = np.random.default_rng(0)
    rows = random.gamma(2.0, 20.0, (2_500, 250)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    found = forest.predict(rows)
    some = [0, 999, 1_000, 2_499]
    assert found[some].tobytes() == walked(forest, rows[some]).tobytes()
    assert forest.predict(rows[some]).tobytes() == found[some].tobytes()
