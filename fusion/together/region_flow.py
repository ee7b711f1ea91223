"""What a region's windows are made of: its estimates, and what it learns of those that are final.

A window's estimates follow from the newest revisions in it and from what the region had learned an allowed
lateness before it ended, so they are the same whenever they are made.
"""

from collections.abc import Mapping

from aqi.history import History
from fusion.amending import history_after
from fusion.conclusion import Counts, doubted
from fusion.indices import indices
from fusion.ring import Ring
from fusion.together.cameras import CameraView, SightSums, sight_of
from fusion.together.learning import HourSums, Learned, PresentRegion, after_hour, present
from fusion.together.progress import MeetingProgress
from fusion.together.roster import KnownStation, known_by
from fusion.together.witnesses import Hearing, Testimony, listened_to
from network.drift import departed
from schemas.alone import Alone
from schemas.amendment import Amendment
from schemas.base import from_ms
from schemas.errors import Refused
from schemas.estimate import Estimate, Inputs
from schemas.estimate import Window as Span
from schemas.times import HOUR_MS, end_of
from streams.boundary import guarded
from streams.join import BEGINNING


class MeetingWindow:
    """A window of a region that is not final."""

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
        """Inputs of all stations of the region."""
        return sum(one.estimate.revision for one in self.alones.values())


