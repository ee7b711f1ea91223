"""Training fusion heads on cached backbone features (torch; the `train` extra).

A frozen backbone sees every frame once; its pooled features are kept on disk. After that training is a
matter of seconds: all members of an ensemble and all folds of a cross-validation are stacked and trained as
one batched network (`torch.func.vmap`), each with its own random masks and its own training rows.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap  # type: ignore[attr-defined]

from model.bundle.bundle import EMBEDDING_SIZE
from model.errors import TrainingError
from model.evaluation.progress import Progress
from model.training.config import TrainConfig
from model.training.frames import FrameTable
from model.training.network import AQI_UNIT, SENSORS, FusionHead, HeadInputs, HeadOutputs, Scaling
from schemas.arrays import Bool, Float32

__all__ = [
    "Fitted",
    "Projection",
    "Split",
    "fit",
    "pool_frames",
    "principal_components",
]


#: Random poolings of each window's frames that training draws from.
_DRAWS: Final = 32


class Split(NamedTuple):
    """Which rows (frames or groups, as the configuration says) train and which validate."""

    train: Bool
    validate: Bool | None = None


class Projection(NamedTuple):
    """h_I = features @ weight + bias."""

    weight: Float32  #: (C, 128)
    bias: Float32  #: (128,)


class Fitted(NamedTuple):
    """The trained members of one split."""

    config: TrainConfig
    heads: list[FusionHead]
    projections: list[Projection]  #: one for all members (pca) or one each (learned)
    validation_loss: float  #: NaN without validation rows

    def projection(self, member: int) -> Projection:
        return self.projections[member if len(self.projections) > 1 else 0]


def principal_components(features: Float32, size: int) -> Projection:
    """Principal components of (F, C) standardised features, in order of falling variance; signs fixed.

    Standard deviations are raised by a hundredth of the largest, so that a channel that hardly ever fires
    does not come to dominate. One factor for all components brings the mean variance of the first 64 to 1.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    std += 0.01 * std.max()
    standard = (features.astype(np.float64) - mean) / std
    variances, vectors = np.linalg.eigh(standard.T @ standard / len(features))
    weight = vectors[:, ::-1][:, :size]
    weight = weight * np.sign(weight[np.abs(weight).argmax(axis=0), np.arange(weight.shape[1])])
    weight = weight / std[:, None] / np.sqrt(variances[::-1][:64].mean())
    return Projection(weight.astype(np.float32), (-mean @ weight).astype(np.float32))


class _CachedNet(nn.Module):
    """Head, and the projection where it is learned, on pooled backbone features."""

    def __init__(self, config: TrainConfig, channels: int, scaling: Scaling) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, EMBEDDING_SIZE) if config.projection == "learned" else None
        self.head = FusionHead(config.head, scaling)

    def forward(self, x: HeadInputs) -> HeadOutputs:
        if self.projection is not None:
            x = x._replace(embedding=self.projection(x.embedding))
        outputs: HeadOutputs = self.head(x)
        return outputs


def _scaling(
    table: FrameTable, rows: Bool, pooled_haze: Float32, pooled_embedding: Float32, groups: Bool
) -> Scaling:
    """Standardisation from the training groups only."""
    sensors = np.maximum(table.sensors[groups], 0)
    if np.isnan(sensors).all():
        raise TrainingError("no concentration in any training group: there is nothing to learn from")
    if not rows.any():
        raise TrainingError("no usable frame in any training group: there is no picture to learn from")

    def moments(values: Float32) -> tuple[Tensor, Tensor]:
        known = ~np.isnan(values).all(axis=0)
        mean, std = np.zeros(values.shape[1]), np.ones(values.shape[1])
        mean[known] = np.nanmean(values[:, known], axis=0)
        std[known] = np.nanstd(values[:, known], axis=0) + 1e-3
        return torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)

    log_mean, log_std = moments(np.log1p(sensors))
    linear_mean, linear_std = moments(sensors)
    haze_mean, haze_std = moments(pooled_haze[rows])
    if pooled_embedding.shape[1] == EMBEDDING_SIZE:
        embedding_mean, spread = moments(pooled_embedding[rows])
        embedding_std = spread[:8].mean()[None]
    else:
        embedding_mean, embedding_std = torch.zeros(EMBEDDING_SIZE), torch.ones(1)
    return Scaling(
        log_mean, log_std, linear_mean, linear_std, haze_mean, haze_std, embedding_mean, embedding_std,
        torch.tensor([table.aqi[groups].mean() / AQI_UNIT]),
    )  # fmt: skip


