"""Cross-validation of fusion heads: out-of-fold estimates under every mask pattern, and what follows from
them.

The folds hold whole (site, date, hour) groups, or whole sites. Principal components, scalings, familiarity
and heads are all made from a fold's training groups only. The interval tables of an exported bundle come
from here.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from camera.haze import haze
from model.bundle.bundle import EMBEDDING_SIZE, PATTERNS
from model.bundle.runtime import HeadOutput, pattern_index
from model.errors import TrainingError
from model.evaluation.evaluate import Mask, Windows, masked, noise_picture
from model.evaluation.progress import Progress
from model.training.batches import hour_circle, pool_frames
from model.training.config import TrainConfig
from model.training.finetune import fine_tune
from model.training.frames import INPUT_SIZE, FrameTable
from model.training.network import EnsembleHead, EnsembleOutputs, Familiarity
from model.training.train import Fitted, Projection, Split, fit
from schemas.arrays import Bool, Float32, Float64
from schemas.parameters import POLLUTANTS

__all__ = [
    "NOISE",
    "Fold",
    "Residuals",
    "build_ensemble",
    "cross_validate",
    "fold_predictor",
    "grouped_folds",
    "held_out_coverage",
    "site_folds",
    "windows_of",
]

#: {"aqi": {pattern: factor}, "sensors": {pattern: {parameter: factor}}}, as the manifest has them.
FactorTables = dict[str, dict[str, Any]]

LEVEL: Final = 0.9
#: What `model.evaluation.evaluate.masked` puts in for a picture of noise. The embedding is only a mark: every
#: fold sees that picture through its own backbone and projection.
NOISE: Final = (np.zeros(EMBEDDING_SIZE, np.float32), haze(noise_picture(INPUT_SIZE, INPUT_SIZE)))
#: Groups whose residuals make a pattern's own factor: with fewer, the quantile is all chance.
OWN_GROUPS: Final = 30
#: Components of h_I in which pictures are compared.
FAMILIAR_COMPONENTS: Final = 64


class Fold(NamedTuple):
    """One trained fold: the ensemble of its training groups, and the groups it did not see."""

    ensemble: EnsembleHead
    projection: Projection
    held_out: Bool  #: (G,)
    table: FrameTable  #: with the features of the fold's own backbone, where that was fine-tuned


def grouped_folds(groups: int, count: int, seed: int) -> NDArray[np.int64]:
    """Fold number of each group, at random, sizes equal to one."""
    return np.random.default_rng(seed).permutation(groups) % count


def site_folds(table: FrameTable) -> NDArray[np.int64]:
    """One fold a site."""
    return np.unique(np.array(table.site), return_inverse=True)[1].astype(np.int64)


def familiarity(
    embedding: Float32, group: NDArray[np.int64], site: NDArray[np.str_], train: Bool
) -> Familiarity:
    """What the training cameras looked like, from the embeddings of their frames.

    Prototypes are the mean and four unlike frames of every training window. The radius is 0.75 times the
    distance within which nine of ten training windows (pooled over one, four or all of their frames) find
    a prototype of another window of their site. Measured on india-nepal: closer, and known cameras lose
    their image; wider, and unknown cameras do harm (docs/model.md).

    Args:
        embedding: (F, 128) of all frames; group: (F,); site, train: (G,).
    """
    rng = np.random.default_rng(0)
    leading = embedding[:, :FAMILIAR_COMPONENTS]
    prototypes, owner, queries, asker = [], [], [], []
    for index in np.flatnonzero(train):
        frames = leading[group == index]
        if len(frames) == 0:
            continue
        chosen = [frames.mean(axis=0)]
        distance = ((frames - chosen[0]) ** 2).sum(axis=1)
        for _ in range(min(4, len(frames))):
            chosen.append(frames[distance.argmax()])
            distance = np.minimum(distance, ((frames - chosen[-1]) ** 2).sum(axis=1))
        prototypes += chosen
        owner += [index] * len(chosen)
        for size in (1, 4, len(frames)):
            queries.append(frames[rng.permutation(len(frames))[:size]].mean(axis=0))
            asker.append(index)
    known, asked = np.stack(prototypes), np.stack(queries)
    between = np.sqrt(((asked[:, None] - known[None]) ** 2).sum(axis=2))
    between[site[asker][:, None] != site[owner][None]] = np.inf
    between[np.array(asker)[:, None] == np.array(owner)[None]] = np.inf
    nearest = between.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    if len(nearest) == 0:
        raise TrainingError("every site has a single window: at least one site needs two to learn from")
    radius = 0.75 * float(np.quantile(nearest, 0.9))
    return Familiarity(torch.from_numpy(known.astype(np.float32)), radius, radius / 10)


def build_ensemble(fitted: Fitted, table: FrameTable, train: Bool) -> tuple[EnsembleHead, Projection]:
    """Ensemble of one fit whose members share their projection."""
    if len(fitted.projections) != 1:
        raise TrainingError(
            f"configuration {fitted.config.name} learns one projection a member; a bundle has one for all:"
            ' set members = 1 or projection = "pca"'
        )
    projection = fitted.projections[0]
    embedding = table.features @ projection.weight + projection.bias
    known = familiarity(embedding, table.group, np.array(table.site), train)
    ensemble = EnsembleHead(fitted.heads, known)
    ensemble.eval()
    return ensemble, projection


def cross_validate(
    table: FrameTable,
    config: TrainConfig,
    fold_of: NDArray[np.int64],
    progress: Progress,
    components: dict[bytes, Projection] | None = None,
) -> list[Fold]:
    """Train one ensemble a fold on the other folds' groups. `config.rows` must be windows or frames."""
    trains = [fold_of != number for number in range(int(fold_of.max()) + 1)]
    splits = [Split(train if config.rows == "windows" else train[table.group]) for train in trains]
    if config.fine_tune is None:
        tables = [table] * len(trains)
        fitted = fit(table, config, splits, progress, components=components)
    else:
        # Every fold has features of its own, so nothing can be stacked.
        tables, fitted = [], []
        for train, split in zip(trains, splits, strict=True):
            tables.append(fine_tune(table, config, train[table.group], progress).table)
            fitted += fit(tables[-1], config, [split], progress)
    return [
        Fold(*build_ensemble(one, seen, train), ~train, seen)
        for one, seen, train in zip(fitted, tables, trains, strict=True)
    ]


