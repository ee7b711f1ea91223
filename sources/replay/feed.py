"""Send a folder to Kafka in event-time order, at any speed."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from datasets.errors import SourceError
from datasets.events import Problem
from datasets.layouts import AHEAD_MS, FORMATS
from datasets.pictures import read_picture
from datasets.plain import Contents
from datasets.spool import Spool
from settings.sections import Settings
from sources.replay.timeline import Message, stations, timeline
from sources.sender import Sender
from streams.topics import FRAMES, READINGS, STATIONS

_MOST_PROBLEMS: Final = 1000


class ReplayProgress(NamedTuple):
    """How far a replay is."""

    sent: int  #: events (single values and frames)
    total: int
    time_ms: int | None  #: event time


@dataclass(slots=True)
class ReplaySummary:
    """What a replay sent, and what it could not."""

    stations: int = 0  #: that rows are of
    records: int = 0  #: station records
    frames: int = 0
    readings: int = 0  #: messages
    values: int = 0
    watermarks: int = 0
    bytes: int = 0
    blanks: int = 0  #: empty value cells: no measurement
    untimed: int = 0  #: sent, but their time is none; the pipeline dead-letters them
    first_ms: int | None = None
    last_ms: int | None = None
    seconds: float = 0.0
    complete: bool = True  #: False: it was stopped
    problems: list[Problem] = field(default_factory=list)  #: the first thousand
    not_sent: int = 0  #: rows of which no message could be made

    @property
    def whole(self) -> bool:
        """Whether all of the folder was sent."""
        return self.complete and not self.not_sent

    def report(self, problem: Problem) -> None:
        """Note a row that was not sent."""
        self.not_sent += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def feed(
    settings: Settings,
    root: Path,
    layout: str = "layout",
    *,
    zone: ZoneInfo | None = None,
    run: str = "",
    live: bool = False,
    speed: float | None = None,
    progress: Callable[[ReplayProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> ReplaySummary:
    """Send the folder `root` to the topics of `settings` (which must exist) and wait until all is confirmed.

    `zone`: of times that state none. `run`: what every record says that it is of. `live`: the topics are
    those of live stations, so no watermark is sent. `speed`: event seconds per second, None as fast as the
    broker takes it. `stop` set: no more is sent; what was is confirmed. Raises SourceError where the folder
    cannot be read, or a record is not confirmed.
    """
    if layout not in FORMATS:
        raise SourceError(f"unknown format {layout!r}; there are {', '.join(FORMATS)}")
    if speed is not None and not speed > 0:
        raise SourceError(f"the speed has to be positive, not {speed:g}; 1 is real time")
    began = time.monotonic()
    stop = stop or threading.Event()
    with Spool(int(time.time() * 1000) + AHEAD_MS) as spool:
        contents = FORMATS[layout](root, spool, zone)
        summary = ReplaySummary(stations=spool.stations(), blanks=contents.blanks)
        for problem in contents.problems:
            summary.report(problem)
        span = spool.span()
        if span is not None:
            summary.first_ms, summary.last_ms = span
        with Sender(settings.kafka) as sender:
            partitions = sender.partitions(FRAMES.name)
            if sender.partitions(READINGS.name) != partitions:
                raise SourceError(
                    f"{FRAMES.name} has {partitions} partitions, {READINGS.name} "
                    f"{sender.partitions(READINGS.name)}: what is joined needs the same number"
                )
            for message in stations(contents.stations):
                _send(sender, message, summary)
            sender.flush()  # the stages find each station's record before its first frame
            pace = _SendingPace(speed, span, stop)
            messages = timeline(
                spool.ordered(), span, partitions=partitions, window=settings.window,
                source=f"skyfuse/replay/{layout}", run=run, watermarks=not live,
                before_ms=max(spool.before_ms, _declared_ms(contents)), now_ms=int(time.time() * 1000),
            )  # fmt: skip
            for message in messages:
                if not pace.wait_for(message):
                    summary.complete = False
                    break
                _send(sender, message, summary)
                if progress is not None and message.key is not None:
                    progress(ReplayProgress(summary.frames + summary.values, len(spool), message.time_ms))
        summary.untimed = spool.untimed
    summary.seconds = time.monotonic() - began
    return summary


def _declared_ms(contents: Contents) -> int:
    """The longest period (ms) that the folder's stations declare to lie before their readings' times."""
    sensors = (sensor for station in contents.stations for sensor in station.sensors)
    ends = (sensor.period for sensor in sensors if sensor.period and sensor.stamp == "ends")
    return max(ends, default=0) * 1000


class _SendingPace:
    """Holds each message until its event time is due."""

    def __init__(self, speed: float | None, span: tuple[int, int] | None, stop: threading.Event) -> None:
        self._speed = speed
        self._span = span
        self._stop = stop
        self._began = time.monotonic()

    def wait_for(self, message: Message) -> bool:
        """Wait until the message is due; False when the replay was stopped."""
        if self._speed is None or self._span is None or message.time_ms is None:
            return not self._stop.is_set()
        first_ms, last_ms = self._span
        # The last watermarks lie beyond the data so that all windows close: due with the last of it.
        elapsed_s = (min(message.time_ms, last_ms) - first_ms) / 1000 / self._speed
        return not self._stop.wait(max(0.0, self._began + elapsed_s - time.monotonic()))


def _send(sender: Sender, message: Message, summary: ReplaySummary) -> None:
    value = message.value
    if isinstance(value, Path):
        try:
            value = read_picture(value)
        except OSError as error:
            summary.report(Problem(str(message.value), f"cannot be read: {error}; not sent"))
            return
    if not sender.send(message.topic, message.key, value, message.headers, message.partition):
        what = message.value if isinstance(message.value, Path) else f"{message.topic}, key {message.key!r}"
        summary.report(Problem(str(what), f"{len(value)} bytes are more than the broker takes; not sent"))
        return
    summary.bytes += len(value)
    if message.topic == STATIONS.name:
        summary.records += 1
    elif message.key is None:
        summary.watermarks += 1
    elif message.topic == FRAMES.name:
        summary.frames += 1
    else:
        summary.readings += 1
        summary.values += message.values
