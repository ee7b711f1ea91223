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

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from kafka.errors import KafkaError

from backfill.annotations import withheld_by_station, withheld_of
from backfill.committed import horizons_of, read_so_far
from backfill.files import FileInputs, WantedWindows, WorkersKnowledge, late_from
from backfill.healing import AmendmentsOnLog, Healing, reach
from backfill.logs import TopicLogs
from backfill.published import Published
from backfill.report import BackfillReport, Scope, WrongClock
from backfill.windows import PAST_MS, Backfill, Key, Source, Span, ends_of, hour
from datasets.events import Problem
from datasets.layouts import Files
from fusion.amending import LeftOut, left_out
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.amendment import AMENDMENT_TYPE, Amendment
from schemas.annotation import Annotation
from schemas.base import to_ms
from schemas.estimate import BACKFILLED, Estimate
from schemas.parameters import Pollutant
from schemas.times import DAY_MS, window_end
from settings.sections import Settings
from sources.replay.feed import ReplayProgress
from sources.sender import Sender
from streams import topics
from streams.admin import client_arguments, dial
from streams.errors import TopicReadError
from streams.join import BEGINNING, RUNNING, Item, Settled
from streams.join_rules import join_rules
from streams.to_end import looking_in

_WEEK_MS: Final = 7 * DAY_MS
#: Late data older than this when they came have to be asked for: a clock that was reset, or rolled over.
UNASKED_MS: Final = 30 * DAY_MS
#: How long a worker may take to be idle and to commit.
_SETTLES_MS: Final = 120_000
#: Hours of a station's windows made again in one pass. Each holds two hours of inputs, 2 MB at 36 values a
#: minute, and at most the two days of averages before it.
HOURS_A_PASS: Final = 48


class _Late:
    """The late topic of one partition: which windows, and where its records stood first."""

    def __init__(self) -> None:
        self.windows: set[Key] = set()
        self.offsets: dict[Source, set[int]] = {"features": set(), "readings": set()}
        #: By offset and identity, late readings that stand for a period.
        self.standing: dict[tuple[int, tuple[Any, ...]], Item] = {}


class _Fresh(NamedTuple):
    """An input of a file that no log has: of which window, and its message."""

    key: Key
    source: Source
    value: bytes