def windows_of(table: FrameTable, projection: Projection) -> Windows:
    """The table's groups as run-time windows, with the embeddings of one fold's projection."""
    groups = len(table.aqi)
    count = np.bincount(table.group, minlength=groups)
    return Windows(
        embedding=pool_frames(table.features @ projection.weight + projection.bias, table.group, groups),
        image_present=count > 0,
        haze=pool_frames(table.haze, table.group, groups),
        sensors=table.sensors,
        hour=table.hour,
        aqi=table.aqi.astype(np.float64),
        site=table.site,
        time=tuple("" for _ in range(groups)),
        frames_used=tuple(int(number) for number in count),
        frames_refused=(0,) * groups,
    )


def run_ensemble(ensemble: EnsembleHead, shown: Windows) -> EnsembleOutputs:
    """The torch ensemble on masked windows, with the feeds that the run time makes."""
    present = shown.image_present
    known = ~np.isnan(shown.sensors)
    there = present & ~np.isnan(shown.haze).any(axis=1)
    feeds = (
        np.where(present[:, None], shown.embedding, 0),
        present[:, None],
        np.where(there[:, None], shown.haze, 0),
        there[:, None],
        np.where(known, np.maximum(shown.sensors, 0), 0),
        known,
        hour_circle(shown.hour),
    )
    with torch.no_grad():
        outputs: EnsembleOutputs = ensemble(*(torch.from_numpy(feed.astype(np.float32)) for feed in feeds))
    return outputs


