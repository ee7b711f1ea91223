"""The scale on which concentrations of a region are alike: log(offset + c).

An instrument's error is of the size of the reading where there is much, and of a constant size where there is
little. The offset is where the one passes into the other; log(1 + c) makes a reading of 1 beside one of 3 as
strange as 100 beside 200, and neighbours that differ by noise then look unlike.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import Float64
from schemas.parameters import POLLUTANTS, Pollutant

#: ug/m3, tuned on four of the eight stations of Beijing (docs/network.md).
OFFSETS: Final[dict[Pollutant, float]] = {
    "pm25": 20.0, "pm10": 20.0, "no2": 30.0, "so2": 10.0, "co": 200.0, "o3": 50.0,
}  # fmt: skip
_BY_INDEX: Final = np.array([OFFSETS[name] for name in POLLUTANTS])


def to_log(values: Float64, pollutants: NDArray[np.int64]) -> Float64:
    """ug/m3 (..., d) to the log scale; `pollutants`: of each, its place in `POLLUTANTS`. NaN stays."""
    logs: Float64 = np.log(_BY_INDEX[pollutants] + np.maximum(values, 0.0))
    return logs


def offsets_of(pollutants: NDArray[np.int64]) -> Float64:
    """(d,) ug/m3, the offset of each; `pollutants` as for `to_log`."""
    return _BY_INDEX[pollutants]


def from_log(logs: Float64, pollutants: NDArray[np.int64]) -> Float64:
    """Inverse of `to_log`, ug/m3, not below 0."""
    values: Float64 = np.maximum(np.exp(np.minimum(logs, 14.0)) - _BY_INDEX[pollutants], 0.0)
    return values
