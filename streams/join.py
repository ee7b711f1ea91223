"""The event-time join of one partition: a plain object without I/O, clock or Kafka.

Sources (the readings and the features partition of the same number) are fed as lists of items in log order.
Items are put into tumbling windows per station. Times are integer milliseconds of event time.

Rules
-----
* A source's *watermark* is the highest event time it has shown, less its bounded disorder.
* The *combined* watermark is the minimum over the sources that are not idle. A window closes when it reaches
  ``end + grace`` and is final (*expired*) when it reaches ``end + grace + allowed lateness``.
* An item is *late* if its own source's watermark, just before it, had already made its window final. That
  depends on the source's log alone, so a re-read after a crash decides the same, whatever the interleaving of
  the sources.
* A window holds a set of inputs: a repeated identity changes nothing. Its *revision* is the size of that set.
* An item that stands for a *period* is an input of every window which that period touches and which is not
  final yet, also of windows still to come. Whether it is late, or in conflict, is decided in the window of
  its own time alone; a window of its period that is final is left as it is.
* An *amendment* (`amend`) is a change of the past: no input of a window, but a step of its station. It takes
  its place behind the first window that its own source's watermark has not made final (or, where the
  amendment speaks of a later time, behind that time's), so that a re-read puts it there again.

Recovery
--------
`settled` says per source from which offset a successor has to read to see every input of every window
that is not yet final, and of the final windows of the last `hold` ms (from which state is rebuilt). With the
offset goes that source's watermark just before it, the position reached, and the horizon up to which windows
are final and were delivered. The caller asks for it only after everything that was put out is confirmed.

Long because the rules above hold together: what is late, what closes and what is settled follow from the same
few numbers, and a reader should see them side by side.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from schemas.times import window_end
from streams.commit_metadata import read_metadata, write_metadata

#: Before any event time.
BEGINNING: Final = -(2**62)
_EXPIRE, _AMEND, _CLOSE = 0, 1, 2
#: `Item.basis` of a mean over a declared period, and of one that overlaps with the next.
DECLARED: Final = "declared"
RUNNING: Final = "running"


@dataclass(frozen=True)
class Rules:
    """Event-time rules, all in ms. `idle_timeout` is processing time; None: idleness is off (replay)."""

    size: int
    grace: int
    lateness: int
    disorder: Mapping[str, int]
    idle_timeout: int | None = None
    hold: int = 0

    def __post_init__(self) -> None:
        if self.size <= 0 or min(self.grace, self.lateness, self.hold, *self.disorder.values()) < 0:
            raise ValueError("window size must be positive; grace, lateness, disorder and hold not negative")

    @property
    def final_after(self) -> int:
        """How long after its end (ms) a window is final: the watermark has passed it by so much."""
        return self.grace + self.lateness


class Item(NamedTuple):
    """One input. `seen` is the time it may vouch for (never later than its arrival at the broker).

    `since` and `until`: the period [since, until) in ms that it stands for, `time` within it; `until` 0: it
    stands for its own window only. `period`: how long one like it stands (ms), 0 where that is not known.
    `basis`: `DECLARED` or `RUNNING` mean; "" for one that nobody has declared, or of an instant.
    `supersedes`: up to there an earlier one would stand, but for this; 0: it ends none. It is an input of
    those windows too, so that they know.
    """

    station: str
    time: int
    seen: int
    identity: tuple[Any, ...]
    mark: Any
    payload: Any
    offset: int
    since: int = 0
    until: int = 0
    period: int = 0
    basis: str = ""
    supersedes: int = 0

    @property
    def reach(self) -> int:
        """It is an input of windows before this, 0: of its own only."""
        return max(self.until, self.supersedes)


class Settled(NamedTuple):
    """Where a successor starts to read a source, and what it has to know of the past."""

    offset: int
    watermark: int
    position: int
    done: int

    def metadata(self) -> str:
        """The part that travels in the commit's metadata."""
        return write_metadata({"wm": self.watermark, "pos": self.position, "done": self.done})

    @classmethod
    def parse(cls, offset: int, metadata: str) -> "Settled":
        """Inverse of `metadata`; an empty text is a commit made by another tool: only the offset counts."""
        if not metadata:
            return cls(offset, BEGINNING, offset, BEGINNING)
        return read_metadata(
            metadata, lambda plain: cls(offset, int(plain["wm"]), int(plain["pos"]), int(plain["done"]))
        )


