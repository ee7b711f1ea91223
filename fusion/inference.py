"""What the network says of windows, in batches, and how much each input has to do with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fusion.intake import Float32, Prepared
from model.bundle import EMBEDDING_SIZE
from model.runtime import Head, HeadOutput
from model.shapley import PLAYERS, shapley_shares
from schemas.estimate import ModelOutput
from schemas.parameters import PARAMETERS

#: Rows of one inference.
ROWS_A_RUN: Final = 256


@dataclass(frozen=True)
class Said:
    """One row of the head's output."""

    output: HeadOutput
    row: int
    #: Shapley shares of the readings and the image in the AQI, by name; those without an effect left out.
    shares: Mapping[str, float] = field(default_factory=dict)

    def output_model(self) -> ModelOutput:
        """The network's own say, for the record."""
        output, row = self.output, self.row
        return ModelOutput(
            aqi=tidy(output.aqi[row]),
            lo=tidy(output.aqi_lo[row]),
            hi=tidy(output.aqi_hi[row]),
            sensors={
                name: tidy(value)
                for index, name in enumerate(PARAMETERS)
                if (value := output.concentration(row, index)) is not None
            },
            shares={name: share for name, share in self.shares.items() if share},
        )


def tell(head: Head, windows: Sequence[Prepared], explain: bool) -> list[Said]:
    """What the head says of each window; with `explain`, also how much each input has to do with it."""
    output = predict(head, windows)
    if not explain or "aqi_mean" not in head.bundle.manifest.training.configuration:
        return [Said(output, row) for row in range(len(windows))]
    shares = shapley_shares(head, *_inputs(windows)).shares
    return [
        Said(
            output,
            row,
            {name: tidy(share) for name, share in zip(PLAYERS, shares[row], strict=True) if share},
        )
        for row in range(len(windows))
    ]


def predict(head: Head, windows: Sequence[Prepared]) -> HeadOutput:
    """The head's say on windows that have something to estimate from."""
    return head.predict(*_inputs(windows))


def _inputs(windows: Sequence[Prepared]) -> tuple[Float32, NDArray[np.bool_], Float32, Float32, Float32]:
    none = np.zeros(EMBEDDING_SIZE, np.float32)
    return (
        np.stack([none if window.embedding is None else window.embedding for window in windows]),
        np.array([window.embedding is not None for window in windows]),
        np.stack([window.vector for window in windows]),
        np.stack([window.haze for window in windows]),
        np.array([window.hour for window in windows], np.float32),
    )


def tidy(value: Any) -> float:
    """Rounded to what is published."""
    return round(float(value), 6)
