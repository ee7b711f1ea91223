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

from aqi.flags import SUSPECT
from aqi.history import History
from fusion.amending import history_after
from fusion.conclusion import Counts, doubted
from fusion.indices import indices
from fusion.ring import Ring
from fusion.together.learning import LEARNED, Learned, LearnedState, PresentRegion, after_hour, present
from fusion.together.roster import KnownStation, known_by
from fusion.together.witnesses import Hearing, Testimony, listened_to
from schemas.alone import Alone, Mark
from schemas.amendment import Amendment
from schemas.base import from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate, Inputs
from schemas.estimate import Window as Span
from schemas.times import HOUR_MS, end_of, window_end
from streams.boundary import guarded
from streams.commit_metadata import read_metadata, write_metadata
from streams.join import BEGINNING

#: Estimates held in windows that are not final, until a source that is behind is not waited for.
MOST_HELD: Final = 100_000
#: Final windows of a region of which is known what was published, for what comes too late.
_REMEMBERED: Final = 3_000
_EXPIRE, _HOUR, _CLOSE = 0, 1, 2


@dataclass(frozen=True)
class MeetingRules:
    """Event-time rules, in ms: those of the join. `sources`: partitions of the fusion stage. `idle_timeout`:
    processing time; None: all sources are waited for. `radius_km`: how far a station is near."""

    size: int
    lateness: int
    sources: int
    idle_timeout: int | None = None
    radius_km: float = 50.0

    def kept_since(self, done: int) -> int:
        """The end of the last hour (ms) that is learned for all windows which may still be published, where
        windows up to `done` are final: what is stored is of then.
        """
        return (done - self.lateness) // HOUR_MS * HOUR_MS if done > BEGINNING else BEGINNING


class Amended(NamedTuple):
    """A change of the past of a station of a region; `end` of the window (ms) behind which it stands."""

    region: str
    end: int
    amendment: Amendment


class RetiredStation(NamedTuple):
    """A station that was taken out of service behind the window that ends at `end` (ms)."""

    station: str
    end: int


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


class _MeetingWindow:
    __slots__ = ("alones", "closed", "dirty", "lacking", "made", "published", "said")

    def __init__(self) -> None:
        self.alones: dict[str, Alone] = {}
        self.published: dict[str, tuple[int, Estimate]] = {}
        #: What was made of the window last.
        self.made: dict[str, Estimate] = {}
        self.said: tuple[Learned, dict[str, Testimony]] | None = None
        self.closed = False
        self.dirty = True
        #: Sources of stations that said nothing so far, and had not come so far when that was looked at.
        self.lacking: set[int] = set()

    @property
    def inputs(self) -> int:
        return sum(one.estimate.revision for one in self.alones.values())