@dataclass(frozen=True)
class WindowView:
    """A window's content at one moment; `inputs` per source, sorted by identity."""

    station: str
    start: int
    end: int
    revision: int
    inputs: Mapping[str, tuple[Item, ...]]


@dataclass(frozen=True, slots=True)
class Close:
    """A window is to be published."""

    view: WindowView


@dataclass(frozen=True, slots=True)
class Expire:
    """A window has become final: it is to be learned from."""

    view: WindowView


@dataclass(frozen=True, slots=True)
class Amend:
    """The past was changed; the amendment is the view's only input. To be learned after the windows that end
    with it.
    """

    view: WindowView


#: What is to be done.
Step = Close | Expire | Amend


@dataclass
class Output:
    """What is put out: steps in the order in which they are to be done; what came too late; and what came
    again with another value.
    """

    steps: list[Step] = field(default_factory=list)
    late: list[tuple[str, Item]] = field(default_factory=list)
    conflicts: list[tuple[str, Item]] = field(default_factory=list)


class _OpenWindow:
    __slots__ = ("closed", "dirty", "firsts", "inputs", "published", "size")

    def __init__(self) -> None:
        self.inputs: dict[str, dict[tuple[Any, ...], Item]] = {}
        self.firsts: dict[str, tuple[int, int]] = {}
        self.closed = False
        self.dirty = False
        self.size = 0
        #: What was put out last: it expires as it is, unless it has got more since.
        self.published: WindowView | None = None


class _SourceProgress:
    __slots__ = ("active_at", "position", "restored", "watermark")

    def __init__(self, restored: Settled | None, now: int) -> None:
        self.restored = restored
        self.watermark = restored.watermark if restored else BEGINNING
        self.position = restored.offset if restored else 0
        self.active_at = now


