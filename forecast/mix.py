"""The mix: what the other models say, as one forecast."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from forecast.models import ForecastInputs, ForecastModel, Origins, interpolated, moved
from forecast.panel import QUANTILES
from schemas.arrays import Float32

_MEDIAN: Final = QUANTILES.index(0.5)
#: What a mix has weights of their own for.
MIXED: Final = ("mean", "median", "widths")


@dataclass(frozen=True)
class Mix:
    """The others' forecasts, averaged with weights (2, pollutants, anchors, members, `MIXED`) that weeks held
    back chose, and moved by `offsets` (2, pollutants, anchors, 7), in widths from .05 to .95, so that they
    held there.

    The best mean, the best median and the best widths are not of the same members: many an hour of a gas is
    to the digit as the one before, which a median should say and a mean cannot.
    """

    members: tuple[ForecastModel, ...]
    weights: Float32
    offsets: Float32
    name: str = "mix"

    def blend(self, said: Sequence[Float32], told: int, horizons: Sequence[int]) -> Float32:
        """The members' forecasts as one."""
        weights = interpolated(self.weights[told], horizons, 1).swapaxes(0, 1)
        offsets = interpolated(self.offsets[told], horizons, 1).transpose(1, 0, 2)
        total = np.zeros_like(said[0])
        for place, member in enumerate(said):
            total += weighed(member, weights[..., place, :])
        return moved(total, offsets)

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        return self.blend([m.predict(inputs, origins, horizons) for m in self.members], inputs.told, horizons)


def weighed(member: Float32, weights: Float32) -> Float32:
    """A member's share (..., 8) of a mix, by its weights (..., `MIXED`)."""
    mean, median, widths = np.moveaxis(weights[..., None], -2, 0)
    middle = member[..., _MEDIAN : _MEDIAN + 1]
    quantiles = middle * median + (member[..., :-1] - middle) * widths
    return np.concatenate([quantiles, member[..., -1:] * mean], axis=-1)


def said_by_each(
    models: Sequence[ForecastModel], inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]
) -> Iterator[Float32]:
    """What each says, in order; a mix of models before it is made of what they said: none is asked twice."""
    mixed = [member for model in models if isinstance(model, Mix) for member in model.members]
    kept: dict[int, Float32] = {}
    for model in models:
        if isinstance(model, Mix) and all(id(member) in kept for member in model.members):
            yield model.blend([kept[id(member)] for member in model.members], inputs.told, horizons)
            continue
        said = model.predict(inputs, origins, horizons)
        if any(model is member for member in mixed):
            kept[id(model)] = said
        yield said
