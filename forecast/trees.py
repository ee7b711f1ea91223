"""Boosted trees as arrays, walked by ONNX Runtime: a row's sum is made in double precision, in the order of
the trees, whatever its batch.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from forecast.tree_graph import ROWS, session
from schemas.arrays import Float32

#: Rows that are walked together: what fits into a processor's cache.
_AT_ONCE: Final = 1_000


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
        said = [
            self._session.run(None, {ROWS: rows[start : start + _AT_ONCE, : self._asked].astype(np.float64)})
            for start in range(0, max(len(rows), 1), _AT_ONCE)
        ]
        return np.concatenate([part[0][:, 0] for part in said]).astype(np.float32)

    @property
    def _leaf(self) -> NDArray[np.bool_]:
        leaf: NDArray[np.bool_] = self.left == np.arange(len(self.left))
        return leaf

    @cached_property
    def _asked(self) -> int:
        """How many of a row's columns are looked at: those up to the last one."""
        return int(self.feature[~self._leaf].max(initial=0)) + 1

    @cached_property
    def _session(self) -> ort.InferenceSession:
        """What walks the trees, made when it is first asked for."""
        leaf = self._leaf
        asks = np.flatnonzero(~leaf)
        # `base` and trees that are a leaf alone are nodes of which both sides lead to it: one more each,
        # behind all others, and one more leaf for `base`.
        alone = np.flatnonzero(leaf[self.roots])
        place = np.where(leaf, np.cumsum(leaf) - 1, np.cumsum(~leaf) - 1)
        extra = np.concatenate([[int(leaf.sum())], place[self.roots[alone]]])
        children = np.stack([self.left[asks], self.right[asks]])
        roots = place[self.roots]
        roots[alone] = len(asks) + 1 + np.arange(len(alone))
        none = np.zeros(len(extra))
        return session(
            np.concatenate([self.feature[asks], none.astype(np.uint8)]),
            np.concatenate([self.threshold[asks].astype(np.float64), none]),
            np.concatenate([self.missing_left[asks], none.astype(np.bool_)]),
            np.concatenate([place[children], [extra, extra]], axis=1),
            np.concatenate([leaf[children], [none == 0, none == 0]], axis=1),
            np.concatenate([[len(asks)], roots]),
            np.append(self.value[leaf].astype(np.float64), self.base),
        )

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
