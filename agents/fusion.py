"""The fusion stage: readings and features in, estimates out.

Thin: records become items, the join says which windows to publish and to learn from, the assessor (pure)
makes estimates of them in a thread, and everything is confirmed before any offset settles.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import Final

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from aqi.quality import tests_in
from fusion.assessor import Assessor
from model.bundle import EMBEDDING_SIZE
from model.far_band import ROWS
from model.haze import HAZE_SIZE
from model.virtual_sensor import CAMERA_SIZE
from schemas.base import first_error, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.features import Features, Punctuation
from streams import metrics
from streams.accept import LATE_FROM, Keys, check_time, dead_letter, is_punctuation, reading_items
from streams.cadence import CADENCE, Periods, dump_cadences
from streams.checkpoint import Checkpoints
from streams.driver import Out, Publish
from streams.join import Item, Join, Output
from streams.stations import StationBook

#: Inputs held in open windows before a source that runs ahead is paused.
_MAX_BUFFERED: Final = 200_000
#: Windows remembered to tell revisions from first estimates in the metrics.
_REMEMBERED: Final = 10_000
#: Values in each vector of a features record.
_SIZES: Final = {
    "frame": EMBEDDING_SIZE, "camera": CAMERA_SIZE, "camera_whole": CAMERA_SIZE, "rows": ROWS,
}  # fmt: skip
_JOINED: Final = {"both": "both", "image": "camera_only", "sensors": "sensor_only", "none": "none"}


def features_items(record: ConsumerRecord[bytes, bytes], keys: Keys) -> list[Item]:
    """The join's item of a features record. Raises Refused."""
    if record.value is None:
        raise Refused("empty", "the record has no value")
    try:
        features = Features.model_validate_json(record.value)
    except ValidationError as error:
        raise Refused(*first_error(error)) from error
    _check_sizes(features)
    keys.check(record, features.station)
    at = to_ms(features.captured_at)
    seen = check_time(at, record)
    return [Item(features.station, at, seen, (features.camera, at), features.sha256, features, record.offset)]


def _check_sizes(features: Features) -> None:
    """A vector of another size would stop the head or a camera's virtual sensor. Raises Refused."""
    for name, values in features.embeddings.items():
        if name in _SIZES and len(values) != 4 * _SIZES[name]:
            raise Refused(
                "wrong_size", f"embeddings.{name} has {len(values) // 4} values instead of {_SIZES[name]}"
            )
    if "frame" in features.embeddings and len(features.haze) != 4 * HAZE_SIZE:
        raise Refused(
            "wrong_size",
            f"haze has {len(features.haze) // 4} values instead of {HAZE_SIZE} beside embeddings.frame",
        )


