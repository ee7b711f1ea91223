"""Scores of AQI and concentration estimates, and bootstrap intervals over groups. Pure NumPy."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import Float64

__all__ = ["CLASS_EDGES", "CLASS_NAMES", "BootstrapInterval", "Scores", "aqi_class", "bootstrap", "scores"]


#: Upper edges of the first five of the six classes (US EPA; the data set's own classes use them too).
CLASS_EDGES: Final = (50.0, 100.0, 150.0, 200.0, 300.0)
CLASS_NAMES: Final = (
    "Good",
    "Moderate",
    "Unhealthy for sensitive groups",
    "Unhealthy",
    "Very unhealthy",
    "Hazardous",
)


class Scores(NamedTuple):
    """Errors in AQI points; accuracy and macro-F1 of the six classes as fractions."""

    rmse: float
    mae: float
    r2: float  #: NaN where the truth does not vary
    accuracy: float
    macro_f1: float  #: over the classes that occur in truth or estimate


class BootstrapInterval(NamedTuple):
    """Central bootstrap interval of a score."""

    value: float
    lo: float
    hi: float


def aqi_class(aqi: Float64) -> NDArray[np.int64]:
    """Class 0..5 of AQI values, which are rounded to whole points first, as an index is reported."""
    return np.digitize(np.round(aqi), CLASS_EDGES, right=True).astype(np.int64)


def scores(truth: Float64, estimate: Float64) -> Scores:
    """All scores of N pairs (N >= 1)."""
    error = estimate - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    true_class, class_ = aqi_class(truth), aqi_class(estimate)
    f1 = []
    for index in range(len(CLASS_NAMES)):
        hits = int(((true_class == index) & (class_ == index)).sum())
        either = int((true_class == index).sum() + (class_ == index).sum())
        if either:
            f1.append(2 * hits / either)
    return Scores(
        rmse=float(np.sqrt((error**2).mean())),
        mae=float(np.abs(error).mean()),
        r2=1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        accuracy=float((true_class == class_).mean()),
        macro_f1=float(np.mean(f1)),
    )


def bootstrap(
    groups: int,
    statistic: Callable[[NDArray[np.int64]], float],
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.9,
) -> BootstrapInterval:
    """Percentile bootstrap over groups: `statistic` gets the row numbers of one resample."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, groups, groups)) for _ in range(draws)]
    lo, hi = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(statistic(np.arange(groups)), float(lo), float(hi))
