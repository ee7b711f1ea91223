"""A region: all its stations, small or large, hour by hour.

Up to `WHOLE` variables are one cell. In a larger region each station has a cell of its own: its own variables
and those of others that tell most of them, `BUDGET` in all, so that a station costs the same in a region of a
thousand. Who tells most is known from the places at first and from likeness later: the last three weeks of
all are kept, and at a few ages each station looks through those around it. If it finds better ones, its new
cell learns from these weeks anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from network import cell as cells
from network.cell import Cell, Estimates
from network.members import Members
from network.scale import to_log
from schemas.arrays import Float64, Int64
from schemas.times import DAY_MS, HOUR_MS

#: Variables up to which a region is one cell: some fifty stations of six pollutants.
WHOLE: Final = 300
#: Variables of a station's own cell in a larger one.
BUDGET: Final = 40
#: Hours of all variables that are kept in a larger one.
KEPT_HOURS: Final = 21 * 24
#: Stations around one among which it looks for those that tell most.
AROUND: Final = 192
#: Weight, in hours, of the places beside the likeness.
_PRIOR_HOURS: Final = 48.0
#: Ages in days at which a station looks around; then every 16 days.
_LOOKS: Final = (2, 4, 8, 16)
#: Hours in which nobody is heard that are taken in as silent ones; after more, time just goes on.
_MOST_SILENT: Final = 30 * 24
#: Part of a cell that has to be found better elsewhere before it changes.
_CHANGED: Final = 0.1


@dataclass(frozen=True, eq=False)
class Listener:
    """A station of a large region with its cell; `taken`: where the cell's variables are in the region."""

    station: str
    cell: Cell
    taken: Int64


@dataclass(frozen=True, eq=False)
class Region:
    """State of a region as of the end of an hour; immutable.

    Attributes:
        members: all variables.
        whole: the one cell of a small region, else None.
        listeners: by station, in a large one.
        first_ms: end of the first hour taken in, 0: none.
        times: (hours,) ends of the hours kept, in a large one.
        kept: (hours, d) ug/m3 of these, NaN where silent.
    """

    members: Members
    whole: Cell | None
    listeners: tuple[Listener, ...]
    first_ms: int
    times: Int64
    kept: NDArray[np.float32]


def fresh(members: Members, listening: Sequence[str] | None = None) -> Region:
    """A region that has heard nothing; `listening`: of a large one, those that want estimates (else all)."""
    none = np.zeros((0, len(members)), dtype=np.float32)
    times = np.zeros(0, dtype=np.int64)
    if len(members) <= WHOLE:
        return Region(members, cells.fresh(members), (), 0, times, none)
    found = []
    for station in members.stations if listening is None else listening:
        taken = telling_first(members, station)
        found.append(Listener(station, cells.fresh(part_of(members, taken)), taken))
    return Region(members, None, tuple(found), 0, times, none)


def telling_first(members: Members, station: str) -> Int64:
    """Of a large region, the variables of a station's cell before anything was heard: by the places."""
    return _most_telling(members, station, members.nearness_of(_own(members, station)))


def estimate(region: Region, t_ms: int, values: Float64) -> Estimates:
    """As `network.cell.estimate`; NaN for stations that do not listen."""
    if region.whole is not None:
        return cells.estimate(region.whole, t_ms, values)
    d = len(region.members)
    nothing = np.full(d, np.nan)
    result = Estimates(
        nothing.copy(), nothing.copy(), nothing.copy(), np.zeros(d, dtype=np.int64),
        np.zeros(d, dtype=np.bool_), nothing.copy(), np.zeros(d), np.zeros(d), np.zeros(d),
        nothing.copy(), nothing.copy(),
    )  # fmt: skip
    for listener in region.listeners:
        said = cells.estimate(listener.cell, t_ms, values[listener.taken])
        own = np.array([one.station == listener.station for one in listener.cell.members.variables])
        for whole, part in zip(result, said, strict=True):
            whole[listener.taken[own]] = part[own]
    return result


def learned(region: Region, t_ms: int, values: Float64) -> Region:
    """Take in the hour that ends at `t_ms`; `values`: (d,) ug/m3, NaN where silent."""
    if region.whole is not None:
        return replace(
            region, whole=cells.learned(region.whole, t_ms, values), first_ms=region.first_ms or t_ms
        )
    region = replace(
        region,
        first_ms=region.first_ms or t_ms,
        times=np.append(region.times, t_ms)[-KEPT_HOURS:],
        kept=np.concatenate([region.kept, values[None].astype(np.float32)])[-KEPT_HOURS:],
    )
    looking = _is_look(region, t_ms)
    after = []
    for listener in region.listeners:
        cell = cells.learned(listener.cell, t_ms, values[listener.taken])
        listener = replace(listener, cell=cell)
        after.append(_looked_around(region, listener) if looking else listener)
    return replace(region, listeners=tuple(after))


