"""Backfill: what came too late, or lies in files of history, counted in the windows it belongs to.

It works partition by partition, and in passes over a partition's logs: a pass holds the inputs of a bounded
number of hours, not those of all late data.

What a file adds to a window is put on the late topic before the window's estimate is published: the log stays
what estimates rest on, and the next backfill knows of it without the file.

When a partition's windows are made again, what follows from them is mended (`backfill.healing`): in the
fusion worker, by an amendment on its input, and in the windows after them. Every run that finds the same late
data asks for both again, and does what is not yet as it should be: one that was cut short is made up for by
the next one.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
)
from pydantic import ValidationError

from backfill.annotations import read_annotations, withheld_by_station, withheld_of
from backfill.files import FileInputs, items_of, late_from, own_window_only, source_of_file
from backfill.healing import AmendmentsOnLog, Healing, reach
from backfill.published import Published
from backfill.windows import PAST_MS, Backfill, Key, Source, WindowOutcome, ends_of, hour
from datasets.events import Problem
from datasets.layouts import Files
from fusion.amending import LeftOut, left_out
from fusion.intake import check_station
from fusion.sensors.declared import humidity_ms
from fusion.stored import OF_SENSORS, SENSORS, SensorsState
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.amendment import AMENDMENT_TYPE, Amendment
from schemas.annotation import Annotation
from schemas.base import to_ms
from schemas.errors import DamagedState, Refused
from schemas.estimate import BACKFILLED, Estimate
from schemas.parameters import Pollutant
from schemas.times import DAY_MS, in_ms, window_end
from settings.sections import Settings
from sources.replay.feed import Progress
from sources.sender import Sender
from streams import topics
from streams.accept import LATE_FROM, Keys, amendment_of, is_amendment, is_punctuation, read_estimate
from streams.admin import admin_client, client_arguments, consumer_limits, dial
from streams.bands import BandBook
from streams.cadence import Cadences, Periods
from streams.checkpoint import AT
from streams.errors import TopicReadError
from streams.join import BEGINNING, RUNNING, Item, Settled
from streams.join_rules import join_rules
from streams.stations import StationBook

#: Where inputs on the late topic that came from files stand among those of the logs: after all of them.
_AFTER_THE_LOG: Final = 2**61
#: How long a broker may be without a coordinator for the fusion workers' group.
_COORDINATOR_SECONDS: Final = 30.0
_COORDINATOR_POLL_SECONDS: Final = 0.2
_WEEK_MS: Final = 7 * DAY_MS
#: Late data older than this when they came have to be asked for: a clock that was reset, or rolled over.
UNASKED_MS: Final = 30 * DAY_MS
#: How long a worker may take to be idle and to commit.
_SETTLES_MS: Final = 120_000
#: Hours of a station's windows made again in one pass. Each holds two hours of inputs, 2 MB at 36 values a
#: minute, and at most the two days of averages before it.
HOURS_A_PASS: Final = 48


@dataclass
class BackfillReport:
    """What a run found and did."""

    outcomes: list[WindowOutcome] = field(default_factory=list)
    #: Late windows that the worker may still publish itself; of them those that no waiting makes final, since
    #: nothing newer has come on their partition.
    open: set[Key] = field(default_factory=set)
    unheard: set[Key] = field(default_factory=set)
    #: No fusion worker has ever read here.
    never_fused: bool = False
    #: Where and why, of records on the late topic that cannot be used.
    unusable: list[str] = field(default_factory=list)
    #: What of the files could not be used: file and line, and why.
    problems: list[Problem] = field(default_factory=list)
    #: Inputs of the files that counted already, that count now, and that belong to windows left alone.
    known: int = 0
    added: int = 0
    left: int = 0
    #: Windows published again because their averages reach back to others, and stations told to the worker.
    healed: int = 0
    told: set[str] = field(default_factory=set)
    #: Hours that the workers are not through with: their averages cannot be mended yet.
    in_progress: int = 0
    #: By station, late values of a clock that was wrong: how many, the first and the last time (ms).
    of_old: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    #: Windows that annotated readings belong to, and the sensors that were heard at annotated times.
    annotated: int = 0
    sensors: set[str] = field(default_factory=set)
    #: Event time of the workers: the end of the last final window, ms.
    newest: int = 0

    def older(self, length: timedelta) -> int:
        """How many windows that were published before are to be revised, and older than `length`."""
        last = self.newest - in_ms(length)
        return sum(
            one.verdict == "rewrite" and one.before > 0 and one.key[1] <= last for one in self.outcomes
        )

    def count(self, verdict: str) -> int:
        """How many windows came out so."""
        return sum(outcome.verdict == verdict for outcome in self.outcomes)


class _Late:
    """The late topic of one partition: which windows, and where its records stood first."""

    def __init__(self) -> None:
        self.windows: set[Key] = set()
        self.offsets: dict[Source, set[int]] = {"features": set(), "readings": set()}
        #: By offset and identity, late readings that stand for a period.
        self.standing: dict[tuple[int, tuple[Any, ...]], Item] = {}


class _Origin(NamedTuple):
    """Where a late record stood first: an offset of its source, or in a file."""

    source: Source
    offset: int
    filed: bool


class Scope(NamedTuple):
    """Which windows: their ends in [since, until) (ms), and of one station; only annotated ones, or all."""

    since: int | None = None
    until: int | None = None
    station: str | None = None
    annotated_only: bool = False


class _Run:
    def __init__(
        self, settings: Settings, consumer: Any, scope: Scope, draft: Annotation | None = None
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._scope = scope
        self._draft = draft
        self._since, self._until = scope.since, scope.until
        self._rules = join_rules(settings.window)
        self.keys = Keys(settings.kafka.partitions)
        self._names: dict[str, Source] = {
            self._name(topics.FEATURES): "features", self._name(topics.READINGS): "readings",
        }  # fmt: skip
        #: So long after its end (ms) a window is final where data come.
        self.patience_ms = self._rules.size + self._rules.grace + self._rules.lateness + _SETTLES_MS
        self._bundle = Bundle.load(settings.bundle)
        self._head = Head(self._bundle)
        self._books: dict[int, StationBook] = {}
        self._history: FileInputs | None = None
        self.report = BackfillReport()

    def read(
        self, history: FileInputs, files: Files, done: dict[int, int], progress: Callable[[Progress], None]
    ) -> None:
        """Take in files; what of them belongs to final windows is counted by `partition`."""
        history.read(
            files.root, files.layout, self._bundle, self._book, self._bands, self._wanted, done, progress,
            files.zone,
            strays_too=self._since is not None,
        )  # fmt: skip
        self.report.problems = history.problems
        self._history = history

    def introduce(self, sender: Sender) -> None:
        """Publish the records of stations that only the files know."""
        for name, station in self._history.stations.items() if self._history else ():
            sender.send(topics.STATIONS.name, name.encode(), station.model_dump_json().encode())

    def _book(self, number: int) -> StationBook:
        if number not in self._books:
            book = StationBook(self._name(topics.STATIONS), self.keys, check_station)
            # What is refused here was refused by the workers, with a dead letter.
            book.restore(self._scan(book.topic, number))
            self._books[number] = book
        return self._books[number]

    def _bands(self, number: int) -> BandBook:
        book = BandBook(self._name(topics.CAMERA_BANDS), self.keys)
        book.restore(self._scan(book.topic, number))
        return book

    def _wanted(self, end: int) -> bool:
        return (self._since is None or end >= self._since) and (self._until is None or end < self._until)

    def _name(self, topic: topics.Topic) -> str:
        return self._settings.kafka.prefix + topic.name

    def partition(self, number: int, done: int, sender: Sender | None) -> None:
        """Make a partition's late windows again; without a sender nothing is written."""
        self.report.newest = max(self.report.newest, done)
        annotations = self._annotations(number)
        told = self._told(number)
        self._withhold(annotations, told, done, sender)
        late = self._late(number, done)
        annotated = self._annotated(number, annotations, late)
        self.report.annotated += len(annotated)
        windows = annotated if self._scope.annotated_only else late.windows | annotated
        self.report.open |= {key for key in windows if key[1] > done}
        final = {key for key in windows if key[1] <= done}
        if self._history is not None:
            final |= self._history.windows(number, done)
        withheld = withheld_by_station(annotations)
        made: list[Estimate] = []
        unheard: dict[str, dict[Pollutant, tuple[int, int]]] = {}
        possible: set[Key] = set()
        for wanted in passes(sorted(final)):
            work = Backfill(wanted, self._rules.size, withheld)
            for source, item, *_ in self._late_items(number, work.stations, [], late.standing):
                work.add(source, item, late=True)
            for name, source in self._names.items():
                periods = self._periods(number)
                for record in self._scan(name, number, work.stations):
                    for item in self._items(source, record, periods):
                        work.add(source, item, late=record.offset in late.offsets[source])
            fresh = self._from_files(work, number)
            complete_since = self._estimates(work, number)
            outcomes = work.decide(complete_since)
            self.report.outcomes += outcomes
            possible |= {outcome.key for outcome in outcomes if outcome.verdict != "impossible"}
            for station in work.stations:
                spans = unheard.setdefault(station, {})
                for name, (since, until) in work.unheard(station).items():
                    before = spans.get(name, (since, until))
                    spans[name] = min(before[0], since), max(before[1], until)
            rewrite = {outcome.key for outcome in outcomes if outcome.verdict == "rewrite"}
            added = [(source, key[0].encode(), value) for key, source, value in fresh if key in rewrite]
            self.report.added += len(added)
            self.report.left += len(fresh) - len(added)
            estimates = work.remake(
                outcomes, self._head, self._rules.lateness, self._book(number).get, self._checkpoints(number)
            )
            if sender is not None:
                for source, key, value in added:
                    sender.send(topics.LATE.name, key, value, [late_from(source)])
                sender.flush()
                for estimate in estimates:
                    self._publish_again(estimate, sender)
                sender.flush()
            else:
                made += estimates
        self._heal(number, done, possible, made, unheard, told, sender)

    def _heal(
        self,
        number: int,
        done: int,
        touched: Collection[Key],
        made: Sequence[Estimate],
        unheard: Mapping[str, Mapping[Pollutant, tuple[int, int]]],
        told: Mapping[str, AmendmentsOnLog],
        sender: Sender | None,
    ) -> None:
        """Mend what follows from the windows `touched`; `made`: of those, what was not published."""
        if not touched:
            return
        ends: dict[str, list[int]] = {}
        for station, end in sorted(touched):
            ends.setdefault(station, []).append(end)
        measured: dict[str, set[str]] = {}
        for station, snapshots in self._checkpoints(number).items():
            measured[station] = {name for _, state in snapshots for name in state.virtual}
        back = max(reach(measured.get(station, ())) for station in ends)
        with Published(ends, back, PAST_MS) as published:
            complete_since = self._each_estimate(number, set(ends), lambda one, _: published.add(one))
            for estimate in made:
                published.add(estimate)
            for station in published.stations:
                healing = Healing(
                    station, self._book(number).get(station), ends[station], self._rules.size,
                    self._rules.lateness, done, complete_since, unheard.get(station, {}),
                    measured.get(station, ()),
                )  # fmt: skip
                for estimate in healing.heal(published.windows(station)):
                    self.report.healed += 1
                    if sender is not None:
                        self._publish_again(estimate, sender)
                self.report.in_progress += healing.in_progress
                news = told.get(station, AmendmentsOnLog()).news(healing.amendment())
                if news is not None:
                    self._tell(news, sender)
        if sender is not None:
            sender.flush()

    def _publish_again(self, estimate: Estimate, sender: Sender) -> None:
        sender.send(
            topics.ESTIMATES.name, estimate.station.encode(), estimate.model_dump_json().encode(),
            [(BACKFILLED, b"true")],
        )  # fmt: skip

    def _tell(self, amendment: Amendment, sender: Sender | None) -> None:
        """Put an amendment on the fusion worker's input."""
        self.report.told.add(amendment.station)
        if sender is not None:
            sender.send(
                topics.READINGS.name, amendment.station.encode(), amendment.model_dump_json().encode(),
                [("ce_type", AMENDMENT_TYPE)],
            )  # fmt: skip
            sender.flush()

    def _from_files(self, work: Backfill, number: int) -> list[tuple[Key, Source, bytes]]:
        """Add the files' inputs to `work`; those of its windows that nobody knew of."""
        fresh: list[tuple[Key, Source, bytes]] = []
        wanted = set(work.wanted)
        for one in self._history.inputs(number, work.hours) if self._history else ():
            known = work.add(one.source, one.item, late=True)
            key = one.item.station, window_end(one.item.time, self._rules.size)
            if key not in wanted:
                continue  # it only lends context here; its own pass counts it
            if known is None:
                fresh.append((key, one.source, one.value))
            elif known.mark == one.item.mark:
                self.report.known += 1
            else:
                name = "/".join(str(part) for part in one.item.identity)
                reason = f"{name} of {key[0]} is known with another value; the first one counts"
                self.report.problems.append(Problem(one.where, reason))
        return fresh

    # -- what lies on the topics ---------------------------------------------------------------------------

    def _late(self, number: int, done: int) -> _Late:
        late = _Late()
        size = self._rules.size
        for _, _, stood in self._late_records(number, None, []):
            if stood.source == "readings" and not stood.filed:
                late.offsets["readings"].add(stood.offset)
        self._stand(number, late)
        for source, item, origin, arrived in self._late_items(
            number, None, self.report.unusable, late.standing
        ):
            late.offsets[source].add(origin)
            end = window_end(item.time, size)
            if not self._wanted(end) or self._scope.station not in (None, item.station):
                continue
            # Event time, too, may lie far back: a replay of old data has topics of its own.
            if self._since is None and item.time < min(arrived, done) - UNASKED_MS:
                count, first, last = self.report.of_old.get(item.station, (0, item.time, item.time))
                self.report.of_old[item.station] = count + 1, min(first, item.time), max(last, item.time)
                continue
            late.windows |= {(item.station, one) for one in ends_of(item, size) if one <= max(done, end)}
        return late

    def _stand(self, number: int, late: _Late) -> None:
        """For how long the late readings stand, and beside what, as the worker had it."""
        offsets = late.offsets["readings"]
        if not offsets:
            return
        periods = self._periods(number)
        for record in self._scan(self._name(topics.READINGS), number):
            for item in self._items("readings", record, periods):
                beside = item.payload.scalings or item.payload.twinned
                if (item.reach or item.basis == RUNNING or beside) and item.offset in offsets:
                    late.standing[item.offset, item.identity] = item

    def _periods(self, number: int) -> Periods:
        """Periods that have heard nothing yet, for a log that is read from its beginning."""
        return Periods(self._rules.size, Cadences(), self._book(number).get, humidity_ms)

    def _annotations(self, number: int) -> list[Annotation]:
        """The invalidations of a partition, those that were taken back included."""
        name = self._name(topics.ANNOTATIONS)
        found = []
        if name in self._consumer.topics():  # an installation of before has none
            found = read_annotations(self._scan(name, number), self.keys)
        if self._draft is not None and self.keys.partition(self._draft.station) == number:
            found = [*(one for one in found if one.id != self._draft.id), self._draft]
        return [one for one in found if one.kind == "invalid" and self._scope.station in (None, one.station)]

    def _annotated(self, number: int, annotations: Sequence[Annotation], late: _Late) -> set[Key]:
        """The windows that readings of annotated times belong to, as far as the logs still have them."""
        spans: dict[str, list[LeftOut]] = {}
        for annotation in annotations:
            spans.setdefault(annotation.station, []).append(left_out(withheld_of(annotation)))
        windows: set[Key] = set()
        if not spans:
            return windows

        def take(source: Source, item: Item) -> None:
            if source != "readings":
                return
            for one in spans[item.station]:
                if one.since <= item.time < one.until:
                    self.report.sensors.add(item.payload.sensor)
                    if one.covers(item.time, item.payload):
                        ends = ends_of(item, self._rules.size)
                        windows.update((item.station, end) for end in ends if self._wanted(end))

        periods = self._periods(number)
        for record in self._scan(self._name(topics.READINGS), number, spans):
            for item in self._items("readings", record, periods):
                take("readings", item)
        for source, item, _, _ in self._late_items(number, spans, [], late.standing):
            take(source, item)
        return windows

    def _told(self, number: int) -> dict[str, AmendmentsOnLog]:
        """Per station what amendments on the log say already."""
        told: dict[str, AmendmentsOnLog] = {}
        for record in self._scan(self._name(topics.READINGS), number):
            if is_amendment(record):
                try:
                    amendment = amendment_of(record, self.keys)
                except Refused:
                    continue  # by the worker too
                told.setdefault(amendment.station, AmendmentsOnLog()).add(amendment)
        return told

    def _withhold(
        self,
        annotations: Sequence[Annotation],
        told: Mapping[str, AmendmentsOnLog],
        done: int,
        sender: Sender | None,
    ) -> None:
        """Tell the worker which readings do not count, where it does not know yet."""
        by_station: dict[str, list[Annotation]] = {}
        for one in annotations:
            by_station.setdefault(one.station, []).append(one)
        for station, of_it in sorted(by_station.items()):
            known = told.get(station, AmendmentsOnLog()).withheld
            # What was over a week before its final windows, the worker has no use for.
            fresh = tuple(
                withheld_of(one) for one in of_it
                if one.undone is None and one.id not in known and to_ms(one.until) > done - _WEEK_MS
            )  # fmt: skip
            over = tuple(sorted(one.id for one in of_it if one.undone is not None and one.id in known))
            if fresh or over:
                self._tell(Amendment(station=station, withhold=fresh, release=over), sender)

    def _late_records(
        self, number: int, stations: Collection[str] | None, unusable: list[str]
    ) -> Iterator[tuple[Any, str, _Origin]]:
        """Records of the late topic, where they lie, and where they stood first; complaints to `unusable`."""
        for record in self._scan(self._name(topics.LATE), number, stations):
            where = f"{record.topic}/{record.partition}/{record.offset}"
            raw = dict(record.headers).get(LATE_FROM, b"").decode(errors="replace")
            filed = source_of_file(raw)
            topic, _, rest = raw.partition("/")
            partition, _, offset = rest.partition("/")
            if filed is not None:
                yield record, where, _Origin(filed, _AFTER_THE_LOG + record.offset, True)
            elif topic in self._names and partition == str(number) and offset.isdigit():
                yield record, where, _Origin(self._names[topic], int(offset), False)
            else:
                unusable.append(f"{where}: {LATE_FROM} says {raw!r}, which is no input of this partition")

    def _late_items(
        self,
        number: int,
        stations: Collection[str] | None,
        unusable: list[str],
        standing: Mapping[tuple[int, tuple[Any, ...]], Item],
    ) -> Iterator[tuple[Source, Item, int, int]]:
        """Late inputs under the offset at which they stood first, and when they came (broker's time, ms).

        `standing`: those that stand for a period, or beside others, as the log has them.
        Complaints go to `unusable`.
        """
        periods = self._periods(number)
        for record, where, origin in self._late_records(number, stations, unusable):
            try:
                items, _ = items_of(
                    origin.source, record, self.keys, periods if origin.filed else own_window_only()
                )
            except Refused as refused:
                unusable.append(f"{where}: {refused}")
                continue
            for item in items:
                known = standing.get((origin.offset, item.identity), item)
                yield origin.source, known._replace(offset=origin.offset), origin.offset, record.timestamp

    def _items(self, source: Source, record: Any, periods: Periods) -> list[Item]:
        if is_punctuation(record) or is_amendment(record):
            return []
        try:
            return items_of(source, record, self.keys, periods)[0]
        except Refused:
            return []  # as the worker did, which also wrote the dead letter

    def _estimates(self, work: Backfill, number: int) -> float:
        return self._each_estimate(
            number,
            work.stations,
            lambda estimate, backfilled: work.add_estimate(estimate, backfilled=backfilled),
        )

    def _each_estimate(
        self, number: int, stations: Collection[str], take: Callable[[Estimate, bool], None]
    ) -> float:
        """Hand out the estimates of stations, and whether backfill made them; gives `complete_since`."""
        name = self._name(topics.ESTIMATES)
        complete_since = float("-inf") if self._begins(name, number) == 0 else float("inf")
        for record in self._scan(name, number):
            complete_since = min(complete_since, record.timestamp)
            if (record.key or b"").decode(errors="replace") not in stations:
                continue
            try:
                estimate = read_estimate(record)
            except (ValidationError, Refused):
                continue  # the sinks refuse it too, with a dead letter: it is in no series
            take(estimate, BACKFILLED in dict(record.headers))
        return complete_since

    def _checkpoints(self, number: int) -> dict[str, list[tuple[int, SensorsState]]]:
        """Per station the virtual sensors' snapshots. Raises NewerState."""
        newest = {record.key: record for record in self._scan(self._name(topics.STATE), number)}
        found: dict[str, list[tuple[int, SensorsState]]] = {}
        for key, record in newest.items():
            name, _, _ = key.decode().rpartition("#")
            if not name.endswith(OF_SENSORS) or record.value is None:
                continue
            try:
                state = SENSORS.decode(record.value)
            except DamagedState:
                continue  # the worker says so; values keep what they were published with
            station = name.removesuffix(OF_SENSORS)
            found.setdefault(station, []).append((int(dict(record.headers)[AT]), state))
        return found

    def _begins(self, topic: str, number: int) -> int:
        tp = TopicPartition(topic, number)
        return int(self._consumer.beginning_offsets([tp])[tp])

    def _scan(self, topic: str, number: int, stations: Collection[str] | None = None) -> Iterator[Any]:
        """A partition's records from its beginning to where it ends now; of all stations or of these."""
        consumer, tp = self._consumer, TopicPartition(topic, number)
        keys = None if stations is None else {station.encode() for station in stations}
        consumer.assign([tp])
        consumer.seek_to_beginning(tp)
        end = consumer.end_offsets([tp])[tp]
        while consumer.position(tp) < end:
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    if keys is None or record.key in keys:
                        yield record


