"""Windows of a region meet: the pure core of the network stage, one partition of its topic.

The stations' own estimates come in by a log that several partitions of the fusion stage write to. Each of
these says by *marks* how far it has come: of windows that end up to the mark nothing comes any more, and
those that end up to the allowed lateness after it were published. A window of a region closes when all of
them have come so far, and is final when the marks say so. Until then a revision of one station revises its
neighbours.

What a window's estimates are follows from two things: the set of the newest revisions in it, and what the
region had learned from final windows an allowed lateness before it ended. In which order the sources came,
how the log was cut into batches and where a worker died makes no difference.

* The *revision* of an estimate counts the inputs of all stations of its region, those of others as `amended`,
  so it grows with each of them. What a late neighbour leaves as it is, is published once more when the window
  is final: the newest revision is then the same in whatever order they came.
* A station that says nothing has an estimate all the same, while anybody near it is heard, until it is
  retired; but not before its own source has come so far.
* A source that is silent for the idle timeout holds nothing up. What it sends of final windows is published
  as it is, above what the region had said.

Recovery is that of `streams.join`: a successor reads again from the first record of the windows that have
been final for less than the state goes back, and publishes of them only what was not final then.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fusion.together.learning import LEARNED, Learned, LearnedState
from fusion.together.progress import MeetingProgress, MeetingRules
from fusion.together.region_flow import MeetingWindow, RegionFlow, counting
from schemas.alone import Alone, Mark
from schemas.amendment import Amendment
from schemas.base import to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.times import HOUR_MS, end_of, window_end
from streams.commit_metadata import read_metadata, write_metadata
from streams.join import BEGINNING

#: Final windows of a region of which is known what was published, for what comes too late.
_REMEMBERED: Final = 3_000
_EXPIRE, _HOUR, _CLOSE = 0, 1, 2


class Amended(NamedTuple):
    """A change of the past of a station of a region; `end` of the window (ms) behind which it stands."""

    region: str
    end: int
    amendment: Amendment


class RetiredStation(NamedTuple):
    """A station that was taken out of service behind the window that ends at `end` (ms), or, where a `region`
    is named, that is of another one since."""

    station: str
    end: int
    region: str | None = None


class LoggedRecord(NamedTuple):
    """A record of the log, and its offset."""

    offset: int
    content: Alone | Mark | Amended | RetiredStation


class MeetingStand(NamedTuple):
    """Where a successor starts to read, and what it has to know of the past.

    `position`: offset after the last record that was taken; `done`: windows that end up to it were final and
    published; `marks`: of the sources by number.
    """

    offset: int
    position: int
    done: int
    marks: Mapping[int, int]

    def metadata(self) -> str:
        """The part that travels in the commit's metadata; as that of the join, with the marks."""
        marks = {str(source): mark for source, mark in sorted(self.marks.items())}
        return write_metadata({"wm": self.done, "pos": self.position, "done": self.done, "marks": marks})

    @classmethod
    def parse(cls, offset: int, metadata: str) -> "MeetingStand":
        """Inverse of `metadata`; an empty text is a commit of another tool: only the offset counts."""
        if not metadata:
            return cls(offset, offset, BEGINNING, {})

        def stand(plain: Mapping[str, Any]) -> "MeetingStand":
            marks = {int(source): int(mark) for source, mark in plain["marks"].items()}
            return cls(offset, int(plain["pos"]), int(plain["done"]), marks)

        return read_metadata(metadata, stand)


@dataclass
class MeetingOutput:
    """What is to be published, and how often something went wrong.

    `late`: estimates of final windows, published as they were. `failed`: of windows of which the region could
    say nothing: they are published as the stations have them, and nothing is learned.
    """

    estimates: list[Estimate] = field(default_factory=list)
    late: int = 0
    failed: list[Refused] = field(default_factory=list)


