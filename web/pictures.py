"""Cameras' newest pictures, small: what is kept of a frame is too small to know a face or a plate by.

They are in memory alone, for hours. The originals stay on their topic, and this server has no way to them.
"""

import io
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camera.errors import ImageRefused
from camera.image import decode
from model.bundle.bundle import EXPLAIN_FILE, Bundle
from model.bundle.gradcam import Explainer, overlay_png, scale_end
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.frame import accept_header
from schemas.parameters import POLLUTANTS

log = logging.getLogger(__name__)

#: The longest side of what is kept, pixels: a face twenty metres away is two or three of them.
SIDE: Final = 224
#: Cameras of which a picture is kept.
_CAMERAS: Final = 3000
_QUALITY: Final = 80


class SmallPicture(NamedTuple):
    """What is kept of a frame: when it was taken (ms), and a JPEG in the shape of the original."""

    at_ms: int
    jpeg: bytes
    size: tuple[int, int]


class HeatPicture(NamedTuple):
    """A picture with what raises the model's estimate laid over it, or where nothing does, what lowers it.

    `most`: AQI points that a field of the picture adds, or takes off, at most; `end`: those of the brightest
    colour; `fields`: how many there are, in a row and in a column.
    """

    png: bytes
    lowers: bool
    most: float
    end: float
    fields: tuple[int, int]


class CameraPictures:
    """The newest picture of every camera, for so many ms; with what the model looked at, on demand.

    `bundle`: the model's, read when the first is asked for.
    """

    def __init__(
        self, kept_ms: int, bundle: Callable[[], Bundle], now: Callable[[], float] = time.time
    ) -> None:
        self._kept_ms = kept_ms
        self._bundle = bundle
        self._now = now
        self._kept: OrderedDict[tuple[str, str], SmallPicture] = OrderedDict()
        self._lock = threading.Lock()
        self._explainer: Explainer | None = None
        self._explains: bool | None = None
        self._heat: OrderedDict[tuple[str, str, int], HeatPicture] = OrderedDict()

    def take(self, record: Any) -> None:
        """A frame's record. Raises Refused for one without its headers."""
        header = accept_header(record.headers)
        at = to_ms(header.time)
        name = header.station, header.camera
        kept = self._kept.get(name)
        if record.value is None or (kept is not None and kept.at_ms >= at):
            return
        if at < self._now() * 1000 - self._kept_ms:
            return
        try:
            decoded = decode(record.value, SIDE, SIDE)
        except ImageRefused:
            return  # vision refuses it, and says so
        width, height = decoded.source_size
        scale = SIDE / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        out = io.BytesIO()
        small = Image.fromarray(decoded.whole).resize(size, Image.Resampling.BILINEAR)
        small.save(out, "JPEG", quality=_QUALITY)
        with self._lock:
            self._kept[name] = SmallPicture(at, out.getvalue(), size)
            self._kept.move_to_end(name)
            while len(self._kept) > _CAMERAS:
                self._kept.popitem(last=False)

    def of(self, station: str) -> dict[str, SmallPicture]:
        """The pictures of a station by camera; none that is too old."""
        oldest = self._now() * 1000 - self._kept_ms
        with self._lock:
            for name in [name for name, one in self._kept.items() if one.at_ms < oldest]:
                del self._kept[name]
            return {camera: one for (owner, camera), one in self._kept.items() if owner == station}

    @property
    def explains(self) -> bool:
        """Whether the bundle can say what the model looks at."""
        if self._explains is None:
            self._explains = EXPLAIN_FILE in self._bundle().files
        return self._explains

    def heat(self, station: str, camera: str, picture: SmallPicture, estimate: Estimate) -> HeatPicture:
        """A picture with what moves the model's estimate laid over it: Grad-CAM.

        A thread's work: some 50 ms.
        """
        name = station, camera, picture.at_ms
        with self._lock:
            known = self._heat.get(name)
            if known is not None:
                return known
            if self._explainer is None:
                self._explainer = Explainer(self._bundle())
            spec = self._bundle().manifest.input
            small = Image.open(io.BytesIO(picture.jpeg)).convert("RGB")
            shown: NDArray[np.uint8] = np.asarray(small, dtype=np.uint8)
            taken = np.asarray(small.resize((spec.width, spec.height)), dtype=np.uint8)
            values = [_measured(estimate, one) for one in POLLUTANTS]
            sensors = np.array(values, np.float32)
            cam = self._explainer.explain(taken, sensors).cam
            lowers = not cam.any()
            if lowers:
                cam = self._explainer.explain(taken, sensors, negative=True).cam
            rows, columns = cam.shape
            made = HeatPicture(
                overlay_png(shown, cam), lowers, float(cam.max()), scale_end(cam), (columns, rows)
            )
            self._heat[name] = made
            while len(self._heat) > 64:
                self._heat.popitem(last=False)
            return made


def _measured(estimate: Estimate, name: str) -> float:
    for pollutant, one in estimate.pollutants.items():
        if pollutant == name and one.kind != "imputed":
            return one.value
    return float("nan")
