"""Trees as a graph that ONNX Runtime walks: its operator `TreeEnsemble`, in double precision.

Sums are made in the order of the trees, for each row by itself. The graph is written field by field, as
protocol buffers are on the wire: the package `onnx`, which would do it, is 30 MB that only training needs.
"""

from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from schemas.arrays import Float64

#: Name of the graph's input.
ROWS: Final = "rows"
_DOMAIN: Final = "ai.onnx.ml"
#: Versions of the file format, of the standard operators and of those of `_DOMAIN`.
_FORMAT, _OPERATORS, _TREES = 10, 21, 5
#: Numbers that protocol buffers and ONNX give: kinds of a field, types of an element and of an attribute.
_VARINT, _BYTES = 0, 2
_DOUBLE, _UINT8 = 11, 2
_INT, _TENSOR, _INTS = 2, 4, 7


def session(
    feature: NDArray[np.integer], threshold: Float64, missing_left: NDArray[np.bool_],
    children: NDArray[np.integer], to_leaf: NDArray[np.bool_], roots: NDArray[np.integer], leaves: Float64,
) -> ort.InferenceSession:  # fmt: skip
    """A session from "rows" (rows, columns) float64, of so many columns as are asked for, to sums (rows, 1).

    Args:
        feature, threshold, missing_left: (nodes,) of each node that asks which column it looks at, up to
            which value a row goes left, and whether NaN does.
        children, to_leaf: (2, nodes) where left and right lead, and whether that is the place of a leaf.
        roots: nodes with which trees begin, in the order in which they are summed.
        leaves: (leaves,) what each adds.
    """
    attributes = [
        _tensor("nodes_splits", _DOUBLE, threshold.astype("<f8")),
        _tensor("nodes_modes", _UINT8, np.zeros(len(feature), np.uint8)),  # at most: left
        _tensor("leaf_weights", _DOUBLE, leaves.astype("<f8")),
        _whole("n_targets", 1),
        _whole("aggregate_function", 1),  # the sum
        *(
            _wholes(name, values)
            for name, values in (
                ("nodes_featureids", feature), ("nodes_missing_value_tracks_true", missing_left),
                ("nodes_truenodeids", children[0]), ("nodes_falsenodeids", children[1]),
                ("nodes_trueleafs", to_leaf[0]), ("nodes_falseleafs", to_leaf[1]),
                ("tree_roots", roots), ("leaf_targetids", np.zeros(len(leaves), np.int64)),
            )
        ),
    ]  # fmt: skip
    node = _text(1, ROWS) + _text(2, "sums") + _text(4, "TreeEnsemble") + _text(7, _DOMAIN)
    node += b"".join(_bytes(5, attribute) for attribute in attributes)
    graph = _bytes(1, node) + _text(2, "trees")
    graph += _bytes(11, _values(ROWS, int(feature.max()) + 1)) + _bytes(12, _values("sums", 1))
    versions = _number(2, _OPERATORS), _text(1, _DOMAIN) + _number(2, _TREES)
    model = _number(1, _FORMAT) + _bytes(7, graph) + b"".join(_bytes(8, one) for one in versions)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # An arena of its own for each of a hundred sessions is memory for nothing.
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _values(name: str, columns: int) -> bytes:
    """What goes in or comes out: doubles, any number of rows of so many columns."""
    shape = _bytes(1, _text(2, "any")) + _bytes(1, _number(1, columns))
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, _DOUBLE) + _bytes(2, shape)))


def _tensor(name: str, kind: int, values: NDArray[np.generic]) -> bytes:
    tensor = _number(1, len(values)) + _number(2, kind) + _bytes(9, values.tobytes())
    return _text(1, name) + _number(20, _TENSOR) + _bytes(5, tensor)


def _whole(name: str, value: int) -> bytes:
    return _text(1, name) + _number(20, _INT) + _number(3, value)


def _wholes(name: str, values: NDArray[np.generic]) -> bytes:
    return _text(1, name) + _number(20, _INTS) + _bytes(8, _varints(values.astype(np.int64)))


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _number(field: int, value: int) -> bytes:
    return _varints(np.array([field << 3 | _VARINT, value]))


def _bytes(field: int, value: bytes) -> bytes:
    return _varints(np.array([field << 3 | _BYTES, len(value)])) + value


def _varints(values: NDArray[np.int64]) -> bytes:
    """Whole numbers from 0 on, seven bits a byte, the lowest first; all but a number's last byte have the
    eighth bit set.
    """
    size = max(-(-int(values.max(initial=1)).bit_length() // 7), 1)
    left = values[:, None] >> (7 * np.arange(size + 1))
    some = (left[:, :-1] & 127 | (left[:, 1:] > 0) << 7).astype(np.uint8)
    kept = left[:, :-1] > 0
    kept[:, 0] = True
    return some[kept].tobytes()