def passes(windows: Sequence[Key]) -> Iterator[list[Key]]:
    """The windows in order, so cut that one pass has a bounded number of (station, hour)."""
    part: list[Key] = []
    hours: set[Key] = set()
    for station, end in windows:
        at = station, hour(end)
        if at not in hours and len(hours) == HOURS_A_PASS:
            yield part
            part, hours = [], set()
        hours.add(at)
        part.append((station, end))
    if part:
        yield part


def final_horizons(settings: Settings) -> dict[int, int]:
    """Per partition, the end of the last window that the fusion worker is done with.

    Empty where no fusion worker has ever committed. Raises TopicReadError, KafkaError.
    """
    return _horizons(_read_so_far(settings))


def _horizons(read: Mapping[Any, Settled]) -> dict[int, int]:
    done: dict[int, int] = {}
    for tp, settled in read.items():
        done[tp.partition] = min(settled.done, done.get(tp.partition, settled.done))
    return done


def _read_so_far(settings: Settings) -> dict[Any, Settled]:
    """Per partition of its sources, how far the fusion worker is."""
    kafka = settings.kafka
    group = f"{kafka.prefix}skyfuse-fusion"
    names = [kafka.prefix + topic.name for topic in (topics.FEATURES, topics.READINGS)]
    with admin_client(kafka) as client:
        tps = [TopicPartition(name, number) for name in names for number in range(kafka.partitions)]
        committed = _committed(client, group, tps)
    return {
        tp: Settled.parse(kept.offset, kept.metadata)
        for tp, kept in committed.items()
        if kept is not None and kept.offset >= 0
    }


