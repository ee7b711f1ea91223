"""Windows that data came too late for, made again with everything that is known of them now. Pure.

The late ones and what is left of the window's other inputs on the log are united as the join does it: a set
by identity, the one that stood first on the log wins. The estimate is then made by the worker's own code, and
its revision, the size of that set and of the times that the same set was published again, is higher than any
before. The same is done with windows of which readings were invalidated, or are valid again.

What is different from the worker, whose state of that time is gone:

* Quality control knows the sensor's past since the beginning of the hour before, not all of it. (Late data of
  that hour and a half are in it, which the worker did not have.)
* The averages of the index are rebuilt from the published estimates of the 48 hours before.
* A pollutant that is still imputed keeps the value it was published with, unless the virtual sensors'
  checkpoint is of that time: a state that is newer has seen what came after. A window that was never
  published before has the model alone. In the first hour of a sensor there is no such state: its last value
  is known.
* The virtual sensors do not learn from it. (What follows for the windows after it: `backfill.healing`.)
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, Literal, NamedTuple

from aqi.quality_defaults import defaults
from camera.virtual_sensor import VirtualSensor
from fusion.amending import LeftOut, WhatCounts, not_withheld
from fusion.assessor import StationOf
from fusion.conclusion import Conclusion, Counts, assembled, conclude, nothing_known, taught
from fusion.inference import Inference, infer
from fusion.intake import Intake, Prepared, take_in
from fusion.learning import Air
from fusion.stored import SensorsState
from model.bundle.runtime import Head
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate, PollutantEstimate
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import HOUR_MS, end_of, window_end
from streams.join import Item, WindowView

Source = Literal["features", "readings"]
#: Station, and end of the window in ms.
Key = tuple[str, int]

#: The longest average reaches back 48 h, plus the hour in progress.
PAST_MS: Final = 49 * HOUR_MS
_ROWS_A_RUN: Final = 256


class Span(NamedTuple):
    """A span of event time, ms."""

    since: int
    until: int


@dataclass
class _WindowInputs:
    """Everything that is known to belong to a window."""

    inputs: dict[str, dict[tuple[object, ...], Item]] = field(default_factory=dict)
    #: Identities that were there in time, as far as the log still has them.
    in_time: set[tuple[object, ...]] = field(default_factory=set)

    def add(self, source: str, item: Item, late: bool) -> Item | None:
        side = self.inputs.setdefault(source, {})
        known = side.get(item.identity)
        if known is None or item.offset < known.offset:
            side[item.identity] = item
        if not late:
            self.in_time.add((source, *item.identity))
        return known

    @property
    def size(self) -> int:
        return sum(len(side) for side in self.inputs.values())


class PublishedWindow(NamedTuple):
    """What of a window was published: most inputs by the worker, highest revision by anyone, its estimate."""

    in_time: int
    revision: int
    estimate: Estimate

    @property
    def inputs(self) -> int:
        """Distinct inputs that the estimate rests on, invalidated ones included."""
        return self.revision - self.estimate.amended


class WindowOutcome(NamedTuple):
    """What becomes of a window that data came too late for."""

    key: Key
    verdict: Literal["rewrite", "counted", "impossible"]
    before: int  #: revision published so far; 0: none
    after: int  #: the revision to publish; where that is not possible, the distinct inputs known now
    reason: str = ""  #: why it is impossible, in words
    amended: int = 0  #: how much of `after` is not inputs, but the same ones published again


class Backfill:
    """Some late windows of one partition: filled from the log, then decided on, then made again.

    Give it, in any order of the topics but each in the order of its log: what is on the late topic, the
    readings and features (`add`), and the estimates (`add_estimate`). `withheld`: by station, the readings
    that do not count.
    """

    def __init__(
        self, wanted: Collection[Key], size_ms: int, withheld: Mapping[str, Sequence[LeftOut]] | None = None
    ) -> None:
        self._size = size_ms
        self._withheld = withheld or {}
        self.wanted = sorted(wanted)
        self._ends: dict[str, list[int]] = {
            station: [end for _, end in keys] for station, keys in groupby(self.wanted, lambda key: key[0])
        }
        self._hours = {(station, hour(end)) for station, end in self.wanted}
        self._windows: dict[Key, _WindowInputs] = {}
        self._published: dict[Key, PublishedWindow] = {}
        #: Per station and end: revision, and what the window adds to the averages.
        self._past: dict[str, dict[int, tuple[int, Counts]]] = {}

    @property
    def stations(self) -> Collection[str]:
        """The stations that these windows are of."""
        return self._ends.keys()

    @property
    def hours(self) -> Collection[tuple[str, int]]:
        """Station and end of hour (ms) of all that is used: those of the windows, and those beside them.

        (A reading of the hour before, or after, may stand for a period in this one.)
        """
        return {(station, at + by) for station, at in self._hours for by in (-HOUR_MS, 0, HOUR_MS)}

    def add(self, source: Source, item: Item, *, late: bool) -> Item | None:
        """An input, with its offset on `source`; gives the input that was known under its identity, if any.

        It is one of every window of its period. Those that lend no wanted window context are not kept.
        """
        known = None
        own = window_end(item.time, self._size)
        for end in ends_of(item, self._size):
            at = hour(end)
            if (item.station, at) in self._hours or (item.station, at + HOUR_MS) in self._hours:
                before = self._windows.setdefault((item.station, end), _WindowInputs()).add(
                    source, item, late
                )
                known = before if end == own else known
        return known

    def add_estimate(self, estimate: Estimate, backfilled: bool) -> None:
        """A published estimate; `backfilled`: not by the worker."""
        ends = self._ends.get(estimate.station)
        if ends is None:
            return
        end = to_ms(estimate.window.end)
        key = estimate.station, end
        place = bisect_right(ends, end)
        if place and ends[place - 1] == end:
            known = self._published.get(key)
            of_worker = 0 if backfilled else estimate.revision - estimate.amended
            in_time = max(known.in_time if known else 0, of_worker)
            if known is None or estimate.revision >= known.revision:
                self._published[key] = PublishedWindow(in_time, estimate.revision, estimate)
            else:
                self._published[key] = known._replace(in_time=in_time)
        # Windows of another size (the setting was changed) do not fit into the averages.
        if end - to_ms(estimate.window.start) != self._size:
            return
        nearest = ends[place - 1] if place and ends[place - 1] == end else None
        following = ends[place] if place < len(ends) else nearest
        if following is not None and following - end <= PAST_MS:
            past = self._past.setdefault(estimate.station, {})
            if end not in past or estimate.revision >= past[end][0]:
                past[end] = estimate.revision, Counts.of(estimate.pollutants, end, self._size)

    def decide(self, complete_since: float) -> list[WindowOutcome]:
        """One outcome per wanted window.

        `complete_since`: broker time (ms) from which on the estimates topic has everything; -inf where
        retention has dropped nothing. A window that ended before and has no estimate there may have had one.
        """
        return [self._outcome(key, complete_since) for key in self.wanted]

    def _outcome(self, key: Key, complete_since: float) -> WindowOutcome:
        window = self._windows.get(key, _WindowInputs())
        published = self._published.get(key)
        total, in_time = window.size, len(window.in_time)
        if published is None:
            if complete_since > key[1]:
                since = "now" if complete_since == float("inf") else format_time(from_ms(int(complete_since)))
                return WindowOutcome(
                    key, "impossible", 0, total,
                    f"no estimate of it is left, and those from before {since} are gone by retention: what it"
                    " rested on cannot be known",
                )  # fmt: skip
            return WindowOutcome(key, "rewrite", 0, total)
        before, inputs = published.revision, published.inputs
        if in_time < published.in_time:
            return WindowOutcome(
                key, "impossible", before, total,
                f"its estimate rests on {published.in_time} inputs that came in time, of which retention has"
                f" left {in_time}; with the late ones that makes {total}, and would lose what is counted now",
            )  # fmt: skip
        if total < inputs:
            return WindowOutcome(
                key, "impossible", before, total,
                f"its estimate rests on {inputs} inputs, of which retention has left {total}",
            )  # fmt: skip
        amended = published.estimate.amended
        if total > inputs:
            return WindowOutcome(key, "rewrite", before, total + amended, amended=amended)
        if self._counted(*key).withheld == published.estimate.inputs.withheld:
            return WindowOutcome(key, "counted", before, before, amended=amended)
        return WindowOutcome(key, "rewrite", before, before + 1, amended=amended + 1)

    def _counted(self, station: str, end: int) -> WhatCounts:
        """A window's inputs without what was invalidated, and how much that is."""
        window = self._windows.get((station, end), _WindowInputs())
        return not_withheld(self._view(station, end, window), self._withheld.get(station, ()))

    def unmeasured(self, station: str) -> dict[Pollutant, Span]:
        """Since when (start of a window) and until when a pollutant has no reading left where it had some."""
        found: dict[Pollutant, Span] = {}
        spans = self._withheld.get(station, ())
        for end in self._ends.get(station, ()) if spans else ():
            view, left_out = self._counted(station, end)
            if not left_out:
                continue
            over = max(one.until for one in spans if one.id in left_out)
            whole = self._windows[station, end].inputs["readings"].values()
            kept = {item.payload.parameter for item in view.inputs["readings"]}
            for name in POLLUTANTS:
                if name not in kept and any(item.payload.parameter == name for item in whole):
                    since, until = found.get(name, Span(end - self._size, 0))
                    found[name] = Span(since, max(until, over, end))
        return found

    def remake(
        self,
        outcomes: Iterable[WindowOutcome],
        head: Head,
        lateness_ms: int,
        station_of: StationOf,
        checkpoints: Mapping[str, Sequence[tuple[int, SensorsState]]],
    ) -> list[Estimate]:
        """The estimates of the windows to rewrite, by station and time.

        `checkpoints`: per station the virtual sensors' snapshots (horizon, state) that there are.
        """
        rewrite = {outcome.key: outcome for outcome in outcomes if outcome.verdict == "rewrite"}
        prepared, lessons = self._take_in(rewrite, lateness_ms, station_of, head.bundle.encoder)
        inferred = _inferred(head, prepared)
        concluded = []
        for station, group in groupby(
            zip(prepared, inferred, strict=True), lambda pair: pair[0].view.station
        ):
            snapshots = [(at, sensors.virtual) for at, sensors in checkpoints.get(station, ())]
            memory = _Memory(
                nothing_known(station_of(station)),
                self._size,
                self._past.get(station, {}),
                snapshots,
                lessons.get(station, {}),
            )
            for window, one in group:
                end = window.view.end
                air = memory.as_of(min(end - lateness_ms, end - 1), hour(end))
                before = self._published.get((station, end))
                pollutants = _with_published(
                    conclude(window, one, air), before.estimate.pollutants if before else {}
                )
                counts = Counts.of(pollutants, end, self._size)
                history = counts.into(air.history, end, self._size)
                memory.put(end, counts)
                concluded.append(Conclusion(window, one, pollutants, history))
        return [
            _revised(estimate, rewrite[estimate.station, to_ms(estimate.window.end)])
            for estimate in assembled(concluded, head.bundle.id)
        ]

    def _take_in(
        self, rewrite: Collection[Key], lateness_ms: int, station_of: StationOf, encoder: str
    ) -> tuple[list[Prepared], dict[str, dict[int, Mapping[str, float]]]]:
        """The windows to rewrite; and by station and end, what was learned from those before them."""
        limits = defaults()
        prepared = []
        lessons: dict[str, dict[int, Mapping[str, float]]] = {}
        for station, at in sorted({(station, hour(end)) for station, end in rewrite}):
            record = station_of(station)
            versions: list[tuple[int, Intake]] = [(at - 2 * HOUR_MS, Intake())]
            for end in range(at - 2 * HOUR_MS + self._size, at + 1, self._size):
                if (station, end) not in self._windows:
                    continue
                view, withheld = self._counted(station, end)
                counted = None if record is None else record.at(view.start)
                if hour(end) == at and (station, end) in rewrite:
                    horizon = end - lateness_ms
                    intake = next((kept for when, kept in reversed(versions) if when <= horizon), Intake())
                    made = take_in(view, counted, intake, limits, encoder)[0]
                    prepared.append(replace(made, withheld=withheld, idle=False))
                final, after = take_in(view, counted, versions[-1][1], limits, encoder)
                lessons.setdefault(station, {})[end] = taught(final)
                versions.append((end, after))
        return prepared, lessons

    def _view(self, station: str, end: int, window: _WindowInputs) -> WindowView:
        return WindowView(
            station=station,
            start=end - self._size,
            end=end,
            revision=window.size,
            inputs={
                source: tuple(side[identity] for identity in sorted(side))
                for source, side in sorted(window.inputs.items())
            },
        )