class RegionFlow:
    """A region of the partition: what it has learned, and what it says of its stations in a window.

    `at`: of when what it had learned is (ms).
    """

    def __init__(self, progress: MeetingProgress, at: int, learned: Learned) -> None:
        self.rules = progress.rules
        self._progress = progress
        self.versions: Ring[Learned] = Ring(at, learned)
        self.histories: dict[str, Ring[History]] = {
            name: Ring(at, history) for name, history in learned.histories.items()
        }
        #: Of the hours that are not over: what was heard, and what was shown of stations.
        self.sums: dict[int, HourSums] = {}
        self.shown: dict[str, KnownStation] = {}
        #: By station, the end of the window behind which it is of another region.
        self.left: dict[str, int] = {}
        #: By the end of final windows, their inputs.
        self.totals: dict[int, int] = {}
        #: The region as some windows show it, by what it had learned and who is shown.
        self.present: tuple[Learned, dict[str, KnownStation], PresentRegion] | None = None

    def estimates(
        self, end: int, window: MeetingWindow, final: bool, failed: list[Refused]
    ) -> dict[str, Estimate]:
        """The estimates of a window, by station."""
        if not window.dirty and not (
            window.lacking and (final or any(self._progress.closed(source, end) for source in window.lacking))
        ):
            return window.made
        window.dirty = False
        made = guarded(lambda: self._together(end, window, final))
        if isinstance(made, Refused):
            failed.append(made)
            inputs = window.inputs
            made = {
                name: counting(alone.estimate, inputs - alone.estimate.revision)
                for name, alone in sorted(window.alones.items())
            }
        window.made = made
        return made

    def _together(self, end: int, window: MeetingWindow, final: bool) -> dict[str, Estimate]:
        learned = self.versions.as_of(end - self.rules.lateness).value
        now, said = self._said(end, window, learned, final)
        window.said = learned, said
        return self._assembled(end, window, now, said)

    def _said(
        self, end: int, window: MeetingWindow, learned: Learned, final: bool
    ) -> tuple[PresentRegion, dict[str, Testimony]]:
        """What a region that has learned so much says of its stations in a window."""
        shown = {
            name: known_by(alone, learned.roster.get(name)) for name, alone in sorted(window.alones.items())
        }
        now = self._present(learned, shown)
        heard = {
            name: listened_to(alone.estimate, departed(learned.drift, name))
            for name, alone in window.alones.items()
        }
        pictures = {
            name: CameraView(sight, learned.cameras.get(name, {}))
            for name, alone in window.alones.items()
            if (sight := sight_of(alone)) is not None
        }
        says = Hearing(now, end, self.rules.size, heard, learned.drift, pictures)
        window.lacking = set()
        said: dict[str, Testimony] = {}
        for name in now.vicinity.stations:
            alone = window.alones.get(name)
            if alone is not None:
                said[name] = says.said_of(name, alone.estimate)
            elif end < self._gone(name, end + 1) and says.tells(name):
                source = now.roster[name].source
                if not final and not self._progress.closed(source, end):
                    window.lacking.add(source)
                    continue
                found = says.said_of(name, None)
                if found.pollutants:
                    said[name] = found
        return now, said

    def _gone(self, station: str, otherwise: int) -> int:
        """End of the window behind which a station was retired or is of another region."""
        return min(self._progress.gone.get(station, otherwise), self.left.get(station, otherwise))

    def _present(self, learned: Learned, shown: dict[str, KnownStation]) -> PresentRegion:
        """The region in a window; kept, for most windows show the same of it."""
        new = {
            name: known
            for name, known in shown.items()
            if name not in learned.roster or known._replace(heard=0) != learned.roster[name]._replace(heard=0)
        }
        of_stations = {name: known._replace(heard=0) for name, known in new.items()}
        kept = self.present
        if kept is None or kept[0] is not learned or kept[1] != of_stations:
            kept = self.present = learned, of_stations, present(learned, new, self.rules.radius_km)
        return kept[2]

    def _assembled(
        self,
        end: int,
        window: MeetingWindow,
        now: PresentRegion,
        said: Mapping[str, Testimony],
    ) -> dict[str, Estimate]:
        size = self.rules.size
        counted = []
        first_hours = []
        for name, found in said.items():
            known = now.roster[name]
            before = self._history(name, known, end)
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
            estimate = counting(alone.estimate, inputs - alone.estimate.revision)
            missing = {one: lost for one, lost in estimate.missing.items() if one not in found.pollutants}
            # Averages that reach back farther than the region's are the station's own still.
            ours = not alone.averaged_since or 0 < first_hour <= alone.averaged_since
            made[name] = estimate.model_copy(
                update={
                    "pollutants": found.pollutants,
                    "missing": missing,
                    "indices": index if ours else estimate.indices,
                    "drift": found.drift,
                }
            )
        return made

    def _history(self, station: str, known: KnownStation, end: int) -> History:
        ring = self.histories.get(station)
        if ring is None:
            return History.empty(48, known.reference_celsius)
        return ring.as_of(end - self.rules.lateness).value

    def learn(self, end: int, window: MeetingWindow, failed: list[Refused]) -> None:
        """Take in a final window.

        By what is known now, not some time before: a successor that makes these windows again knows no more.
        """
        size = self.rules.size
        newest = self.versions.latest().value
        for name, alone in sorted(window.alones.items()):
            for gone in (self._progress.gone, self.left):
                if gone.get(name, end) < end:
                    del gone[name]  # it speaks again
            self.shown[name] = known_by(alone, self.shown.get(name) or newest.roster.get(name))
        said: dict[str, Testimony] | Refused
        if window.said is not None and window.said[0] is newest and not window.dirty and not window.lacking:
            said = window.said[1]
        else:
            said = guarded(lambda: self._said(end, window, newest, True)[1])
        if isinstance(said, Refused):
            failed.append(said)
            said = {
                name: Testimony(one.estimate.pollutants, {}) for name, one in sorted(window.alones.items())
            }
        sums = self.sums.setdefault(end_of(end, HOUR_MS), HourSums())
        for name, found in said.items():
            known = self.shown.get(name) or newest.roster[name]
            ring = self.histories.get(name)
            if ring is None:
                ring = self.histories[name] = Ring(BEGINNING, History.empty(48, known.reference_celsius))
            history, counts = ring.latest().value, Counts.of(found.pollutants, end, size)
            after = guarded(lambda counts=counts, history=history: counts.into(history, end, size))  # type: ignore[misc]
            if not isinstance(after, Refused):
                ring.put(end, after)
            ring.prune(self._progress.done - self.rules.lateness)
        # What was heard teaches, doubted by its neighbours or not: the region itself lets what is strange to
        # it teach little, and one that stays so, say after a repair, must not be a stranger for ever. Who has
        # left its neighbours teaches nothing, and is watched as all are.
        for name, alone in sorted(window.alones.items()):
            heard = listened_to(alone.estimate, departed(newest.drift, name))
            for pollutant, one in alone.estimate.pollutants.items():
                if one.kind == "imputed" or one.covered_s == 0:
                    continue
                seconds = size // 1000 if one.covered_s is None else min(one.covered_s, size // 1000)
                HourSums.add(sums.read, (name, pollutant), one.value, seconds)
                if pollutant in heard:
                    HourSums.add(sums.heard, (name, pollutant), one.value, seconds)
            sight = sight_of(alone)
            if sight is not None:
                sums.sights[name] = sums.sights.get(name, SightSums()).with_sight(sight)

    def over(self, hour: int, failed: list[Refused]) -> None:
        """All windows of an hour are final."""
        before = self.versions.latest().value
        gone = frozenset(
            name for name in (*self._progress.gone, *self.left) if self._gone(name, hour + 1) <= hour
        )
        histories = {name: ring.latest().value for name, ring in self.histories.items()}
        sums = self.sums.pop(hour, HourSums())
        shown, self.shown = self.shown, {}
        after = guarded(lambda: after_hour(before, hour, sums, shown, gone, histories, self.rules.radius_km))
        if isinstance(after, Refused):
            failed.append(after)
            # Of the air nothing.
            after = Learned(before.air, {**before.roster, **shown}, histories, before.drift, before.cameras)
        for station in self.histories.keys() - after.histories.keys():
            del self.histories[station]
        self.versions.put(hour, after)

    def amend(self, end: int, amendment: Amendment) -> None:
        """Take in a change of the past that stands behind the window that ends at `end`."""
        ring = self.histories.get(amendment.station)
        if ring is not None:
            ring.put(end, history_after(ring.latest().value, amendment))


def counting(estimate: Estimate, others: int) -> Estimate:
    """An estimate whose revision counts the inputs of others, too."""
    return estimate.model_copy(
        update={"revision": estimate.revision + others, "amended": estimate.amended + others}
    )