def _unheard(windows: Collection[Key], read: Mapping[Any, Settled], consumer: Any, work: "_Run") -> set[Key]:
    """Those of the open windows whose partition was read to its end long after they were over."""
    ends = consumer.end_offsets(list(read))
    behind = {tp.partition for tp, settled in read.items() if settled.position < ends[tp]}
    over = to_ms(datetime.now(UTC)) - work.patience_ms
    return {key for key in windows if key[1] <= over and work.keys.partition(key[0]) not in behind}


def _committed(client: Any, group: str, tps: Sequence[TopicPartition]) -> Any:
    """What the group has committed.

    A broker makes the topic in which groups are kept when it is first asked about one, and until then says
    that there is no coordinator: that passes within seconds, as it does after a broker has gone.
    """
    deadline = time.monotonic() + _COORDINATOR_SECONDS
    while True:
        try:
            return client.list_group_offsets({group: tps})[group]
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError) as error:
            if time.monotonic() > deadline:
                raise TopicReadError(
                    f"for {_COORDINATOR_SECONDS:.0f} s the broker has had no coordinator for group {group}:"
                    " does its log say that it cannot make the topic __consumer_offsets?"
                    f" (offsets.topic.replication.factor must not exceed the number of brokers): {error}"
                ) from error
        time.sleep(_COORDINATOR_POLL_SECONDS)