def learned_with_silence(region: Region, t_ms: int, values: Float64) -> Region:
    """As `learned`, after the hours since the newest one in which nobody was heard at all.

    They are taken in as silent ones; after more than 30 days of that, time just goes on.
    """
    before = newest(region)
    missed = range(before + HOUR_MS, t_ms, HOUR_MS) if before else range(0)
    if len(missed) <= _MOST_SILENT:
        silent = np.full(len(region.members), np.nan)
        for hour in missed:
            region = learned(region, hour, silent)
    return learned(region, t_ms, values)


def newest(region: Region) -> int:
    """End of the last hour that a region took in (ms), 0: none."""
    if region.whole is not None:
        return region.whole.t_ms
    return max((listener.cell.t_ms for listener in region.listeners), default=0)


def _is_look(region: Region, t_ms: int) -> bool:
    age = t_ms - region.first_ms
    if age % DAY_MS:
        return False
    days = age // DAY_MS
    return days in _LOOKS or (days > 0 and days % _LOOKS[-1] == 0)


def _looked_around(region: Region, listener: Listener) -> Listener:
    """The listener, with the most telling that the last weeks show."""
    likeness = _likeness(region, listener.station)
    taken = _most_telling(region.members, listener.station, likeness)
    if len(set(taken.tolist()) - set(listener.taken.tolist())) <= _CHANGED * len(taken):
        return listener
    cell = cells.fresh(part_of(region.members, taken))
    for end, row in zip(region.times.tolist(), region.kept, strict=True):
        cell = cells.learned(cell, end, row[taken].astype(np.float64))
    return Listener(listener.station, cell, taken)


def _own(members: Members, station: str) -> Int64:
    """The variables of a station."""
    own: Int64 = np.flatnonzero(members.owners == members.stations.index(station)).astype(np.int64)
    return own


def _likeness(region: Region, station: str) -> Float64:
    """(n, d) of the station's own variables: correlation over the hours kept, and what the places say."""
    members = region.members
    rows = _own(members, station)
    likeness = members.nearness_of(rows)
    around = _around(members, likeness[0])
    for row, own in enumerate(rows.tolist()):
        others = around[members.pollutants[around] == members.pollutants[own]]
        logs = to_log(region.kept[:, others].astype(np.float64), members.pollutants[others])
        mine = to_log(region.kept[:, [own]].astype(np.float64), members.pollutants[[own]])
        there = ~np.isnan(logs) & ~np.isnan(mine)
        both = there.sum(axis=0)
        weight = np.maximum(both, 1)
        one = np.where(there, mine, 0.0)
        other = np.where(there, logs, 0.0)
        one = np.where(there, one - one.sum(axis=0) / weight, 0.0)
        other = np.where(there, other - other.sum(axis=0) / weight, 0.0)
        spread = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
        found = (one * other).sum(axis=0) / np.where(spread > 0.0, spread, 1.0)
        likeness[row, others] = (both * found + _PRIOR_HOURS * likeness[row, others]) / (both + _PRIOR_HOURS)
    return likeness


def _around(members: Members, nearness: Float64) -> Int64:
    """The variables of the stations nearest to one, its own too; those without a place in their order.

    `nearness`: (d,) to that station.
    """
    firsts = np.unique(members.owners, return_index=True)[1]
    near = np.argsort(-nearness[firsts], kind="stable")[: AROUND + 1]
    found: Int64 = np.flatnonzero(np.isin(members.owners, near)).astype(np.int64)
    return found


def _most_telling(members: Members, station: str, likeness: Float64) -> Int64:
    """The station's own variables and, of each of its pollutants in turn, the most alike elsewhere.

    `likeness`: (n, d) to the station's own variables.
    """
    own = _own(members, station)
    elsewhere = members.owners != members.owners[own[0]]
    queues = []
    for row, variable in zip(likeness, own.tolist(), strict=True):
        others = np.flatnonzero((members.pollutants == members.pollutants[variable]) & elsewhere)
        queues.append(others[np.argsort(-row[others], kind="stable")].tolist())
    taken = own.tolist()
    for rank in range(BUDGET):
        for queue in queues:
            if rank < len(queue) and len(taken) < BUDGET:
                taken.append(queue[rank])
    return np.array(taken, dtype=np.int64)


def part_of(members: Members, taken: Int64) -> Members:
    """The members at some places."""
    return Members(
        tuple(members.variables[index] for index in taken.tolist()),
        tuple(members.places[index] for index in taken.tolist()),
    )
