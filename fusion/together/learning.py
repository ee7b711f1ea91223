"""What a region has learned from its final windows, hour by hour, and what is stored of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import msgspec
import numpy as np

from aqi.history import History, HistoryState
from fusion.together.cameras import SightSums, TaughtCameras, after_hour_of_cameras
from fusion.together.roster import KnownStation, Roster, Vicinity, variables_of
from network import region as network
from network.drift import DriftWatch, outstood, watched, watching
from network.growing import begun_anew, with_members
from network.members import Members
from network.region import Region
from schemas.arrays import Float64
from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.state import Codec

#: By (station, pollutant) the sum of values times the seconds they stood for, and these.
ValueSums = dict[tuple[str, str], tuple[float, int]]


@dataclass(frozen=True)
class HourSums:
    """Of an hour, what is listened to, and all that was read: who is doubted is watched all the same.

    `sights`: by station, what its camera showed, where the region may teach it.
    """

    heard: ValueSums = field(default_factory=dict)
    read: ValueSums = field(default_factory=dict)
    sights: dict[str, SightSums] = field(default_factory=dict)

    @staticmethod
    def add(sums: ValueSums, variable: tuple[str, str], value: float, seconds: int) -> None:
        """Count a value in that stood for some seconds."""
        total, weight = sums.get(variable, (0.0, 0))
        sums[variable] = total + value * seconds, weight + seconds


@dataclass(frozen=True, eq=False)
class Learned:
    """What is known of a region after an hour; immutable.

    `histories`: by station, the averages that its indices are made of, the hour included. `drift`: the watch
    over its sensors. `cameras`: what it has taught cameras that no sensor teaches.
    """

    air: Region = field(default_factory=lambda: network.fresh(Members((), ())))
    roster: Roster = field(default_factory=dict)
    histories: Mapping[str, History] = field(default_factory=dict)
    drift: DriftWatch = field(default_factory=DriftWatch)
    cameras: TaughtCameras = field(default_factory=dict)


class LearnedState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`Learned` as it is stored."""

    air: Region
    roster: Mapping[str, KnownStation] = {}
    histories: Mapping[str, HistoryState] = {}
    drift: DriftWatch = msgspec.field(default_factory=DriftWatch)
    cameras: TaughtCameras = {}

    @classmethod
    def of(cls, learned: Learned) -> "LearnedState":
        """What is stored of it."""
        histories = {name: history.to_state() for name, history in learned.histories.items()}
        return cls(
            air=learned.air,
            roster=learned.roster,
            histories=histories,
            drift=learned.drift,
            cameras=learned.cameras,
        )

    def learned(self) -> Learned:
        """Inverse of `of`."""
        histories = {name: History.from_state(state) for name, state in self.histories.items()}
        return Learned(self.air, self.roster, histories, self.drift, self.cameras)


LEARNED: Final = Codec("what a region has learned", LearnedState)


class PresentRegion(NamedTuple):
    """A region as it is in a window: with the stations that only this window shows."""

    air: Region
    roster: Roster
    vicinity: Vicinity


def present(learned: Learned, shown: Roster, radius_km: float) -> PresentRegion:
    """The region with what a window shows of its stations."""
    roster = {**learned.roster, **shown}
    vicinity = Vicinity(roster, radius_km)
    return PresentRegion(with_members(learned.air, variables_of(roster, vicinity)), roster, vicinity)


def after_hour(
    learned: Learned,
    end: int,
    sums: HourSums,
    shown: Roster,
    gone: frozenset[str],
    histories: Mapping[str, History],
    radius_km: float,
) -> Learned:
    """What is known after the hour that ends at `end` (ms), of which all windows are final.

    `shown`: what its windows showed of stations; `gone`: stations that were retired since; `histories`: the
    averages after it. Who was not heard for a season is forgotten.
    """
    roster = {
        name: known
        for name, known in {**learned.roster, **shown}.items()
        if name not in gone and known.heard > end - FORGOTTEN_AFTER_MS
    }
    air = with_members(learned.air, variables_of(roster, Vicinity(roster, radius_km)))
    out = outstood(learned.drift)
    air = begun_anew(air, out) if out else air
    drift = watching(learned.drift, air.members.variables)
    cameras = learned.cameras
    if sums.read and len(air.members):
        values = _means(sums.heard, air.members)
        said = network.estimate(air, end, values)
        cameras = after_hour_of_cameras(cameras, end, sums.sights, air.members, said, values)
        exempt = {name for name, known in roster.items() if known.reference}
        drift = watched(drift, end, _means(sums.read, air.members), said.others, said.spread, exempt)
        air = network.learned_with_silence(air, end, values)
    return replace(
        learned,
        air=air,
        drift=drift,
        roster=roster,
        histories={name: history for name, history in histories.items() if name in roster},
        cameras={name: known for name, known in cameras.items() if name in roster},
    )


def _means(sums: ValueSums, members: Members) -> Float64:
    """(d,) the means of an hour, NaN where there is none."""
    values = np.full(len(members), np.nan)
    for index, variable in enumerate(members.variables):
        total, seconds = sums.get(variable, (0.0, 0))
        if seconds:
            values[index] = total / seconds
    return values