def _revised(estimate: Estimate, outcome: WindowOutcome) -> Estimate:
    if not outcome.amended:
        return estimate
    return estimate.model_copy(update={"revision": outcome.after, "amended": outcome.amended})


def ends_of(item: Item, size: int) -> list[int]:
    """Ends of the windows that an item is an input of: its own, and the others of its period (ms)."""
    own = window_end(item.time, size)
    if not item.reach:
        return [own]
    covered = range(window_end(item.since, size), window_end(item.reach - 1, size) + 1, size)
    return sorted({own, *covered})


def hour(end: int) -> int:
    """End of the hour that a window lies in; both ends in ms."""
    return end_of(end, HOUR_MS)


class _Memory:
    """What a station had learned by a given time, rebuilt from its published estimates."""

    def __init__(
        self,
        fresh: Air,
        size: int,
        past: Mapping[int, tuple[int, Counts]],
        snapshots: Sequence[tuple[int, Mapping[str, VirtualSensor]]],
        lessons: Mapping[int, Mapping[str, float]],
    ) -> None:
        self._air = fresh
        self._size = size
        self._counts = {end: counts for end, (_, counts) in past.items()}
        self._snapshots = snapshots
        self._lessons = lessons
        self._reached = -(2**62)
        #: By pollutant, the hour in which it was measured first.
        self._first: dict[str, int] = {}

    def as_of(self, horizon: int, wanted: int) -> Air:
        """Horizons come in order of time; `wanted`: end (ms) of the hour that an estimate is made in."""
        history, last = self._air.history, dict(self._air.last)
        for end in sorted(end for end in self._counts if self._reached < end <= horizon):
            counts = self._counts[end]
            history = counts.into(history, end, self._size)
            measured = {name: (mean.value, end) for name, mean in counts.added.items() if mean.measured_s}
            last |= measured
            for name in measured:
                self._first.setdefault(name, hour(end))
        self._reached = max(self._reached, horizon)
        self._air = replace(self._air, history=history, last=last)
        at, newest = max(
            ((at, virtual) for at, virtual in self._snapshots if at <= horizon),
            key=lambda pair: pair[0],
            default=(0, self._air.virtual),
        )
        known = history.having_measured(newest)
        # What was measured in an earlier hour has a virtual sensor, which without a snapshot is not known.
        held = {name: one for name, one in last.items() if name in newest}
        for end in sorted(end for end in self._lessons if wanted - HOUR_MS < end <= horizon):
            held |= {
                name: (value, end)
                for name, value in self._lessons[end].items()
                if name not in newest and self._first.get(name, wanted) == wanted
            }
        return replace(self._air, history=known, last=held, virtual=newest, virtual_at=at)

    def put(self, end: int, counts: Counts) -> None:
        """A window has been made again."""
        self._counts[end] = counts


def _inferred(head: Head, prepared: Sequence[Prepared]) -> list[Inference | None]:
    inferred: list[Inference | None] = [None] * len(prepared)
    rows = [index for index, window in enumerate(prepared) if window.usable]
    for start in range(0, len(rows), _ROWS_A_RUN):
        part = rows[start : start + _ROWS_A_RUN]
        for index, one in zip(part, infer(head, [prepared[index] for index in part], True), strict=True):
            inferred[index] = one
    return inferred


def _with_published(
    made: Mapping[Pollutant, PollutantEstimate], published: Mapping[Pollutant, PollutantEstimate]
) -> dict[Pollutant, PollutantEstimate]:
    """What the model alone imputes gives way to what the virtual sensor of that time had imputed."""
    pollutants = dict(made)
    for name, before in published.items():
        now = made.get(name)
        if before.kind != "imputed" or before.method == "head":
            continue
        if now is None:
            pollutants[name] = before
        elif now.kind == "imputed" and now.method == "head":
            kept = {
                word: getattr(before, word)
                for word in ("value", "lo", "hi", "method", "weights", "coverage", "taught_by")
            }
            pollutants[name] = now.model_copy(update=kept)
    return pollutants
