"""The simulated city on Kafka: a stretch of the past quickly, then real time."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from datasets.errors import SourceError
from schemas.station import Station
from schemas.times import MINUTE_MS
from settings.sections import Settings
from sources.sender import Sender
from sources.simulate.city import City, build
from sources.simulate.messages import messages
from sources.simulate.truth import Truth
from streams.topics import FRAMES, STATIONS

#: How often a camera takes a picture, if nothing else is said.
FRAME_PERIOD_S: Final = 60.0
_MOST_HISTORY_MIN: Final = 48 * 60


@dataclass(slots=True)
class SimulationSummary:
    """What a simulation sent so far."""

    stations: int = 0
    frames: int = 0
    readings: int = 0  #: messages
    first_ms: int | None = None
    last_ms: int | None = None
    bytes: int = 0


def feed(
    settings: Settings,
    city: City | None = None,
    *,
    history_min: float = 0.0,
    speed: float | None = None,
    seconds: float | None = None,
    frame_period_s: float | None = FRAME_PERIOD_S,
    records: Sequence[Station] = (),
    progress: Callable[[SimulationSummary], None] | None = None,
    stop: threading.Event | None = None,
) -> SimulationSummary:
    """Send what the stations of `city` send to the topics of `settings`, which must exist.

    Begins `history_min` minutes ago, or where an earlier simulation of this city in the same data_dir ended
    if that is later. The past is sent at `speed` (event seconds a second; None: as fast as it goes), then
    real time is kept. Without `frame_period_s` no camera takes a picture. `records`: of stations that speak
    by other ways. Ends after `seconds` or when `stop` is set, with everything confirmed; the truth is in
    `sources.simulate.truth.truth_file(settings.data_dir, city)`. Raises SourceError.
    """
    _check(history_min, speed, frame_period_s)
    city = city or build()
    stop = stop or threading.Event()
    now_ms = int(time.time() * 1000)
    began = time.monotonic()
    truth = Truth(settings.data_dir, city)
    start_ms = now_ms - round(history_min * MINUTE_MS)
    if truth.last_ms is not None and truth.last_ms < now_ms:
        start_ms = max(start_ms, truth.last_ms + 1)
    frame_period_ms = None if frame_period_s is None else round(frame_period_s * 1000)
    summary = SimulationSummary()
    with Sender(settings.kafka) as sender:
        for record in (*(station.record for station in city.stations), *records):
            sender.send(STATIONS.name, record.station.encode(), record.model_dump_json().encode())
            summary.stations += 1
        sender.flush()  # the stages find each station's record before its first frame
        noted_ms = start_ms
        for message in messages(city, start_ms, frame_period_ms):
            if message.time_ms - noted_ms >= MINUTE_MS:
                # The truth of a minute is written only when all that was sent of it is confirmed: it is also
                # where the next simulation goes on.
                sender.flush()
                truth.note(message.time_ms, start_ms)
                noted_ms = message.time_ms
            now_ms = int(time.time() * 1000)
            wait_s = (message.time_ms - now_ms) / 1000
            if speed is not None:
                wait_s = max(wait_s, began + (message.time_ms - start_ms) / 1000 / speed - time.monotonic())
            left_s = None if seconds is None else began + seconds - time.monotonic()
            if left_s is not None and left_s < max(wait_s, 0.0):
                stop.wait(max(0.0, left_s))
                break
            if stop.wait(wait_s) if wait_s > 0 else stop.is_set():
                break
            sender.send(message.topic, message.key, message.value, message.headers)
            _count(summary, message.topic == FRAMES.name, len(message.value), message.time_ms)
            if progress is not None:
                progress(summary)
    return summary


def _check(history_min: float, speed: float | None, frame_period_s: float | None) -> None:
    if not 0 <= history_min <= _MOST_HISTORY_MIN:
        raise SourceError(f"the history is 0 to {_MOST_HISTORY_MIN} minutes (two days), not {history_min:g}")
    if speed is not None and not speed >= 1:
        raise SourceError(f"the speed of the history is 1 (real time) or more, not {speed:g}")
    if frame_period_s is not None and not frame_period_s >= 1:
        raise SourceError(f"a camera takes a frame every second at most, not every {frame_period_s:g} s")


def _count(summary: SimulationSummary, is_frame: bool, size: int, time_ms: int) -> None:
    if is_frame:
        summary.frames += 1
    else:
        summary.readings += 1
    summary.bytes += size
    summary.first_ms = time_ms if summary.first_ms is None else summary.first_ms
    summary.last_ms = time_ms
