"""What a step of training sees: rows of a table, for all networks of a run at once, some of it hidden.

A row is a frame, or (`rows = "windows"`) a group, of whose frames a step sees the mean of a random few. Which
few is drawn once, `_DRAWS` times for each group: their means are kept, and a step only chooses among them.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.training.config import TrainConfig
from model.training.frames import FrameTable
from model.training.network import SENSORS, HeadInputs, Scaling
from schemas.arrays import Bool, Float32, Int64

__all__ = ["Batches", "FitRows", "StepBatch", "Targets", "hour_circle", "pool_frames"]

#: Random poolings of each window's frames that training draws from.
_DRAWS: Final = 32


class Targets(NamedTuple):
    """What the networks should say of a batch of B rows."""

    aqi: Tensor  #: (B, 1)
    log_sensors: Tensor  #: (B, SENSORS) log(1 + ug/m3)
    known: Tensor  #: (B, SENSORS) 1 where there is a measurement, otherwise 0


class StepBatch(NamedTuple):
    """Inputs with a leading axis of networks (networks, B, .), and the targets that all share."""

    inputs: HeadInputs
    targets: Targets


def pool_frames(values: Float32, group: Int64, groups: int) -> Float32:
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, values)
    count = np.maximum(np.bincount(group, minlength=groups), 1)
    return (total / count[:, None]).astype(np.float32)


def _draws(group: Int64, groups: int, rng: np.random.Generator) -> list[list[Int64]]:
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


def _drawn(values: Float32, draws: list[list[Int64]]) -> Float32:
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


class FitRows:
    """The rows of a table.

    Attributes:
        windows: whether a row is a group, not a frame.
        count: how many rows there are.
        group: (rows,) the group of each.
        pictured: (rows,) whether it has a frame.
    """

    def __init__(self, table: FrameTable, config: TrainConfig, rng: np.random.Generator) -> None:
        self.windows = config.rows == "windows"
        self.count = len(table.aqi) if self.windows else len(table.group)
        self.group: Int64 = np.arange(self.count) if self.windows else table.group
        self.pictured: Bool = (
            np.isin(np.arange(self.count), table.group) if self.windows else np.ones(self.count, dtype=bool)
        )
        self._frames = table.group
        self._groups = len(table.aqi)
        self._draws = _draws(table.group, self.count, rng) if self.windows else None

    def frames_of(self, mask: Bool) -> Bool:
        """(F,) the frames of the rows in a mask."""
        return mask[self._frames] if self.windows else mask

    def groups_of(self, mask: Bool) -> Bool:
        """(G,) the groups of the rows in a mask."""
        groups = np.zeros(self._groups, dtype=bool)
        groups[self.group[mask]] = True
        return groups

    def pooled(self, values: Float32) -> Float32:
        """(rows, W) means of the values (F, W) of each row's frames."""
        return pool_frames(values, self._frames, self.count) if self.windows else values

    def bank(self, values: Float32) -> Float32:
        """What steps choose from: (F, W) values as they are, of groups (draws, G, W) means."""
        return values if self._draws is None else _drawn(values, self._draws)


class Batches:
    """Makes the batches of a run.

    Args:
        table: frames, and the targets of their groups.
        rows: of the table.
        config: of the run.
        embeddings: banks (`FitRows.bank`), one for each split, or the same features for all networks.
        split_of: (networks,) the split of each; of a shared bank they are all of the first one's.
        scalings: of all networks, stacked.
    """

    def __init__(
        self,
        table: FrameTable,
        rows: FitRows,
        config: TrainConfig,
        embeddings: list[Float32],
        split_of: Int64,
        scalings: Scaling,
    ) -> None:
        self._rows = rows
        self._config = config
        self._embeddings = embeddings
        self._split_of = split_of
        self._scalings = scalings
        self._haze = rows.bank(table.haze)
        known = ~np.isnan(table.sensors)
        self._known = torch.from_numpy(known.astype(np.float32))
        self._sensors = torch.from_numpy(np.where(known, np.maximum(table.sensors, 0), 0).astype(np.float32))
        self._circle = torch.from_numpy(hour_circle(table.hour))
        self._aqi = torch.from_numpy(table.aqi)
        self._has_image = torch.from_numpy(rows.pictured.astype(np.float32))[:, None]

    def make(self, index: NDArray[np.int64], rng: np.random.Generator | None) -> StepBatch:
        """The batch of rows `index`, some of it hidden by `rng` and torch's; None: all is shown."""
        at: Int64 | tuple[Int64, Int64] = index
        if self._rows.windows:
            # Of a window's frames a random few while training, all of them (draw 0) otherwise.
            at = (index * 0 if rng is None else rng.integers(_DRAWS, size=len(index)), index)
        networks, groups = len(self._split_of), self._rows.group[index]
        shown = torch.from_numpy(np.stack([bank[at] for bank in self._embeddings]).astype(np.float32))
        if self._config.projection == "learned":
            embedding = shown.expand(networks, -1, -1)
        else:
            embedding = shown[self._split_of]
        values = self._sensors[groups]
        image = self._has_image[index].expand(networks, -1, -1)
        inputs = HeadInputs(
            embedding,
            image,
            torch.from_numpy(self._haze[at].astype(np.float32)).expand(networks, -1, -1),
            image,
            values.expand(networks, -1, -1),
            self._known[groups].expand(networks, -1, -1),
            self._circle[groups].expand(networks, -1, -1),
        )
        if rng is not None:
            inputs = self._masked(inputs)
        inputs = inputs._replace(
            embedding=inputs.embedding * inputs.image_present,
            haze=inputs.haze * inputs.haze_present,
            sensors=inputs.sensors * inputs.sensors_present,
        )
        return StepBatch(
            inputs, Targets(self._aqi[groups][:, None], torch.log1p(values), self._known[groups])
        )

    def _masked(self, x: HeadInputs) -> HeadInputs:
        """As training shows them: masked at random, network by network, and with noise."""
        config, scalings = self._config, self._scalings
        networks, count = x.sensors_present.shape[:2]
        whole = torch.rand(networks, count, 1) < config.unmasked_share
        rate = torch.rand(networks, count, 1) * config.sensor_masking
        keep = whole | (torch.rand(networks, count, SENSORS) > rate)
        keep &= torch.rand(networks, count, 1) >= config.sensor_dropout
        image = x.image_present * (torch.rand(networks, count, 1) >= config.image_dropout)
        x = x._replace(
            image_present=image,
            haze_present=image,
            sensors_present=x.sensors_present * keep,
            hour=x.hour * (torch.rand(networks, count, 1) >= config.hour_dropout),
        )
        if config.sensor_noise:
            noise = torch.randn(networks, count, SENSORS) * config.sensor_noise * scalings.log_std[:, None]
            x = x._replace(sensors=torch.expm1((torch.log1p(x.sensors) + noise).clamp(min=0)))
        if config.image_noise:
            spread = scalings.embedding_std[:, None] * config.image_noise
            embedding = x.embedding + torch.randn(x.embedding.shape) * spread
            haze = x.haze + torch.randn(x.haze.shape) * scalings.haze_std[:, None] * config.image_noise
            x = x._replace(embedding=embedding, haze=haze)
        return x
