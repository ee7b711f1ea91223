"""What is fitted without torch: how far values drift apart, the climate, ridge, trees, the mix and its
widths.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Final, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import nnls

from forecast.mix import MIXED, Mix, weighed
from forecast.models import (
    ANCHORS,
    FIRST,
    LONGEST,
    MIDDLE,
    NEAR,
    TREE_QUANTILES,
    Climatology,
    ForecastInputs,
    ForecastModel,
    PollutantRows,
    Ridge,
    Trees,
    filled,
    linear,
    month_and_hour,
    ridge_level,
    standard,
)
from forecast.panel import QUANTILES, Panel
from forecast.training.data import Material, known_weather
from forecast.training.trees import Growth, fit
from forecast.trees import Forest
from model.evaluation.progress import Progress
from schemas.arrays import Float32
from schemas.parameters import POLLUTANTS

_P = len(POLLUTANTS)
_MEDIAN: Final = QUANTILES.index(0.5)
_LEVELS: Final = np.array(QUANTILES)
#: Rows from which trees are worth it.
_FEW: Final = 1000
#: Outcomes in the weeks that check from which they may choose.
_FEW_CHECKS: Final = 50
#: Scales from the centre beyond which a line is not drawn further.
FURTHEST: Final = 8.0
#: Anchors of each set of trees.
_FIRST: Final = [anchor for anchor in ANCHORS if anchor <= FIRST]
_NEAR: Final = [anchor for anchor in ANCHORS if anchor <= NEAR]
_MIDDLE: Final = [anchor for anchor in ANCHORS if NEAR < anchor <= MIDDLE]
_FAR: Final = [anchor for anchor in ANCHORS if anchor > MIDDLE]


def drift(panel: Panel) -> Float32:
    """Quantiles and mean (0) of how two values so many hours apart differ: (LONGEST, pollutants, 8)."""
    table = np.zeros((LONGEST, _P, 8), np.float32)
    for pollutant in range(_P):
        series = panel.values[..., pollutant]
        for hours in range(1, min(LONGEST, panel.hours - 1) + 1):
            miss = (series[:, hours:] - series[:, :-hours])[:, ::3]
            miss = miss[np.isfinite(miss)]
            if len(miss) >= 20:
                table[hours - 1, pollutant, :7] = np.quantile(miss, QUANTILES)
    return table


def climate(panel: Panel) -> Climatology:
    """Of each month and hour; where one was never measured, of all the hours of the year."""
    table = np.zeros((12, 24, _P, 8), np.float32)
    months, hours = zip(
        *(month_and_hour(panel.begins + np.arange(panel.hours) + round(o)) for o in panel.offsets),
        strict=True,
    )
    month, hour = np.stack(months), np.stack(hours)
    for pollutant in range(_P):
        series = panel.values[..., pollutant]
        known = np.isfinite(series)
        for m in range(12):
            for h in range(24):
                values = series[known & (month == m) & (hour == h)]
                values = values if len(values) >= 20 else series[known]
                if len(values):
                    table[m, h, pollutant] = [*np.quantile(values, QUANTILES), values.mean()]
    return Climatology(table)


class TrainingRows:
    """TrainingRows of a pollutant, drawn at random from every copy, with their horizon and their target in
    spreads.
    """

    def __init__(self, material: Material, seed: int) -> None:
        self._material, self._seed = material, seed
        self._inputs = [
            (
                copy,
                ForecastInputs(copy.shown),
                ForecastInputs(copy.shown, known_weather(copy, material.panel)),
            )
            for copy in material.copies
        ]
        for _, without, with_it in self._inputs:
            with_it._features = without.features

    @property
    def typical(self) -> tuple[float, ...]:
        """ug/m3 of each pollutant."""
        return self._material.normalisation.typical

    def draw(
        self, pollutant: int, told: int, each: int, anchors: Sequence[int], *, whole: bool = False
    ) -> dict[int, tuple[Float32, Float32]]:
        """About `each` rows for every anchor: rows and targets. `whole`: of hours without made gaps alone."""
        random = np.random.default_rng((self._seed, pollutant, told, *anchors))
        drawn: dict[int, tuple[list[Float32], list[Float32]]] = {anchor: ([], []) for anchor in anchors}
        some = [one for one in self._inputs if one[0].whole or not whole]
        shares = sum(copy.share for copy, *_ in some)
        for copy, *both in some:
            inputs = both[told]
            last = inputs.features.last(pollutant, self._material.normalisation.typical[pollutant])
            wanted = max(round(each * copy.share / shares / len(copy.rows)), 1)
            count = min(wanted, len(self._material.learns))
            for anchor in anchors:
                origins = np.sort(random.choice(self._material.learns, count, replace=False))
                rows = PollutantRows(inputs, pollutant, origins).at(anchor)
                truth = self._material.target(copy.rows, origins, anchor, pollutant)
                target = ((truth - last[:, origins]) / self._material.spread[anchor - 1, pollutant]).reshape(
                    -1
                )
                known = np.isfinite(target)
                drawn[anchor][0].append(rows[known])
                drawn[anchor][1].append(target[known])
        return {anchor: (np.concatenate(a), np.concatenate(b)) for anchor, (a, b) in drawn.items()}


@dataclass(frozen=True)
class TablesPlan:
    """How much trees and ridge are shown: rows of each anchor; trees, leaves; fits at a time.

    For the first day it is three times as many rows. Far ahead more than half of the trees learn the noise.
    """

    rows: int = 10_000
    trees: int = 150
    leaves: int = 31
    seed: int = 0
    jobs: int = 1


class RidgeTables(NamedTuple):
    """Weights (anchors, columns + 1), centre and scale (columns,), errors (anchors, 7) of a pollutant."""

    weights: Float32
    centre: Float32
    scale: Float32
    errors: Float32


class PollutantTables(NamedTuple):
    """What was learned of one pollutant, without or with the weather to come; no trees where it was hardly
    ever measured, and none for the first hours with the weather to come.
    """

    ridge: RidgeTables
    far: tuple[Forest, ...]
    first: tuple[Forest, ...]
    near: tuple[Forest, ...]
    middle: tuple[Forest, ...]


def tabular(material: Material, plan: TablesPlan, progress: Progress) -> tuple[Trees, Ridge]:
    """Trees and ridge for each pollutant, without and with the weather to come."""
    rows = TrainingRows(material, plan.seed)
    found: dict[tuple[int, int], PollutantTables] = {}
    for told in (0, 1):
        for pollutant in range(_P):
            found[told, pollutant] = of_pollutant(rows, pollutant, told, plan)
            progress("trees", len(found), 2 * _P)
    return assembled(found, material)


def of_pollutant(rows: "TrainingRows", pollutant: int, told: int, plan: TablesPlan) -> PollutantTables:
    """Ridge and trees of one pollutant."""
    # A line cannot bend where something is missing: with made gaps it erred by a tenth more without.
    of_ridge = ridge_tables(
        rows.draw(pollutant, told, 2 * plan.rows, ANCHORS, whole=True), rows.typical[pollutant]
    )
    return PollutantTables(
        of_ridge,
        _forests(rows.draw(pollutant, told, plan.rows, _FAR), plan, plan.trees // 2),
        () if told else first_forests(rows, pollutant, plan),
        () if told else near_forests(rows, pollutant, of_ridge, plan),
        _forests(rows.draw(pollutant, told, 3 * plan.rows, _MIDDLE), plan, plan.trees),
    )


class _GrownOn(NamedTuple):
    """Rows, what is to be learned of them, and how trees grow on it."""

    rows: Float32
    target: Float32
    growth: Growth


def first_forests(rows: "TrainingRows", pollutant: int, plan: TablesPlan) -> tuple[Forest, ...]:
    """For the next hour, without the weather to come. Its mean is grown slowly, by small shares of trees that
    ask few of the columns, from twice as many rows: such a forest is as good as several, averaged.
    """
    slowly = Growth(2 * plan.trees, plan.leaves * 3 // 2, rate=0.04, columns=0.1, least=100, doubt=30.0)
    more = _together(rows.draw(pollutant, 0, 18 * plan.rows, _FIRST))
    return _forests(rows.draw(pollutant, 0, 9 * plan.rows, _FIRST), plan, plan.trees, _GrownOn(*more, slowly))


def near_forests(
    rows: "TrainingRows", pollutant: int, line: RidgeTables, plan: TablesPlan
) -> tuple[Forest, ...]:
    """For two and three hours, without the weather to come; the mean is that of what `line` leaves over."""
    drawn = rows.draw(pollutant, 0, 3 * plan.rows, _NEAR)
    left = [
        target
        - linear(
            standard(filled(some, rows.typical[pollutant]), line.centre, line.scale, FURTHEST),
            line.weights[ANCHORS.index(anchor)],
        )
        for anchor, (some, target) in drawn.items()
    ]
    usual = Growth(plan.trees, plan.leaves)
    return _forests(drawn, plan, plan.trees, _GrownOn(_together(drawn)[0], np.concatenate(left), usual))


def _together(drawn: Mapping[int, tuple[Float32, Float32]]) -> tuple[Float32, Float32]:
    """Rows and targets of all anchors."""
    return (
        np.concatenate([rows for rows, _ in drawn.values()]),
        np.concatenate([targets for _, targets in drawn.values()]),
    )


def _forests(
    drawn: Mapping[int, tuple[Float32, Float32]],
    plan: TablesPlan,
    trees: int,
    of_mean: _GrownOn | None = None,
) -> tuple[Forest, ...]:
    """The mean (by what it is shown, where that differs) and the `TREE_QUANTILES`."""
    shown = _GrownOn(*_together(drawn), Growth(trees, plan.leaves))
    if len(shown.target) < _FEW:
        return ()
    each = [(None, of_mean or shown), *((level, shown) for level in TREE_QUANTILES)]
    return tuple(
        Parallel(n_jobs=plan.jobs)(
            delayed(fit)(one.rows, one.target, level, one.growth, plan.seed) for level, one in each
        )
    )


def assembled(found: Mapping[tuple[int, int], PollutantTables], material: Material) -> tuple[Trees, Ridge]:
    """The models, from what was learned of each (told, pollutant)."""
    by, spread = material.normalisation, material.spread
    weights, centre, scale, errors = (
        [np.stack([getattr(found[told, p].ridge, part) for p in range(_P)]) for told in (0, 1)]
        for part in RidgeTables._fields
    )
    ridge = Ridge(
        (weights[0], weights[1]), (centre[0], centre[1]), (scale[0], scale[1]), np.stack(errors),
        by.typical, spread, filled=True, furthest=FURTHEST,
    )  # fmt: skip
    far, first, near, middle = (
        {key: getattr(one, part) for key, one in found.items() if getattr(one, part)}
        for part in ("far", "first", "near", "middle")
    )
    return Trees(far, by.typical, spread, first=first, near=near, middle=middle, near_line=ridge), ridge


def ridge_tables(drawn: Mapping[int, tuple[Float32, Float32]], typical: float) -> RidgeTables:
    """Of a pollutant, from the rows and targets of each anchor."""
    some = {anchor: (filled(rows, typical), target) for anchor, (rows, target) in drawn.items()}
    every = np.concatenate([rows for rows, _ in some.values()])
    columns = every.shape[1]
    with warnings.catch_warnings():  # of what nobody measured there is no mean
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.nanmean(every, axis=0) if len(every) else np.zeros(columns)
        around = np.nanstd(every, axis=0) if len(every) else np.ones(columns)
    centre: Float32 = np.nan_to_num(middle).astype(np.float32)
    scale: Float32 = (np.nan_to_num(around) + 1e-3).astype(np.float32)
    table = np.zeros((len(ANCHORS), columns + 1), np.float32)
    errors = np.zeros((len(ANCHORS), len(QUANTILES)), np.float32)
    for place, (rows, target) in enumerate(some.values()):
        if len(target) >= 50:
            table[place], errors[place] = _ridge(rows, target, centre, scale, typical)
    return RidgeTables(table, centre, scale, errors)


def _ridge(
    rows: Float32, target: Float32, centre: Float32, scale: Float32, typical: float
) -> tuple[Float32, Float32]:
    level = ridge_level(rows, typical)
    known = standard(rows, centre, scale, FURTHEST).astype(np.float64)
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    penalty = np.full(known.shape[1], 0.01 * len(known))
    penalty[-1] = 0.0
    weights = np.linalg.solve(known.T @ known + np.diag(penalty), known.T @ target)
    miss = (target - known @ weights) / level
    return weights.astype(np.float32), np.quantile(miss, QUANTILES).astype(np.float32)


def mixed(material: Material, members: Sequence[ForecastModel], every: int, progress: Progress) -> Mix:
    """Weights and widths by the weeks that check: of half the network as it is, and of all with gaps.

    The last member is persistence.
    """
    origins = material.checks[::every]
    weights = np.zeros((2, _P, len(ANCHORS), len(members), len(MIXED)), np.float32)
    offsets = np.zeros((2, _P, len(ANCHORS), 7), np.float32)
    shown = [copy for place, copy in enumerate(material.copies) if place == 1 or (place > 1 and copy.whole)]
    for told in (0, 1):
        said, truth = [], []
        for copy in shown:
            inputs = ForecastInputs(copy.shown, known_weather(copy, material.panel) if told else None)
            said.append([member.predict(inputs, origins, ANCHORS) for member in members])
            truth.append(
                np.stack([material.truth[copy.rows][:, origins + anchor] for anchor in ANCHORS], axis=2)
            )
        every_member = np.stack([np.concatenate(parts) for parts in zip(*said, strict=True)], axis=-2)
        every_truth = np.concatenate(truth)
        known = np.isfinite(every_truth)
        for pollutant, place in product(range(_P), range(len(ANCHORS))):
            some = known[:, :, place, pollutant]
            weights[told, pollutant, place] = (
                even(len(members))[:, None]
                if some.sum() < _FEW_CHECKS
                else shares(
                    every_member[:, :, place, pollutant][some].astype(np.float64),
                    every_truth[:, :, place, pollutant][some].astype(np.float64),
                )
            )
        weights[told] = agreeing(weights[told])
        for pollutant in range(_P):
            for place in range(len(ANCHORS)):
                some = known[:, :, place, pollutant]
                if some.sum() < _FEW_CHECKS:
                    continue
                y = every_truth[:, :, place, pollutant][some].astype(np.float64)
                each = every_member[:, :, place, pollutant][some]
                parts = [weighed(each[:, m], weights[told, pollutant, place, m]) for m in range(len(members))]
                blend = np.sum(parts, axis=0)
                width = np.maximum(blend[:, 6] - blend[:, 0], 1e-3)
                offsets[told, pollutant, place] = [
                    np.quantile((y - blend[:, q]) / width, level) for q, level in enumerate(QUANTILES)
                ]
        progress("mix", told + 1, 2)
    return Mix(tuple(members), weights, np.clip(offsets, -0.5, 0.5))


def even(members: int) -> NDArray[np.float64]:
    """Equal weights, persistence (the last member) apart."""
    weights = np.full(members, 1 / max(members - 1, 1))
    weights[-1] = 0.0
    return weights


def agreeing(weights: Float32) -> Float32:
    """Weights (pollutants, anchors, members, `MIXED`) of which each anchor's is the mean with the ones before
    and after it: what is best in the weeks that check jumps from hour to hour, what is best does not.
    """
    ends = np.concatenate([weights[:, :1], weights, weights[:, -1:]], axis=1)
    return (ends[:, :-2] + ends[:, 1:-1] + ends[:, 2:]) / np.float32(3)


def shares(said: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (members, `MIXED`) from what members said (n, members, 8) and what came (n,)."""
    alike = even(said.shape[1])

    def tempered(found: NDArray[np.float64]) -> NDArray[np.float64]:
        # Some of the way to equal weights: few weeks choose, and they choose too sharply.
        return 0.8 * found + 0.2 * alike

    found, _ = nnls(said[..., 7], y)
    of_mean = found / found.sum() if found.sum() > 0 else alike
    of_median = _least(lambda share: np.abs(said[..., _MEDIAN] @ share - y).mean(), of_mean)
    median = tempered(of_median)
    middle = said[..., _MEDIAN] @ median
    around = said[..., :7] - said[..., _MEDIAN, None]

    def pinball(share: NDArray[np.float64]) -> float:
        miss = (y - middle)[:, None] - np.einsum("nmq,m->nq", around, share)
        return float(np.maximum(_LEVELS * miss, (_LEVELS - 1) * miss).mean())

    return np.stack([tempered(of_mean), median, tempered(_least(pinball, of_median))], axis=-1)


def _least(loss: Callable[[NDArray[np.float64]], float], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares that sum to 1, better than `start`: weight is handed from one to another while that helps."""
    share, best = start.copy(), loss(start)
    for step in (0.2, 0.05):
        better = True
        while better:
            better = False
            for one, other in permutations(range(len(share)), 2):
                given = min(step, share[one])
                if given < 1e-9:
                    continue
                tried = share.copy()
                tried[one] -= given
                tried[other] += given
                found = loss(tried)
                if found < best - 1e-9:
                    share, best, better = tried, found, True
    return share
