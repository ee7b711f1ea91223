"""Files of history as the inputs of windows: readings and frames, accepted as the workers accept them.

Readings go through the accept path of the fusion stage, frames through the worker's own vision stage. What is
accepted lies, with file and line, in a temporary SQLite file by station and window, so that years of history
need no memory.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from aiokafka import ConsumerRecord

from agents.features import features_items
from agents.vision import VisionPipeline, VisionStage
from backfill.windows import Key, Source, ends_of
from datasets.errors import SourceError
from datasets.events import FrameRow, Problem
from datasets.layouts import AHEAD_MS, FORMATS, Files
from datasets.pictures import read_picture
from datasets.spool import Spool, Spooled
from fusion.sensors.declared import humidity_ms
from model.bundle.bundle import Bundle
from schemas.base import format_time, from_ms
from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.station import Station
from schemas.times import DAY_MS, HOUR_MS, in_ms, window_end
from settings.sections import Settings
from sources.replay.feed import ReplayProgress
from sources.replay.timeline import Message, timeline
from streams import topics
from streams.accept import LATE_FROM, Keys, reading_items
from streams.bands import BandBook
from streams.cadences import Cadences
from streams.join import Item
from streams.stage import Out, StageIo
from streams.standing import Periods
from streams.stations import StationBook

#: Offsets from here on are of no log: of the log's inputs and a file's with one identity, the log's counts.
BEYOND_THE_LOG: Final = 2**62
#: LATE_FROM of a record that came from a file: this and its source.
_FILE: Final = "file/"
_BATCH: Final = 2_000
#: A station's rows this far before its others are strays, if they are a smaller share of them than that.
_FAR_MS: Final = 365 * DAY_MS
_FEW: Final = 0.1
#: Kafka's timestamp type of what the broker dates itself, as it does the inputs.
_APPENDED: Final = 1
#: When an item was true, as the columns are called.
_STANDING: Final = "time, since, until, period, basis, supersedes"
_SCHEMA: Final = f"""
CREATE TABLE input (
  seq INTEGER PRIMARY KEY, station TEXT, end INTEGER, source TEXT, value BLOB, place TEXT,
  {_STANDING},
  scalings TEXT, twinned INTEGER
);
"""


class SeenFrame(NamedTuple):
    """A frame's features, and what was wrong with it; without features it was refused."""

    features: bytes | None
    reason: str | None


class Input(NamedTuple):
    """An accepted input, the record that carries it, and the file and line it comes from."""

    source: Source
    item: Item
    value: bytes
    where: str


def late_from(source: Source) -> tuple[str, bytes]:
    """The header that says of a record on the late topic that it came from a file."""
    return LATE_FROM, f"{_FILE}{source}".encode()


def source_of_file(stated: str) -> Source | None:
    """Inverse of `late_from`; None where the record did not come from a file."""
    sources: dict[str, Source] = {f"{_FILE}features": "features", f"{_FILE}readings": "readings"}
    return sources.get(stated)


def own_window_only() -> Periods:
    """Each input stands for the window of its own time. It has heard nothing: what it learns goes with it."""
    return Periods(2**62, Cadences(), lambda _: None)


def items_of(
    source: Source, record: ConsumerRecord[bytes, bytes], keys: Keys, periods: Periods
) -> tuple[list[Item], Refused | None]:
    """A record's inputs, as the fusion stage takes them in, and what of it cannot be used. Raises Refused.

    `periods`: has heard the records before it, in the order of their log.
    """
    if source == "readings":
        return reading_items(record, keys, periods)
    return features_items(record, keys), None


class WorkersKnowledge(NamedTuple):
    """What workers go by: the model, and of each partition the known stations and found far bands."""

    bundle: Bundle
    books: Callable[[int], StationBook]
    bands: Callable[[int], BandBook]


class WantedWindows(NamedTuple):
    """Which windows are made again.

    Attributes:
        asked: whether a window that ends then (ms) was asked for.
        final: per partition the end of the last window that is final (ms).
        strays_too: also those of a few rows that lie far before all others of their station.
    """

    asked: Callable[[int], bool]
    final: Mapping[int, int]
    strays_too: bool = False


