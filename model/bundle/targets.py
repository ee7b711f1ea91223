"""What the head learns to estimate: the AQI that the data states, or one declared scale.

Portals mix national scales. Where true concentrations exist the target can be recomputed on one standard,
from the concentrations of the window itself: an index of averages over a day could not be read off a
picture of a minute.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from aqi import standards
from aqi.subindex import subindices
from aqi.units import from_canonical
from schemas.parameters import POLLUTANTS

__all__ = [
    "DEFAULT_STANDARD",
    "HIGHEST",
    "STATED",
    "calculate",
    "describe",
]

#: The target of a configuration that takes the AQI column as it is.
STATED: Final = "stated"
#: For folders that state no AQI.
DEFAULT_STANDARD: Final = "us-epa-2024"
#: The scale of the truth ends here.
HIGHEST: Final = 500.0


def calculate(standard_id: str, sensors: NDArray[np.float32]) -> NDArray[np.float64]:
    """AQI of each row (N, 6; ug/m3, NaN = missing) from its present sensors by a standard's tables; NaN
    where no sensor has a sub-index.

    The values are put in as if they were averages over whatever period the table asks for.
    """
    standard = standards.load(standard_id)
    # The first table a standard has for a parameter is that of its daily or running index.
    first = {measure.parameter: measure for measure in reversed(list(standard.measures.values()))}
    result = np.full(len(sensors), np.nan)
    for column, parameter in enumerate(POLLUTANTS):
        measure, known = first.get(parameter), ~np.isnan(sensors[:, column])
        if measure is None or not known.any():
            continue
        one = from_canonical(parameter, 1.0, measure.unit, standard.reference_celsius)
        values = np.maximum(sensors[known, column].astype(np.float64), 0) * one
        result[known] = np.fmax(result[known], subindices(standard, parameter, measure.averaging, values))
    result[result > HIGHEST] = HIGHEST
    return result


def describe(target: str) -> str:
    """What a manifest says of the scale."""
    if target == STATED:
        return "as the data states it"
    return f"{target}, computed from the concentrations of the window itself"
