"""A region whose stations come and go: new variables join as ones never heard, gone ones are left out.

What is known of the others stays. A cell with a variable that was never heard says of it what the places let
expect, so it makes no difference whether that variable was there from the beginning.
"""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from network import cell as cells
from network.cell import Cell
from network.conditioning import FIRST_SPREAD
from network.members import Members, Position, Variable
from network.region import WHOLE, Listener, Region, fresh, part_of, telling_first
from schemas.arrays import Float64, Int64

#: Of a variable that was not there.
_NEW: Final = -1


def with_members(region: Region, places: Mapping[Variable, Position | None]) -> Region:
    """The region with these variables: those it had keep their order and what is known of them, new ones
    follow in theirs. The same region where nothing changes.
    """
    had = {variable: index for index, variable in enumerate(region.members.variables)}
    variables = [one for one in region.members.variables if one in places]
    variables += [one for one in places if one not in had]
    members = Members(tuple(variables), tuple(places[one] for one in variables))
    if members == region.members:
        return region
    sources = np.array([had.get(one, _NEW) for one in variables], dtype=np.int64)
    if region.whole is not None and len(members) <= WHOLE:
        return replace(region, members=members, whole=rearranged(region.whole, members, sources))
    if region.whole is None and 2 * len(members) <= WHOLE:
        return fresh(members)  # small, by far: its stations begin anew, as one
    return _large(region, members, sources)


def begun_anew(region: Region, variables: Container[Variable]) -> Region:
    """The region with some variables as ones never heard, such as a sensor that was taken for another."""

    def of_cell(cell: Cell) -> Cell:
        sources = [_NEW if one in variables else index for index, one in enumerate(cell.members.variables)]
        return rearranged(cell, cell.members, np.array(sources, dtype=np.int64))

    return replace(
        region,
        whole=None if region.whole is None else of_cell(region.whole),
        listeners=tuple(replace(one, cell=of_cell(one.cell)) for one in region.listeners),
    )


def _large(region: Region, members: Members, sources: Int64) -> Region:
    """A region in which each station listens for itself."""
    where = {variable: index for index, variable in enumerate(members.variables)}
    before = {one.station: one for one in region.listeners}
    listeners = []
    for station in members.stations:
        known = before.get(station)
        own = [one for one in members.variables if one.station == station]
        if known is None:
            cell = region.whole
            kept = [members.variables[index] for index in telling_first(members, station).tolist()]
        else:
            cell = known.cell
            kept = [one for one in cell.members.variables if one in where]
        wanted = [*kept, *(one for one in own if one not in set(kept))]
        taken = np.array([where[one] for one in wanted], dtype=np.int64)
        part = part_of(members, taken)
        if cell is None:
            listeners.append(Listener(station, cells.fresh(part), taken))
            continue
        place = {variable: index for index, variable in enumerate(cell.members.variables)}
        chosen = np.array([place.get(one, _NEW) for one in wanted], dtype=np.int64)
        listeners.append(Listener(station, rearranged(cell, part, chosen), taken))
    kept_hours = np.full((len(region.times), len(members)), np.nan, dtype=np.float32)
    there = sources != _NEW
    kept_hours[:, there] = region.kept[:, sources[there]]
    return replace(region, members=members, whole=None, listeners=tuple(listeners), kept=kept_hours)


def rearranged(cell: Cell, members: Members, sources: Int64) -> Cell:
    """The cell with other members; `sources`: (d,) which variable of the cell each was, -1: none."""
    if members == cell.members and (sources != _NEW).all():
        return cell
    if not len(cell.members):
        return cells.fresh(members)
    new = sources == _NEW
    at = np.where(new, 0, sources)
    first = members.prior * FIRST_SPREAD**2
    both = ~new[:, None] & ~new

    def square(matrix: Float64, otherwise: Float64 | float) -> Float64:
        result: Float64 = np.where(both, matrix[np.ix_(at, at)], otherwise)
        return result

    def of_each(known: Float64) -> Float64:
        return np.where(new, 0.0, known[at]) if known.size else known

    ranks = np.empty(len(cell.order), dtype=np.int64)
    ranks[cell.order] = np.arange(len(cell.order))
    after = replace(
        cell,
        members=members,
        heard=np.where(new, 0.0, cell.heard[at]),
        since=np.where(new, 0.0, cell.since[at]),
        level=np.where(new, np.nan, cell.level[at]),
        daily=np.where(new, 0.0, cell.daily[:, at]),
        covariance=square(cell.covariance, first),
        settled_covariance=square(cell.settled_covariance, first),
        order=np.argsort(np.where(new, len(cell.order), ranks[at]), kind="stable").astype(np.int64),
        last=square(cell.last, 0.0),
        day=square(cell.day, 0.0),
        last_ms=np.where(new, 0, cell.last_ms[at]),
        lately=of_each(cell.lately),
        settled_lately=of_each(cell.settled_lately),
        past=replace(
            cell.past,
            day=np.where(new, np.nan, cell.past.day[:, at]),
            last=np.where(new, np.nan, cell.past.last[..., at]),
            mean=np.where(new, np.nan, cell.past.mean[..., at]),
            told=np.where(new, np.nan, cell.past.told[..., at]) if cell.past.told.size else cell.past.told,
        ),
        intervals=replace(
            cell.intervals,
            size=np.where(new, 1.0, cell.intervals.size[:, at]),
            count=np.where(new, 0.0, cell.intervals.count[:, at]),
        ),
    )
    return cells.settled_now(after) if new.any() else after
