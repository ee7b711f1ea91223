"""Readers of what earlier versions stored of a station, one step each (`schemas.state`).

They work on plain data and name numbers and fields as they were then, whatever the types are today.
"""

import base64
import json
import struct
import zlib
from typing import Any, Final

import numpy as np

#: Arrays of version 5's history, by name, and of which kind they are.
_HISTORY_5: Final = {
    "mean": "<f8", "measured_s": "<i4", "imputed_s": "<i4", "below": "<f4", "above": "<f4",
    "persistence": "<f4",
}  # fmt: skip

#: Numbers of a virtual sensor of version 1, in order.
_LEVEL_1: Final = (
    "t_ms", "x", "c", "pxx", "pxc", "pcc", "last", "camera", "overall", "camera_ms", "overall_ms",
    "sensor_ms",
)  # fmt: skip
_ERRORS_1: Final = (
    "mean", "mean_hours", "walk", "walk_count", "anchor_ms", "anchor", "camera", "camera_count",
    "global_count", "global_mean", "global_var", "global_cov", "global_level", "global_level_var", "lowest",
    "highest", "strain",
)  # fmt: skip
_SHADOWS_1: Final = 3
_LINE_1: Final = 63
_MOMENTS_1: Final = 64 * 65 // 2


def station_of_version_5(plain: Any) -> Any:
    """JSON to version 6. History was of its own version 3, its arrays base64."""
    air, history = plain["air"], plain["air"]["history"]
    if history["v"] != 3:
        raise ValueError(f"a history of version {history['v']}, not 3")
    hour = air["gathered"]
    return {
        "sensors": [[[sensor, name], state] for sensor, name, state in plain["sensors"]],
        "cameras": plain["cameras"],
        "hour": plain["hour"],
        "history": {
            "horizon_hours": history["horizon_hours"],
            "reference_celsius": history["reference_celsius"],
            "through_ms": history["through_ms"],
            "hours": _slots_5(history["hours"]),
            "quarters": _slots_5(history["quarters"]),
        },
        "last": air["last"],
        "gathered": hour,
    }


def _slots_5(slots: Any) -> Any:
    shape = (slots["rows"], len(slots["parameters"]))
    arrays = {
        name: (kind, shape, base64.b64decode(slots[name], validate=True))
        for name, kind in _HISTORY_5.items()
        if name in slots
    }
    return {"end_ms": slots["end_ms"], "parameters": slots["parameters"], **arrays}


def sensors_of_version_1(plain: Any) -> Any:
    """JSON to version 6. A virtual sensor was packed bytes of its own version 2, base64."""
    return {
        "virtual": {name: _virtual_1(base64.b64decode(text)) for name, text in plain["virtual"].items()},
        "finders": [[camera, _finder_1(finder)] for camera, finder in plain["finders"]],
    }


def _finder_1(finder: Any) -> Any:
    arrays = {name: _array(np.array(finder[name], "<f8")) for name in ("mean", "square", "product")}
    band = finder["found"]
    found = None if band is None else dict(zip(("top", "bottom", "left", "right"), band, strict=True))
    return finder | arrays | {"found": found}


def _virtual_1(data: bytes) -> Any:
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise ValueError("the checksum of a virtual sensor is wrong")
    version, length = struct.unpack_from("<BH", data)
    if version != 2:
        raise ValueError(f"a virtual sensor of version {version}, not 2")
    rest = json.loads(data[3 : 3 + length])
    trackers = rest["conformal"]
    doubles = len(_LEVEL_1) * (1 + _SHADOWS_1) + len(_ERRORS_1) + 2 * len(trackers)
    numbers = iter(np.frombuffer(data, "<f8", doubles, 3 + length).tolist())
    singles = np.frombuffer(data[:-4], "<f4", offset=3 + length + 8 * doubles)
    if len(singles) != 2 * _LINE_1 + _MOMENTS_1:
        raise ValueError(f"a virtual sensor has {len(singles)} weights and moments")
    return {
        "t_ms": rest["t_ms"],
        "layout": rest["layout"],
        "pairs": rest["pairs"],
        "level": {name: next(numbers) for name in _LEVEL_1},
        "errors": {name: next(numbers) for name in _ERRORS_1},
        "shadows": [{name: next(numbers) for name in _LEVEL_1} for _ in range(_SHADOWS_1)],
        "conformal": {
            "trackers": [
                [name, {"threshold": next(numbers), "count": count, "rolling": next(numbers)}]
                for name, count in trackers
            ]
        },
        "settled": _array(singles[:_LINE_1]),
        "settled_ms": rest["settled_ms"],
        "former_layout": rest["former"],
        "former": _array(singles[_LINE_1 : 2 * _LINE_1]),
        "moments": _array(singles[2 * _LINE_1 :]),
        "strange": rest["strange"],
    }


def _array(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()
