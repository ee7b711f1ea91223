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

from model.bundle import PATTERNS
from model.errors import TrainingError
from model.evaluate import Mask, Windows, masked
from model.network import EnsembleHead, EnsembleOutputs, Familiarity
from model.runtime import HeadOutput, pattern_index
from model.train import Fitted, FrameTable, Projection, Split, TrainConfig, fit, hour_circle, pool_frames
from schemas.parameters import PARAMETERS

__all__ = [
    "Fold",
    "build_ensemble",
    "cross_validate",
    "fold_predictor",
    "grouped_folds",
    "interval_tables",
    "site_folds",
    "windows_of",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Progress = Callable[[str, int, int], None]
#: {"aqi": {pattern: factor}, "sensors": {pattern: {parameter: factor}}}, as the manifest has them.
Tables = dict[str, dict[str, Any]]

LEVEL: Final = 0.9
#: Components of h_I in which pictures are compared.
FAMILIAR_COMPONENTS: Final = 64


class Fold(NamedTuple):
    """One trained fold: the ensemble of its training groups, and the groups it did not see."""

    ensemble: EnsembleHead
    projection: Projection
    held_out: Bool  #: (G,)


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
    splits = []
    for number in range(int(fold_of.max()) + 1):
        groups = fold_of != number
        splits.append(Split(groups if config.rows == "windows" else groups[table.group]))
    fitted = fit(table, config, splits, progress, components=components)
    folds = []
    for number, one in enumerate(fitted):
        train = fold_of != number
        folds.append(Fold(*build_ensemble(one, table, train), ~train))
    return folds


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
    table: FrameTable,
    folds: Sequence[Fold],
    noise: tuple[Float32, Float32],
    tables: Tables | None = None,
) -> Callable[[Windows, NDArray[np.int64]], HeadOutput]:
    """`predict` for `model.evaluate.score_windows`: every row by the fold that did not see its group.

    Args:
        noise: pooled backbone features (C,) and haze (20,) of a picture of noise.
        tables: interval tables as in the manifest; factors of 1 without.
    """
    embeddings = [windows_of(table, fold.projection).embedding for fold in folds]
    noises = [noise[0] @ fold.projection.weight + fold.projection.bias for fold in folds]
    fold_of = np.zeros(len(table.aqi), dtype=np.int64)
    for number, fold in enumerate(folds):
        fold_of[fold.held_out] = number

    def predict(shown: Windows, rows: NDArray[np.int64]) -> HeadOutput:
        parts = [np.zeros((len(rows), width), np.float32) for width in (1, 1, 6, 6)]
        # A picture of noise has its own haze; every fold sees it through its own projection.
        is_noise = shown.image_present & (shown.haze == noise[1]).all(axis=1)
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
    tables: Tables | None,
) -> HeadOutput:  # fmt: skip
    """What `model.runtime.Head` makes of the graph's outputs."""
    factor, sensor_factor = np.ones(len(PATTERNS)), np.ones((len(PATTERNS), 6))
    if tables is not None:
        factor = np.array([tables["aqi"][name] for name in PATTERNS])
        rows = [[tables["sensors"][name][parameter] for parameter in PARAMETERS] for name in PATTERNS]
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


def interval_tables(
    table: FrameTable, folds: Sequence[Fold], masks: Sequence[Mask], groups: Bool | None = None
) -> Tables:
    """Split-conformal factors per pattern from out-of-fold residuals over scales.

    A pattern's rows of one group are not independent: the quantile is taken with each group weighing the
    same, at the level (1 + 1/n) * 0.9 for n groups. A concentration that a pattern never has to fill takes
    the factor of all patterns together.

    Args:
        groups: use the residuals of these groups only (to test coverage on the others).
    """
    dummy = (np.zeros(table.features.shape[1], np.float32), np.full(20, -1, np.float32))
    predict = fold_predictor(table, folds, dummy)  # no calibration mask shows noise
    windows = windows_of(table, folds[0].projection)
    chosen = np.ones(len(table.aqi), dtype=bool) if groups is None else groups
    ratios: dict[str, list[tuple[Float64, NDArray[np.int64]]]] = {name: [] for name in PATTERNS}
    hidden: dict[tuple[str, str], list[tuple[Float64, NDArray[np.int64]]]] = {}
    for mask in masks:
        shown, rows = masked(windows, mask, dummy, seed=0)
        output = predict(shown, rows)
        scale = (output.aqi_hi - output.aqi).astype(np.float64)
        ratio = np.abs(windows.aqi[rows] - output.aqi) / np.maximum(scale, 1e-6)
        log_scale = np.log1p(output.sensors_hi) - np.log1p(output.sensors)
        log_error = np.abs(np.log1p(np.maximum(windows.sensors[rows], 0)) - np.log1p(output.sensors))
        for index, name in enumerate(PATTERNS):
            mine = (output.pattern == index) & chosen[rows]
            ratios[name].append((ratio[mine], rows[mine]))
            for column, parameter in enumerate(PARAMETERS):
                known = mine & np.isnan(shown.sensors[:, column]) & ~np.isnan(windows.sensors[rows, column])
                values = log_error[known, column] / np.maximum(log_scale[known, column], 1e-6)
                hidden.setdefault((name, parameter), []).append((values.astype(np.float64), rows[known]))
    overall = {
        parameter: _quantile([part for name in PATTERNS for part in hidden[name, parameter]])
        for parameter in PARAMETERS
    }
    whole = _quantile([part for parts in ratios.values() for part in parts])
    return {
        "aqi": {name: _quantile(ratios[name], whole) for name in PATTERNS},
        "sensors": {
            name: {
                parameter: _quantile(hidden[name, parameter], overall[parameter]) for parameter in PARAMETERS
            }
            for name in PATTERNS
        },
    }


def _quantile(parts: list[tuple[Float64, NDArray[np.int64]]], otherwise: float = 1.0) -> float:
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