def fold_predictor(
    folds: Sequence[Fold], tables: FactorTables | None = None
) -> Callable[[Windows, NDArray[np.int64]], HeadOutput]:
    """`predict` for `evaluate.score_windows`: every row by the fold that did not see its group.

    Args:
        tables: interval tables as in the manifest; factors of 1 without.
    """
    embeddings = [windows_of(fold.table, fold.projection).embedding for fold in folds]
    noises = [fold.table.noise @ fold.projection.weight + fold.projection.bias for fold in folds]
    fold_of = np.zeros(len(folds[0].held_out), dtype=np.int64)
    for number, fold in enumerate(folds):
        fold_of[fold.held_out] = number

    def predict(shown: Windows, rows: NDArray[np.int64]) -> HeadOutput:
        parts = [np.zeros((len(rows), width), np.float32) for width in (1, 1, 6, 6)]
        # A picture of noise has its own haze; every fold sees it through its own projection.
        is_noise = shown.image_present & (shown.haze == NOISE[1]).all(axis=1)
        for number, fold in enumerate(folds):
            mine = np.flatnonzero(fold_of[rows] == number)
            if len(mine) == 0:
                continue
            embedding = np.where(is_noise[mine, None], noises[number], embeddings[number][rows[mine]])
            part = shown._replace(
                embedding=embedding.astype(np.float32),
                image_present=shown.image_present[mine],
                haze=shown.haze[mine],
                sensors=shown.sensors[mine],
                hour=shown.hour[mine],
            )
            for target, value in zip(parts, run_ensemble(fold.ensemble, part)[:4], strict=True):
                target[mine] = value.numpy()
        pattern = pattern_index(shown.image_present, ~np.isnan(shown.sensors))
        aqi, aqi_scale, log, log_scale = parts
        return with_intervals(aqi, aqi_scale, log, log_scale, pattern, tables)

    return predict


def with_intervals(
    aqi: Float32, aqi_scale: Float32, log: Float32, log_scale: Float32, pattern: NDArray[np.int64],
    tables: FactorTables | None,
) -> HeadOutput:  # fmt: skip
    """What `model.bundle.runtime.Head` makes of the graph's outputs."""
    factor, sensor_factor = np.ones(len(PATTERNS)), np.ones((len(PATTERNS), 6))
    if tables is not None:
        factor = np.array([tables["aqi"][name] for name in PATTERNS])
        rows = [[tables["sensors"][name][parameter] for parameter in POLLUTANTS] for name in PATTERNS]
        sensor_factor = np.array(rows)
    aqi = np.maximum(aqi, 0)
    half, log_half = factor[pattern, None] * aqi_scale, sensor_factor[pattern] * log_scale

    def positive(values: NDArray[np.floating]) -> Float32:
        return np.maximum(values, 0).astype(np.float32)

    return HeadOutput(
        positive(aqi)[:, 0], positive(aqi - half)[:, 0], positive(aqi + half)[:, 0],
        positive(np.expm1(log)), positive(np.expm1(log - log_half)), positive(np.expm1(log + log_half)),
        pattern,
    )  # fmt: skip


def calibration_masks() -> list[Mask]:
    """All 63 + 64 combinations of shown sensors and image."""
    masks = []
    for image in ("shown", "hidden"):
        for bits in range(64):
            keep = tuple(bool(bits >> column & 1) for column in range(6))
            if image == "shown" or any(keep):
                masks.append(Mask(f"{bits:06b} {image}", keep, image=image))
    return masks


class Residuals:
    """Out-of-fold residuals over scales, per mask pattern and group, for AQI and concentrations.

    Args:
        masks: what is hidden, mask by mask, from every group.
    """

    def __init__(self, table: FrameTable, folds: Sequence[Fold], masks: Sequence[Mask]) -> None:
        predict = fold_predictor(folds)
        windows = windows_of(table, folds[0].projection)
        self._aqi, self._sensors = _Ratios(), [_Ratios() for _ in POLLUTANTS]
        for mask in masks:
            shown, rows = masked(windows, mask, NOISE, seed=0)
            output = predict(shown, rows)
            scale = (output.aqi_hi - output.aqi).astype(np.float64)
            ratio = np.abs(windows.aqi[rows] - output.aqi) / np.maximum(scale, 1e-6)
            self._aqi.add(output.pattern, rows, ratio, np.ones(len(rows), dtype=bool))
            log_scale = np.log1p(output.sensors_hi) - np.log1p(output.sensors)
            log_error = np.abs(np.log1p(np.maximum(windows.sensors[rows], 0)) - np.log1p(output.sensors))
            for column, ratios in enumerate(self._sensors):
                hidden = np.isnan(shown.sensors[:, column]) & ~np.isnan(windows.sensors[rows, column])
                values = log_error[:, column] / np.maximum(log_scale[:, column], 1e-6)
                ratios.add(output.pattern, rows, values.astype(np.float64), hidden)

    def tables(self, groups: Bool | None = None) -> FactorTables:
        """Split-conformal factors per pattern.

        A pattern's rows of one group are not independent: the quantile is taken with each group weighing the
        same, at the level (1 + 1/n) * 0.9 for n groups. A pattern that fewer than `OWN_GROUPS` groups can
        show takes the factor of its family (`_family`), and a concentration that a family never has to fill
        that of all patterns together.

        Args:
            groups: (G,), from the residuals of these groups only (to test coverage on the others).
        """
        aqi, *sensors = [ratios.factors(groups) for ratios in (self._aqi, *self._sensors)]
        return {
            "aqi": dict(zip(PATTERNS, aqi, strict=True)),
            "sensors": {
                name: dict(zip(POLLUTANTS, (factors[index] for factors in sensors), strict=True))
                for index, name in enumerate(PATTERNS)
            },
        }