class Join:
    """The join of one partition number over its sources.

    Examples:
        >>> join = Join(Rules(size=60_000, grace=5_000, lateness=0, disorder={"readings": 0}))
        >>> reading = Item("harbour", 30_000, 30_000, ("pm25",), mark=None, payload=12.5, offset=0)
        >>> join.feed("readings", [reading], position=1, now=0).steps  # the window may still get more
        []
        >>> output = join.punctuate("readings", 65_000, position=2, now=0)
        >>> [(type(step).__name__, step.view.end, step.view.revision) for step in output.steps]
        [('Close', 60000, 1), ('Expire', 60000, 1)]
        >>> straggler = Item("harbour", 40_000, 40_000, ("no2",), mark=None, payload=20.0, offset=2)
        >>> [item.payload for source, item in join.feed("readings", [straggler], position=3, now=0).late]
        [20.0]
    """

    def __init__(self, rules: Rules, restored: Mapping[str, Settled] | None = None, now: int = 0) -> None:
        restored = restored or {}
        self.rules = rules
        self._sources = {name: _SourceProgress(restored.get(name), now) for name in rules.disorder}
        self._windows: dict[tuple[str, int], _OpenWindow] = {}
        self._agenda: list[tuple[int, int, int, str]] = []
        #: By (end of the window they stand behind, offset): source, item, watermark just before it.
        self._amendments: dict[tuple[int, int], tuple[str, Item, int]] = {}
        self._watermark = BEGINNING
        #: Ends up to here are final: nothing of them is open any more.
        self._done = BEGINNING
        #: Ends up to here were final and delivered before this object was made.
        self._done_before = max((settled.done for settled in restored.values()), default=BEGINNING)
        self._skip_to = self._done_before - rules.hold
        self._held: deque[tuple[int, dict[str, tuple[int, int]]]] = deque()
        self._count = 0

    # -- input ---------------------------------------------------------------------------------------------

    def feed(self, source: str, items: Iterable[Item], position: int, now: int) -> Output:
        """Take items of one source in log order; `position` is the offset after the last record read."""
        output = Output()
        state = self._sources[source]
        state.active_at = now
        size = self.rules.size
        final_after = self.rules.final_after
        disorder = self.rules.disorder[source]
        watermark = state.watermark
        done, done_before, skip_to = self._done, self._done_before, self._skip_to
        known_to = state.restored.position if state.restored else 0
        windows, agenda = self._windows, self._agenda
        touched: dict[tuple[str, int], _OpenWindow] = {}
        for item in items:
            start = item.time // size * size
            end = start + size
            if end + final_after <= watermark:
                output.late.append((source, item))
            elif end <= done_before and (end <= skip_to or item.offset >= known_to):
                # Final and delivered in an earlier life: read there already, or new and therefore late.
                if item.offset >= known_to:
                    output.late.append((source, item))
                elif item.until or item.supersedes:
                    self._cover(source, item, watermark, touched)
            elif end <= done:
                output.late.append((source, item))
            else:
                key = (item.station, start)
                window = windows.get(key)
                if window is None:
                    window = windows[key] = _OpenWindow()
                    heapq.heappush(agenda, (end + self.rules.grace, _CLOSE, start, item.station))
                    heapq.heappush(agenda, (end + final_after, _EXPIRE, start, item.station))
                side = window.inputs.get(source)
                if side is None:
                    side = window.inputs[source] = {}
                    window.firsts[source] = (item.offset, watermark)
                known = side.get(item.identity)
                if known is None:
                    side[item.identity] = item
                    window.size += 1
                    self._count += 1
                    if window.closed:
                        window.dirty = True
                        touched[key] = window
                    if item.until or item.supersedes:
                        self._cover(source, item, watermark, touched)
                elif known.mark != item.mark:
                    output.conflicts.append((source, item))
            vouched = item.seen - disorder
            if vouched > watermark:
                watermark = vouched
        state.watermark = watermark
        state.position = max(state.position, position)
        self._advance(now, output)
        for key, window in touched.items():
            if window.dirty:
                self._publish(key, window, output)
        return output

    def _cover(
        self, source: str, item: Item, watermark: int, touched: dict[tuple[str, int], _OpenWindow]
    ) -> None:
        """Make the item an input of the other windows of its period that are not final."""
        rules = self.rules
        final_after = rules.final_after
        own = item.time // rules.size * rules.size
        # Final by the source's own log, by the combined watermark, or in an earlier life.
        final = max(watermark - final_after, self._done, self._skip_to)
        restored = self._sources[source].restored
        if restored is None or item.offset >= restored.position:
            final = max(final, self._done_before)
        first = max(item.since, final) // rules.size * rules.size
        for start in range(first, item.reach, rules.size):
            end = start + rules.size
            if start == own or end <= final:
                continue
            key = (item.station, start)
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _OpenWindow()
                heapq.heappush(self._agenda, (end + rules.grace, _CLOSE, start, item.station))
                heapq.heappush(self._agenda, (end + final_after, _EXPIRE, start, item.station))
            side = window.inputs.setdefault(source, {})
            window.firsts.setdefault(source, (item.offset, watermark))
            if item.identity not in side:
                side[item.identity] = item
                window.size += 1
                self._count += 1
                if window.closed:
                    window.dirty = True
                    touched[key] = window

    def amend(self, source: str, item: Item, position: int, now: int) -> Output:
        """Take an amendment; it waits for the window it stands behind, and moves no watermark.

        Its `time`: the latest event time that it speaks of. One that a successor reads again may be taken in
        a second time, later than the first: it has to say what is, not what to add.
        """
        state = self._sources[source]
        state.active_at = now
        state.position = max(state.position, position)
        size, final_after = self.rules.size, self.rules.final_after
        behind = max(state.watermark - final_after, self._done, self._skip_to, item.time)
        end = window_end(behind, size)
        self._amendments[end, item.offset] = source, item, state.watermark
        self._count += 1
        heapq.heappush(self._agenda, (end + final_after, _AMEND, item.offset, item.station))
        output = Output()
        self._advance(now, output)
        return output

    def punctuate(self, source: str, at: int | None, position: int, now: int) -> Output:
        """Progress without data: nothing earlier than `at` follows (None: only a sign of life)."""
        state = self._sources[source]
        state.active_at = now
        state.position = max(state.position, position)
        if at is not None and at > state.watermark:
            state.watermark = at
        output = Output()
        self._advance(now, output)
        return output

    def tick(self, now: int) -> Output:
        """Let processing time pass: only this can make a source idle."""
        output = Output()
        self._advance(now, output)
        return output

    # -- progress ------------------------------------------------------------------------------------------

    def _awaited(self, now: int) -> list[int]:
        """Watermarks of the sources that are not idle."""
        timeout = self.rules.idle_timeout
        return [
            source.watermark
            for source in self._sources.values()
            if timeout is None or now - source.active_at < timeout
        ]

    def _combined(self, now: int) -> int:
        awaited = self._awaited(now)
        if awaited:
            return min(awaited)
        sources = self._sources.values()
        # Everything is silent: event time goes on at the pace of processing time, so that the last windows
        # close and become final. No further: who speaks next may begin where the last one ended, as the next
        # of some files that are fed in a row does.
        newest = max(source.watermark for source in sources)
        last = max((start for _, start in self._windows), default=None)
        if newest == BEGINNING or last is None:
            return newest
        final = last + self.rules.size + self.rules.final_after
        return max(newest, min(final, newest + now - max(source.active_at for source in sources)))

    def _advance(self, now: int, output: Output) -> None:
        combined = self._combined(now)
        if combined <= self._watermark:
            return
        self._watermark = combined
        agenda = self._agenda
        while agenda and agenda[0][0] <= combined:
            at, kind, start, station = heapq.heappop(agenda)
            if kind == _AMEND:
                self._amended(at - self.rules.final_after, start, output)
                continue
            key = (station, start)
            window = self._windows.get(key)
            if window is None:
                continue  # closed as it was final: there is no lateness
            if kind == _CLOSE or not window.closed:
                window.closed = True
                self._publish(key, window, output)
            if kind == _CLOSE:
                continue
            if window.dirty:
                self._publish(key, window, output)
            output.steps.append(Expire(window.published or self._view(key, window)))
            self._held.append((start + self.rules.size, window.firsts))
            self._count -= window.size
            del self._windows[key]
        self._done = max(self._done, combined - self.rules.final_after)
        forget = self._done - self.rules.hold
        while self._held and self._held[0][0] <= forget:
            self._held.popleft()

    def _amended(self, end: int, offset: int, output: Output) -> None:
        source, item, watermark = self._amendments.pop((end, offset))
        view = WindowView(item.station, end - self.rules.size, end, 0, {source: (item,)})
        output.steps.append(Amend(view))
        self._held.append((end, {source: (offset, watermark)}))
        self._count -= 1

    def _publish(self, key: tuple[str, int], window: _OpenWindow, output: Output) -> None:
        window.dirty = False
        # What an earlier life delivered is rebuilt for its state's sake only.
        if key[1] + self.rules.size > self._done_before:
            window.published = self._view(key, window)
            output.steps.append(Close(window.published))

    def _view(self, key: tuple[str, int], window: _OpenWindow) -> WindowView:
        station, start = key
        return WindowView(
            station=station,
            start=start,
            end=start + self.rules.size,
            revision=window.size,
            inputs={
                source: tuple(map(side.__getitem__, sorted(side)))
                for source, side in sorted(window.inputs.items())
            },
        )

    # -- what others ask -----------------------------------------------------------------------------------

    @property
    def watermark(self) -> int:
        """The combined watermark (BEGINNING before there is one)."""
        return self._watermark

    @property
    def done(self) -> int:
        """Windows that end here or earlier are final."""
        return self._done

    @property
    def open_windows(self) -> int:
        """Windows that are open or may still be revised."""
        return len(self._windows)

    @property
    def buffered(self) -> int:
        """Inputs held in those windows, and amendments. One that stands for a period counts in each of its
        windows: it is they that take the memory, an hour's reading makes sixty.
        """
        return self._count

    def leading(self, by: int, now: int) -> Sequence[str]:
        """Sources more than `by` ms ahead of the slowest one that windows wait for: to be paused when full.

        Nothing waits for a source that is idle, so nobody runs ahead of it.
        """
        awaited = self._awaited(now)
        if not awaited:
            return []
        slowest = min(awaited)
        return [name for name, source in self._sources.items() if source.watermark > slowest + by]

    def source_watermark(self, source: str) -> int:
        """One source's own watermark."""
        return self._sources[source].watermark

    def settled(self) -> dict[str, Settled]:
        """Per source, where a successor has to start. Ask only when all output so far is confirmed."""
        floors = {name: (source.position, source.watermark) for name, source in self._sources.items()}
        for firsts in (
            *(window.firsts for window in self._windows.values()),
            *(firsts for _, firsts in self._held),
            *({source: (item.offset, mark)} for source, item, mark in self._amendments.values()),
        ):
            for name, first in firsts.items():
                if first[0] < floors[name][0]:
                    floors[name] = first
        done = max(self._done, self._done_before)
        return {
            name: Settled(offset, watermark, self._known(name), done)
            for name, (offset, watermark) in floors.items()
        }

    def _known(self, name: str) -> int:
        source = self._sources[name]
        return max(source.position, source.restored.position if source.restored else 0)
