"""What is fitted without torch: how far values drift apart, the climate, ridge, trees, the mix and its
widths.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from joblib import Parallel, delayed
from scipy.optimize import nnls

from forecast.models import (
    ANCHORS,
    LONGEST,
    NEAR,
    TREE_QUANTILES,
    Climatology,
    ForecastInputs,
    ForecastModel,
    Mix,
    Ridge,
    Trees,
    filled,
    month_and_hour,
    ridge_level,
    rows_of,
    standard,
)  # fmt: skip
from forecast.panel import QUANTILES, Panel
from forecast.training.data import Material, known_weather
from forecast.training.trees import fit
from forecast.trees import Forest
from model.evaluation.progress import Progress
from schemas.arrays import Float32
from schemas.parameters import POLLUTANTS

_P = len(POLLUTANTS)


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

    def draw(
        self, pollutant: int, told: int, each: int, *, whole: bool = False
    ) -> dict[int, tuple[Float32, Float32]]:
        """About `each` rows for every anchor: rows and targets. `whole`: of hours without made gaps alone."""
        random = np.random.default_rng((self._seed, pollutant, told))
        drawn: dict[int, tuple[list[Float32], list[Float32]]] = {anchor: ([], []) for anchor in ANCHORS}
        some = self._inputs[:1] if whole else self._inputs
        stations = sum(len(copy.rows) for copy, *_ in some)
        for copy, *both in some:
            inputs = both[told]
            origin = inputs.features.origin(pollutant)
            last = inputs.features.last(pollutant, self._material.normalisation.typical[pollutant])
            for anchor in ANCHORS:
                count = min(max(each // stations, 1), len(self._material.learns))
                origins = np.sort(random.choice(self._material.learns, count, replace=False))
                rows = rows_of(inputs, pollutant, origin, origins, anchor)
                truth = self._material.target(copy.rows, origins, anchor, pollutant)
                target = ((truth - last[:, origins]) / self._material.spread[anchor - 1, pollutant]).reshape(
                    -1
                )
                known = np.isfinite(target)
                drawn[anchor][0].append(rows[known])
                drawn[anchor][1].append(target[known])
        return {anchor: (np.concatenate(a), np.concatenate(b)) for anchor, (a, b) in drawn.items()}


def tabular(
    material: Material, progress: Progress, *, each: int, trees: int, leaves: int, seed: int, jobs: int
) -> tuple[Trees, Ridge]:
    """Trees and ridge for each pollutant, without and with the weather to come."""
    by, spread = material.normalisation, material.spread
    rows = TrainingRows(material, seed)
    forests: dict[tuple[int, int], tuple[Forest, ...]] = {}
    near: dict[tuple[int, int], tuple[Forest, ...]] = {}
    per_told: list[tuple[Float32, Float32, Float32]] = []
    errors = np.zeros((2, _P, len(ANCHORS), 7), np.float32)
    step, steps = 0, 2 * _P
    for told in (0, 1):
        weights: list[Float32] = []
        centres: list[Float32] = []
        scales: list[Float32] = []
        for pollutant in range(_P):
            # A line cannot bend where something is missing: with made gaps it erred by a tenth more without.
            of_ridge = ridge_tables(
                rows.draw(pollutant, told, each, whole=True), by.typical[pollutant], errors[told, pollutant]
            )
            for kept, table in zip((weights, centres, scales), of_ridge, strict=True):
                kept.append(table)
            drawn = rows.draw(pollutant, told, each)
            for held, some, many, rate in (
                (forests, drawn, trees, 0.06),
                (near, {anchor: drawn[anchor] for anchor in drawn if anchor <= NEAR}, trees // 4, 0.12),
            ):
                every = np.concatenate([part[0] for part in some.values()])
                targets = np.concatenate([part[1] for part in some.values()])
                if len(targets) >= 1000:
                    held[told, pollutant] = tuple(
                        Parallel(n_jobs=jobs)(
                            delayed(fit)(
                                every, targets, level, trees=many, leaves=leaves, seed=seed, rate=rate
                            )
                            for level in (None, *TREE_QUANTILES)
                        )
                    )
            step += 1
            progress("trees", step, steps)
        per_told.append((np.stack(weights), np.stack(centres), np.stack(scales)))
    without, with_it = per_told
    ridge = Ridge(
        (without[0], with_it[0]),
        (without[1], with_it[1]),
        (without[2], with_it[2]),
        errors,
        by.typical,
        spread,
        filled=True,
    )
    return Trees(forests, by.typical, spread, near=near), ridge


def ridge_tables(
    drawn: Mapping[int, tuple[Float32, Float32]], typical: float, errors: Float32
) -> tuple[Float32, Float32, Float32]:
    """Weights (anchors, columns + 1), centre and scale of a pollutant; `errors` (anchors, 7) is filled."""
    some = {anchor: (filled(rows, typical), target) for anchor, (rows, target) in drawn.items()}
    every = np.concatenate([rows for rows, _ in some.values()])
    columns = every.shape[1]
    with np.errstate(all="ignore"):
        middle = np.nanmean(every, axis=0) if len(every) else np.zeros(columns)
        around = np.nanstd(every, axis=0) if len(every) else np.ones(columns)
    centre: Float32 = np.nan_to_num(middle).astype(np.float32)
    scale: Float32 = (np.nan_to_num(around) + 1e-3).astype(np.float32)
    table = np.zeros((len(ANCHORS), columns + 1), np.float32)
    for place, (rows, target) in enumerate(some.values()):
        if len(target) >= 50:
            table[place], errors[place] = _ridge(rows, target, centre, scale, typical)
    return table, centre, scale


def _ridge(
    rows: Float32, target: Float32, centre: Float32, scale: Float32, typical: float
) -> tuple[Float32, Float32]:
    level = ridge_level(rows, typical)
    known = standard(rows, centre, scale).astype(np.float64)
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    penalty = np.full(known.shape[1], 0.01 * len(known))
    penalty[-1] = 0.0
    weights = np.linalg.solve(known.T @ known + np.diag(penalty), known.T @ target)
    miss = (target - known @ weights) / level
    return weights.astype(np.float32), np.quantile(miss, QUANTILES).astype(np.float32)


def mixed(material: Material, members: Sequence[ForecastModel], every: int, progress: Progress) -> Mix:
    """Weights and widths by the weeks that check: of the network as it is, and with its gaps."""
    origins = material.checks[::every]
    weights = np.zeros((2, _P, len(ANCHORS), len(members)), np.float32)
    offsets = np.zeros((2, _P, len(ANCHORS), 7), np.float32)
    for told in (0, 1):
        said, truth = [], []
        for copy in material.copies[:2]:
            inputs = ForecastInputs(copy.shown, known_weather(copy, material.panel) if told else None)
            said.append([member.predict(inputs, origins, ANCHORS) for member in members])
            truth.append(
                np.stack([material.truth[copy.rows][:, origins + anchor] for anchor in ANCHORS], axis=2)
            )
        # The network as it is weighs the most by far in what people see: the gaps only keep the mix from
        # breaking.
        every_member = np.stack([np.concatenate(parts) for parts in zip(*said, strict=True)], axis=-2)
        every_truth = np.concatenate(truth)
        for pollutant in range(_P):
            for place in range(len(ANCHORS)):
                known = np.isfinite(every_truth[:, :, place, pollutant])
                if known.sum() < 50:
                    weights[told, pollutant, place] = 1 / len(members)
                    continue
                y = every_truth[:, :, place, pollutant][known]
                means = every_member[:, :, place, pollutant][known]
                found, _ = nnls(means[..., 7].astype(np.float64), y.astype(np.float64))
                # A fifth of the way to equal weights: few weeks choose, and they choose too sharply.
                share = found / max(found.sum(), 1e-9)
                share = 0.8 * share + 0.2 / len(members)
                weights[told, pollutant, place] = share
                blend = np.einsum("nmq,m->nq", means, share).astype(np.float32)
                width = np.maximum(blend[:, 6] - blend[:, 0], 1e-3)
                offsets[told, pollutant, place] = [
                    np.quantile((y - blend[:, q]) / width, level) for q, level in enumerate(QUANTILES)
                ]
        progress("mix", told + 1, 2)
    return Mix(tuple(members), weights, np.clip(offsets, -0.5, 0.5))