class _Run:
    """A backfill at work, partition by partition; `report` is what it comes to."""

    def __init__(
        self, settings: Settings, consumer: Any, scope: Scope, draft: Annotation | None = None
    ) -> None:
        self._scope = scope
        self._draft = draft
        self._since, self._until = scope.since, scope.until
        self._rules = join_rules(settings.window)
        self._logs = TopicLogs(settings.kafka, consumer, self._rules.size)
        self.keys = self._logs.keys
        #: So long after its end (ms) a window is final where data come.
        self.patience_ms = self._rules.size + self._rules.final_after + _SETTLES_MS
        self._bundle = Bundle.load(settings.bundle)
        self._head = Head(self._bundle)
        self._history: FileInputs | None = None
        self.report = BackfillReport()

    def read(
        self,
        history: FileInputs,
        files: Files,
        done: dict[int, int],
        progress: Callable[[ReplayProgress], None],
    ) -> None:
        """Take in files; what of them belongs to final windows is counted by `partition`."""
        history.read(
            files,
            WorkersKnowledge(self._bundle, self._logs.book, self._logs.bands),
            WantedWindows(self._wanted, done, strays_too=self._since is not None),
            progress,
        )
        self.report.problems = history.problems
        self._history = history

    def introduce(self, sender: Sender) -> None:
        """Publish the records of stations that only the files know."""
        for name, station in self._history.stations.items() if self._history else ():
            sender.send(topics.STATIONS.name, name.encode(), station.model_dump_json().encode())

    def _wanted(self, end: int) -> bool:
        return (self._since is None or end >= self._since) and (self._until is None or end < self._until)

    def partition(self, number: int, done: int, sender: Sender | None) -> None:
        """Make a partition's late windows again; without a sender nothing is written."""
        self.report.newest = max(self.report.newest, done)
        annotations = self._annotations(number)
        on_log = self._logs.amendments(number)
        self._withhold(annotations, on_log, done, sender)
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
        unmeasured: dict[str, dict[Pollutant, Span]] = {}
        possible: set[Key] = set()
        for wanted in passes(sorted(final)):
            work = Backfill(wanted, self._rules.size, withheld)
            for source, item, *_ in self._logs.late_items(number, work.stations, [], late.standing):
                work.add(source, item, late=True)
            for name, source in self._logs.sources.items():
                periods = self._logs.periods(number)
                for record in self._logs.scan(name, number, work.stations):
                    for item in self._logs.items(source, record, periods):
                        work.add(source, item, late=record.offset in late.offsets[source])
            fresh = self._from_files(work, number)
            complete_since = self._logs.each_estimate(number, work.stations, work.add_estimate)
            outcomes = work.decide(complete_since)
            self.report.outcomes += outcomes
            possible |= {outcome.key for outcome in outcomes if outcome.verdict != "impossible"}
            for station in work.stations:
                spans = unmeasured.setdefault(station, {})
                for name, span in work.unmeasured(station).items():
                    before = spans.get(name, span)
                    spans[name] = Span(min(before.since, span.since), max(before.until, span.until))
            rewrite = {outcome.key for outcome in outcomes if outcome.verdict == "rewrite"}
            added = [one for one in fresh if one.key in rewrite]
            self.report.added += len(added)
            self.report.left += len(fresh) - len(added)
            estimates = work.remake(
                outcomes,
                self._head,
                self._rules.lateness,
                self._logs.book(number).get,
                self._logs.checkpoints(number),
            )
            if sender is not None:
                for one in added:
                    sender.send(topics.LATE.name, one.key[0].encode(), one.value, [late_from(one.source)])
                sender.flush()
                for estimate in estimates:
                    self._publish_again(estimate, sender)
                sender.flush()
            else:
                made += estimates
        self._heal(number, done, possible, made, unmeasured, on_log, sender)

    def _heal(
        self,
        number: int,
        done: int,
        touched: Collection[Key],
        made: Sequence[Estimate],
        unmeasured: Mapping[str, Mapping[Pollutant, Span]],
        on_log: Mapping[str, AmendmentsOnLog],
        sender: Sender | None,
    ) -> None:
        """Mend what follows from the windows `touched`; `made`: of those, what was not published."""
        if not touched:
            return
        ends: dict[str, list[int]] = {}
        for station, end in sorted(touched):
            ends.setdefault(station, []).append(end)
        measured: dict[str, set[str]] = {}
        for station, snapshots in self._logs.checkpoints(number).items():
            measured[station] = {name for _, state in snapshots for name in state.virtual}
        back = max(reach(measured.get(station, ())) for station in ends)
        with Published(ends, back, PAST_MS) as published:
            complete_since = self._logs.each_estimate(number, set(ends), lambda one, _: published.add(one))
            for estimate in made:
                published.add(estimate)
            for station in published.stations:
                healing = Healing(
                    station, self._logs.book(number).get(station), ends[station], self._rules.size,
                    self._rules.lateness, done, complete_since, unmeasured.get(station, {}),
                    measured.get(station, ()),
                )  # fmt: skip
                for estimate in healing.heal(published.windows(station)):
                    self.report.healed += 1
                    if sender is not None:
                        self._publish_again(estimate, sender)
                self.report.in_progress += healing.in_progress
                missing = on_log.get(station, AmendmentsOnLog()).missing_of(healing.amendment())
                if missing is not None:
                    self._amend(missing, sender)
        if sender is not None:
            sender.flush()

    def _publish_again(self, estimate: Estimate, sender: Sender) -> None:
        sender.send(
            topics.ESTIMATES.name, estimate.station.encode(), estimate.model_dump_json().encode(),
            [(BACKFILLED, b"true")],
        )  # fmt: skip

    def _amend(self, amendment: Amendment, sender: Sender | None) -> None:
        """Put an amendment on the fusion worker's input."""
        self.report.amended.add(amendment.station)
        if sender is not None:
            sender.send(
                topics.READINGS.name, amendment.station.encode(), amendment.model_dump_json().encode(),
                [("ce_type", AMENDMENT_TYPE)],
            )  # fmt: skip
            sender.flush()

    def _from_files(self, work: Backfill, number: int) -> list[_Fresh]:
        """Add the files' inputs to `work`; those of its windows that nobody knew of."""
        fresh: list[_Fresh] = []
        wanted = set(work.wanted)
        for one in self._history.inputs(number, work.hours) if self._history else ():
            known = work.add(one.source, one.item, late=True)
            key = one.item.station, window_end(one.item.time, self._rules.size)
            if key not in wanted:
                continue  # it only lends context here; its own pass counts it
            if known is None:
                fresh.append(_Fresh(key, one.source, one.value))
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
        for record in self._logs.late_records(number, None, []):
            if record.source == "readings" and not record.filed:
                late.offsets["readings"].add(record.offset)
        self._stand(number, late)
        for source, item, offset, arrived in self._logs.late_items(
            number, None, self.report.unusable, late.standing
        ):
            late.offsets[source].add(offset)
            end = window_end(item.time, size)
            if not self._wanted(end) or self._scope.station not in (None, item.station):
                continue
            # Event time, too, may lie far back: a replay of old data has topics of its own.
            if self._since is None and item.time < min(arrived, done) - UNASKED_MS:
                known = self.report.of_old.get(item.station, WrongClock(0, item.time, item.time))
                self.report.of_old[item.station] = known.with_one_at(item.time)
                continue
            late.windows |= {(item.station, one) for one in ends_of(item, size) if one <= max(done, end)}
        return late

    def _stand(self, number: int, late: _Late) -> None:
        """For how long the late readings stand, and beside what, as the worker had it."""
        offsets = late.offsets["readings"]
        if not offsets:
            return
        periods = self._logs.periods(number)
        for record in self._logs.scan(self._logs.name(topics.READINGS), number):
            for item in self._logs.items("readings", record, periods):
                beside = item.payload.scalings or item.payload.twinned
                if (item.reach or item.basis == RUNNING or beside) and item.offset in offsets:
                    late.standing[item.offset, item.identity] = item

    def _annotations(self, number: int) -> list[Annotation]:
        """The invalidations of a partition, those that were taken back included."""
        found = self._logs.annotations(number)
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

        periods = self._logs.periods(number)
        for record in self._logs.scan(self._logs.name(topics.READINGS), number, spans):
            for item in self._logs.items("readings", record, periods):
                take("readings", item)
        for source, item, _, _ in self._logs.late_items(number, spans, [], late.standing):
            take(source, item)
        return windows

    def _withhold(
        self,
        annotations: Sequence[Annotation],
        on_log: Mapping[str, AmendmentsOnLog],
        done: int,
        sender: Sender | None,
    ) -> None:
        """Tell the worker which readings do not count, where it does not know yet."""
        by_station: dict[str, list[Annotation]] = {}
        for one in annotations:
            by_station.setdefault(one.station, []).append(one)
        for station, of_it in sorted(by_station.items()):
            known = on_log.get(station, AmendmentsOnLog()).withheld
            # What was over a week before its final windows, the worker has no use for.
            fresh = tuple(
                withheld_of(one) for one in of_it
                if one.undone is None and one.id not in known and to_ms(one.until) > done - _WEEK_MS
            )  # fmt: skip
            over = tuple(sorted(one.id for one in of_it if one.undone is not None and one.id in known))
            if fresh or over:
                self._amend(Amendment(station=station, withhold=fresh, release=over), sender)


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


