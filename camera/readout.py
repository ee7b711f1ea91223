"""The readout: recursive ridge regression of log1p(concentration) on a camera vector and humidity. Pure.

It is kept as exponentially forgotten moments, so that the state is the sufficient statistic and nothing else.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera.sight import CAMERA_SIZE, Sight

__all__ = ["ERRORS_FROM", "INPUTS", "RIDGE", "TRIANGLE", "Readout", "ReadoutValue", "inputs_of", "on_line"]

#: Inputs of the readout: the camera vector and humidity.
INPUTS: Final = CAMERA_SIZE + 1
#: Ridge penalty on standardised inputs, in pairs.
RIDGE: Final = 20.0
#: Pairs before its errors are counted: those of a readout that knows nothing yet say nothing about a
#: later one.
ERRORS_FROM: Final = 15
#: Where the upper triangle of the moments lies.
TRIANGLE: Final = np.triu_indices(INPUTS + 2)


class ReadoutValue(NamedTuple):
    """What the readout says of a picture."""

    value: float  #: log1p of ug/m3
    factor: float  #: on the error variance
    usable: bool  #: whether the level may hear it


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """The regression that the moments imply: weights on the raw vector, and what is needed for the
    leverage.
    """

    weights: NDArray[np.float64]
    offset: float
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    gram: NDArray[np.float64]

    @classmethod
    def of(cls, moments: NDArray[np.float32], pairs: int) -> "Readout | None":
        if pairs < ERRORS_FROM:
            return None
        full = np.zeros((INPUTS + 2, INPUTS + 2))
        full[TRIANGLE] = moments
        count = full[0, 0]
        mean = full[0, 1:-1] / count
        level = full[0, -1] / count
        scatter = np.triu(full[1:-1, 1:-1]) - count * np.triu(np.outer(mean, mean))
        scatter += np.triu(scatter, 1).T
        spread = np.sqrt(np.maximum(np.diag(scatter), 0.0) / count) + 1e-3
        gram = scatter / np.outer(spread, spread)
        gram[np.diag_indices_from(gram)] += RIDGE
        slope = (full[1:-1, -1] - count * mean * level) / spread
        weights = np.linalg.solve(gram, slope) / spread
        return cls(weights, float(level - weights @ mean), mean, spread, gram)

    def __call__(self, inputs: NDArray[np.float64]) -> float:
        return float(self.weights @ inputs) + self.offset

    def line(self) -> NDArray[np.float32]:
        """Weights and offset as they are stored."""
        return np.append(self.weights, self.offset).astype(np.float32)

    def leverage(self, inputs: NDArray[np.float64]) -> float:
        """Variance of the prediction that the readout's own uncertainty adds, over the error variance."""
        standard = (inputs - self.mean) / self.spread
        return float(standard @ np.linalg.solve(self.gram, standard))


def on_line(line: NDArray[np.float32], inputs: NDArray[np.float64]) -> float:
    wide = line.astype(np.float64)
    return float(wide[:-1] @ inputs) + float(wide[-1])


def inputs_of(camera: Sight, moments: NDArray[np.float32]) -> NDArray[np.float64]:
    """Inputs of the readout. Light scattered by hygroscopic particles grows about as a power of 1 / (1
    - RH): its logarithm enters, as the logarithm of the concentration comes out. Unknown humidity takes
    its mean so far.
    """
    if camera.humidity is not None:
        wet = -math.log(1.0 - min(max(camera.humidity, 0.0), 99.0) / 100.0)
    else:
        wet = float(moments[INPUTS] / moments[0]) if moments[0] > 0.0 else 0.0
    return np.concatenate((camera.vector.astype(np.float64), (wet,)))
