"""Running a bundle with ONNX Runtime: frames to features, features and readings to estimates. No torch.

A row's result never depends on the rows beside it, so that a window recomputed after a crash, in another
batch, gives the same bytes. The encoder runs picture by picture (on a CPU that is also the fastest: 7.2 ms
a frame against 7.8 in batches of 16). The head's layers are 1x1 convolutions, which ONNX Runtime computes
row by row, where a matrix product's kernel changes with the batch; and its rows are padded to a multiple of
16, since the vectorised logarithm differs in the last bit from the scalar one used for a remainder.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from camera.haze import HAZE_SIZE
from model.bundle.bundle import (
    EMBEDDING_SIZE,
    ENCODER_FILE,
    HEAD_FILE,
    PATTERNS,
    UNSEEN_AQI,
    UNSEEN_AQI_WITHOUT_PM25,
    Bundle,
)
from model.bundle.targets import HIGHEST
from model.errors import BundleError
from schemas.arrays import Bool, Float32
from schemas.errors import ArrayError
from schemas.parameters import POLLUTANTS
from schemas.reading import LIMITS

__all__ = [
    "MARGIN",
    "Encoder",
    "FrameEmbedding",
    "Head",
    "HeadOutput",
    "head_feeds",
    "pattern_index",
    "pool",
    "session",
    "trusted_readings",
]


#: Rows of a head run are a multiple of this: the widest vector register holds 16 float32.
_LANES: Final = 16
_SENSORS: Final = len(POLLUTANTS)
_PM25: Final = POLLUTANTS.index("pm25")
_PM10: Final = POLLUTANTS.index("pm10")
#: How far beyond the training values an input, or what the head makes of it, may lie, on the scale that the
#: network computes in, log(1 + ug/m3). At 1.65 times the highest PM10 it still says what could be; at six
#: times it says more PM2.5 than the PM10 that it was shown, at fourteen times 25 times as much.
MARGIN: Final = 0.5
#: Magnitudes that no picture comes near: an embedding whose products would leave float32 (those of pictures
#: are some ten), and haze statistics: shares and gradients of pixels between 0 and 1, at most 2.
_EMBEDDING: Final = 1e4
_HAZE: Final = 4.0


class FrameEmbedding(NamedTuple):
    """What the encoder says of one picture."""

    embedding: Float32  #: (128,), h_I: the image side of the head
    projection: Float32  #: (64,), fixed projection of the pooled features, for the virtual sensor


class HeadOutput(NamedTuple):
    """Estimates for N windows with their 90 % intervals.

    Concentrations in ug/m3, within the limits of a measurement, PM2.5 never above PM10; NaN for a pollutant
    that the bundle never learned or withholds. A row on which the head is silent is NaN throughout.
    """

    aqi: Float32  #: (N,), 0 to `model.bundle.targets.HIGHEST`
    aqi_lo: Float32  #: (N,)
    aqi_hi: Float32  #: (N,)
    sensors: Float32  #: (N, 6)
    sensors_lo: Float32  #: (N, 6), never below 0
    sensors_hi: Float32  #: (N, 6)
    pattern: NDArray[np.int64]  #: (N,), of what the head used, index into `PATTERNS`; -1: nothing

    def speaks(self, row: int) -> bool:
        """Whether the head says anything of this row."""
        return not bool(np.isnan(self.aqi[row]))

    def shown(self, row: int) -> str:
        """What the head used of this row, by name; empty where it is silent."""
        pattern = int(self.pattern[row])
        return PATTERNS[pattern] if pattern >= 0 else ""

    def concentration(self, row: int, parameter: int) -> float | None:
        """One estimate in ug/m3; None where the bundle has none."""
        value = float(self.sensors[row, parameter])
        return None if np.isnan(value) else value


def session(bundle: Bundle, file: str, threads: int) -> ort.InferenceSession:
    """ONNX Runtime session on one of the bundle's verified graphs, CPU, without spinning threads."""
    if threads < 1:
        raise ArrayError(f"threads must be at least 1, got {threads}")
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
        raise ArrayError("no frame to pool; mark the window's image as missing instead")
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
        raise ArrayError(
            f"image {index}: the encoder takes uint8 (H, W, 3) RGB with sides of at least 32,"
            f" got {image.dtype} {image.shape}"
        )


