"""Scores against definitions written out one pair at a time."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.evaluation.metrics import CLASS_NAMES, aqi_class, bootstrap, scores

pairs = st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500)), min_size=1, max_size=40)


def mean_of(sample: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    return float(sample[rows].mean())


def class_of(aqi: float) -> int:
    index = round(aqi)
    return sum(index > edge for edge in (50, 100, 150, 200, 300))


@given(pairs)
def test_scores_are_what_their_names_say(values: list[tuple[float, float]]) -> None:
    truth, estimate = (np.array(column) for column in zip(*values, strict=True))
    result = scores(truth, estimate)
    errors = [e - t for t, e in values]
    assert math.isclose(result.rmse, math.sqrt(sum(e * e for e in errors) / len(errors)), abs_tol=1e-9)
    assert math.isclose(result.mae, sum(map(abs, errors)) / len(errors), abs_tol=1e-9)
    classes = [(class_of(t), class_of(e)) for t, e in values]
    assert math.isclose(result.accuracy, sum(a == b for a, b in classes) / len(classes))
    f1 = []
    for index in range(len(CLASS_NAMES)):
        tp = sum(a == b == index for a, b in classes)
        fp = sum(b == index != a for a, b in classes)
        fn = sum(a == index != b for a, b in classes)
        if tp + fp + fn:
            f1.append(2 * tp / (2 * tp + fp + fn))
    assert math.isclose(result.macro_f1, sum(f1) / len(f1))


@given(st.floats(0, 600))
def test_classes_have_the_published_edges(aqi: float) -> None:
    assert aqi_class(np.array([aqi]))[0] == class_of(aqi)


def test_r2_is_one_for_the_truth_zero_for_the_mean_and_nothing_without_variation() -> None:
    truth = np.array([10.0, 20.0, 60.0])
    assert scores(truth, truth).r2 == 1
    assert scores(truth, np.full(3, 30.0)).r2 == pytest.approx(0)
    assert math.isnan(scores(np.full(3, 5.0), truth).r2)


def test_bootstrap_covers_the_mean_of_a_known_population() -> None:
    hits = 0
    for seed in range(60):
        sample = np.random.default_rng(seed).normal(3, 1, 50)
        interval = bootstrap(50, partial(mean_of, sample), draws=300)
        assert interval.lo <= interval.value <= interval.hi
        hits += interval.lo <= 3 <= interval.hi
    assert 48 <= hits <= 60
