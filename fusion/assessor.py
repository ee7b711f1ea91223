"""From a window's inputs to its estimate, and from final windows to what a station has learned. Pure.

Two rules make a re-read after a crash give the same bytes:

* An estimate of window *w* reads the state as of the last window that ended at least one allowed lateness
  before *w* ended: by then that window was final, whatever revision of *w* this is.
* What was learned counts for 90 days of event time. A station that was silent for longer is a new one,
  whether or not its state has left the memory by then.
* State moves on only when a window is final (``expire``), window by window in order of time, and is never
  changed in place. A short ring of versions per station is kept for the windows that are still open.
  A change of the past (``amend``) makes a version of its own, from the window on that it stands behind.

Work is done in two passes with one batched inference between them: quality control decides which readings the
model sees, and what the model says is needed to fill what is missing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from aqi.quality_defaults import defaults
from camera.sight import Sight
from fusion.amending import amended, not_withheld, withheld_after
from fusion.conclusion import Conclusion, Counts, assembled, conclude, learn, new_bands, nothing_known
from fusion.inference import ROWS_A_RUN, Inference, infer, predict, said_of
from fusion.intake import Intake, Prepared, take_in
from fusion.learning import Air, HeadSaid
from fusion.ring import Ring
from fusion.stored import OF_SENSORS, SENSORS, STATION, SensorsState, StationState
from model.bundle.runtime import Head
from schemas.amendment import Amendment
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.parameters import POLLUTANTS
from schemas.station import CameraBands, Station
from streams.boundary import isolated
from streams.join import Amend, Expire, Step, WindowView

StationOf = Callable[[str], Station | None]

#: Before any window.
_NEVER: Final = -(2**62)


class Assessed(NamedTuple):
    """What is to be published: estimates, and far bands of stations where one more was found.

    `averaged_since`: of each estimate, the end of the first hour (ms) that its averages rest on, 0: on none.
    `sights`: what the station's camera shows in each of their windows.
    `failed`: steps of which nothing could be made, and why. Nothing is learned from them.
    """

    estimates: list[Estimate]
    averaged_since: list[int]
    sights: list[Sight | None]
    bands: list[CameraBands]
    failed: list[tuple[Step, Refused]]


def untimed(rows: int) -> AbstractContextManager[None]:
    """Nobody wants to know how long a run of the head takes."""
    del rows
    return nullcontext()


class Assessor:
    """Makes the estimates of one partition and keeps what its stations have learned.

    `timed`: what a run of the head on so many windows is done within, by whoever has a clock.
    """

    def __init__(
        self,
        head: Head,
        *,
        size_ms: int,
        lateness_ms: int,
        snapshots: Mapping[str, tuple[int, StationState | SensorsState]],
        timed: Callable[[int], AbstractContextManager[None]] = untimed,
    ) -> None:
        self._head = head
        self._size = size_ms
        self._lateness = lateness_ms
        self._timed = timed
        self._limits = defaults()
        self._intake: dict[str, Ring[Intake]] = {}
        self._air: dict[str, Ring[Air]] = {}
        self._sensors: dict[str, tuple[int, SensorsState]] = {}
        for station in sorted({name.removesuffix(OF_SENSORS) for name in snapshots}):
            self._restore(station, snapshots)

    # -- the two passes ------------------------------------------------------------------------------------

    def run(self, steps: Sequence[Step], done: int, station_of: StationOf) -> Assessed:
        """Estimates of the windows to publish, in order; learns from the windows that are final.

        A window that raises is left out, alone: state is as if it had not been.
        """
        parts, failed = isolated(lambda part: self._undivided(part, station_of), steps)
        horizon = done - self._lateness
        for name in {step.view.station for step in steps}:
            for ring in (self._intake.get(name), self._air.get(name)):
                if ring is not None:
                    ring.prune(horizon)
        return Assessed(
            [estimate for part in parts for estimate in part.estimates],
            [since for part in parts for since in part.averaged_since],
            [sight for part in parts for sight in part.sights],
            [bands for part in parts for bands in part.bands],
            failed,
        )

    def _undivided(self, steps: Sequence[Step], station_of: StationOf) -> Assessed:
        """As `run`, all or nothing."""
        names = {step.view.station for step in steps}
        marks = [
            (rings, name, rings[name].mark() if name in rings else None)
            for rings in (self._intake, self._air)
            for name in names
        ]
        try:
            return self._together(steps, station_of)
        except BaseException:
            for rings, name, mark in marks:
                if mark is None:
                    rings.pop(name, None)
                else:
                    rings[name].back_to(mark)
            raise

    def _together(self, steps: Sequence[Step], station_of: StationOf) -> Assessed:
        finals: list[bool] = []
        prepared: list[Prepared] = []
        for step in steps:
            view = step.view
            if isinstance(step, Amend):
                self._amend_intake(view, amendment_in(view))
            else:
                finals.append(isinstance(step, Expire))
                prepared.append(self._take_in(view, _record(view, station_of), final=finals[-1]))
        inferred = self._infer(finals, prepared)
        without = self._infer_without(finals, prepared)
        concluded: list[Conclusion] = []
        found: list[CameraBands] = []
        windows = zip(finals, prepared, inferred, without, strict=True)
        for step in steps:
            if isinstance(step, Amend):
                self._amend_air(step.view, amendment_in(step.view), _record(step.view, station_of))
                continue
            final, window, output, masked = next(windows)
            conclusion = self._conclude(window, output, masked, final=final)
            if isinstance(conclusion, Conclusion):
                concluded.append(conclusion)
            elif conclusion is not None:
                found.append(conclusion)
        since = [one.history.first_hour for one in concluded]
        sights = [one.window.sight for one in concluded]
        return Assessed(assembled(concluded, self._head.bundle.id), since, sights, found, [])

    def _intake_of(self, station: str) -> Ring[Intake]:
        ring = self._intake.get(station)
        if ring is None:
            ring = self._intake[station] = Ring(_NEVER, Intake())
        return ring

    def _air_of(self, name: str, station: Station | None) -> Ring[Air]:
        ring = self._air.get(name)
        if ring is None:
            ring = self._air[name] = Ring(_NEVER, self._with_sensors(name, nothing_known(station)))
        return ring

    def _amend_intake(self, view: WindowView, amendment: Amendment) -> None:
        ring = self._intake_of(view.station)
        _, intake = ring.latest()
        withheld = withheld_after(intake.withheld, amendment, view.end)
        ring.put(view.end, replace(intake, withheld=withheld))

    def _amend_air(self, view: WindowView, amendment: Amendment, station: Station | None) -> None:
        ring = self._air_of(view.station, station)
        _, before = ring.latest()
        after = amended(before, amendment)
        moved = after.virtual != before.virtual
        ring.put(view.end, replace(after, virtual_at=view.end) if moved else after)

    def _take_in(self, view: WindowView, station: Station | None, *, final: bool) -> Prepared:
        ring = self._intake_of(view.station)
        at, intake = ring.latest() if final else ring.as_of(view.end - self._lateness)
        if view.end - at > FORGOTTEN_AFTER_MS:
            intake = Intake(withheld=intake.withheld)
        left, withheld = not_withheld(view, intake.withheld)
        prepared, after = take_in(left, station, intake, self._limits, self._head.bundle.encoder)
        if final:
            ring.put(view.end, after.without_the_forgotten(view.end) if prepared.begins_hour else after)
        # A window of which all readings are withheld is not one that nobody spoke in.
        return replace(prepared, withheld=withheld, idle=False) if withheld else prepared

    def _infer(self, finals: Sequence[bool], prepared: Sequence[Prepared]) -> list["Inference | None"]:
        inferred: list[Inference | None] = [None] * len(prepared)
        for wanted in (False, True):  # what is published is explained, what is learned from need not be
            rows = [
                index
                for index, (final, window) in enumerate(zip(finals, prepared, strict=True))
                if final == wanted and window.usable
            ]
            for start in range(0, len(rows), ROWS_A_RUN):
                part = rows[start : start + ROWS_A_RUN]
                with self._timed(len(part)):
                    run = infer(self._head, [prepared[index] for index in part], not wanted)
                for index, one in zip(part, run, strict=True):
                    inferred[index] = one
        return inferred

    def _infer_without(
        self, finals: Sequence[bool], prepared: Sequence[Prepared]
    ) -> list[dict[str, HeadSaid]]:
        """For final windows that begin an hour: the head on each measured pollutant without its sensor."""
        without: list[dict[str, HeadSaid]] = [{} for _ in prepared]
        rows = []
        for index, (final, window) in enumerate(zip(finals, prepared, strict=True)):
            if not final or not window.begins_hour:
                continue
            for column, name in enumerate(POLLUTANTS):
                if name in window.measured and (window.embedding is not None or len(window.measured) > 1):
                    vector = window.vector.copy()
                    vector[column] = np.nan
                    rows.append((index, column, name, replace(window, vector=vector)))
        for start in range(0, len(rows), ROWS_A_RUN):
            part = rows[start : start + ROWS_A_RUN]
            output = predict(self._head, [window for *_, window in part])
            for row, (index, column, name, _) in enumerate(part):
                said = said_of(output, row, column)
                if said is not None:
                    without[index][name] = said
        return without

    def _conclude(
        self,
        window: Prepared,
        inferred: "Inference | None",
        without: Mapping[str, HeadSaid],
        *,
        final: bool,
    ) -> Conclusion | CameraBands | None:
        """What is to be published of a window; of a final one, the far bands if one was found just now."""
        view = window.view
        if window.idle:
            return None
        ring = self._air_of(view.station, window.station)
        at, air = ring.latest() if final else ring.as_of(view.end - self._lateness)
        if _NEVER < at < view.end - FORGOTTEN_AFTER_MS:
            air = nothing_known(window.station)
        pollutants = conclude(window, inferred, air)
        counts = Counts.of(pollutants, view.end, self._size)
        history = counts.into(air.history, view.end, self._size)
        if final:
            after = learn(replace(air, history=history), window, inferred, without)
            ring.put(view.end, after)
            return new_bands(view.station, air, after)
        return Conclusion(window, inferred, pollutants, history)

    # -- who is known --------------------------------------------------------------------------------------

    def stations(self) -> dict[str, tuple[int, Collection[str]]]:
        """Per station of which something is known: the end of its newest final window, and its cameras."""
        known: dict[str, tuple[int, Collection[str]]] = {}
        for name, ring in self._intake.items():
            at, intake = ring.latest()
            known[name] = at, intake.cameras.keys()
        return known

    def forgotten(self, done: int) -> list[str]:
        """Stations of which nothing counts any more when windows up to `done` (ms) are final."""
        names = []
        for name, ring in self._intake.items():
            at, intake = ring.latest()
            if at < done - FORGOTTEN_AFTER_MS and all(span.until <= done for span in intake.withheld):
                names.append(name)
        return names

    def forget(self, station: str) -> list[str]:
        """A station has left, and all that was learned of it; gives the names of its checkpoints."""
        for kept in (self._intake, self._air, self._sensors):
            kept.pop(station, None)
        return [station, station + OF_SENSORS]

    # -- checkpoints ---------------------------------------------------------------------------------------

    def _restore(
        self, station: str, snapshots: Mapping[str, tuple[int, StationState | SensorsState]]
    ) -> None:
        """Go on from what is stored of a station. One of its two records may be missing, or older than it
        should be, because it was damaged: what the other one holds counts all the same.
        """
        at, state = snapshots.get(station, (_NEVER, None))
        virtual_at, sensors = snapshots.get(station + OF_SENSORS, (0, None))
        if isinstance(sensors, SensorsState):
            self._sensors[station] = virtual_at, sensors
        if isinstance(state, StationState):
            air = self._with_sensors(station, state.air())
            if virtual_at > at:
                at, air = virtual_at, replace(air, gathered=None)  # they have taken that hour in
            self._intake[station] = Ring(at, state.intake())
            self._air[station] = Ring(at, air)

    def _with_sensors(self, station: str, air: Air) -> Air:
        """With the virtual sensors that are stored of the station, for its first window."""
        if station not in self._sensors:
            return air
        at, kept = self._sensors[station]  # it stays: the window may raise, and be left out
        return replace(air, virtual=kept.virtual, finders=dict(kept.finders), virtual_at=at)

    def horizons(self, done: int) -> dict[str, int]:
        """Per station, the horizon of the state that goes with windows up to `done` being final."""
        horizons = {}
        for name, ring in self._air.items():
            at, air = ring.as_of(done - self._lateness)
            if _NEVER < at <= done - self._lateness:
                horizons[name] = at
                if air.virtual_at:
                    horizons[name + OF_SENSORS] = air.virtual_at
        return horizons

    def dump(self, name: str, horizon: int) -> bytes:
        """The state under a name of `horizons`, at that horizon."""
        station = name.removesuffix(OF_SENSORS)
        _, air = self._air[station].as_of(horizon)
        if station != name:
            return SENSORS.encode(SensorsState.of(air))
        _, intake = self._intake[station].as_of(horizon)
        return STATION.encode(StationState.of(intake, air))


def amendment_in(view: WindowView) -> Amendment:
    """The change of the past that an ``amend`` step carries."""
    ((item,),) = view.inputs.values()
    amendment: Amendment = item.payload
    return amendment


def _record(view: WindowView, station_of: StationOf) -> Station | None:
    """What counted of a station as a window began: a change acts on whole windows."""
    station = station_of(view.station)
    return None if station is None else station.at(view.start)