class Meeting:
    """The regions of one partition. `snapshots`: by region, what was learned by the end of an hour."""

    def __init__(
        self,
        rules: MeetingRules,
        restored: MeetingStand | None = None,
        snapshots: Mapping[str, tuple[int, Learned]] | None = None,
        now: int = 0,
    ) -> None:
        self.rules = rules
        self._restored = restored
        self._read = restored.offset if restored else 0
        self._progress = MeetingProgress(rules, restored.marks if restored else {}, now)
        self._done_before = restored.done if restored else BEGINNING
        self._skip_to = self.rules.kept_since(self._done_before)
        self._flows = {
            name: RegionFlow(self._progress, at, learned) for name, (at, learned) in (snapshots or {}).items()
        }
        self._windows: dict[tuple[int, str], MeetingWindow] = {}
        self._agenda: list[tuple[int, int, int, str]] = []
        self._hours: set[tuple[int, str]] = set()
        #: By end of window the first offset of a record of it, and of changes that stand behind it.
        self._firsts: dict[int, int] = {}
        self._amendments: dict[tuple[int, str], list[Amendment]] = {}
        self._held = 0

    # -- input ---------------------------------------------------------------------------------------------

    def feed(self, entries: Iterable[LoggedRecord], position: int, now: int) -> MeetingOutput:
        """Take records in log order; `position`: the offset after the last record read."""
        met = MeetingOutput()
        for offset, content in entries:
            if isinstance(content, Alone):
                self._take(offset, content, met)
            elif isinstance(content, Mark):
                self._mark(content, now, met)
            elif isinstance(content, Amended):
                self._amend(offset, content)
            else:
                self._retire(offset, content)
            self._read = max(self._read, offset + 1)
        self._read = max(self._read, position)
        self._advance(now, met)
        self._revise(met)
        return met

    def tick(self, now: int) -> MeetingOutput:
        """Let processing time pass: only this can make a source idle."""
        met = MeetingOutput()
        self._advance(now, met)
        self._revise(met)
        return met

    def _again(self, offset: int) -> bool:
        """Whether a record was read in an earlier life."""
        return self._restored is not None and offset < self._restored.position

    def _take(self, offset: int, alone: Alone, met: MeetingOutput) -> None:
        estimate = alone.estimate
        end = to_ms(estimate.window.end)
        if self._again(offset):
            if end <= self._skip_to:
                return
        elif end <= max(self._progress.done, self._done_before):
            self._late(alone, end, met)
            return
        if end <= self._progress.done:
            return
        key = end, alone.region
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = MeetingWindow()
            heapq.heappush(self._agenda, (end, _CLOSE, end, alone.region))
            heapq.heappush(self._agenda, (end + self.rules.lateness, _EXPIRE, end, alone.region))
            self._plan_hour(end, alone.region)
        self._firsts[end] = min(offset, self._firsts.get(end, offset))
        known = window.alones.get(estimate.station)
        if known is not None and known.estimate.revision >= estimate.revision:
            return
        self._held += known is None
        window.alones[estimate.station] = alone
        window.dirty = True

    def _plan_hour(self, end: int, region: str) -> None:
        hour = end_of(end, HOUR_MS)
        if (hour, region) not in self._hours:
            self._hours.add((hour, region))
            heapq.heappush(self._agenda, (hour + self.rules.lateness, _HOUR, hour, region))

    def _late(self, alone: Alone, end: int, met: MeetingOutput) -> None:
        """Of a window that is final: nothing new where its source had come so far, else as it is."""
        if end <= self._progress.come(alone.source):
            return
        estimate = alone.estimate
        flow = self._flows.get(alone.region)
        others = 0 if flow is None else flow.totals.get(end, 0)
        met.late += 1
        met.estimates.append(counting(estimate, others))

    def _mark(self, mark: Mark, now: int, met: MeetingOutput) -> None:
        if self._progress.take(mark, now):
            self._advance(now, met)

    def _amend(self, offset: int, amended: Amended) -> None:
        """It waits for the window behind which it stands, or the next that is not final."""
        if self._again(offset) and amended.end <= self._skip_to:
            return
        end = max(amended.end, self._next_end())
        self._amendments.setdefault((end, amended.region), []).append(amended.amendment)
        self._firsts[end] = min(offset, self._firsts.get(end, offset))
        heapq.heappush(self._agenda, (end + self.rules.lateness, _EXPIRE, end, amended.region))
        self._plan_hour(end, amended.region)

    def _retire(self, offset: int, retired: RetiredStation) -> None:
        if self._again(offset) and retired.end <= self._skip_to:
            return
        end = max(retired.end, self._next_end())
        if retired.region is None:
            self._progress.gone[retired.station] = end
        else:
            self._flow(retired.region).left[retired.station] = end
        self._firsts[end] = min(offset, self._firsts.get(end, offset))
        for name in sorted(self._flows):
            if retired.region in (None, name) and retired.station in self._flows[name].histories:
                self._plan_hour(end, name)

    def _next_end(self) -> int:
        """End of the first window that is not final."""
        return window_end(max(self.done, 0), self.rules.size)

    # -- progress ------------------------------------------------------------------------------------------

    def _advance(self, now: int, met: MeetingOutput) -> None:
        if self._restored is not None and self._read < self._restored.position:
            return  # what an earlier life had taken is not all there yet
        final = max(self._progress.waited(self._held, now), self._done_before)
        if final == BEGINNING:
            return
        final = max(final, self._progress.done)
        limit = final + self.rules.lateness
        while self._agenda and self._agenda[0][0] <= limit:
            _, kind, end, region = heapq.heappop(self._agenda)
            if kind == _CLOSE:
                window = self._windows.get((end, region))
                if window is not None and not window.closed:
                    window.closed = True
                    if end > self._done_before:
                        self._publish(end, region, window, met)
            elif kind == _EXPIRE:
                self._progress.done = max(self._progress.done, end)
                self._expire(end, region, met)
            else:
                self._hours.discard((end, region))
                self._flow(region).over(end, met.failed)
        self._progress.done = final
        kept = self.rules.kept_since(final)
        for end in [end for end in self._firsts if end <= kept]:
            del self._firsts[end]
        gone = self._progress.gone
        self._progress.gone = {name: end for name, end in gone.items() if end_of(end, HOUR_MS) > kept}
        for flow in self._flows.values():
            flow.left = {name: end for name, end in flow.left.items() if end_of(end, HOUR_MS) > kept}
            flow.versions.prune(kept)

    def _revise(self, met: MeetingOutput) -> None:
        """What came for windows that are closed already; and sources that have come past them meanwhile."""
        for end, region in sorted(self._windows):
            window = self._windows[end, region]
            if not window.closed or end <= self._done_before:
                continue
            if window.dirty or any(self._progress.closed(source, end) for source in window.lacking):
                self._publish(end, region, window, met)

    # -- windows -------------------------------------------------------------------------------------------

    def _flow(self, region: str) -> RegionFlow:
        flow = self._flows.get(region)
        if flow is None:
            flow = self._flows[region] = RegionFlow(self._progress, BEGINNING, Learned())
        return flow

    def _publish(
        self, end: int, region: str, window: MeetingWindow, met: MeetingOutput, final: bool = False
    ) -> None:
        """Put out what is new of a window; of a final one also what only counts more inputs now."""
        for station, estimate in self._flow(region).estimates(end, window, final, met.failed).items():
            before = window.published.get(station)
            own = window.alones[station].estimate.revision if station in window.alones else 0
            if before is not None and before[0] == own:
                counts = {"revision": before[1].revision, "amended": before[1].amended}
                if estimate == before[1] or (not final and estimate.model_copy(update=counts) == before[1]):
                    continue
            window.published[station] = own, estimate
            met.estimates.append(estimate)

    def _expire(self, end: int, region: str, met: MeetingOutput) -> None:
        """A window is final: what is left is published, and its averages and hour take it in."""
        window = self._windows.pop((end, region), None)
        flow = self._flow(region)
        if window is not None:
            self._held -= len(window.alones)
            if end > self._done_before:
                self._publish(end, region, window, met, final=True)
            flow.learn(end, window, met.failed)
            flow.totals[end] = window.inputs
            while len(flow.totals) > _REMEMBERED:
                del flow.totals[next(iter(flow.totals))]
        for amendment in self._amendments.pop((end, region), ()):
            flow.amend(end, amendment)

    # -- what others ask -----------------------------------------------------------------------------------

    @property
    def done(self) -> int:
        """Windows that end here or earlier are final."""
        return max(self._progress.done, self._done_before)

    def settled(self) -> MeetingStand:
        """Where a successor has to start. Ask only when all that was put out is confirmed."""
        position = max(self._read, self._restored.position if self._restored else 0)
        offset = min([self._read, *self._firsts.values()])
        if self._restored is not None and self._read < self._restored.position:
            return self._restored
        return MeetingStand(offset, position, self.done, dict(self._progress.marks))

    def horizons(self) -> dict[str, int]:
        """By region, the end of the hour whose state goes with what is settled."""
        kept = self.rules.kept_since(self.done)
        found = {}
        for name, flow in self._flows.items():
            at = flow.versions.as_of(kept).at
            if BEGINNING < at <= kept:
                found[name] = at
        return found

    def dump(self, region: str, horizon: int) -> bytes:
        """The state of a region at that horizon."""
        return LEARNED.encode(LearnedState.of(self._flows[region].versions.as_of(horizon).value))

    @property
    def held(self) -> int:
        """Estimates in windows that are not final."""
        return self._held
