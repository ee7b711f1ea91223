"""Training the last blocks of a backbone on pictures of the air (torch; the `train` extra).

What goes into those blocks is computed once a frame and kept, so that an epoch costs only the blocks
themselves: seconds for some thousand frames on one core. The blocks learn to tell the AQI and the six
concentrations from the picture alone; batch normalisation keeps its ImageNet statistics, since a batch of
one video's frames has none of its own. Projection and heads are fitted afterwards, on the new features.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import TrainingError
from model.evaluation.progress import Progress
from model.training.backbones import build_backbone, load_pretrained, tail_start
from model.training.config import TrainConfig
from model.training.frames import FrameTable
from schemas.arrays import Float32

__all__ = ["Tuned", "fine_tune"]


_ENCODE_BATCH = 256


class Tuned(NamedTuple):
    """A backbone whose last blocks were trained."""

    table: FrameTable  #: with the features that it gives
    tail: dict[str, Tensor]  #: state of the trained blocks, `nn.Sequential(*children[cut:])`


def fine_tune(
    table: FrameTable,
    config: TrainConfig,
    train: NDArray[np.bool_],
    progress: Progress,
    checkpoint: Path | None = None,
) -> Tuned:
    """Train the last `config.fine_tune.blocks` blocks on some frames; features of all frames from then on.

    Args:
        train: (F,), frames to learn from. Every group counts the same, however many frames it has.
        checkpoint: file that is written after every epoch and resumed from, if it belongs to the same run.
    """
    rule = config.fine_tune
    if rule is None or table.activations is None:
        raise TrainingError("fine-tuning needs [fine_tune] in the configuration and the blocks' inputs")
    torch.manual_seed(config.seed)
    net = build_backbone(config.backbone)
    load_pretrained(net, config.backbone)
    cut = tail_start(net, rule.blocks)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tail = nn.Sequential(*list(net.children())[cut:]).eval().to(device)
    target, known = _targets(table, train)
    heads = nn.Linear(table.features.shape[1], target.shape[1]).to(device)
    nn.init.zeros_(heads.weight)
    nn.init.zeros_(heads.bias)
    # The heads start from nothing: they may move faster than what ImageNet taught.
    optimiser = torch.optim.AdamW(
        [
            {"params": list(tail.parameters())},
            {"params": list(heads.parameters()), "lr": 10 * rule.learning_rate},
        ],
        lr=rule.learning_rate,
        weight_decay=rule.weight_decay,
    )
    run = hashlib.sha256(config.model_dump_json().encode() + train.tobytes()).hexdigest()
    first = 0
    if checkpoint is not None and checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["run"] == run:
            first = stored["epoch"]
            tail.load_state_dict(stored["tail"])
            heads.load_state_dict(stored["heads"])
            optimiser.load_state_dict(stored["optimiser"])
    members = [np.flatnonzero((table.group == group) & train) for group in np.unique(table.group[train])]
    for epoch in range(first, rule.epochs):
        rng = np.random.default_rng([config.seed, epoch])
        drawn = [rng.choice(frames, min(len(frames), rule.frames), replace=False) for frames in members]
        weight = np.concatenate([np.full(len(frames), 1 / len(frames)) for frames in drawn])
        order = rng.permutation(len(weight))
        chosen, weight = np.concatenate(drawn)[order], weight[order] / weight.mean()
        for start in range(0, len(chosen), rule.batch):
            rows = chosen[start : start + rule.batch]
            x = torch.from_numpy(table.activations[rows].astype(np.float32)).to(device)
            out = heads(tail(x).mean((2, 3)))
            error = (out - target[rows].to(device)) ** 2 * known[rows].to(device)
            each = error.sum(1) / known[rows].to(device).sum(1).clamp(min=1)
            share = torch.from_numpy(weight[start : start + rule.batch].astype(np.float32)).to(device)
            optimiser.zero_grad(set_to_none=True)
            (each * share).mean().backward()
            optimiser.step()
            progress(f"fine-tuning {config.backbone}", epoch * len(chosen) + start, rule.epochs * len(chosen))
        if checkpoint is not None:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            partial = checkpoint.with_suffix(".part")
            state = {
                "run": run, "epoch": epoch + 1, "tail": tail.state_dict(), "heads": heads.state_dict(),
                "optimiser": optimiser.state_dict(),
            }  # fmt: skip
            torch.save(state, partial)
            os.replace(partial, checkpoint)
    progress(f"fine-tuning {config.backbone}", 1, 1)
    features = _features(tail, table.activations, device)
    tuned = table._replace(features=features[:-1], noise=features[-1])
    return Tuned(tuned, {name: value.cpu() for name, value in tail.state_dict().items()})


def _targets(table: FrameTable, train: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """(F, 7) standardised AQI and log concentrations of each frame's group; and which are known."""
    values = np.concatenate([table.aqi[:, None], np.log1p(np.maximum(table.sensors, 0))], axis=1)
    groups = np.unique(table.group[train])
    learned = ~np.isnan(values[groups]).all(axis=0)
    mean, spread = np.zeros(len(learned)), np.ones(len(learned))
    mean[learned] = np.nanmean(values[groups][:, learned], axis=0)
    spread[learned] = np.nanstd(values[groups][:, learned], axis=0) + 1e-3
    standard = ((values - mean) / spread)[table.group].astype(np.float32)
    known = ~np.isnan(standard)
    return torch.from_numpy(np.where(known, standard, 0)), torch.from_numpy(known.astype(np.float32))


def _features(tail: nn.Module, activations: NDArray[np.float16], device: torch.device) -> Float32:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(activations), _ENCODE_BATCH):
            x = torch.from_numpy(activations[start : start + _ENCODE_BATCH].astype(np.float32)).to(device)
            parts.append(tail(x).mean((2, 3)).cpu().numpy())
    return np.concatenate(parts)
