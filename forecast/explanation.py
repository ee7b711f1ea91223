"""Why a forecast says what it says: how much each thing that was known moves its mean. Pure.

Shapley values beside an average hour of the training: what is shared out is the difference between the
forecast and what the same model says of that hour. Exact, for trees (every leaf by itself, as in
interventional TreeSHAP; Lundberg et al. 2020, Nature Machine Intelligence 2:56) and for the ridge, which is
linear. What a neural network adds to a mix is not shared out, and is named as what is left.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import factorial
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.columns import Subject, columns
from forecast.features import TOLD
from forecast.mix import Mix
from forecast.models import ANCHORS, ForecastInputs, PollutantRows, Ridge, Trees
from forecast.telling import UNSHARED, USUAL, amount, telling
from forecast.trees import Forest
from schemas.arrays import Float32, Float64, Int64
from schemas.parameters import POLLUTANTS

#: Forests whose paths are kept, some megabytes: those of two bundles.
_FORESTS: Final = 48
#: Rows that are explained together: some megabytes.
_TOGETHER: Final = 32
#: Quantiles of a column at which its dependence is shown.
_SHOWN_AT: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class ForecastExplanation:
    """Of the mean of one pollutant so many hours ahead, all in ug/m3.

    `last` is the last value, `usual` the change that is foretold in an average hour of the training, `shares`
    what each subject adds to it here, `unshared` what no share was made of (neural networks, widths, zero as
    the floor): last + usual + all shares + unshared = mean.
    """

    pollutant: str
    horizon: int
    last: float
    mean: float
    usual: float
    shares: Mapping[Subject, float]
    unshared: float


def explained(
    mix: Mix, inputs: ForecastInputs, station: int, origin: int, pollutant: int, horizon: int
) -> ForecastExplanation:
    """Of the forecast of `mix` for one station (its row) from the end of the hour `origin` of the panel.
    `horizon` is one of `ANCHORS`.
    """
    mean = float(mix.predict(inputs, np.array([origin]), (horizon,))[station, 0, 0, pollutant, -1])
    (one,) = explained_rows(mix, inputs, [station], origin, pollutant, horizon, [mean])
    return one


def explained_rows(
    mix: Mix, inputs: ForecastInputs, stations: Sequence[int], origin: int, pollutant: int, horizon: int,
    means: Sequence[float],
) -> Iterator[ForecastExplanation]:  # fmt: skip
    """The same of several stations (their rows) whose `means` are known."""
    told = inputs.told
    rows = PollutantRows(inputs, pollutant, np.array([origin])).at(horizon)[stations]
    shared, usual = _shared(mix, rows, told, pollutant, horizon)
    last = last_values(mix, inputs, pollutant)[stations, origin].tolist()
    for values, before, mean in zip(shared, last, means, strict=True):
        shares: dict[Subject, float] = {}
        for column, value in zip(columns(told), values.tolist(), strict=True):
            shares[column.subject] = shares.get(column.subject, 0.0) + value
        left = mean - before - usual - float(values.sum())
        yield ForecastExplanation(POLLUTANTS[pollutant], horizon, before, mean, usual, shares, left)


def last_values(mix: Mix, inputs: ForecastInputs, pollutant: int) -> Float32:
    """What persistence says at each hour of the panel: (stations, hours), ug/m3."""
    return inputs.features.last(pollutant, _ridge(mix).typical[pollutant])


def _ridge(mix: Mix) -> Ridge:
    return next(member for member in mix.members if isinstance(member, Ridge))


def _shared(mix: Mix, rows: Float32, told: int, pollutant: int, horizon: int) -> tuple[Float64, float]:
    """What each column of `rows` adds to the mix by its trees and ridge (rows, columns), and what these say
    of an average hour: the ridge's centre.
    """
    weights = mix.weights[told, pollutant, ANCHORS.index(horizon), :, 0]
    average = _ridge(mix).centre[told][pollutant]
    values, usual = np.zeros(rows.shape), 0.0
    for weight, member in zip(weights.tolist(), mix.members, strict=True):
        if isinstance(member, Ridge):
            found, base = of_ridge(member, rows, told, pollutant, horizon)
        elif isinstance(member, Trees):
            found, base = of_trees(member, rows, told, pollutant, horizon, average)
        else:
            continue
        values[:, : found.shape[1]] += weight * found
        usual += weight * base
    return values, usual


@dataclass(frozen=True)
class Dependence:
    """How a forecast's change (ug/m3) goes with one column, everything else as it was: `values` are the
    column's at its quantiles .05 .25 .5 .75 .95, `changes` the mean change there; `weight` how much the
    column moves forecasts on average (the mean size of its Shapley value).
    """

    column: str
    weight: float
    values: tuple[float, ...]
    changes: tuple[float, ...]


def dependences(
    mix: Mix, inputs: ForecastInputs, origins: Int64, pollutant: int, horizon: int, most: int
) -> list[Dependence]:
    """Partial dependence (Friedman 2001) of what trees and ridge say in `mix`, on the `most` columns that
    weigh most, from all stations at `origins`.
    """
    told = inputs.told
    rows = PollutantRows(inputs, pollutant, origins).at(horizon)
    weights = mix.weights[told, pollutant, ANCHORS.index(horizon), :, 0].tolist()

    def change(some: Float32) -> float:
        total = 0.0
        for weight, member in zip(weights, mix.members, strict=True):
            if isinstance(member, Ridge | Trees):
                said = member.changes(some, told, pollutant, horizon)[:, -1]
                total += weight * float(said.mean()) * float(member.spread[horizon - 1, pollutant])
        return total

    moved = np.abs(_shared(mix, rows, told, pollutant, horizon)[0]).mean(axis=0)
    made = []
    for column in np.argsort(-moved, kind="stable")[:most].tolist():
        known = rows[np.isfinite(rows[:, column]), column]
        if not len(known):
            continue
        at = np.quantile(known, _SHOWN_AT).astype(np.float32)
        changes = []
        for value in at:
            altered = rows.copy()
            altered[:, column] = value
            changes.append(change(altered))
        made.append(
            Dependence(
                columns(told)[column].name, float(moved[column]), tuple(map(float, at)), tuple(changes)
            )
        )
    return made


def of_ridge(ridge: Ridge, rows: Float32, told: int, pollutant: int, horizon: int) -> tuple[Float64, float]:
    """Values (rows, columns), and what it says of the average hour."""
    weights = ridge.weights[told][pollutant, ANCHORS.index(horizon)].astype(np.float64)
    spread = float(ridge.spread[horizon - 1, pollutant])
    known = ridge.standard(rows, told, pollutant)
    return known * weights[:-1] * spread, float(weights[-1]) * spread


def of_trees(
    trees: Trees, rows: Float32, told: int, pollutant: int, horizon: int, average: Float32
) -> tuple[Float64, float]:
    """Values (rows, columns) beside `average` (columns,), and what the trees say of that."""
    serving = trees.of(told, pollutant, horizon)
    values = np.zeros(rows.shape)
    if serving is None:
        return values, 0.0
    beside = np.full(rows.shape[1], np.nan, np.float32)
    beside[: len(average)] = average
    # How far ahead it is asked is no reason.
    asked = [column.subject for column in columns(told)].index("horizon")
    beside[asked] = rows[0, asked]
    seen = np.arange(rows.shape[1])
    if serving.blind:
        seen = np.delete(seen, TOLD)
    forest = serving.forests[0]
    spread = float(trees.spread[horizon - 1, pollutant])
    values[:, seen] = shapley(forest, rows[:, seen], beside[seen]) * spread
    usual = float(forest.predict(beside[None, seen])[0]) * spread
    if serving.line is not None:
        of_line, base = of_ridge(serving.line, rows[:, seen], 0, pollutant, horizon)
        values[:, seen[: of_line.shape[1]]] += of_line
        usual += base
    return values, usual


@dataclass(frozen=True)
class _Paths:
    """All ways from a root of a forest to its leaves.

    Attributes:
        value: of each leaf, in the order of the trees.
        which: number of a leaf by its node.
        begins, lengths: of each leaf, its nodes among all `node`.
        node, left: the nodes on its way, by the columns that they look at, and whether it goes left there.
    """

    value: Float64
    which: Int64
    begins: Int64
    lengths: Int64
    node: Int64
    left: NDArray[np.bool_]


@lru_cache(maxsize=_FORESTS)
def _paths(forest: Forest) -> _Paths:
    ways: list[list[tuple[int, int, bool]]] = []
    leaves: list[int] = []

    def walk(node: int, way: tuple[tuple[int, bool], ...]) -> None:
        if forest.left[node] == node:
            ways.append(sorted((int(forest.feature[at]), at, left) for at, left in way))
            leaves.append(node)
            return
        walk(int(forest.left[node]), (*way, (node, True)))
        walk(int(forest.right[node]), (*way, (node, False)))

    for root in forest.roots.tolist():
        walk(root, ())
    lengths = np.array([len(way) for way in ways])
    which = np.zeros(len(forest.left), np.int64)
    which[leaves] = np.arange(len(leaves))
    _, node, left = (np.array(part) for part in zip(*(one for way in ways for one in way), strict=True))
    return _Paths(
        forest.value[leaves].astype(np.float64), which, np.cumsum(lengths) - lengths, lengths, node, left
    )


@cache
def _weights(most: int) -> tuple[Float64, Float64]:
    """How much of a leaf's value goes to each column that this row alone passes, and that the other alone
    does, by how many there are of either.
    """
    here, there = np.zeros((most + 1, most + 1)), np.zeros((most + 1, most + 1))
    for own in range(most + 1):
        for other in range(most + 1):
            every = factorial(own + other)
            if own:
                here[own, other] = factorial(own - 1) * factorial(other) / every
            if other:
                there[own, other] = factorial(own) * factorial(other - 1) / every
    return here, there


def shapley(forest: Forest, rows: Float32, beside: Float32) -> Float64:
    """Exact Shapley values (rows, columns) against `beside` (columns,): they sum to the difference."""
    found = np.zeros(rows.shape)
    if not len(forest.roots) or (forest.left[forest.roots] == forest.roots).all():
        return found
    there = _goes_left(forest, np.arange(len(forest.left)), beside[forest.feature])
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        found[start : start + len(some)] = _shared_out(forest, some, there)
    return found


def _goes_left(forest: Forest, node: Int64, seen: Float32) -> NDArray[np.bool_]:
    return np.where(np.isnan(seen), forest.missing_left[node], seen <= forest.threshold[node])


def _shared_out(forest: Forest, rows: Float32, there: NDArray[np.bool_]) -> Float64:
    """Values of a few `rows` beside one that goes left at the nodes of which `there` says so."""
    paths = _paths(forest)
    row, leaf = _reached(forest, rows, there)
    order = np.lexsort((paths.which[leaf], row))
    row, leaf = row[order], paths.which[leaf[order]]
    # All nodes on the way to each of them; then columns, which are passed where all of their nodes are.
    lengths = paths.lengths[leaf]
    pair = np.repeat(np.arange(len(leaf)), lengths)
    at = np.arange(len(pair)) + np.repeat(paths.begins[leaf] - (np.cumsum(lengths) - lengths), lengths)
    node, left = paths.node[at], paths.left[at]
    column = forest.feature[node]
    groups = np.flatnonzero((np.diff(pair, prepend=-1) != 0) | (np.diff(column, prepend=0) != 0))
    seen = rows[row[pair], column]
    own_way = np.logical_and.reduceat(_goes_left(forest, node, seen) == left, groups)
    other_way = np.logical_and.reduceat(there[node] == left, groups)
    pair, column = pair[groups], column[groups].astype(np.int64)
    # Neither comes to a leaf of which a column is passed by none, whichever are taken from which of the two.
    blocked = np.zeros(len(leaf), np.bool_)
    blocked[pair[~(own_way | other_way)]] = True
    kept = ~blocked[pair] & (own_way != other_way)
    pair, column, own_way = pair[kept], column[kept], own_way[kept]
    own, other = (np.bincount(pair[way], minlength=len(leaf)) for way in (own_way, ~own_way))
    gives, takes = _weights(int(max(own.max(initial=0), other.max(initial=0))))
    value = paths.value[leaf]
    share = np.where(own_way, (value * gives[own, other])[pair], -(value * takes[own, other])[pair])
    width = rows.shape[1]
    found = np.bincount(row[pair] * width + column, share, len(rows) * width).astype(np.float64)
    return found.reshape(len(rows), width)


def _reached(forest: Forest, rows: Float32, there: NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """Leaves that may be come to if at each node a row is followed, or the other one: rows and nodes."""
    row = np.repeat(np.arange(len(rows)), len(forest.roots))
    node = np.tile(forest.roots.astype(np.int64), len(rows))
    found: list[tuple[Int64, Int64]] = []
    while len(node):
        leaf = forest.left[node] == node
        found.append((row[leaf], node[leaf]))
        row, node = row[~leaf], node[~leaf]
        here = _goes_left(forest, node, rows[row, forest.feature[node]])
        left, right = here | there[node], ~(here & there[node])
        row = np.concatenate([row[left], row[right]])
        node = np.concatenate([forest.left[node[left]], forest.right[node[right]]]).astype(np.int64)
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


_WORDS: Final[Mapping[str, str]] = {
    "own": "what it was here in the last days", "neighbours": "the neighbours",
    "others": "the other pollutants", "wind": "the wind now", "heat": "warmth and damp",
    "pressure": "the pressure", "rain": "rain now", "clock": "the time of day and year",
    "horizon": "how far ahead it is", "wind to come": "the wind to come",
    "heat to come": "warmth and damp to come", "pressure to come": "the pressure to come",
    "rain to come": "rain to come", USUAL: "what is usual",
    UNSHARED: "what cannot be shared out (the neural network, zero as the floor)",
}  # fmt: skip


def sentence(one: ForecastExplanation, facts: Mapping[str, str] = MappingProxyType({})) -> str:
    """In words: which way, what moves it most and what goes against that; `facts`: what stands behind a
    subject.
    """
    shares = {str(name): by for name, by in one.shares.items()}
    told = telling(one.last, one.mean, shares, one.usual, one.unshared)
    way = f"{'rising' if told.change > 0 else 'falling'} by {amount(abs(told.change))} ug/m3"
    head = "about as now" if told.steady else way
    if not (told.along or told.against):
        return f"{head}: nothing stands out"

    def named(parts: Sequence[tuple[str, float]]) -> str:
        return ", ".join(
            f"{_WORDS[part]} {amount(by, '+')}{f' ({facts[part]})' if part in facts else ''}"
            for part, by in parts
        )

    rest = f"all else together {amount(told.rest, '+')}"
    if told.steady:
        return f"{head}: {named((*told.along, *told.against))}; {rest}"
    against = f"; against it: {named(told.against)}" if told.against else ""
    return f"{head}: {named(told.along) or 'many things a little'}{against}; {rest}"