class FusionStage:
    """One partition number of readings and features."""

    def __init__(
        self,
        join: Join,
        assessor: Assessor,
        stations: StationBook,
        checkpoints: Checkpoints,
        periods: Periods,
        period_checkpoints: Checkpoints,
        keys: Keys,
        publish: Publish,
        executor: Executor,
        *,
        readings_topic: str,
        features_topic: str,
        estimates_topic: str,
        bands_topic: str,
        late_topic: str,
        dead_letter_topic: str,
        partition: int,
        lead_ms: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.join = join
        self.assessor = assessor
        self._stations = stations
        self._checkpoints = checkpoints
        self._periods = periods
        self._period_checkpoints = period_checkpoints
        self._keys = keys
        self._publish = publish
        self._executor = executor
        self._readings_topic = readings_topic
        self._topics = {"readings": readings_topic, "features": features_topic}
        self._estimates_topic = estimates_topic
        self._bands_topic = bands_topic
        self._late_topic = late_topic
        self._dead_letter_topic = dead_letter_topic
        self._lead_ms = lead_ms
        self._partition = str(partition)
        self._published: dict[tuple[str, datetime], None] = {}
        self._clock = clock

    def _now(self) -> int:
        return int(self._clock() * 1000)

    async def handle(self, topic: str, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Take the records of one poll."""
        out: list[Out] = []
        if topic == self._stations.topic:
            for record, refused in self._stations.apply(records):
                out.append(self._dead_letter(record, refused))
            await self._send(out, Output())
            return
        source = "readings" if topic == self._readings_topic else "features"
        output = Output()
        items: list[Item] = []
        position = records[0].offset
        for record in records:
            if is_punctuation(record):
                _extend(output, self.join.feed(source, items, position, self._now()))
                items = []
                _extend(output, self._punctuate(source, record, out))
            else:
                try:
                    if source == "readings":
                        made, partly = reading_items(record, self._keys, self._periods)
                        items += made
                        if partly is not None:
                            out.append(self._dead_letter(record, partly, partly_used=True))
                    else:
                        items += features_items(record, self._keys)
                except Refused as refused:
                    out.append(self._dead_letter(record, refused))
            position = record.offset + 1
        _extend(output, self.join.feed(source, items, position, self._now()))
        by_offset = {record.offset: record for record in records}
        out += self._late_records(output, by_offset)
        self._measure(source, records, out)
        await self._send(out, output)

    def _punctuate(self, source: str, record: ConsumerRecord[bytes, bytes], out: list[Out]) -> Output:
        at = None
        try:
            if record.value is not None:
                what = Punctuation.model_validate_json(record.value)
                at = None if what.at is None else to_ms(what.at)
        except ValidationError as error:
            out.append(self._dead_letter(record, Refused(*first_error(error))))
        return self.join.punctuate(source, at, record.offset + 1, self._now())

    def _dead_letter(
        self, record: ConsumerRecord[bytes, bytes], refused: Refused, partly_used: bool = False
    ) -> Out:
        return dead_letter(self._dead_letter_topic, "fusion", record, refused, partly_used)

    def _late_records(self, output: Output, records: Mapping[int, ConsumerRecord[bytes, bytes]]) -> list[Out]:
        out = []
        for offset in dict.fromkeys(item.offset for _, item in output.late):
            record = records[offset]
            origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
            out.append(
                Out(self._late_topic, record.key, record.value, [*record.headers, (LATE_FROM, origin)])
            )
            metrics.LATE.labels(record.topic, "dropped").inc()
        for _, item in output.conflicts:
            record = records[item.offset]
            name = "/".join(str(part) for part in item.identity)
            reason = f"{name} was sent before with another value; the first one counts"
            out.append(self._dead_letter(record, Refused("conflict", reason), partly_used=True))
        return out

    async def _send(self, out: list[Out], output: Output) -> None:
        if output.steps:
            loop = asyncio.get_running_loop()
            estimates, bands = await loop.run_in_executor(
                self._executor, self.assessor.run, output.steps, self.join.done, self._stations.get
            )
            out += [
                Out(self._estimates_topic, estimate.station.encode(), estimate.model_dump_json().encode())
                for estimate in estimates
            ]
            out += [
                Out(self._bands_topic, found.station.encode(), found.model_dump_json().encode())
                for found in bands
            ]
            self._count(estimates)
        if out:
            await self._publish(out)

    def _measure(
        self, source: str, records: Sequence[ConsumerRecord[bytes, bytes]], out: Sequence[Out]
    ) -> None:
        topic = records[0].topic
        letters = [record for record in out if record.topic == self._dead_letter_topic]
        for letter in letters:
            metrics.DEAD_LETTERS.labels("fusion", dict(letter.headers)["x-dlq-code"].decode()).inc()
        metrics.MESSAGES.labels(topic, "refused").inc(len(letters))
        metrics.MESSAGES.labels(topic, "used").inc(len(records) - len(letters))
        metrics.WINDOWS_OPEN.labels(self._partition).set(self.join.open_windows)
        mark = self.join.source_watermark(source) / 1000
        if mark > 0:
            metrics.WATERMARK.labels(source, self._partition).set(mark)
            metrics.WATERMARK_LAG.labels(source, self._partition).set(self._clock() - mark)

    def _count(self, estimates: Sequence[Estimate]) -> None:
        now = self._clock()
        for estimate in estimates:
            key = (estimate.station, estimate.window.end)
            revised = key in self._published
            self._published[key] = None
            while len(self._published) > _REMEMBERED:
                del self._published[next(iter(self._published))]
            metrics.WINDOWS.labels("late_revision" if revised else "on_time").inc()
            metrics.JOINED.labels(_JOINED[estimate.sides]).inc()
            if not revised:
                metrics.DELAY.observe(max(0.0, now - estimate.window.end.timestamp()))
            for name, pollutant in estimate.pollutants.items():
                if pollutant.kind == "imputed":
                    metrics.IMPUTED.labels(name, pollutant.method).inc()
                    if pollutant.coverage is not None:
                        metrics.COVERAGE.labels(name).observe(pollutant.coverage)
                for test in tests_in(pollutant.qc_tests):
                    metrics.QC_FLAGS.labels(test, str(pollutant.qc)).inc()

    async def tick(self) -> None:
        """Let processing time pass: sources may become idle."""
        output = self.join.tick(self._now())
        await self._send([], output)

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Write the checkpoints that go with the settled offsets, then give those offsets."""
        settled = self.join.settled()
        done = next(iter(settled.values())).done
        snapshots = self._checkpoints.write(self.assessor.horizons(done), self.assessor.dump)
        cadences, offset = self._periods.cadences, settled["readings"].offset
        snapshots += self._period_checkpoints.write(
            {station + CADENCE: offset for station in cadences.settled_at(offset)},
            lambda name, _: dump_cadences(cadences.settled(name.removesuffix(CADENCE))),
        )
        if snapshots:
            await self._publish(snapshots)
        return {
            **{self._topics[name]: (kept.offset, kept.metadata()) for name, kept in settled.items()},
            **self._stations.settled(),
        }

    def committed(self) -> None:
        """The checkpoints written last go with what is committed."""
        self._checkpoints.committed()
        self._period_checkpoints.committed()

    def paused(self) -> set[str]:
        """The source that runs ahead while the other one holds its windows open."""
        if self.join.buffered < _MAX_BUFFERED:
            return set()
        return {self._topics[name] for name in self.join.leading(self._lead_ms)}

    async def close(self) -> None:
        """State lives in this object only: dropping it is all."""


def _extend(output: Output, more: Output) -> None:
    output.steps += more.steps
    output.late += more.late
    output.conflicts += more.conflicts
