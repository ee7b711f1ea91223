"""A plain folder (docs/data-layout.md) hour by hour, as the stream makes it: for evaluation and training.

The rows become the messages of `skyfuse replay`, and the fusion worker's own stage makes windows of an hour
of them, in memory. So an hour's value is what is published of it: twins compared, dead sensors and other
scalings left out, corrections applied. Pictures have no say in it (they might choose one of two sensors that
disagree): what they are worth is measured by these values.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count, islice
from pathlib import Path
from typing import Final, Self

from aiokafka import ConsumerRecord

from agents.fusion import FusionCheckpoints, FusionStage
from aqi import standards
from aqi.averaging import as_level
from aqi.known_names import check_station
from datasets.errors import LayoutError, SourceError
from datasets.events import ReadingRow
from datasets.hourly import StationHistory
from datasets.plain import read_plain
from datasets.spool import Spool, Spooled
from fusion.assessor import Assessor
from fusion.sensors.declared import humidity_ms
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.base import format_time, to_ms
from schemas.estimate import Estimate
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from schemas.times import DAY_MS, HOUR_MS
from settings.sections import WindowSettings
from sources.replay.outcome import RowsOutcome
from sources.replay.timeline import Message, timeline
from streams import topics
from streams.accept import Keys
from streams.cadences import Cadences
from streams.checkpoint import Checkpoints
from streams.join import Join
from streams.join_rules import join_rules
from streams.stage import Out, StageIo
from streams.standing import Periods
from streams.stations import StationBook

#: Station, parameter, and end of the hour (ms).
_HourKey = tuple[str, str, int]

_WINDOW: Final = WindowSettings(size=timedelta(hours=1), idle_timeout=None)
#: Messages that the stage is given at a time.
_BATCH: Final = 2_000
_RUN: Final = "hourly"
_APPENDED: Final = 1


def read_folder(root: Path) -> tuple[dict[str, StationHistory], list[str]]:
    """Histories by station id, and what had to be left out, with file and line or station and time.

    An hour has a value of a parameter where a row is stamped in it (or ends a declared period in it), and
    the stream has a measured value there, `as_level`.

    Raises LayoutError where a table cannot be read or lacks a column.
    """
    problems: list[str] = []
    found: dict[str, StationHistory] = {}
    stamped: set[_HourKey] = set()
    now = int(time.time() * 1000)
    try:
        with Spool(latest_ms=now + DAY_MS) as spool, _Stream(now) as stream:
            contents = read_plain(root, spool)
            problems += map(str, contents.problems)
            found |= {record.station: StationHistory(record) for record in contents.stations}
            problems += stream.introduce(contents.stations)

            def readings() -> Iterator[Spooled]:
                for event in spool.ordered():
                    row = event.row
                    if isinstance(row, ReadingRow):
                        if event.timed:
                            stamped.add(_hour_of(row, event.time_ms, found.get(row.station)))
                        yield event
                    elif event.timed:
                        history = _history(found, row.station)
                        history.frames.append((event.time_ms, row.camera, Path(row.file)))
                    else:
                        problems.append(f"{row.where}: {row.stated!r} is no time with a zone; left out")

            messages = timeline(
                readings(), spool.span(), partitions=1, window=_WINDOW, source="skyfuse/hourly", run=_RUN,
                before_ms=spool.before_ms, now_ms=now,
            )  # fmt: skip
            left_out = []
            for estimate in stream.play(messages):
                left_out += _take(_history(found, estimate.station), estimate, stamped)
            problems += [*stream.refused(), *left_out]
    except SourceError as error:
        raise LayoutError(str(error)) from error
    return found, problems


def _history(found: dict[str, StationHistory], station: str) -> StationHistory:
    return found.setdefault(station, StationHistory(Station(station=station)))


def _hour_of(row: ReadingRow, at_ms: int, history: StationHistory | None) -> _HourKey:
    """The end of the hour's window that a row is published in: a mean that is stamped with its end is of the
    window that ends there. (A forecast counts it in the hour in which its period began: forecast.folder.)
    """
    ends = row.before_ms(None if history is None else history.record) > 0
    return row.station, row.parameter, (at_ms - ends) // HOUR_MS * HOUR_MS + HOUR_MS


def _take(history: StationHistory, estimate: Estimate, stamped: set[_HourKey]) -> list[str]:
    """Put what an hour has measured into the history; gives what was left out of it, in words."""
    end = to_ms(estimate.window.end)
    problems = []
    for name in POLLUTANTS:
        if (estimate.station, name, end) not in stamped:
            continue  # what stands for an earlier hour is no measurement of this one
        level = estimate.pollutants.get(name)
        if level is not None and level.kind != "imputed" and level.covered_s != 0:
            history.means.setdefault(name, {})[end] = as_level(level.value)
        said = level or estimate.missing.get(name)
        problems += [
            f"{estimate.station} {format_time(estimate.window.start)} {name} of {who}: {why}; left out"
            for who, why in (said.refused.items() if said is not None else ())
        ]
    humidity = estimate.inputs.humidity
    if humidity is not None and (estimate.station, "relativehumidity", end) in stamped:
        history.means.setdefault("relativehumidity", {})[end] = humidity
    return problems


def _cheaply_judged(record: Station) -> Station:
    """As it is, but for its standards: nobody looks at an index here, and the regressions of a NowCast are
    a quarter of the work. Gases are of one temperature by either (that of the leading standard).
    """
    leading = standards.load(record.standards[0], at_ms=0)
    cheapest = next(
        one.id
        for one in (standards.load(name, at_ms=0) for name in standards.available())
        if not one.nowcast and one.reference_celsius == leading.reference_celsius
    )
    return record.model_copy(update={"standards": (cheapest,)})


class _Stream:
    """A context manager: the fusion worker's stage, fed with records that lie on no topic."""

    def __init__(self, now_ms: int) -> None:
        self._now = now_ms
        self._offsets = count()
        self._estimates: list[Estimate] = []
        self._outcome = RowsOutcome()
        self._runner = asyncio.Runner()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="assess")
        self._stations = StationBook(topics.STATIONS.name, Keys(1), check_station)
        rules = join_rules(_WINDOW)
        self._stage = FusionStage(
            StageIo(0, self._publish, clock=lambda: now_ms / 1000),
            Join(rules, {}, now_ms),
            # No measured value is the network's, so it does not matter whose it is.
            Assessor(Head(Bundle.load()), size_ms=rules.size, lateness_ms=rules.lateness, snapshots={}),
            self._stations,
            Periods(rules.size, Cadences(), self._stations.get, humidity_ms),
            FusionCheckpoints(Checkpoints(topics.STATE.name, 0), Checkpoints(topics.STATE.name, 0)),
            self._executor,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.close()
        self._executor.shutdown()

    async def _publish(self, records: Iterable[Out], /) -> None:
        for out in records:
            if out.topic == topics.ESTIMATES.name:
                self._estimates.append(Estimate.model_validate_json(out.value or b""))
            elif out.topic == topics.DEAD_LETTERS.name:
                self._outcome.note_dead(self._again(out), _RUN)
            elif out.topic == topics.LATE.name:
                self._outcome.note_late(self._again(out), _RUN)

    def introduce(self, stations: Sequence[Station]) -> list[str]:
        """Take station records; gives those that are refused, and why."""
        records = [
            self._record(
                topics.STATIONS, one.station.encode(), _cheaply_judged(one).model_dump_json().encode()
            )
            for one in stations
        ]
        refused = self._stations.apply(records).refused if records else []
        return [f"station record of {(record.key or b'').decode()}: {why.message}" for record, why in refused]

    def play(self, messages: Iterator[Message]) -> Iterator[Estimate]:
        """Take readings and the watermarks between them, in order; gives what is published."""
        while batch := list(islice(messages, _BATCH)):
            # The other side's watermarks come after: a window waits for both sides, and nothing is late.
            for topic, name in (
                (topics.READINGS, topics.READINGS.name),
                (topics.FEATURES, topics.FRAMES.name),
            ):
                records = [
                    self._record(topic, message.key, message.value, message.headers)
                    for message in batch
                    if message.topic == name and isinstance(message.value, bytes)
                ]
                if records:
                    self._runner.run(self._stage.handle(topic.name, records))
            yield from self._estimates
            self._estimates.clear()

    def _record(
        self,
        topic: topics.Topic,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> "ConsumerRecord[bytes, bytes]":
        return ConsumerRecord(
            topic.name, 0, next(self._offsets), self._now, _APPENDED, key, value, None, len(key or b""),
            len(value), headers,
        )  # fmt: skip

    def refused(self) -> list[str]:
        """The rows that were refused, or came too late, and why."""
        refused = [f"{one.rows.text()}: {one.reason}; left out" for one in self._outcome.refused.values()]
        late = self._outcome.late
        return [*refused, f"{late.text()}: too late for their hours; left out"] if late.count else refused

    def _again(self, out: Out) -> "ConsumerRecord[bytes, bytes]":
        return self._record(topics.DEAD_LETTERS, out.key, out.value or b"", out.headers)
