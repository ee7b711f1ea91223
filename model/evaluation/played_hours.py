"""A station's frames and readings hour by hour, as the fusion agent would have seen them."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera import far_band as bands
from camera.errors import ImageRefused
from camera.far_band import BandFinder, Strip
from camera.gate import GateState, judge, remember
from camera.haze import HAZE_SIZE, haze
from camera.image import decode
from camera.sight import Sight, camera_vector, layout
from camera.sun import solar_hour
from model.bundle.bundle import EMBEDDING_SIZE, Bundle
from model.bundle.runtime import Encoder, Head, pool
from model.evaluation.histories import OnlineData
from model.evaluation.progress import Progress
from schemas.base import from_ms
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import HOUR_MS

#: Readings this long before the first frame are played too, so that the level starts with a history.
_HISTORY_MS: Final = 60 * 24 * HOUR_MS


class Hour(NamedTuple):
    """One hour as the fusion agent sees it; `end_ms` is its end, concentrations in ug/m3."""

    end_ms: int
    sight: Sight | None
    global_estimate: float | None
    measured: float | None
    #: What the head was shown for its estimate.
    shown: str = ""


class PlayedHours(NamedTuple):
    """A history as the fusion agent would have seen it."""

    hours: list[Hour]  #: in order of time
    refused: dict[str, int]  #: frames, by reason
    far_band: Strip | None  #: at the end


def hours_of(
    data: OnlineData,
    bundle: Bundle,
    pollutant: Pollutant = "pm25",
    find_band: bool = False,
    progress: Progress = lambda *_: None,
) -> PlayedHours:
    """Play the frames and readings.

    A file that cannot be read is a frame that is not there.
    """
    encoder, head = Encoder(bundle), Head(bundle)
    width, height = bundle.manifest.input.width, bundle.manifest.input.height
    measured = data.readings[pollutant]
    frames: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for at, path in sorted(data.frames):
        frames[at // HOUR_MS * HOUR_MS + HOUR_MS].append((at, path))
    begin = min(frames) - _HISTORY_MS if frames else min(measured)
    ends = sorted({end for end in measured if end >= begin} | frames.keys())
    band = None if find_band else data.far_band
    finder: BandFinder | None = None
    gate: GateState | None = None
    refused: dict[str, int] = defaultdict(int)
    hours, done = [], 0
    for end in ends:
        vectors: list[NDArray[np.float32]] = []
        wholes: list[NDArray[np.float32]] = []
        rows: list[NDArray[np.float32]] = []
        embeddings: list[NDArray[np.float32]] = []
        statistics: list[NDArray[np.float32]] = []
        for at, path in frames.get(end, ()):
            done += 1
            progress("encoding frames", done, len(data.frames))
            try:
                frame = decode(path.read_bytes(), width, height, band)
            except OSError:
                refused["file cannot be read"] += 1
                continue
            except ImageRefused as error:
                refused[error.code] += 1
                continue
            verdict = judge(frame, at, data.position, gate)
            gate = remember(gate, verdict, at)
            if not verdict.usable:
                for reason in verdict.reasons:
                    refused[reason] += 1
                continue
            whole = encoder.encode([frame.whole])[0]
            wholes.append(camera_vector(frame.whole, whole.projection))
            if frame.far is None:
                vectors.append(wholes[-1])
            else:
                vectors.append(camera_vector(frame.far, encoder.encode([frame.far])[0].projection))
            rows.append(bands.row_profile(frame.luminance))
            embeddings.append(whole.embedding)
            statistics.append(haze(frame.whole))
        sight = None
        if vectors:
            humidity = data.humidity.get(end)
            fallback = None if band is None else Sight(layout(None), pool(wholes), humidity)
            sight = Sight(layout(band), pool(vectors), humidity, fallback)
        overall, shown = _global(head, pollutant, data, end, embeddings, statistics)
        hours.append(Hour(end, sight, overall, measured.get(end), shown))
        pm25 = data.readings.get("pm25", {}).get(end)
        if rows and pm25 is not None and (find_band or data.far_band is None):
            finder = bands.observe(finder, pool(rows), pm25)
            band = finder.band() or band
    return PlayedHours(hours, dict(refused), band)


def _global(
    head: Head,
    pollutant: Pollutant,
    data: OnlineData,
    end_ms: int,
    embeddings: Sequence[NDArray[np.float32]],
    statistics: Sequence[NDArray[np.float32]],
) -> tuple[float | None, str]:
    """The global head's value of the pollutant for an hour, from the pictures and the other sensors, and what
    of these it used.

    None where it has none.
    """
    sensors = np.full((1, len(POLLUTANTS)), np.nan, dtype=np.float32)
    for index, name in enumerate(POLLUTANTS):
        if name != pollutant:
            sensors[0, index] = data.readings.get(name, {}).get(end_ms, math.nan)
    if not embeddings and np.isnan(sensors).all():
        return None, ""
    longitude = None if data.position is None else data.position[1]
    hour = np.array([solar_hour(from_ms(end_ms - HOUR_MS), longitude)], dtype=np.float32)
    embedding = pool(embeddings) if embeddings else np.zeros(EMBEDDING_SIZE, np.float32)
    haze_ = pool(statistics) if statistics else np.full(HAZE_SIZE, np.nan, np.float32)
    output = head.predict(embedding[None], np.array([bool(embeddings)]), sensors, haze_[None], hour)
    return output.concentration(0, POLLUTANTS.index(pollutant)), output.shown(0)