class Head:
    """The bundle's fusion head. One thread: a batch of windows takes well under a millisecond."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._session = session(bundle, HEAD_FILE, 1)
        self._trusted = np.array([name in bundle.trusted for name in POLLUTANTS])
        ranges = np.array([bundle.range(name) for name in POLLUTANTS])
        self._least, self._most = np.log1p(ranges[:, 0]) - MARGIN, np.log1p(ranges[:, 1]) + MARGIN
        #: The same in ug/m3: inputs are compared without a logarithm, whose last bit depends on the batch.
        self._least_shown, self._most_shown = np.expm1(self._least), np.expm1(self._most)
        self._limit = np.log1p([LIMITS[name][1] for name in POLLUTANTS])
        self._unseen = np.array([bundle.unseen(name) for name in POLLUTANTS])
        tables = bundle.manifest.intervals
        self._aqi_factor = np.array([tables.aqi[name] for name in PATTERNS], dtype=np.float32)
        self._sensor_factor = np.array(
            [[tables.sensors[name][parameter] for parameter in POLLUTANTS] for name in PATTERNS],
            dtype=np.float32,
        )

    def predict(
        self,
        embedding: Float32,
        image_present: Bool,
        sensors: Float32,
        haze: Float32 | None = None,
        hour: Float32 | None = None,
        unseen: Bool | None = None,
    ) -> HeadOutput:
        """Estimate AQI and the concentrations that the bundle is trusted with for N windows.

        The head is silent on a row of which it may use nothing (sensors of withheld pollutants alone), and
        where an input, or its answer, lies further than `MARGIN` outside what it was trained on: it would
        extrapolate, exponentially.

        Args:
            embedding: (N, 128), mean over the window's frames; ignored where `image_present` is False.
            image_present: (N,), False where no frame of the window passed.
            sensors: (N, 6) ug/m3 in `POLLUTANTS` order, NaN = missing. Negative values count as zero.
            haze: (N, 20), mean over the same frames; NaN = unknown. None: unknown in every row.
            hour: (N,), local mean solar hour 0..24 (`camera.sun.solar_hour`), NaN = unknown. None: all.
            unseen: (N,), True at a site that no training window came from: intervals are as much wider as
                it takes there. None: no row.

        Raises:
            ArrayError: wrong shapes, infinite values, or a row with neither a frame nor a sensor.
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
                raise ArrayError(f"{name} has shape {array.shape}, expected {shape}")
            if name != "image_present" and np.isinf(array).any():
                raise ArrayError(f"{name} has an infinite value; mark what is unknown with NaN")
        present = np.asarray(image_present, dtype=bool)
        sensor_present = ~np.isnan(sensors)
        empty = ~present & ~sensor_present.any(axis=1)
        if empty.any():
            raise ArrayError(
                f"row {int(np.argmax(empty))} has neither a frame nor a sensor: nothing to estimate from"
            )
        if np.isnan(embedding[present]).any():
            raise ArrayError("embedding has NaN in a row whose image_present is True")
        trusted = trusted_readings(self.bundle, sensors)
        pattern = pattern_index(present, ~np.isnan(trusted))
        silent = (pattern < 0) | self._beyond(embedding, present, trusted, haze)
        # What is silent is run all the same, on zeros: rows do not depend on each other.
        speaks = ~silent
        aqi, aqi_scale, log_sensors, log_scale = self.graph_outputs(
            np.where(speaks[:, None], embedding, 0),
            present & speaks,
            np.where(speaks[:, None], trusted, np.float32(np.nan)),
            np.where(speaks[:, None], haze, np.float32(np.nan)),
            hour,
        )
        unsure = ~np.isfinite(aqi_scale[:, 0]) | ~np.isfinite(log_scale).all(axis=1)
        log = log_sensors.astype(np.float64)
        scale = np.where(np.isfinite(log_scale), log_scale, 1.0).astype(np.float64)
        outside = ((log < self._least) | (log > self._most)) & self._trusted
        centre = HIGHEST / 2
        off_scale = np.abs(aqi[:, 0].astype(np.float64) - centre) > centre * math.exp(MARGIN)
        silent |= outside.any(axis=1) | off_scale | unsure
        log = np.where(self._trusted & ~silent[:, None], log, np.nan)
        log[:, _PM25], log[:, _PM10] = _consistent(log[:, [_PM25, _PM10]], scale[:, [_PM25, _PM10]])
        half = self._sensor_factor[pattern] * scale
        if unseen is not None:
            half = half * np.where(unseen[:, None], self._unseen, 1.0)
        # Around the estimate as given: one that was cut at 0 must not carry an interval that lies below 0.
        aqi = np.where(silent[:, None], np.float32(np.nan), np.clip(aqi, 0, HIGHEST))
        aqi_half = self._aqi_factor[pattern, None] * aqi_scale
        if unseen is not None:
            wider = np.where(np.isnan(trusted[:, _PM25]), UNSEEN_AQI_WITHOUT_PM25, UNSEEN_AQI)
            aqi_half = aqi_half * np.where(unseen, wider, 1.0).astype(np.float32)[:, None]
        return HeadOutput(
            aqi=aqi[:, 0],
            aqi_lo=np.maximum(aqi - aqi_half, 0)[:, 0],
            aqi_hi=np.minimum(aqi + aqi_half, HIGHEST)[:, 0],
            sensors=self._concentration(log),
            sensors_lo=self._concentration(log - half),
            sensors_hi=self._concentration(log + half),
            pattern=np.where(silent, -1, pattern),
        )

    def aqi(
        self, embedding: Float32, image_present: Bool, sensors: Float32, haze: Float32, hour: Float32
    ) -> Float32:
        """(N,) the AQI of rows that are never silent: parts of one on which the head speaks."""
        [aqi, *_] = self.graph_outputs(
            embedding, image_present, trusted_readings(self.bundle, sensors), haze, hour
        )
        return np.clip(aqi[:, 0], 0, HIGHEST)

    def _beyond(self, embedding: Float32, present: Bool, trusted: Float32, haze: Float32) -> Bool:
        """(N,) whether an input lies far outside training."""
        # Missing values are neither below nor above.
        values = np.maximum(trusted, 0).astype(np.float64)
        off = ((values < self._least_shown) | (values > self._most_shown)).any(axis=1)
        picture = (np.abs(embedding) > _EMBEDDING).any(axis=1) | (np.abs(haze) > _HAZE).any(axis=1)
        beyond: Bool = off | present & picture
        return beyond

    def _concentration(self, log: NDArray[np.float64]) -> Float32:
        """ug/m3 from log(1 + ug/m3), within the limits; float64, so that the last bits of exp do not show."""
        return np.expm1(np.clip(log, 0.0, self._limit)).astype(np.float32)

    def graph_outputs(
        self, embedding: Float32, present: Bool, sensors: Float32, haze: Float32, hour: Float32
    ) -> list[Float32]:
        """What head.onnx itself gives: AQI and its scale (N, 1), log(1 + ug/m3) and its scale (N, 6), of rows
        as they are. Padded for the run and cut again.
        """
        names = ["aqi", "aqi_scale", "log_sensors", "log_sensors_scale"]
        outputs = self._session.run(names, head_feeds(embedding, present, sensors, haze, hour))
        return [output[: len(embedding)] for output in outputs]


def trusted_readings(bundle: Bundle, sensors: Float32) -> Float32:
    """Readings (N, 6) without those of pollutants that the bundle never learned or withholds: a reading in
    another unit than the network's own would mislead it.
    """
    trusted = np.array([name in bundle.trusted for name in POLLUTANTS])
    return np.where(trusted, sensors, np.float32(np.nan))


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


def _consistent(
    log: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PM2.5 and PM10 (N,) from (N, 2), log: where PM2.5 came out above PM10, of which it is a part, both are
    their mean, each with the weight of its precision (the likeliest pair that is in order).
    """
    fine, coarse = log[:, 0], log[:, 1]
    share = scale[:, 1] ** 2 / (scale[:, 0] ** 2 + scale[:, 1] ** 2)
    both = share * fine + (1.0 - share) * coarse
    above = fine > coarse
    return np.where(above, both, fine), np.where(above, both, coarse)
