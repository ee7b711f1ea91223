"""Grad-CAM of the AQI estimate, from the bundle's ONNX graphs with NumPy (Selvaraju et al. 2017).

The encoder's last feature map A (C, h, w) is an output of encoder.onnx. The gradient of the AQI with
respect to its global mean is analytic (projection, then the head's ReLU network) and is what explain.onnx
computes, so that no automatic differentiation is needed:

    weight_c = mean over i, j of dAQI / dA_cij = (dAQI / dmean_c) / (h w)
    cam_ij   = ReLU(sum over c of weight_c A_cij)

Summed over all fields (i, j), what is inside the ReLU is sum over c of (dAQI / dmean_c) mean_c: a field's cam
is what it adds to the estimate, in points, to first order.

A positive cam marks where the picture raises the estimate; `negative` asks for what lowers it.
"""

import io
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camera.haze import haze
from model.bundle.bundle import EXPLAIN_FILE, Bundle
from model.bundle.runtime import Encoder, head_feeds, session, trusted_readings
from model.errors import BundleError
from schemas.arrays import Float32
from schemas.errors import ArrayError

__all__ = ["RAMP", "Explainer", "Heatmap", "overlay_png", "scale_end"]

#: Colours from nothing to the most, at even distances: from dark to light, told apart by eyes that see few
#: colours (after Matplotlib's magma, CC0). The page's legend has the same.
RAMP: Final = ((59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
#: How much of the picture they cover, and from which share of the most on: below, it shows through.
_COVER: Final = 0.7
_COVERS_FROM: Final = 0.4
#: End of the scale of a picture that hardly moves the estimate, AQI points.
_LEAST_END: Final = 0.1


class Heatmap(NamedTuple):
    """Where a picture moves the AQI."""

    cam: Float32  #: (h, w) >= 0, AQI points that each field of the picture adds, to first order
    familiarity: float  #: share with which the head uses this picture at all


class Explainer:
    """Grad-CAM for one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        if EXPLAIN_FILE not in bundle.files:
            raise BundleError(
                f"bundle {bundle.id} has no {EXPLAIN_FILE}: only heads with concat fusion can be explained"
            )
        self._bundle = bundle
        self._encoder = Encoder(bundle)
        self._session = session(bundle, EXPLAIN_FILE, 1)

    def explain(
        self, image: NDArray[np.uint8], sensors: Float32, hour: float = float("nan"), negative: bool = False
    ) -> Heatmap:
        """Grad-CAM of the estimate made from one picture and its sensors.

        Args:
            image: uint8 (H, W, 3) RGB as the encoder takes it.
            sensors: (6,) ug/m3, NaN = missing.
            hour: local mean solar hour, NaN = unknown.
            negative: show what lowers the estimate.
        """
        if sensors.shape != (6,):
            raise ArrayError(f"sensors has shape {sensors.shape}, expected (6,)")
        features, embedding = self._encoder.feature_map(image)
        feeds = head_feeds(
            embedding[None],
            np.ones(1, dtype=bool),
            trusted_readings(self._bundle, sensors[None].astype(np.float32)),
            haze(image)[None],
            np.array([hour], np.float32),
        )
        gradient, familiarity = self._session.run(["aqi_gradient", "familiarity"], feeds)
        weight = gradient[0] / (features.shape[1] * features.shape[2])
        cam = np.tensordot(-weight if negative else weight, features, axes=1)
        return Heatmap(np.maximum(cam, 0).astype(np.float32), float(familiarity[0, 0]))


def scale_end(cam: Float32) -> float:
    """AQI points of the brightest colour: what adds next to nothing shall not look as if it did."""
    return max(_LEAST_END, float(cam.max()))


def overlay_png(image: NDArray[np.uint8], cam: Float32) -> bytes:
    """PNG of a picture (H, W, 3) uint8 with a map (h, w) >= 0 laid over it: clear at 0, else in `RAMP`."""
    height, width = image.shape[:2]
    heat = np.asarray(
        Image.fromarray(cam / scale_end(cam)).resize((width, height), Image.Resampling.BICUBIC)
    ).clip(0, 1)[..., None]
    places = np.linspace(0, 1, len(RAMP))
    colour = np.concatenate([np.interp(heat, places, [one[i] for one in RAMP]) for i in range(3)], axis=2)
    cover = _COVER * np.minimum(1, heat / _COVERS_FROM)
    mixed = image * (1 - cover) + colour * cover
    out = io.BytesIO()
    Image.fromarray(np.round(mixed).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