def _stranded(windows: Collection[Key], read: Mapping[Any, Settled], consumer: Any, work: "_Run") -> set[Key]:
    """Those of the open windows whose partition was read to its end long after they were over."""
    ends = consumer.end_offsets(list(read))
    behind = {tp.partition for tp, settled in read.items() if settled.position < ends[tp]}
    over = to_ms(datetime.now(UTC)) - work.patience_ms
    return {key for key in windows if key[1] <= over and work.keys.partition(key[0]) not in behind}


def _expect_topics(settings: Settings, consumer: Any) -> None:
    """Raise TopicReadError where a topic that is read here is missing: kafka-python would wait for it."""
    read = (
        topics.READINGS, topics.FEATURES, topics.LATE, topics.ESTIMATES, topics.STATIONS, topics.STATE,
        topics.CAMERA_BANDS,
    )  # fmt: skip
    missing = sorted({settings.kafka.names.of(topic) for topic in read} - consumer.topics())
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
    progress: Callable[[ReplayProgress], None] = lambda _: None,
    draft: Annotation | None = None,
) -> BackfillReport:
    """Backfill all partitions; `draft`: an annotation to go by, whether it is on its topic or not.
    Raises TopicReadError, SourceError; what was written before stays right."""
    with ExitStack() as stack:
        dial(settings.kafka)
        consumer = stack.enter_context(looking_in(client_arguments(settings.kafka)))
        try:
            _expect_topics(settings, consumer)
            work = _Run(settings, consumer, scope, draft)
            read = read_so_far(settings)
            done = horizons_of(read)
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
            work.report.stranded = _stranded(work.report.open, read, consumer, work) if read else set()
        except KafkaError as error:
            raise TopicReadError(f"the topics cannot be read: {error}") from error
    return work.report
