"""Running a bundle with ONNX Runtime: frames to features, features and readings to estimates. No torch.

A row's result never depends on the rows beside it, so that a window recomputed after a crash, in another
batch, gives the same bytes. The encoder runs picture by picture (on a CPU that is also the fastest: 7.2 ms
a frame against 7.8 in batches of 16). The head's layers are 1x1 convolutions, which ONNX Runtime computes
row by row, where a matrix product's kernel changes with the batch; and its rows are padded to a multiple of
16, since the vectorised logarithm differs in the last bit from the scalar one used for a remainder.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from model.bundle import EMBEDDING_SIZE, ENCODER_FILE, HEAD_FILE, PATTERNS, Bundle
from model.errors import BundleError, InputError
from model.haze import HAZE_SIZE
from schemas.parameters import PARAMETERS

__all__ = [
    "Encoder",
    "FrameEmbedding",
    "Head",
    "HeadOutput",
    "head_feeds",
    "pattern_index",
    "pool",
    "session",
]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

#: Rows of a head run are a multiple of this: the widest vector register holds 16 float32.
_LANES: Final = 16
_SENSORS: Final = len(PARAMETERS)


class FrameEmbedding(NamedTuple):
    """What the encoder says of one picture."""

    embedding: Float32  #: (128,), h_I: the image side of the head
    projection: Float32  #: (64,), fixed projection of the pooled features, for the virtual sensor


class HeadOutput(NamedTuple):
    """Estimates for N windows with their 90 % intervals.

    Concentrations in ug/m3, NaN for a pollutant that the bundle never learned.
    """

    aqi: Float32  #: (N,)
    aqi_lo: Float32  #: (N,), never below 0
    aqi_hi: Float32  #: (N,)
    sensors: Float32  #: (N, 6)
    sensors_lo: Float32  #: (N, 6), never below 0
    sensors_hi: Float32  #: (N, 6)
    pattern: NDArray[np.int64]  #: (N,), index into `model.bundle.PATTERNS`

    def concentration(self, row: int, parameter: int) -> float | None:
        """One estimate in ug/m3; None where the bundle has none."""
        value = float(self.sensors[row, parameter])
        return None if np.isnan(value) else value


def session(bundle: Bundle, file: str, threads: int) -> ort.InferenceSession:
    """ONNX Runtime session on one of the bundle's verified graphs, CPU, without spinning threads."""
    if threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads would take the core from the event loop between batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(bundle.files[file], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each kind of failure
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {file} of {bundle.id}: {error}"
        ) from error


def pattern_index(image_present: Bool, sensors_present: Bool) -> NDArray[np.int64]:
    """Row by row, which of `PATTERNS` applies; -1 where nothing is shown.

    `image_present` (N,), `sensors_present` (N, 6).
    """
    shown = np.concatenate([sensors_present, np.asarray(image_present, dtype=bool)[:, None]], axis=1)
    index: NDArray[np.int64] = shown @ (1 << np.arange(shown.shape[1])) - 1
    return index


def pool(rows: Sequence[Float32]) -> Float32:
    """One vector for a window: the mean of its frames' vectors, summed in float64 in the order given."""
    if not rows:
        raise InputError("no frame to pool; mark the window's image as missing instead")
    mean: NDArray[np.float64] = np.stack(rows).astype(np.float64).mean(axis=0)
    return mean.astype(np.float32)