def _expect_topics(settings: Settings, consumer: Any) -> None:
    """Raise TopicReadError where a topic that is read here is missing: kafka-python would wait for it."""
    read = (
        topics.READINGS, topics.FEATURES, topics.LATE, topics.ESTIMATES, topics.STATIONS, topics.STATE,
        topics.CAMERA_BANDS,
    )  # fmt: skip
    missing = sorted({settings.kafka.prefix + topic.name for topic in read} - consumer.topics())
    if missing:
        raise TopicReadError(
            f"{settings.kafka.bootstrap} has no topic {', '.join(missing)}: nothing was ever fused there."
            " Is it the right broker (kafka.bootstrap, kafka.prefix)? `skyfuse topics` creates the topics"
        )


def run(
    settings: Settings,
    scope: Scope,
    *,
    dry_run: bool,
    files: Files | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    draft: Annotation | None = None,
) -> BackfillReport:
    """Backfill all partitions; `draft`: an annotation to go by, whether it is on its topic or not.
    Raises TopicReadError, SourceError; what was written before stays right."""
    with ExitStack() as stack:
        dial(settings.kafka)
        try:
            consumer = KafkaConsumer(
                **client_arguments(settings.kafka),
                **consumer_limits(),
                group_id=None,
                enable_auto_commit=False,
            )
        except KafkaError as error:
            raise TopicReadError(f"the broker cannot be reached: {error}") from error
        stack.callback(consumer.close)
        try:
            _expect_topics(settings, consumer)
            work = _Run(settings, consumer, scope, draft)
            read = _read_so_far(settings)
            done = _horizons(read)
            if files is not None:
                history = stack.enter_context(FileInputs(settings, work.keys))
                work.read(history, files, done, progress)
                work.report.open |= history.open
            sender = None if dry_run else stack.enter_context(Sender(settings.kafka))
            if sender is not None:
                work.introduce(sender)
            of_one = None if scope.station is None else work.keys.partition(scope.station)
            for number in range(settings.kafka.partitions) if of_one is None else (of_one,):
                work.partition(number, done.get(number, BEGINNING), sender)
            work.report.never_fused = not read
            work.report.unheard = _unheard(work.report.open, read, consumer, work) if read else set()
        except KafkaError as error:
            raise TopicReadError(f"the topics cannot be read: {error}") from error
    return work.report