def pool_frames(values: Float32, group: NDArray[np.int64], groups: int) -> Float32:
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, values)
    count = np.maximum(np.bincount(group, minlength=groups), 1)
    return (total / count[:, None]).astype(np.float32)


def _draws(group: NDArray[np.int64], groups: int, rng: np.random.Generator) -> list[list[NDArray[np.int64]]]:
    """Per group, `_DRAWS` choices of its frames: draw 0 takes all of them, the others a random few."""
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=groups))
    chosen = []
    for frames in np.split(order, ends[:-1]):
        sizes = [
            len(frames) if draw == 0 else min(len(frames), int(rng.choice([1, 2, 4, 8, 16, 80])))
            for draw in range(_DRAWS)
        ]
        chosen.append([rng.choice(frames, size, replace=False) if len(frames) else frames for size in sizes])
    return chosen


def _drawn(values: Float32, draws: list[list[NDArray[np.int64]]]) -> Float32:
    """(draws, G, W) means of (F, W); 0 for a group without frames."""
    means = np.zeros((_DRAWS, len(draws), values.shape[1]), dtype=np.float32)
    for index, choices in enumerate(draws):
        if len(choices[0]):
            for draw, chosen in enumerate(choices):
                means[draw, index] = values[chosen].mean(axis=0)
    return means


def hour_circle(hour: Float32) -> Float32:
    """(N, 2) sine and cosine of hours; 0, 0 where the hour is unknown."""
    angle = hour * np.float32(2 * np.pi / 24)
    return np.nan_to_num(np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32)


def _loss(
    config: TrainConfig, out: HeadOutputs, aqi: Tensor, log: Tensor, known: Tensor, scaling: Scaling
) -> Tensor:
    """Loss of each row (N,)."""
    aqi_error = (out.aqi - aqi) / AQI_UNIT
    log_error = (out.log_sensors - log) / scaling.log_std

    def nll(error: Tensor, scale: Tensor) -> Tensor:
        if not config.head.heteroscedastic:
            return error**2
        return (torch.log(scale) + error**2 / (2 * scale**2)) * scale.detach() ** (2 * config.beta)

    sensor_loss = (nll(log_error, out.log_sensors_scale / scaling.log_std) * known).sum(1) / known.sum(
        1
    ).clamp(min=1)
    loss = (1 - config.alpha) * nll(aqi_error, out.aqi_scale / AQI_UNIT)[:, 0] + config.alpha * sensor_loss
    if config.head.heteroscedastic:
        alone = ((out.image_aqi - aqi) / AQI_UNIT) ** 2
        others = (((out.image_log_sensors - log) / scaling.log_std) ** 2 * known).sum(1) / known.sum(1).clamp(
            min=1
        )
        loss = loss + config.image_head_weight * (alone[:, 0] + others)
    return loss


