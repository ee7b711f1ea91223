"""Exact Shapley shares of the seven inputs of an estimate: six sensors and the image.

The game's value v(S) is the head's AQI with only the inputs in S shown; v(empty) is the reference, the
training mean that the bundle declares (the head itself refuses a row with nothing). Inputs that are missing
anyway are players without effect. Shapley 1953; 2^7 = 128 evaluations an estimate, in one batch.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle.runtime import Head, trusted_readings
from schemas.arrays import Float32
from schemas.errors import ArrayError
from schemas.parameters import POLLUTANTS

__all__ = ["PLAYERS", "Shares", "reference_aqi", "shapley_shares"]


PLAYERS: Final = (*POLLUTANTS, "image")
_COUNT: Final = len(PLAYERS)
_COALITIONS: Final = 1 << _COUNT


class Shares(NamedTuple):
    """AQI points. For every row `reference + shares.sum() == aqi` (to float32 precision)."""

    shares: NDArray[np.float64]  #: (N, 7) in `PLAYERS` order; 0 for missing inputs
    reference: float
    aqi: Float32  #: (N,)


def _weights() -> NDArray[np.float64]:
    """(7, 128) so that shares = weights @ v."""
    matrix = np.zeros((_COUNT, _COALITIONS))
    for coalition in range(_COALITIONS):
        size = coalition.bit_count()
        for player in range(_COUNT):
            if coalition >> player & 1:
                matrix[player, coalition] += math.factorial(size - 1) * math.factorial(_COUNT - size)
            else:
                matrix[player, coalition] -= math.factorial(size) * math.factorial(_COUNT - size - 1)
    return matrix / math.factorial(_COUNT)


_WEIGHTS: Final = _weights()
#: (128, 7): who is in each coalition; coalition k has player p where bit p of k is set.
_MEMBERS: Final = (np.arange(_COALITIONS)[:, None] >> np.arange(_COUNT) & 1).astype(bool)


def reference_aqi(head: Head) -> float:
    """v(empty): the mean AQI of the training windows, from the bundle's manifest."""
    value = head.bundle.manifest.training.configuration.get("aqi_mean")
    if not isinstance(value, int | float):
        raise ArrayError(
            f"bundle {head.bundle.id} declares no aqi_mean to compare an estimate with; export it again"
        )
    return float(value)


def shapley_shares(
    head: Head,
    embedding: Float32,
    image_present: NDArray[np.bool_],
    sensors: Float32,
    haze: Float32,
    hour: Float32,
) -> Shares:
    """Shares of N estimates; arguments as `Head.predict` takes them, rows on which the head speaks.

    The hour is no player: always shown. A sensor that the head does not hear has no share.
    """
    rows = len(embedding)
    reference = reference_aqi(head)
    sensors = trusted_readings(head.bundle, sensors)
    known = np.concatenate([~np.isnan(sensors), np.asarray(image_present, bool)[:, None]], axis=1)
    if not known.any(axis=1).all():
        raise ArrayError(
            f"row {int(np.argmin(known.any(axis=1)))} has neither a frame nor a sensor that the head hears"
        )
    # Coalitions that differ only in missing inputs have the same value: evaluate each that differs once.
    bits = (_MEMBERS[None] & known[:, None]) @ (1 << np.arange(_COUNT))
    unique = np.unique(bits + _COALITIONS * np.arange(rows)[:, None])
    row, coalition = unique // _COALITIONS, unique % _COALITIONS
    row, coalition = row[coalition > 0], coalition[coalition > 0]
    shown = _MEMBERS[coalition]
    aqi = head.aqi(
        embedding[row],
        shown[:, -1],
        np.where(shown[:, :-1], sensors[row], np.float32(np.nan)),
        haze[row],
        hour[row],
    )
    value = np.full((rows, _COALITIONS), reference)
    value[row, coalition] = aqi
    value = np.take_along_axis(value, bits, axis=1)
    # Row by row: a matrix product of the whole batch may differ in the last bit with the batch's size.
    shares = np.array([_WEIGHTS @ one for one in value]).reshape(rows, _COUNT)
    return Shares(shares, reference, value[:, -1].astype(np.float32))
