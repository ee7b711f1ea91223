"""How much chance there is in a mean over time: blocks of hours, drawn anew.

Errors of neighbouring hours go together, so not hours are drawn but blocks of them: whole weeks, say (the
block bootstrap; Künsch 1989).
"""

from typing import Final

import numpy as np

from schemas.arrays import Float64, Int64

_DRAWS: Final = 200


def drawn_means(blocks: Int64, values: Float64) -> Float64:
    """Means of values over as many blocks, drawn with replacement; the same blocks make the same draws.

    Args:
        blocks: (n,) number of the block that each row lies in.
        values: (n, scores).

    Returns:
        (draws, scores).
    """
    _, place = np.unique(blocks, return_inverse=True)
    count = int(place.max()) + 1
    sums = np.stack([np.bincount(place, values[:, k], count) for k in range(values.shape[1])], 1)
    sizes = np.bincount(place, minlength=count)
    chosen = np.random.default_rng(0).integers(0, count, (_DRAWS, count))
    means: Float64 = sums[chosen].sum(1) / sizes[chosen].sum(1)[:, None]
    return means