class Encoder:
    """The bundle's image encoder."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle = bundle
        self._session = session(bundle, ENCODER_FILE, threads)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[FrameEmbedding]:
        """Embed pictures; sizes may differ within one call.

        Args:
            images: uint8 (H, W, 3) RGB each, sides of at least 32 pixels.

        Returns:
            one `FrameEmbedding` per image, in order.
        """
        for index, image in enumerate(images):
            _check_image(image, index)
        results = []
        for image in images:
            embedding, projection = self._session.run(["embedding", "projection"], {"frames": image[None]})
            results.append(FrameEmbedding(embedding[0], projection[0]))
        return results

    def feature_map(self, image: NDArray[np.uint8]) -> tuple[Float32, Float32]:
        """Last feature map (C, h, w) and embedding (128,) of one picture, for Grad-CAM."""
        _check_image(image, 0)
        features, embedding = self._session.run(["feature_map", "embedding"], {"frames": image[None]})
        return features[0], embedding[0]


def _check_image(image: NDArray[np.uint8], index: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 32:
        raise InputError(
            f"image {index}: the encoder takes uint8 (H, W, 3) RGB with sides of at least 32,"
            f" got {image.dtype} {image.shape}"
        )


class Head:
    """The bundle's fusion head. One thread: a batch of windows takes well under a millisecond."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._session = session(bundle, HEAD_FILE, 1)
        self._learned = np.array([name in bundle.manifest.training.learned for name in PARAMETERS])
        tables = bundle.manifest.intervals
        self._aqi_factor = np.array([tables.aqi[name] for name in PATTERNS], dtype=np.float32)
        self._sensor_factor = np.array(
            [[tables.sensors[name][parameter] for parameter in PARAMETERS] for name in PATTERNS],
            dtype=np.float32,
        )

    def predict(
        self,
        embedding: Float32,
        image_present: Bool,
        sensors: Float32,
        haze: Float32 | None = None,
        hour: Float32 | None = None,
    ) -> HeadOutput:
        """Estimate AQI and all six concentrations for N windows.

        Args:
            embedding: (N, 128), mean over the window's frames; ignored where `image_present` is False.
            image_present: (N,), False where no frame of the window passed.
            sensors: (N, 6) ug/m3 in `PARAMETERS` order, NaN = missing. Negative values count as zero.
            haze: (N, 20), mean over the same frames; NaN = unknown. None: unknown in every row.
            hour: (N,), local mean solar hour 0..24 (`model.data.solar_hour`), NaN = unknown. None: all.

        Raises:
            InputError: wrong shapes, infinite values, or a row with neither a frame nor a sensor.
        """
        rows = len(embedding)
        if haze is None:
            haze = np.full((rows, HAZE_SIZE), np.nan, dtype=np.float32)
        if hour is None:
            hour = np.full(rows, np.nan, dtype=np.float32)
        for name, array, shape in (
            ("embedding", embedding, (rows, EMBEDDING_SIZE)),
            ("image_present", image_present, (rows,)),
            ("sensors", sensors, (rows, _SENSORS)),
            ("haze", haze, (rows, HAZE_SIZE)),
            ("hour", hour, (rows,)),
        ):
            if array.shape != shape:
                raise InputError(f"{name} has shape {array.shape}, expected {shape}")
            if name != "image_present" and np.isinf(array).any():
                raise InputError(f"{name} has an infinite value; mark what is unknown with NaN")
        present = np.asarray(image_present, dtype=bool)
        sensor_present = ~np.isnan(sensors)
        empty = ~present & ~sensor_present.any(axis=1)
        if empty.any():
            raise InputError(
                f"row {int(np.argmax(empty))} has neither a frame nor a sensor: nothing to estimate from"
            )
        if np.isnan(embedding[present]).any():
            raise InputError("embedding has NaN in a row whose image_present is True")
        pattern = pattern_index(present, sensor_present)
        # Of what was never learned, a reading would only add noise, and an estimate would be made up.
        shown = np.where(self._learned, sensors, np.float32(np.nan))
        outputs = self._run(embedding, present, shown, haze, hour)
        aqi, aqi_scale, log_sensors, log_scale = outputs
        log_sensors = np.where(self._learned, log_sensors, np.float32(np.nan))
        # Around the estimate as given: one that was cut at 0 must not carry an interval that lies below 0.
        aqi, aqi_half = np.maximum(aqi, 0), self._aqi_factor[pattern, None] * aqi_scale
        log_half = self._sensor_factor[pattern] * log_scale
        return HeadOutput(
            aqi=aqi[:, 0],
            aqi_lo=np.maximum(aqi - aqi_half, 0)[:, 0],
            aqi_hi=(aqi + aqi_half)[:, 0],
            sensors=_concentration(log_sensors),
            sensors_lo=_concentration(log_sensors - log_half),
            sensors_hi=_concentration(log_sensors + log_half),
            pattern=pattern,
        )

    def _run(
        self, embedding: Float32, present: Bool, sensors: Float32, haze: Float32, hour: Float32
    ) -> list[Float32]:
        """The graph's four outputs, rows padded for the run and cut again."""
        names = ["aqi", "aqi_scale", "log_sensors", "log_sensors_scale"]
        outputs = self._session.run(names, head_feeds(embedding, present, sensors, haze, hour))
        return [output[: len(embedding)] for output in outputs]


def head_feeds(
    embedding: Float32, present: Bool, sensors: Float32, haze: Float32, hour: Float32
) -> dict[str, Float32]:
    """Feeds of head.onnx for N windows, arguments as `Head.predict` takes them; rows padded to full lanes."""
    rows = len(embedding)
    fill = -rows % _LANES or (_LANES if rows == 0 else 0)

    def padded(array: NDArray[Any]) -> Float32:
        widths = [(0, fill)] + [(0, 0)] * (array.ndim - 1)
        return np.ascontiguousarray(np.pad(array, widths), dtype=np.float32)

    sensor_present = ~np.isnan(sensors)
    haze_present = present & ~np.isnan(haze).any(axis=1)
    angle = padded(hour) * np.float32(2.0 * np.pi / 24.0)
    return {
        "embedding": padded(np.where(present[:, None], embedding, 0)),
        "image_present": padded(present[:, None]),
        "haze": padded(np.where(haze_present[:, None], haze, 0)),
        "haze_present": padded(haze_present[:, None]),
        "sensors": padded(np.where(sensor_present, np.maximum(sensors, 0), 0)),
        "sensors_present": padded(sensor_present),
        # The centre of the unit circle stands for an unknown hour.
        "hour": np.nan_to_num(np.stack([np.sin(angle), np.cos(angle)], axis=1)),
    }


def _concentration(log: Float32) -> Float32:
    """ug/m3 from log(1 + ug/m3). In float64, so that the last bits of exp do not show in the result."""
    return np.maximum(np.expm1(log.astype(np.float64)), 0).astype(np.float32)