class FileInputs:
    """A context manager: what a folder or a table holds, accepted and by window."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._keys = keys
        self._names = settings.kafka.names
        self._settings = settings
        self._size = in_ms(settings.window.size)
        self._folder = tempfile.TemporaryDirectory(prefix="skyfuse-history-")
        self._base = sqlite3.connect(Path(self._folder.name) / "inputs.sqlite", isolation_level=None)
        self._base.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA}")
        self._waiting: list[tuple[Any, ...]] = []
        self._count = 0
        self._periods = own_window_only()
        self._now = int(time.time() * 1000)
        #: Stations that the folder describes.
        self.stations: dict[str, Station] = {}
        #: What was refused, and why.
        self.problems: list[Problem] = []
        #: Windows that the worker may still publish itself: nothing of them is kept.
        self.open: set[Key] = set()
        self.values = 0
        self.frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._base.close()
        self._folder.cleanup()

    def read(
        self,
        files: Files,
        workers: WorkersKnowledge,
        wanted: WantedWindows,
        progress: Callable[[ReplayProgress], None] | None = None,
    ) -> None:
        """Take in a folder. Raises SourceError where it cannot be read.

        A few rows of a station far before all others are a clock that was wrong: unless they are wanted, too,
        they are problems.
        """
        root, layout, zone = files
        books, asked = workers.books, wanted.asked
        if layout not in FORMATS:
            raise SourceError(f"unknown format {layout!r}; there are {', '.join(FORMATS)}")
        with (
            Spool(self._now + AHEAD_MS) as spool,
            _FramesOfFiles(self._settings, workers) as vision,
        ):
            contents = FORMATS[layout](root, spool, zone)
            self.problems += contents.problems
            self.stations = {record.station: record for record in contents.stations}
            self._introduce(books)
            self._periods = Periods(
                self._size,
                Cadences(),
                lambda station: books(self._keys.partition(station)).get(station),
                humidity_ms,
            )
            strays = {} if wanted.strays_too else spool.strays(_FAR_MS, _FEW)
            for number, event in enumerate(spool.ordered(), start=1):
                end = window_end(event.time_ms, self._size)
                partition = self._keys.partition(event.row.station)
                if event.timed and event.time_ms < strays.get(event.row.station, event.time_ms):
                    if asked(end):
                        self.problems.append(Problem(event.row.where, _stray(event)))
                elif not event.timed or asked(end):
                    if event.timed and end > wanted.final.get(partition, -1):
                        self.open.add((event.row.station, end))
                    else:
                        self._take(event, partition, vision)
                if progress is not None:
                    progress(ReplayProgress(number, len(spool), event.time_ms))
        self._write()
        self._base.execute("CREATE INDEX place ON input (station, end)")

    def _introduce(self, books: Callable[[int], StationBook]) -> None:
        """Stations that nobody knows yet get the folder's record; of those that are known theirs counts."""
        for name, station in list(self.stations.items()):
            partition = self._keys.partition(name)
            book = books(partition)
            if book.get(name) is not None:
                del self.stations[name]
                continue
            record = self._record(book.topic, partition, name, station.model_dump_json().encode(), [])
            for _, refused in book.apply([record]).refused:
                del self.stations[name]
                self.problems.append(Problem(f"station record of {name}", refused.message))

    def _take(self, event: Spooled, partition: int, vision: "_FramesOfFiles") -> None:
        row = event.row
        (message,) = timeline(
            [event], None, partitions=1, window=self._settings.window, source="skyfuse/backfill"
        )
        value = self._bytes(message, row.where)
        if value is None:
            return
        topic = self._names.prefix + message.topic
        record = self._record(topic, partition, row.station, value, message.headers)
        if isinstance(row, FrameRow):
            self.frames += 1
            features, reason = vision.features(record)
            if reason is not None:
                note = "" if features is None else " (counted as a frame that cannot be used)"
                self.problems.append(Problem(row.where, reason + note))
            if features is not None:
                topic = self._names.of(topics.FEATURES)
                self._shelve("features", self._record(topic, partition, row.station, features, []), row.where)
        else:
            self.values += 1
            self._shelve("readings", record, row.where)

    def _bytes(self, message: Message, where: str) -> bytes | None:
        if isinstance(message.value, bytes):
            return message.value
        try:
            return read_picture(message.value)
        except OSError as error:
            self.problems.append(Problem(where, f"{message.value} cannot be read: {error}"))
            return None

    def _record(
        self, topic: str, partition: int, station: str, value: bytes, headers: list[tuple[str, bytes]]
    ) -> ConsumerRecord[bytes, bytes]:
        self._count += 1
        return self._at(BEYOND_THE_LOG + self._count, topic, partition, station, value, headers)

    def _at(
        self,
        offset: int,
        topic: str,
        partition: int,
        station: str,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> ConsumerRecord[bytes, bytes]:
        """A record that lies on no topic, in the shape that the stages read."""
        key = station.encode()
        return ConsumerRecord(
            topic, partition, offset, self._now, _APPENDED, key, value, None, len(key), len(value), headers
        )

    def _shelve(self, source: Source, record: ConsumerRecord[bytes, bytes], where: str) -> None:
        try:
            items, partly = items_of(source, record, self._keys, self._periods)
        except Refused as refused:
            self.problems.append(Problem(where, refused.message))
            return
        if partly is not None:
            self.problems.append(Problem(where, partly.message))
        for item in items[:1]:  # a row is one value, or one frame
            place = (
                record.offset,
                item.station,
                window_end(item.time, self._size),
                source,
                record.value or b"",
                where,
            )
            scalings, twinned = "", False
            if source == "readings":
                scalings, twinned = " ".join(item.payload.scalings), item.payload.twinned
            stands = item.time, item.since, item.until, item.period, item.basis, item.supersedes
            self._waiting.append((*place, *stands, scalings, twinned))
        if len(self._waiting) >= _BATCH:
            self._write()

    def _write(self) -> None:
        self._base.execute("BEGIN")
        self._base.executemany(f"INSERT INTO input VALUES ({', '.join('?' * 14)})", self._waiting)
        self._base.execute("COMMIT")
        self._waiting.clear()

    def windows(self, partition: int, final: int) -> set[Key]:
        """The windows of a partition up to the end of the final ones (ms) that there are inputs of."""
        found = self._base.execute(f"SELECT DISTINCT station, {_STANDING} FROM input")
        return {
            (station, end)
            for station, *stands in found
            if self._keys.partition(station) == partition
            for end in ends_of(_standing(station, *stands), self._size)
            if end <= final
        }

    def inputs(self, partition: int, hours: Collection[tuple[str, int]]) -> Iterator[Input]:
        """In the order of their time, the inputs with times in those (station, end of hour)."""
        for station, at in sorted(hours):
            rows = self._base.execute(
                f"SELECT seq, source, value, place, {_STANDING}, scalings, twinned FROM input"
                " WHERE station = ? AND end > ? AND end <= ? ORDER BY seq",
                (station, at - HOUR_MS, at),
            )
            for seq, source, value, where, *stands, scalings, twinned in rows:
                record = self._at(seq, source, partition, station, value)
                [item, *_], _ = items_of(source, record, self._keys, own_window_only())
                payload = item.payload
                if scalings or twinned:
                    payload = payload._replace(scalings=tuple(scalings.split()), twinned=bool(twinned))
                item = _standing(station, *stands)._replace(
                    seen=item.seen,
                    identity=item.identity,
                    mark=item.mark,
                    payload=payload,
                    offset=item.offset,
                )
                yield Input(source, item, value, where)


def _standing(
    station: str, time: int, since: int, until: int, period: int, basis: str, supersedes: int
) -> Item:
    return Item(station, time, time, (), None, None, 0, since, until, period, basis, supersedes)


def _stray(event: Spooled) -> str:
    time = format_time(from_ms(event.time_ms))
    return (
        f"{time} lies more than a year before the other rows of {event.row.station}: a clock that was wrong?"
        f" `--since {time}` counts it all the same"
    )


class _FramesOfFiles:
    """The worker's vision stage, fed with records that lie on no topic."""

    def __init__(
        self,
        settings: Settings,
        workers: WorkersKnowledge,
    ) -> None:
        self._settings = settings
        self._names = settings.kafka.names
        self._workers = workers
        self._runner = asyncio.Runner()
        self._pipeline: VisionPipeline | None = None
        self._stages: dict[int, VisionStage] = {}
        self._out: list[Out] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
        self._runner.close()

    def features(self, record: ConsumerRecord[bytes, bytes]) -> SeenFrame:
        """What vision makes of a frame."""
        return self._runner.run(self._features(record))

    async def _features(self, record: ConsumerRecord[bytes, bytes]) -> SeenFrame:
        stage = self._stage(record.partition)
        self._out.clear()
        await stage.handle(record.topic, [record])
        # Asked again and again, since a stage that broke says so only when it is asked.
        while (await stage.settle())[record.topic][0] <= record.offset:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        features = reason = None
        for out in self._out:
            if out.topic == self._names.of(topics.FEATURES):
                features = out.value
            else:
                reason = DeadLetter.from_headers(out.headers).reason
        return SeenFrame(features, reason)

    async def _publish(self, records: Iterable[Out], /) -> None:
        self._out += records

    def _stage(self, partition: int) -> VisionStage:
        if self._pipeline is None:
            vision = self._settings.vision
            self._pipeline = VisionPipeline(self._workers.bundle, batch=1, threads=vision.threads)
        if partition not in self._stages:
            self._stages[partition] = VisionStage(
                StageIo(partition, self._publish, self._names),
                self._pipeline,
                self._workers.books(partition),
                self._workers.bands(partition),
                lambda _: False,
            )
        return self._stages[partition]
