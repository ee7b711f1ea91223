"""From events in order to Kafka messages in order, with the watermarks in between. Pure."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from datasets.events import FrameRow, ReadingRow
from datasets.places import origin_text
from datasets.spool import Spooled
from schemas.base import format_time, from_ms
from schemas.features import Punctuation
from schemas.frame import FrameHeader
from schemas.station import Station
from schemas.times import in_ms
from settings.sections import WindowSettings
from streams.accept import ORIGIN, PUNCTUATION_TYPE
from streams.cadence import MAX_PERIOD_MS, TOLERANCE
from streams.join_rules import join_rules
from streams.topics import FRAMES, READINGS, STATIONS

SentHeaders = list[tuple[str, bytes]]
#: A reading stands for an hour at most, and a tenth of it longer until the next one is due (streams.cadence).
_STANDS_MS: Final = MAX_PERIOD_MS + MAX_PERIOD_MS // TOLERANCE
#: schemas.reading.Reading takes no more in one message.
_MOST_VALUES: Final = 256
#: Media type by the end of a picture's name: what a machine's own table says differs from machine to machine.
_MEDIA_TYPES: Final = {".png": "image/png", ".webp": "image/webp"}
_TEMPLATE: Final = FrameHeader(
    id="template", source="template", time=datetime(2000, 1, 3, tzinfo=UTC), station="template"
).to_headers()


@dataclass(frozen=True, slots=True)
class Message:
    """A record to produce. `value` is a path where the bytes are those of a file."""

    topic: str  #: name in streams.topics, without prefix
    key: bytes | None
    value: bytes | Path
    headers: SentHeaders
    time_ms: int | None  #: event time of its place in the replay; None: before all
    partition: int | None = None
    values: int = 0  #: readings it carries


def stations(records: Iterable[Station]) -> Iterator[Message]:
    """Station records, to be sent before everything else."""
    for record in records:
        yield Message(STATIONS.name, record.station.encode(), record.model_dump_json().encode(), [], None)


def timeline(
    events: Iterable[Spooled],
    span: tuple[int, int] | None,
    *,
    partitions: int,
    window: WindowSettings,
    source: str,
    run: str = "",
    watermarks: bool = True,
    before_ms: int = 0,
    now_ms: int | None = None,
) -> Iterator[Message]:
    """Messages of `events` in the order given, and watermarks on every partition of both input topics.

    A watermark says that nothing earlier follows: one at the first event time before everything, one each
    time event time has moved on by a window, and at the end one that closes and expires every window, also
    those after the last event for which it still stands (but for those that are not over at `now_ms`). Each
    lags by `before_ms`, the longest time for which an event stands before its own: the mean of the hour
    before. With them no idle time-out is needed, and a replay gives the same windows at any speed. Without
    `watermarks` none is sent: on topics that live stations share, nobody can say that nothing earlier
    follows.

    `span`: first and last event time (ms) of `events`. `source`: ce_source of the frames. `run`: every
    message says in the header ORIGIN that it is of this run, and which rows it was made of.
    """
    size_ms = in_ms(window.size)
    marked: int | None = None
    if not watermarks:
        span = None
    if span is not None:
        marked = span[0]
        yield from _watermarks(marked - before_ms, partitions)
    together: list[Spooled] = []
    for event in events:
        if together and not _same_message(together, event):
            yield _reading(together, run)
            together = []
        if marked is not None and event.timed and event.time_ms >= marked + size_ms:
            marked = event.time_ms
            yield from _watermarks(marked - before_ms, partitions)
        if isinstance(event.row, FrameRow):
            yield _frame(event, event.row, source, run)
        else:
            together.append(event)
    if together:
        yield _reading(together, run)
    if span is not None:
        settled = join_rules(window).final_after + in_ms(window.disorder)
        stands = _STANDS_MS if now_ms is None else max(0, min(_STANDS_MS, now_ms - span[1]))
        # Two windows more: the last event's own, and one for the strict inequalities on the way.
        yield from _watermarks(span[1] + stands + settled + 2 * size_ms, partitions)


def _watermarks(at_ms: int, partitions: int) -> Iterator[Message]:
    value = Punctuation(kind="watermark", at=from_ms(at_ms)).model_dump_json().encode()
    for topic in (FRAMES.name, READINGS.name):
        for partition in range(partitions):
            yield Message(topic, None, value, [("ce_type", PUNCTUATION_TYPE)], at_ms, partition)


def _same_message(together: list[Spooled], event: Spooled) -> bool:
    first, row = together[0], event.row
    return (
        isinstance(row, ReadingRow)
        and isinstance(first.row, ReadingRow)
        and (first.row.period, first.row.stamp) == (row.period, row.stamp)
        and len(together) < _MOST_VALUES
        and (first.time_ms, first.timed, first.row.station, first.row.stated)
        == (event.time_ms, event.timed, row.station, row.stated)
    )


def _origin(run: str, places: Iterable[str]) -> SentHeaders:
    return [(ORIGIN, f"{run} {origin_text(places)}".encode())] if run else []


def _reading(together: list[Spooled], run: str) -> Message:
    rows = [event.row for event in together if isinstance(event.row, ReadingRow)]
    values = []
    for row in rows:
        value: dict[str, Any] = {"parameter": row.parameter, "value": row.value, "unit": row.unit}
        if row.sensor is not None:
            value["sensor"] = row.sensor
        if row.channel is not None:
            value["channel"] = row.channel
        values.append(value)
    # By hand, not through schemas.Reading: a bad value is the pipeline's to refuse, with its reason.
    body = {"station": rows[0].station, "observed_at": rows[0].stated, "values": values}
    if rows[0].period is not None:
        body["period"] = rows[0].period
    if rows[0].stamp is not None:
        body["stamp"] = rows[0].stamp
    return Message(
        READINGS.name, rows[0].station.encode(), json.dumps(body, ensure_ascii=False).encode(),
        _origin(run, [row.where for row in rows]), together[0].time_ms, values=len(values),
    )  # fmt: skip


def _frame(event: Spooled, row: FrameRow, source: str, run: str) -> Message:
    kind = _MEDIA_TYPES.get(Path(row.file).suffix.lower(), "image/jpeg")
    stated = {
        "ce_id": row.id,
        "ce_source": source,
        # Headers are text: milliseconds become RFC 3339, what is no time stays as it is.
        "ce_time": format_time(from_ms(event.time_ms)) if event.timed else str(row.stated),
        "ce_station": row.station,
        "ce_camera": row.camera,
        "content-type": kind,
    }
    headers = [(name, stated[name].encode() if name in stated else raw) for name, raw in _TEMPLATE]
    headers += _origin(run, [row.where])
    return Message(FRAMES.name, row.station.encode(), Path(row.file), headers, event.time_ms)