def held_out_coverage(
    table: FrameTable, folds: Sequence[Fold], residuals: Residuals, masks: Sequence[Mask], parts: int = 10
) -> dict[str, float]:
    """Coverage of the AQI by 90 % intervals whose factors come from other groups, per mask.

    The groups are cut into `parts`; each part is judged with factors from all others.
    """
    predict = fold_predictor(folds)
    windows = windows_of(table, folds[0].projection)
    part_of = grouped_folds(len(table.aqi), min(parts, len(table.aqi)), seed=1)
    tables = [residuals.tables(part_of != part) for part in range(int(part_of.max()) + 1)]
    factors = np.array([[one["aqi"][name] for name in PATTERNS] for one in tables])
    coverage = {}
    for number, mask in enumerate(masks):
        shown, rows = masked(windows, mask, NOISE, seed=1000 + number)
        output = predict(shown, rows)
        half = factors[part_of[rows], output.pattern] * (output.aqi_hi - output.aqi)
        inside = np.abs(windows.aqi[rows] - output.aqi) <= half
        coverage[mask.name] = round(float(inside.mean()), 4)
    return coverage


class _Family(NamedTuple):
    """What decides most of a pattern's uncertainty."""

    particles: int  #: how many are shown
    gases: bool  #: whether any is
    image: bool


def _family(pattern: int) -> _Family:
    shown = pattern + 1
    return _Family((shown & 3).bit_count(), bool(shown & 0b111100), bool(shown & 1 << len(POLLUTANTS)))


_RatioPart = tuple[Float64, NDArray[np.int64]]


class _Ratios:
    """Residuals over scales by pattern, each with its group."""

    def __init__(self) -> None:
        self._parts: dict[int, list[_RatioPart]] = {}

    def add(self, pattern: NDArray[np.int64], group: NDArray[np.int64], ratio: Float64, chosen: Bool) -> None:
        for index in np.unique(pattern[chosen]):
            mine = chosen & (pattern == index)
            self._parts.setdefault(int(index), []).append((ratio[mine], group[mine]))

    def factors(self, groups: Bool | None) -> list[float]:
        """One factor for each of `PATTERNS`, from the groups chosen."""
        chosen: dict[int, list[_RatioPart]] = {}
        families: dict[tuple[int, bool, bool], list[_RatioPart]] = {}
        for index, parts in self._parts.items():
            chosen[index] = parts if groups is None else [(r[groups[g]], g[groups[g]]) for r, g in parts]
            families.setdefault(_family(index), []).extend(chosen[index])
        whole = _quantile([part for parts in chosen.values() for part in parts], 1.0)
        shared = {family: _quantile(parts, whole) for family, parts in families.items()}
        found = []
        for index in range(len(PATTERNS)):
            otherwise, own = shared.get(_family(index), whole), chosen.get(index, [])
            enough = len(set().union(*(part[1].tolist() for part in own))) >= OWN_GROUPS
            found.append(_quantile(own, otherwise) if enough else otherwise)
        return found


def _quantile(parts: list[_RatioPart], otherwise: float) -> float:
    values = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0)
    groups = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, np.int64)
    if len(values) == 0:
        return otherwise
    unique, inverse, count = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1.0 / count[inverse]
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    level = min(1.0, LEVEL * (1 + 1 / len(unique)))
    place = min(int(np.searchsorted(reached, level - 1e-9)), len(values) - 1)
    return round(float(values[order][place]), 4)
