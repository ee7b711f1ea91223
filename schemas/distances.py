"""How far places lie apart."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.arrays import Float64

#: (latitude, longitude) of each in degrees, or an array (n, 2) of them.
Positions = Sequence[tuple[float, float]] | Float64
#: Of the sphere that the earth is taken for. It is flattened: a distance is good to half a percent.
_EARTH_KM: Final = 6371.0


def distances(places: Positions, others: Positions | None = None) -> Float64:
    """(n, m) km on a great circle from places to others (else among themselves), by the haversine formula."""
    here = np.radians(np.array(places, dtype=np.float64).reshape(-1, 2))
    there = here if others is None else np.radians(np.array(others, dtype=np.float64).reshape(-1, 2))
    half = (
        np.sin((here[:, :1] - there[:, 0]) / 2) ** 2
        + np.cos(here[:, :1]) * np.cos(there[:, 0]) * np.sin((here[:, 1:] - there[:, 1]) / 2) ** 2
    )
    apart: Float64 = 2.0 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return apart
