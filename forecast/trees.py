"""Boosted trees as arrays, walked by numpy: a row's sum is made in the order of the trees, whatever its
batch.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import Float32

#: Rows times trees that are walked together: what fits into a processor's cache.
_AT_ONCE: Final = 200_000


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees one after another in flat arrays, each node by its place. One is equal to itself alone.

    `left` and `right` are places of children, a leaf has itself as both; `feature` and `threshold` (at most:
    left) say where a row goes, `missing_left` where NaN goes; `value` is a leaf's share of the sum that
    starts at `base`.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.uint8]
    threshold: Float32
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Float32
    depth: int
    base: float

    def predict(self, rows: Float32) -> Float32:
        """(rows, columns) float32 to (rows,)."""
        chunk = max(_AT_ONCE // max(len(self.roots), 1), 1)
        return np.concatenate(
            [self._predict(rows[start : start + chunk]) for start in range(0, max(len(rows), 1), chunk)]
        )

    def _predict(self, rows: Float32) -> Float32:
        flat, columns, trees = rows.reshape(-1), rows.shape[1], len(self.roots)
        place = np.tile(self.roots, len(rows))
        # Each step moves those that have not come to a leaf: most trees have a few branches that are long.
        going = np.arange(len(place))
        while len(going):
            node = place[going]
            seen = flat[going // trees * columns + self.feature[node]]
            goes_left = np.where(np.isnan(seen), self.missing_left[node], seen <= self.threshold[node])
            node = np.where(goes_left, self.left[node], self.right[node])
            place[going] = node
            going = going[self.left[node] != node]
        total = np.full(len(rows), self.base, np.float64)
        for leaf in place.reshape(len(rows), trees).T:
            total += self.value[leaf]
        return total.astype(np.float32)

    def packed(self, name: str) -> dict[str, NDArray[np.generic]]:
        """As arrays for a file: children within their tree, thresholds as they are, values in half
        precision.
        """
        starts = np.zeros(len(self.feature), np.int32)
        starts[self.roots] = self.roots
        starts = np.maximum.accumulate(starts)
        return {
            f"{name}.roots": self.roots, f"{name}.feature": self.feature, f"{name}.threshold": self.threshold,
            f"{name}.missing_left": np.packbits(self.missing_left),
            f"{name}.left": (self.left - starts).astype(np.uint8),
            f"{name}.right": (self.right - starts).astype(np.uint8),
            f"{name}.value": self.value.astype(np.float16),
            f"{name}.shape": np.array([self.depth, self.base], np.float64),
        }  # fmt: skip

    @staticmethod
    def unpacked(name: str, arrays: "np.lib.npyio.NpzFile | dict[str, NDArray[np.generic]]") -> "Forest":
        """What `packed` made."""
        roots = arrays[f"{name}.roots"].astype(np.int32)
        feature = arrays[f"{name}.feature"].astype(np.uint8)
        starts = np.zeros(len(feature), np.int32)
        starts[roots] = roots
        starts = np.maximum.accumulate(starts)
        depth, base = arrays[f"{name}.shape"]
        return Forest(
            roots, feature, arrays[f"{name}.threshold"].astype(np.float32),
            np.unpackbits(
                arrays[f"{name}.missing_left"].astype(np.uint8), count=len(feature)
            ).astype(np.bool_),
            arrays[f"{name}.left"].astype(np.int32) + starts,
            arrays[f"{name}.right"].astype(np.int32) + starts,
            arrays[f"{name}.value"].astype(np.float32), int(depth), float(base),
        )  # fmt: skip
