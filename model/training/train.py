"""Training fusion heads on cached backbone features (torch; the `train` extra).

A frozen backbone sees every frame once; its pooled features are kept on disk. After that training is a
matter of seconds: all members of an ensemble and all folds of a cross-validation are stacked and trained as
one batched network (`torch.func.vmap`), each with its own random masks and its own training rows.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap  # type: ignore[attr-defined]

from model.bundle.bundle import EMBEDDING_SIZE
from model.errors import TrainingError
from model.evaluation.progress import Progress
from model.training.batches import Batches, FitRows, StepBatch, Targets
from model.training.config import TrainConfig
from model.training.frames import FrameTable
from model.training.network import AQI_UNIT, FusionHead, HeadInputs, HeadOutputs, Scaling
from schemas.arrays import Bool, Float32

__all__ = [
    "Fitted",
    "Projection",
    "Split",
    "fit",
    "principal_components",
]


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


def _loss(config: TrainConfig, out: HeadOutputs, targets: Targets, scaling: Scaling) -> Tensor:
    """Loss of each row (N,)."""
    aqi, log, known = targets
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


class _Start(NamedTuple):
    """What a split begins with."""

    projection: Projection | None  #: fixed components; None: learned
    embedding: Float32  #: bank of what the networks see of pictures
    nets: list[_CachedNet]


def _begin(
    table: FrameTable,
    rows: FitRows,
    split: Split,
    config: TrainConfig,
    components: dict[bytes, Projection],
) -> _Start:
    """The members of a split, untrained, and their pictures."""
    projection, embedding = None, table.features
    if config.projection == "pca":
        frames = rows.frames_of(split.train)
        key = frames.tobytes()
        if key not in components:
            components[key] = principal_components(table.features[frames], EMBEDDING_SIZE)
        projection = components[key]
        embedding = table.features @ projection.weight + projection.bias
    bank = rows.bank(embedding)
    # What a group without a frame looks like is nobody's mean.
    scaling = _scaling(
        table, split.train & rows.pictured, rows.pooled(table.haze), rows.pooled(embedding),
        rows.groups_of(split.train),
    )  # fmt: skip
    channels = table.features.shape[1]
    return _Start(projection, bank, [_CachedNet(config, channels, scaling) for _ in range(config.members)])


class _Ensemble:
    """All networks of a run as one, how far each is, and each at its best."""

    def __init__(self, config: TrainConfig, nets: list[_CachedNet], rows: FitRows) -> None:
        self._config = config
        self._base = nets[0]
        self.parameters, self._buffers = stack_module_state(nets)
        self.scalings = Scaling(*(self._buffers[f"head.{name}"] for name in Scaling._fields))
        self._optimiser = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        steps = config.epochs * (1 if rows.windows else -(-rows.count // config.batch))
        self._schedule: torch.optim.lr_scheduler.LRScheduler = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, steps)
            if config.schedule == "cosine"
            else torch.optim.lr_scheduler.OneCycleLR(
                self._optimiser, config.learning_rate, total_steps=steps, pct_start=0.1
            )
        )
        self._losses = vmap(self._loss_of_one, in_dims=(0, 0, 0, 0, None, 0), randomness="different")
        self.best = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.best_loss, self._stale = torch.full((len(nets),), torch.inf), torch.zeros(len(nets))

    def _loss_of_one(
        self, parameter: dict[str, Tensor], buffer: dict[str, Tensor], scaling: Scaling, x: HeadInputs,
        targets: Targets, weight: Tensor,
    ) -> Tensor:  # fmt: skip
        out = functional_call(self._base, (parameter, buffer), (x,))
        loss = _loss(self._config, out, targets, scaling)
        return (loss * weight).sum() / weight.sum().clamp(min=1e-6)

    def _losses_of(self, batch: StepBatch, weight: Tensor) -> Tensor:
        losses: Tensor = self._losses(
            self.parameters, self._buffers, self.scalings, batch.inputs, batch.targets, weight
        )
        return losses

    def step(self, batch: StepBatch, weight: Tensor) -> None:
        """One step of all networks; `weight` (networks, B) is 1 for the rows that each trains on."""
        self._base.train()
        self._optimiser.zero_grad(set_to_none=True)
        self._losses_of(batch, weight).sum().backward()
        self._optimiser.step()
        self._schedule.step()

    def validate(self, batches: Batches, masks: Bool) -> None:
        """Note how each network does on the rows (networks, rows) that are held back from it."""
        now = self._validation_loss(batches, masks)
        # A network whose patience is over stays as it was at its best, whatever is trained beside it.
        better = now < self.best_loss
        if self._config.patience is not None:
            better &= self._stale < self._config.patience
        self.best_loss = torch.where(better, now, self.best_loss)
        self._stale = torch.where(better, 0.0, self._stale + 1)
        for name, value in self.parameters.items():
            self.best[name][better] = value.detach()[better]

    def _validation_loss(self, batches: Batches, masks: Bool) -> Tensor:
        self._base.eval()
        index = np.flatnonzero(masks.any(axis=0))
        weight = torch.from_numpy(masks[:, index].astype(np.float32))
        total, seen = torch.zeros(len(masks)), torch.zeros(len(masks))
        size = max(self._config.batch, 1024)
        with torch.no_grad():
            for start in range(0, len(index), size):
                part = slice(start, start + size)
                share = weight[:, part].sum(1)
                total += self._losses_of(batches.make(index[part], None), weight[:, part]) * share
                seen += share
        return total / seen

    def is_over(self) -> bool:
        """Whether all have lost their patience."""
        return self._config.patience is not None and bool((self._stale >= self._config.patience).all())

    def save(self, checkpoint: Path, run: str, epoch: int) -> None:
        """Write how far the run is."""
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = checkpoint.with_suffix(".part")
        torch.save(
            {
                "run": run, "epoch": epoch, "best": self.best, "best_loss": self.best_loss,
                "stale": self._stale,
                "parameters": {name: value.detach() for name, value in self.parameters.items()},
                "optimiser": self._optimiser.state_dict(), "schedule": self._schedule.state_dict(),
                "torch_rng": torch.get_rng_state(),
            },
            partial,
        )  # fmt: skip
        os.replace(partial, checkpoint)

    def resume(self, checkpoint: Path, run: str) -> int:
        """Go on from a checkpoint of the same run; the epochs that are done, 0 where there is none."""
        stored: dict[str, Any] | None = (
            torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
        )
        if stored is None or stored["run"] != run:
            return 0
        self.best, self.best_loss, self._stale = stored["best"], stored["best_loss"], stored["stale"]
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(stored["parameters"][name])
        self._optimiser.load_state_dict(stored["optimiser"])
        self._schedule.load_state_dict(stored["schedule"])
        torch.set_rng_state(stored["torch_rng"])
        epoch: int = stored["epoch"]
        return epoch


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
    count = len(table.aqi) if config.rows == "windows" else len(table.group)
    for split in splits:
        if split.train.shape != (count,) or not split.train.any():
            raise TrainingError(f"a split's training mask must select some of the {count} {config.rows}")
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    rows = FitRows(table, config, rng)
    known_components = {} if components is None else components
    starts = [_begin(table, rows, split, config, known_components) for split in splits]
    nets = [net for start in starts for net in start.nets]
    split_of = np.repeat(np.arange(len(splits)), config.members)
    ensemble = _Ensemble(config, nets, rows)
    # One embedding a split, or the same features for all.
    banks = [start.embedding for start in starts]
    if config.projection == "learned":
        banks = banks[:1]
    batches = Batches(table, rows, config, banks, split_of, ensemble.scalings)
    weight = torch.from_numpy(np.stack([splits[int(number)].train for number in split_of]).astype(np.float32))
    held_back = [split.validate for split in splits if split.validate is not None]
    validated = len(held_back) == len(splits)

    run = hashlib.sha256(
        config.model_dump_json().encode() + b"".join(split.train.tobytes() for split in splits)
    ).hexdigest()
    first = 0 if checkpoint is None else ensemble.resume(checkpoint, run)
    if first:
        rng = np.random.default_rng([config.seed, first])
    for done in range(first + 1, config.epochs + 1):
        # Windows: one step an epoch, on all of them or on as many as go into a batch.
        every = rows.windows and count <= config.batch
        order = np.arange(count) if every else rng.permutation(count)
        for begin in range(0, 1 if rows.windows else count, config.batch):
            index = order[begin : begin + config.batch]
            ensemble.step(batches.make(index, rng), weight[:, index])
        if validated:
            ensemble.validate(batches, np.stack(held_back)[split_of])
        progress(f"training {config.name}", done, config.epochs)
        if checkpoint is not None and done % max(config.epochs // 10, 1) == 0:
            ensemble.save(checkpoint, run, done)
            rng = np.random.default_rng([config.seed, done])
        if validated and ensemble.is_over():
            break
    if validated:
        chosen = ensemble.best
    else:
        chosen = {name: value.detach() for name, value in ensemble.parameters.items()}
    projections = [start.projection for start in starts if start.projection is not None]
    return _unstack(config, nets, chosen, projections, splits, ensemble.best_loss)


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
