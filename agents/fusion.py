"""The fusion stage: readings and features in, estimates out.

Thin: records become items, the join says which windows to publish and to learn from, the assessor (pure)
makes estimates of them in a thread, and everything is confirmed before any offset settles.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import Final, NamedTuple

from agents.again import amendment_again, records_of
from agents.features import features_items
from agents.refusals import ROOM, largest, late_records, refuse_conflicts
from agents.regions import Regions
from aqi.flags import tests_in
from camera.sight import Sight
from fusion.amending import latest_time
from fusion.assessor import Assessor, amendment_in
from schemas.base import format_time, from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.station import Station
from schemas.times import HOUR_MS
from streams import metrics
from streams.accept import (
    amendment_of,
    is_amendment,
    is_punctuation,
    punctuation_at,
    reading_items,
)
from streams.cadences import CADENCE, dump_cadences
from streams.census import Census
from streams.checkpoint import Checkpoints
from streams.join import BEGINNING, Amend, Close, Expire, Item, Join, Output, Step, WindowView
from streams.letters import Letters
from streams.stage import KafkaRecord, Out, StageIo
from streams.standing import Periods
from streams.stations import StationBook
from streams.topics import CAMERA_BANDS, ESTIMATES, FEATURES, LATE, READINGS

#: Inputs held in open windows before a source that runs ahead is paused. One of a window of its own takes
#: some 1.2 kB, features three times that.
_MAX_BUFFERED: Final = 100_000
#: Steps that are worked on at a time. A source that catches up, or a jump of its watermark, makes months of
#: windows final at once; an estimate on its way takes 40 kB.
_PORTION: Final = 1_000
#: Windows by which a source runs ahead then, beside the allowed lateness.
_LEAD: Final = 5
#: Windows remembered to tell revisions from first estimates in the metrics.
_REMEMBERED: Final = 10_000
_JOINED: Final = {"both": "both", "image": "camera_only", "sensors": "sensor_only", "none": "none"}


class FusionCheckpoints(NamedTuple):
    """What outlives a worker, on one topic: what is learned of windows, and of how often sensors speak.

    They go with different marks: a window's end, and an offset of the readings.
    """

    windows: Checkpoints
    periods: Checkpoints


class _Poll(NamedTuple):
    """Records of a topic, as they were polled together."""

    topic: str
    records: Sequence[KafkaRecord]


class FusionStage:
    """One partition number of readings and features."""

    def __init__(
        self,
        io: StageIo,
        join: Join,
        assessor: Assessor,
        stations: StationBook,
        periods: Periods,
        checkpoints: FusionCheckpoints,
        executor: Executor,
        regions: Regions | None = None,
    ) -> None:
        self._io = io
        self.join = join
        self.assessor = assessor
        self._stations = stations
        self._keys = stations.keys
        self._periods = periods
        self._checkpoints = checkpoints
        self._executor = executor
        self._regions = regions
        #: What is said to be final to regions: as it is committed, and as the next commit will have it.
        self._final = self._settling = max((kept.done for kept in join.settled().values()), default=BEGINNING)
        self._topics = {"readings": io.names.of(READINGS), "features": io.names.of(FEATURES)}
        self._estimates_topic = io.names.of(ESTIMATES)
        self._bands_topic = io.names.of(CAMERA_BANDS)
        self._late_topic = io.names.of(LATE)
        #: Windows of which nothing could be made, and which of their records were refused for it.
        self._failed: dict[tuple[str, int], set[tuple[str, int]]] = {}
        #: Who speaks here, and how many names of each are taken in.
        self.census = Census()
        for station, (at, cameras) in assessor.stations().items():
            self.census.restore(station, at, cameras=cameras)
        for station, series in periods.cadences.stations():
            heard = [(name, cadence.last_ms) for name, cadence in series.items()]
            self.census.restore(station, max((at for _, at in heard), default=0), heard)
        #: When retired stations were heard last (event time, ms), as long as such windows are not final.
        self._retired: dict[str, int] = {}
        #: Names of checkpoints that are to go with the next commit.
        self._left: dict[str, None] = {}
        self._swept = -(2**62)
        self._published: dict[tuple[str, datetime], None] = {}
        #: What came of a source that is to be paused, in its order.
        self._polls: list[_Poll] = []

    def _now(self) -> int:
        return int(self._io.clock() * 1000)

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take the records of one poll."""
        letters = Letters(self._io.names, "fusion")
        if topic == self._stations.topic:
            applied = self._stations.apply(records)
            for record, refused in applied.refused:
                letters.add(record, refused)
            letters.count(records)
            await self._send([*letters.out(), *self._retire(applied.retired)], Output())
            return
        self._polls.append(_Poll(topic, records))
        await self._go_on()

    async def _go_on(self) -> None:
        """Take in what was polled, but for what runs too far ahead: that waits, unread.

        A topic that is paused is not polled any more, but several polls of it may be on their way to us.
        """
        ahead = self._ahead()
        while poll := next((one for one in self._polls if one.topic not in ahead), None):
            self._polls.remove(poll)
            await self._take(poll.topic, poll.records)
            ahead = self._ahead()

    async def _take(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        letters = Letters(self._io.names, "fusion")
        source = "readings" if topic == self._topics["readings"] else "features"
        output = Output()
        items: list[Item] = []
        position = records[0].offset
        made: Counter[int] = Counter()
        punctuations = 0
        for record in records:
            if is_punctuation(record):
                _extend(output, self.join.feed(source, items, position, self._now()))
                items = []
                before = len(letters)
                _extend(output, self._punctuate(source, record, letters))
                punctuations += len(letters) == before
            elif is_amendment(record) and source == "readings":
                _extend(output, self.join.feed(source, items, position, self._now()))
                items = []
                _extend(output, self._amend(record, letters))
            else:
                found = self._items(source, record, letters)
                made[record.offset] = len(found)
                items += found
            position = record.offset + 1
        _extend(output, self.join.feed(source, items, position, self._now()))
        by_offset = {record.offset: record for record in records}
        out = late_records(output, self._late_topic, by_offset, letters)
        refuse_conflicts(output, by_offset, made, letters)
        letters.count(records, punctuations)
        self._measure(source)
        await self._send(out + letters.out(), output)

    def _items(self, source: str, record: KafkaRecord, letters: Letters) -> list[Item]:
        """The join's items of a record; what of it cannot be used is a dead letter."""
        if source == "readings":
            made = letters.read(record, lambda: reading_items(record, self._keys, self._periods, self.census))
            if made is None:
                return []
            items, partly = made
            if partly is not None:
                letters.add(record, partly, used=True)
            return items
        return letters.read(record, lambda: self._features(record)) or []

    def _features(self, record: KafkaRecord) -> list[Item]:
        items = features_items(record, self._keys)
        for item in items:
            self.census.admit_camera(item.station, item.seen, item.payload.camera)
        return items

    def _retire(self, stations: Iterable[str]) -> list[Out]:
        """Tombstones of stations: what is known of them goes. What they have said is still published."""
        out = []
        for station in stations:
            heard = self.census.forget(station)
            if heard is not None:
                self._retired[station] = heard
            self._left |= dict.fromkeys([*self.assessor.forget(station), station + CADENCE])
            self._periods.cadences.forget([station])
            out.append(Out(self._bands_topic, station.encode(), None))
            if self._regions is not None:
                out += self._regions.retired(station, max(self.join.done, 0) + self.join.rules.size)
        return out

    def _learnable(self, view: WindowView) -> bool:
        """Whether a window may be learned from: not where a retired station said nothing since."""
        heard = self._retired.get(view.station)
        return heard is None or any(item.time > heard for side in view.inputs.values() for item in side)

    def _sweep(self, done: int) -> None:
        """Once in an hour of event time, forget who was not heard for long. Checkpoints go with a commit."""
        if done < self._swept + HOUR_MS:
            return
        self._swept = done
        self._retired = {name: heard for name, heard in self._retired.items() if heard >= done - HOUR_MS}
        gone = self.census.leave(done)
        self._left |= dict.fromkeys(station + CADENCE for station in gone)
        self._periods.cadences.forget(gone)
        if self._regions is not None:
            self._regions.forget(gone)
        self._periods.cadences.forget_before(done - FORGOTTEN_AFTER_MS - HOUR_MS)
        for name in self.assessor.forgotten(done):
            if name not in self.census:
                self._left |= dict.fromkeys(self.assessor.forget(name))

    def _punctuate(self, source: str, record: KafkaRecord, letters: Letters) -> Output:
        at = letters.read(record, lambda: punctuation_at(record))
        return self.join.punctuate(source, at, record.offset + 1, self._now())

    def _amend(self, record: KafkaRecord, letters: Letters) -> Output:
        item = letters.read(record, lambda: self._amendment(record))
        if item is None:
            return Output()
        return self.join.amend("readings", item, record.offset + 1, self._now())

    def _amendment(self, record: KafkaRecord) -> Item:
        amendment = amendment_of(record, self._keys)
        at = latest_time(amendment)
        # Something is remembered of its station from now on, however old the hours are that it is of.
        self.census.admit(amendment.station, max(min(at, record.timestamp), self.join.done), ())
        return Item(amendment.station, at, 0, (), None, amendment, record.offset)

    async def _send(self, out: list[Out], output: Output) -> None:
        steps = [step for step in output.steps if isinstance(step, Close) or self._learnable(step.view)]
        for part, done in _portions(steps, self.join.done):
            out += await self._assess(part, done)
            if out:
                await self._io.publish(out)
            out = []
        if out:
            await self._io.publish(out)
        for step in output.steps if self._failed else ():
            if isinstance(step, Expire):
                self._failed.pop((step.view.station, step.view.start), None)

    async def _assess(self, steps: Sequence[Step], done: int) -> list[Out]:
        """What is to be published of some steps; those that come later are of no window before `done`."""
        assessed = await asyncio.get_running_loop().run_in_executor(
            self._executor, self.assessor.run, steps, done, self._stations.get
        )
        letters = Letters(self._io.names, "fusion")
        for step, refused in assessed.failed:
            if isinstance(step, Amend):
                letters.add(amendment_again(step.view, self._topics["readings"], self._io.partition), refused)
            if isinstance(step, Close):  # a window that is final was published, or refused, before
                self._refuse_window(step.view, refused, letters)
        views = {(step.view.station, step.view.end): step.view for step in steps if isinstance(step, Close)}
        out = []
        told = zip(assessed.estimates, assessed.averaged_since, assessed.sights, strict=True)
        for estimate, since, sight in told:
            body = estimate.model_dump_json().encode()
            if len(body) > ESTIMATES.max_bytes - ROOM:
                reason = (
                    f"the estimate of this window would have {len(body)} bytes, its topic takes"
                    f" {ESTIMATES.max_bytes}; {largest(estimate)}"
                )
                view = views[estimate.station, to_ms(estimate.window.end)]
                self._refuse_window(view, Refused("estimate_too_large", reason), letters)
                continue
            out += self._told(estimate, body, since, sight)
        out += self._amended(steps)
        out += letters.out()
        out += [
            Out(self._bands_topic, found.station.encode(), found.model_dump_json().encode())
            for found in assessed.bands
        ]
        self._count(assessed.estimates)
        return out

    def _told(self, estimate: Estimate, body: bytes, averaged_since: int, sight: Sight | None) -> list[Out]:
        """An estimate on its way: to the region of its station, or, without regions, to everybody."""
        if self._regions is None:
            return [Out(self._estimates_topic, estimate.station.encode(), body)]
        station = self._station_at(estimate.station, to_ms(estimate.window.start))
        station = station or Station(station=estimate.station)
        alone = self._regions.alone(estimate, station, averaged_since, sight)
        return [*self._regions.moved(estimate, station), alone]

    def _amended(self, steps: Sequence[Step]) -> list[Out]:
        """Changes of the past, for the regions that keep averages of their own."""
        if self._regions is None:
            return []
        out = []
        for step in steps:
            if isinstance(step, Amend):
                view = step.view
                station = self._station_at(view.station, view.start) or Station(station=view.station)
                out.append(self._regions.amended(amendment_in(view), station, view.end))
        return out

    def _station_at(self, name: str, time_ms: int) -> Station | None:
        station = self._stations.get(name)
        return None if station is None else station.at(time_ms)

    def _refuse_window(self, view: WindowView, refused: Refused, letters: Letters) -> None:
        """Nothing could be made of a window: each record of it is refused, once."""
        known = self._failed.setdefault((view.station, view.start), set())
        reason = f"nothing could be made of the window that ends at {format_time(from_ms(view.end))}: "
        for record in records_of(view, self._topics, self._io.partition):
            place = record.topic, record.offset
            if place not in known:
                known.add(place)
                letters.add(record, Refused(refused.code, reason + refused.message))

    def _measure(self, source: str) -> None:
        metrics.WINDOWS_OPEN.labels(str(self._io.partition)).set(self.join.open_windows)
        mark = self.join.source_watermark(source) / 1000
        if mark > 0:
            metrics.WATERMARK.labels(source, str(self._io.partition)).set(mark)
            metrics.WATERMARK_LAG.labels(source, str(self._io.partition)).set(self._io.clock() - mark)

    def _count(self, estimates: Sequence[Estimate]) -> None:
        now = self._io.clock()
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
        await self._go_on()

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Write the checkpoints that go with the settled offsets, then give those offsets."""
        settled = self.join.settled()
        done = next(iter(settled.values())).done
        self._sweep(done)
        again = self._stations.again()
        if again:
            await self._io.publish(again)
        windows, periods = self._checkpoints
        snapshots = windows.forget(name for name in self._left if not name.endswith(CADENCE))
        snapshots += periods.forget(name for name in self._left if name.endswith(CADENCE))
        self._left.clear()
        snapshots += windows.write(self.assessor.horizons(done), self.assessor.dump)
        cadences, offset = self._periods.cadences, settled["readings"].offset
        snapshots += periods.write(
            {station + CADENCE: offset for station in cadences.settled_at(offset)},
            lambda name, _: dump_cadences(cadences.settled(name.removesuffix(CADENCE))),
        )
        if self._regions is not None and self._final > BEGINNING:
            # What is committed: nothing of these windows will be told again, whenever this worker dies.
            snapshots += self._regions.marks(self._final)
        if snapshots:
            await self._io.publish(snapshots)
        self._settling = done
        return {
            **{self._topics[name]: (kept.offset, kept.metadata()) for name, kept in settled.items()},
            **self._stations.settled(),
        }

    def committed(self) -> None:
        """The checkpoints written last go with what is committed."""
        self._final = self._settling
        self._checkpoints.windows.committed()
        self._checkpoints.periods.committed()

    def paused(self) -> set[str]:
        """The source that runs ahead while the other one holds its windows open."""
        return self._ahead() | {poll.topic for poll in self._polls}

    def _ahead(self) -> set[str]:
        if self.join.buffered < _MAX_BUFFERED:
            return set()
        lead = _LEAD * self.join.rules.size + self.join.rules.lateness
        return {self._topics[name] for name in self.join.leading(lead, self._now())}

    async def close(self) -> None:
        """State lives in this object only: dropping it is all."""


def _extend(output: Output, more: Output) -> None:
    output.steps += more.steps
    output.late += more.late
    output.conflicts += more.conflicts


def _portions(steps: Sequence[Step], done: int) -> Iterable[tuple[Sequence[Step], int]]:
    """Steps a portion at a time, each with the end of the earliest window that comes after it (ms)."""
    parts = [steps[start : start + _PORTION] for start in range(0, len(steps), _PORTION)]
    marks = []
    for part in reversed(parts):
        marks.append(done)
        done = min(done, *(step.view.end for step in part))
    return zip(parts, reversed(marks), strict=True)