class _RegionFlow:
    """A region of the partition."""

    def __init__(self, at: int, learned: Learned) -> None:
        self.versions: Ring[Learned] = Ring(at, learned)
        self.histories: dict[str, Ring[History]] = {
            name: Ring(at, history) for name, history in learned.histories.items()
        }
        #: Of the hours that are not over: what was heard, and what was shown of stations.
        self.sums: dict[int, dict[tuple[str, str], tuple[float, int]]] = {}
        self.shown: dict[str, KnownStation] = {}
        #: By the end of final windows, their inputs.
        self.totals: dict[int, int] = {}
        #: The region as some windows show it, by what it had learned and who is shown.
        self.present: tuple[Learned, dict[str, KnownStation], PresentRegion] | None = None


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
        self._marks: dict[int, int] = dict(restored.marks) if restored else {}
        self._active: dict[int, int] = dict.fromkeys(range(rules.sources), now)
        self._done = BEGINNING
        self._done_before = restored.done if restored else BEGINNING
        self._skip_to = self.rules.kept_since(self._done_before)
        self._flows = {name: _RegionFlow(at, learned) for name, (at, learned) in (snapshots or {}).items()}
        self._windows: dict[tuple[int, str], _MeetingWindow] = {}
        self._agenda: list[tuple[int, int, int, str]] = []
        self._hours: set[tuple[int, str]] = set()
        #: By end of window the first offset of a record of it, and of changes that stand behind it.
        self._firsts: dict[int, int] = {}
        self._amendments: dict[tuple[int, str], list[Amendment]] = {}
        #: By station, the end of the window behind which it was retired.
        self._gone: dict[str, int] = {}
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
        elif end <= max(self._done, self._done_before):
            self._late(alone, end, met)
            return
        if end <= self._done:
            return
        key = end, alone.region
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _MeetingWindow()
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
        if end <= self._marks.get(alone.source, BEGINNING):
            return
        estimate = alone.estimate
        flow = self._flows.get(alone.region)
        others = 0 if flow is None else flow.totals.get(end, 0)
        met.late += 1
        met.estimates.append(_counting(estimate, others))

    def _mark(self, mark: Mark, now: int, met: MeetingOutput) -> None:
        if mark.source >= self.rules.sources:
            return
        self._active[mark.source] = now
        if mark.final > self._marks.get(mark.source, BEGINNING):
            self._marks[mark.source] = mark.final
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
        self._gone[retired.station] = end
        self._firsts[end] = min(offset, self._firsts.get(end, offset))
        for name in sorted(self._flows):
            if retired.station in self._flows[name].histories:
                self._plan_hour(end, name)

    def _next_end(self) -> int:
        """End of the first window that is not final."""
        return window_end(max(self.done, 0), self.rules.size)

    # -- progress ------------------------------------------------------------------------------------------

    def _waited(self, now: int) -> int:
        """How far all sources that are waited for have come."""
        timeout = self.rules.idle_timeout
        marks = [self._marks.get(source, BEGINNING) for source in range(self.rules.sources)]
        if self._held > MOST_HELD:
            return max(marks)
        if timeout is None:
            return min(marks)
        active = [mark for source, mark in enumerate(marks) if now - self._active[source] < timeout]
        return min(active) if active else max(marks)

    def _advance(self, now: int, met: MeetingOutput) -> None:
        if self._restored is not None and self._read < self._restored.position:
            return  # what an earlier life had taken is not all there yet
        final = max(self._waited(now), self._done_before)
        if final == BEGINNING:
            return
        final = max(final, self._done)
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
                self._done = max(self._done, end)
                self._expire(end, region, met)
            else:
                self._hours.discard((end, region))
                self._over(end, region, met)
        self._done = final
        kept = self.rules.kept_since(final)
        for end in [end for end in self._firsts if end <= kept]:
            del self._firsts[end]
        self._gone = {name: end for name, end in self._gone.items() if end_of(end, HOUR_MS) > kept}
        for flow in self._flows.values():
            flow.versions.prune(kept)

    def _revise(self, met: MeetingOutput) -> None:
        """What came for windows that are closed already; and sources that have come past them meanwhile."""
        for end, region in sorted(self._windows):
            window = self._windows[end, region]
            if not window.closed or end <= self._done_before:
                continue
            if window.dirty or any(self._closed(source, end) for source in window.lacking):
                self._publish(end, region, window, met)

    def _closed(self, source: int, end: int) -> bool:
        return end <= self._marks.get(source, BEGINNING) + self.rules.lateness

    # -- windows -------------------------------------------------------------------------------------------

    def _flow(self, region: str) -> _RegionFlow:
        flow = self._flows.get(region)
        if flow is None:
            flow = self._flows[region] = _RegionFlow(BEGINNING, Learned())
        return flow

    def _publish(
        self, end: int, region: str, window: _MeetingWindow, met: MeetingOutput, final: bool = False
    ) -> None:
        """Put out what is new of a window; of a final one also what only counts more inputs now."""
        for station, estimate in self._estimates(end, region, window, final, met).items():
            before = window.published.get(station)
            own = window.alones[station].estimate.revision if station in window.alones else 0
            if before is not None and before[0] == own:
                counts = {"revision": before[1].revision, "amended": before[1].amended}
                if estimate == before[1] or (not final and estimate.model_copy(update=counts) == before[1]):
                    continue
            window.published[station] = own, estimate
            met.estimates.append(estimate)

    def _estimates(
        self, end: int, region: str, window: _MeetingWindow, final: bool, met: MeetingOutput
    ) -> dict[str, Estimate]:
        """The estimates of a window, by station."""
        if not window.dirty and not (
            window.lacking and (final or any(self._closed(source, end) for source in window.lacking))
        ):
            return window.made
        window.dirty = False
        made = guarded(lambda: self._together(end, region, window, final))
        if isinstance(made, Refused):
            met.failed.append(made)
            inputs = window.inputs
            made = {
                name: _counting(alone.estimate, inputs - alone.estimate.revision)
                for name, alone in sorted(window.alones.items())
            }
        window.made = made
        return made

    def _together(self, end: int, region: str, window: _MeetingWindow, final: bool) -> dict[str, Estimate]:
        flow = self._flow(region)
        learned = flow.versions.as_of(end - self.rules.lateness).value
        now, said = self._said(end, flow, window, learned, final)
        window.said = learned, said
        return self._assembled(end, flow, window, now, said)

    def _said(
        self, end: int, flow: _RegionFlow, window: _MeetingWindow, learned: Learned, final: bool
    ) -> tuple[PresentRegion, dict[str, Testimony]]:
        """What a region that has learned so much says of its stations in a window."""
        shown = {
            name: known_by(alone, learned.roster.get(name)) for name, alone in sorted(window.alones.items())
        }
        now = self._present(flow, learned, shown)
        heard = {name: listened_to(alone.estimate) for name, alone in window.alones.items()}
        says = Hearing(now.air, now.vicinity, end, heard)
        window.lacking = set()
        said: dict[str, Testimony] = {}
        for name in now.vicinity.stations:
            alone = window.alones.get(name)
            if alone is not None:
                said[name] = says.said_of(name, alone.estimate)
            elif end < self._gone.get(name, end + 1) and says.tells(name):
                source = now.roster[name].source
                if not final and not self._closed(source, end):
                    window.lacking.add(source)
                    continue
                found = says.said_of(name, None)
                if found.pollutants:
                    said[name] = found
        return now, said

    def _present(self, flow: _RegionFlow, learned: Learned, shown: dict[str, KnownStation]) -> PresentRegion:
        """The region in a window; kept, for most windows show the same of it."""
        new = {
            name: known
            for name, known in shown.items()
            if name not in learned.roster or known._replace(heard=0) != learned.roster[name]._replace(heard=0)
        }
        of_stations = {name: known._replace(heard=0) for name, known in new.items()}
        kept = flow.present
        if kept is None or kept[0] is not learned or kept[1] != of_stations:
            kept = flow.present = learned, of_stations, present(learned, new, self.rules.radius_km)
        return kept[2]

    def _assembled(
        self,
        end: int,
        flow: _RegionFlow,
        window: _MeetingWindow,
        now: PresentRegion,
        said: Mapping[str, Testimony],
    ) -> dict[str, Estimate]:
        size = self.rules.size
        counted = []
        first_hours = []
        for name, found in said.items():
            known = now.roster[name]
            before = self._history(flow, name, known, end)
            # What an estimate adds was checked as it came in.
            history = Counts.of(found.pollutants, end, size).into(before, end, size)
            counted.append((known.standards, history, end))
            first_hours.append(history.first_hour)
        made = {}
        inputs = window.inputs
        for (name, found), blocks, first_hour in zip(
            said.items(), indices(counted), first_hours, strict=True
        ):
            alone = window.alones.get(name)
            index = tuple(doubted(block, found.pollutants, found.doubts) for block in blocks)
            if alone is None:
                made[name] = Estimate(
                    station=name,
                    window=Span(start=from_ms(end - size), end=from_ms(end)),
                    revision=inputs,
                    amended=inputs,
                    sides="none",
                    pollutants=found.pollutants,
                    indices=index,
                    inputs=Inputs(readings=0),
                    bundle=now.roster[name].bundle,
                )
                continue
            estimate = _counting(alone.estimate, inputs - alone.estimate.revision)
            missing = {one: lost for one, lost in estimate.missing.items() if one not in found.pollutants}
            # Averages that reach back farther than the region's are the station's own still.
            ours = not alone.averaged_since or 0 < first_hour <= alone.averaged_since
            made[name] = estimate.model_copy(
                update={
                    "pollutants": found.pollutants,
                    "missing": missing,
                    "indices": index if ours else estimate.indices,
                }
            )
        return made

    def _history(self, flow: _RegionFlow, station: str, known: KnownStation, end: int) -> History:
        ring = flow.histories.get(station)
        if ring is None:
            return History.empty(48, known.reference_celsius)
        return ring.as_of(end - self.rules.lateness).value

    def _expire(self, end: int, region: str, met: MeetingOutput) -> None:
        """A window is final: what is left is published, and its averages and hour take it in."""
        window = self._windows.pop((end, region), None)
        flow = self._flow(region)
        if window is not None:
            self._held -= len(window.alones)
            if end > self._done_before:
                self._publish(end, region, window, met, final=True)
            self._learn(end, flow, window, met)
            flow.totals[end] = window.inputs
            while len(flow.totals) > _REMEMBERED:
                del flow.totals[next(iter(flow.totals))]
        for amendment in self._amendments.pop((end, region), ()):
            ring = flow.histories.get(amendment.station)
            if ring is not None:
                ring.put(end, history_after(ring.latest().value, amendment))

    def _learn(self, end: int, flow: _RegionFlow, window: _MeetingWindow, met: MeetingOutput) -> None:
        """Take in a final window.

        By what is known now, not some time before: a successor that makes these windows again knows no more.
        """
        size = self.rules.size
        newest = flow.versions.latest().value
        for name, alone in sorted(window.alones.items()):
            if self._gone.get(name, end) < end:
                del self._gone[name]  # it speaks again
            flow.shown[name] = known_by(alone, flow.shown.get(name) or newest.roster.get(name))
        said: dict[str, Testimony] | Refused
        if window.said is not None and window.said[0] is newest and not window.dirty and not window.lacking:
            said = window.said[1]
        else:
            said = guarded(lambda: self._said(end, flow, window, newest, True)[1])
        if isinstance(said, Refused):
            met.failed.append(said)
            said = {
                name: Testimony(one.estimate.pollutants, {}) for name, one in sorted(window.alones.items())
            }
        sums = flow.sums.setdefault(end_of(end, HOUR_MS), {})
        for name, found in said.items():
            known = flow.shown.get(name) or newest.roster[name]
            ring = flow.histories.get(name)
            if ring is None:
                ring = flow.histories[name] = Ring(BEGINNING, History.empty(48, known.reference_celsius))
            history, counts = ring.latest().value, Counts.of(found.pollutants, end, size)
            after = guarded(lambda counts=counts, history=history: counts.into(history, end, size))  # type: ignore[misc]
            if not isinstance(after, Refused):
                ring.put(end, after)
            ring.prune(self._done - self.rules.lateness)
            for pollutant, one in found.pollutants.items():
                if one.kind == "imputed" or one.covered_s == 0 or one.qc == SUSPECT:
                    continue
                seconds = size // 1000 if one.covered_s is None else min(one.covered_s, size // 1000)
                total, weight = sums.get((name, pollutant), (0.0, 0))
                sums[name, pollutant] = total + one.value * seconds, weight + seconds

    def _over(self, hour: int, region: str, met: MeetingOutput) -> None:
        """All windows of an hour are final."""
        flow = self._flow(region)
        before = flow.versions.latest().value
        gone = frozenset(name for name, end in self._gone.items() if end <= hour)
        histories = {name: ring.latest().value for name, ring in flow.histories.items()}
        sums = flow.sums.pop(hour, {})
        shown, flow.shown = flow.shown, {}
        after = guarded(lambda: after_hour(before, hour, sums, shown, gone, histories, self.rules.radius_km))
        if isinstance(after, Refused):
            met.failed.append(after)
            after = Learned(before.air, {**before.roster, **shown}, histories)  # of the air nothing
        for station in flow.histories.keys() - after.histories.keys():
            del flow.histories[station]
        flow.versions.put(hour, after)

    # -- what others ask -----------------------------------------------------------------------------------

    @property
    def done(self) -> int:
        """Windows that end here or earlier are final."""
        return max(self._done, self._done_before)

    def settled(self) -> MeetingStand:
        """Where a successor has to start. Ask only when all that was put out is confirmed."""
        position = max(self._read, self._restored.position if self._restored else 0)
        offset = min([self._read, *self._firsts.values()])
        if self._restored is not None and self._read < self._restored.position:
            return self._restored
        return MeetingStand(offset, position, self.done, dict(self._marks))

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


def _counting(estimate: Estimate, others: int) -> Estimate:
    """An estimate whose revision counts the inputs of others, too."""
    return estimate.model_copy(
        update={"revision": estimate.revision + others, "amended": estimate.amended + others}
    )