def fit(
    table: FrameTable,
    config: TrainConfig,
    splits: Sequence[Split],
    progress: Progress,
    checkpoint: Path | None = None,
    components: dict[bytes, Projection] | None = None,
) -> list[Fitted]:
    """Train `config.members` networks for each split, all at once.

    Args:
        splits: masks over frames (`rows = "frames"`) or groups (`rows = "windows"`). components: principal
        components of earlier runs by training mask (seconds each), read and added to. checkpoint: file that
        is written every tenth of the run and resumed from, if it belongs to the same run.
    """
    windows = config.rows == "windows"
    rows = len(table.aqi) if windows else len(table.group)
    channels = table.features.shape[1]
    for split in splits:
        if split.train.shape != (rows,) or not split.train.any():
            raise TrainingError(f"a split's training mask must select some of the {rows} {config.rows}")
    members = config.members
    components = {} if components is None else components
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    group_of_row = np.arange(rows) if windows else table.group
    draws = _draws(table.group, rows, rng) if windows else None
    pictured = np.isin(np.arange(rows), table.group) if windows else np.ones(rows, dtype=bool)
    has_image = torch.from_numpy(pictured.astype(np.float32))[:, None]

    projections: list[Projection] = []
    nets: list[_CachedNet] = []
    embeddings = []
    for split in splits:
        frame_rows = split.train[table.group] if windows else split.train
        if config.projection == "pca":
            key = frame_rows.tobytes()
            if key not in components:
                components[key] = principal_components(table.features[frame_rows], EMBEDDING_SIZE)
            projection = components[key]
            projections.append(projection)
            embedding = table.features @ projection.weight + projection.bias
        else:
            embedding = table.features
        groups = np.zeros(len(table.aqi), dtype=bool)
        groups[group_of_row[split.train]] = True
        embeddings.append(embedding if draws is None else _drawn(embedding, draws))
        per_row = pool_frames(embedding, table.group, rows) if windows else embedding
        haze_per_row = pool_frames(table.haze, table.group, rows) if windows else table.haze
        # What a group without a frame looks like is nobody's mean.
        scaling = _scaling(table, split.train & pictured, haze_per_row, per_row, groups)
        nets += [_CachedNet(config, channels, scaling) for _ in range(members)]
    total = len(nets)
    split_of = np.repeat(np.arange(len(splits)), members)

    parameters, buffers = stack_module_state(nets)
    base = nets[0]
    scalings = Scaling(*(buffers[f"head.{name}"] for name in Scaling._fields))
    steps_an_epoch = 1 if windows else -(-rows // config.batch)
    steps = config.epochs * steps_an_epoch
    optimiser = torch.optim.AdamW(
        list(parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule: torch.optim.lr_scheduler.LRScheduler = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        if config.schedule == "cosine"
        else torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=steps, pct_start=0.1
        )
    )
    known = ~np.isnan(table.sensors)
    sensors = torch.from_numpy(np.where(known, np.maximum(table.sensors, 0), 0).astype(np.float32))
    known_tensor = torch.from_numpy(known.astype(np.float32))
    circle, aqi = torch.from_numpy(hour_circle(table.hour)), torch.from_numpy(table.aqi)
    train_weight = torch.from_numpy(
        np.stack([splits[int(index)].train for index in split_of]).astype(np.float32)
    )
    # One embedding a split, or the same features for all.
    shared = config.projection == "learned"
    stacked = embeddings[:1] if shared else embeddings
    haze_bank = table.haze if draws is None else _drawn(table.haze, draws)

    def member_loss(
        parameter: dict[str, Tensor], buffer: dict[str, Tensor], scaling: Scaling, x: HeadInputs,
        target: tuple[Tensor, Tensor, Tensor], weight: Tensor,
    ) -> Tensor:  # fmt: skip
        out = functional_call(base, (parameter, buffer), (x,))
        loss = _loss(config, out, *target, scaling)
        return (loss * weight).sum() / weight.sum().clamp(min=1e-6)

    def batch(index: NDArray[np.int64], train: bool) -> tuple[HeadInputs, tuple[Tensor, Tensor, Tensor]]:
        """Inputs with a leading ensemble axis (total, B, .), and targets (B, .)."""
        # Of a window's frames a random few while training, all of them (draw 0) otherwise.
        at = (
            index if draws is None else (rng.integers(_DRAWS, size=len(index)) if train else index * 0, index)
        )
        drawn, drawn_haze = [array[at] for array in stacked], haze_bank[at]
        count, groups = len(index), group_of_row[index]
        embedding = torch.from_numpy(np.stack(drawn).astype(np.float32))
        embedding = embedding.expand(total, -1, -1) if shared else embedding[split_of]
        statistics = torch.from_numpy(drawn_haze.astype(np.float32)).expand(total, -1, -1)
        there = known_tensor[groups].expand(total, -1, -1)
        image = has_image[index].expand(total, -1, -1)
        clock = circle[groups].expand(total, -1, -1)
        values = sensors[groups].expand(total, -1, -1)
        log = torch.log1p(sensors[groups])
        if train:
            whole = torch.rand(total, count, 1) < config.unmasked_share
            rate = torch.rand(total, count, 1) * config.sensor_masking
            keep = whole | (torch.rand(total, count, SENSORS) > rate)
            keep &= torch.rand(total, count, 1) >= config.sensor_dropout
            there = there * keep
            image = image * (torch.rand(total, count, 1) >= config.image_dropout)
            clock = clock * (torch.rand(total, count, 1) >= config.hour_dropout)
            if config.sensor_noise:
                noise = torch.randn(total, count, SENSORS) * config.sensor_noise * scalings.log_std[:, None]
                values = torch.expm1((torch.log1p(values) + noise).clamp(min=0))
            if config.image_noise:
                spread = scalings.embedding_std[:, None] * config.image_noise
                embedding = embedding + torch.randn(embedding.shape) * spread
                statistics = (
                    statistics
                    + torch.randn(statistics.shape) * scalings.haze_std[:, None] * config.image_noise
                )
        x = HeadInputs(embedding * image, image, statistics * image, image, values * there, there, clock)
        return x, (aqi[groups][:, None], log, known_tensor[groups])

    losses = vmap(member_loss, in_dims=(0, 0, 0, 0, None, 0), randomness="different")
    best = {name: value.detach().clone() for name, value in parameters.items()}
    best_loss, stale = torch.full((total,), torch.inf), torch.zeros(total)
    validated = all(split.validate is not None for split in splits)
    run_key = hashlib.sha256(
        config.model_dump_json().encode() + b"".join(split.train.tobytes() for split in splits)
    ).hexdigest()
    first = 0
    if checkpoint is not None and checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["run"] == run_key:
            first = stored["epoch"]
            best, best_loss, stale = stored["best"], stored["best_loss"], stored["stale"]
            with torch.no_grad():
                for name, value in parameters.items():
                    value.copy_(stored["parameters"][name])
            optimiser.load_state_dict(stored["optimiser"])
            schedule.load_state_dict(stored["schedule"])
            torch.set_rng_state(stored["torch_rng"])
            rng = np.random.default_rng([config.seed, first])
    for epoch in range(first, config.epochs):
        base.train()
        # Windows: one step an epoch, on all of them or on as many as go into a batch.
        every = windows and rows <= config.batch
        order = np.arange(rows) if every else rng.permutation(rows)
        for start in range(0, 1 if windows else rows, config.batch):
            index = order[start : start + config.batch]
            x, target = batch(index, train=True)
            optimiser.zero_grad(set_to_none=True)
            loss = losses(parameters, buffers, scalings, x, target, train_weight[:, index])
            loss.sum().backward()
            optimiser.step()
            schedule.step()
        done = epoch + 1
        if validated:
            now = _validate(losses, base, parameters, buffers, scalings, batch, splits, split_of, config)
            # A network whose patience is over stays as it was at its best, whatever is trained beside it.
            better = now < best_loss
            if config.patience is not None:
                better &= stale < config.patience
            best_loss = torch.where(better, now, best_loss)
            stale = torch.where(better, 0.0, stale + 1)
            for name, value in parameters.items():
                best[name][better] = value.detach()[better]
        progress(f"training {config.name}", done, config.epochs)
        if checkpoint is not None and (done % max(config.epochs // 10, 1) == 0):
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            partial = checkpoint.with_suffix(".part")
            torch.save(
                {
                    "run": run_key, "epoch": done, "best": best, "best_loss": best_loss, "stale": stale,
                    "parameters": {name: value.detach() for name, value in parameters.items()},
                    "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
                    "torch_rng": torch.get_rng_state(),
                },
                partial,
            )  # fmt: skip
            os.replace(partial, checkpoint)
            rng = np.random.default_rng([config.seed, done])
        if validated and config.patience is not None and bool((stale >= config.patience).all()):
            break
    chosen = best if validated else {name: value.detach() for name, value in parameters.items()}
    return _unstack(config, nets, chosen, projections, splits, best_loss)


def _validate(
    losses: Callable[..., Tensor], base: nn.Module, parameters: dict[str, Tensor], buffers: dict[str, Tensor],
    scalings: Scaling, batch: Callable[..., Any], splits: Sequence[Split], split_of: NDArray[np.int64],
    config: TrainConfig,
) -> Tensor:  # fmt: skip
    base.eval()
    masks = np.stack([split.validate for split in splits if split.validate is not None])
    index = np.flatnonzero(masks.any(axis=0))
    weight = torch.from_numpy(masks[split_of][:, index].astype(np.float32))
    total, seen = torch.zeros(len(split_of)), torch.zeros(len(split_of))
    with torch.no_grad():
        for start in range(0, len(index), max(config.batch, 1024)):
            part = slice(start, start + max(config.batch, 1024))
            x, target = batch(index[part], train=False)
            share = weight[:, part].sum(1)
            total += losses(parameters, buffers, scalings, x, target, weight[:, part]) * share
            seen += share
    return total / seen


def _unstack(
    config: TrainConfig, nets: list[_CachedNet], parameters: dict[str, Tensor], projections: list[Projection],
    splits: Sequence[Split], best_loss: Tensor,
) -> list[Fitted]:  # fmt: skip
    for index, net in enumerate(nets):
        state = net.state_dict()
        state.update({name: value[index] for name, value in parameters.items()})
        net.load_state_dict(state)
        net.eval()
    fitted = []
    for number in range(len(splits)):
        part = nets[number * config.members : (number + 1) * config.members]
        own = (
            [projections[number]]
            if config.projection == "pca"
            else [
                Projection(
                    net.projection.weight.detach().numpy().T.copy(), net.projection.bias.detach().numpy()
                )
                for net in part
                if net.projection is not None
            ]
        )
        loss = best_loss[number * config.members : (number + 1) * config.members].mean()
        fitted.append(
            Fitted(
                config, [net.head for net in part], own, float(loss) if torch.isfinite(loss) else float("nan")
            )
        )
    return fitted
