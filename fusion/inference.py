"""What the model says of windows, in batches, and how much each input has to do with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.bounds import Interval, bounded
from fusion.intake import Prepared
from fusion.learning import HeadSaid
from model.bundle.bundle import EMBEDDING_SIZE
from model.bundle.runtime import Head, HeadOutput, trusted_readings
from model.bundle.shapley import PLAYERS, shapley_shares
from schemas.arrays import Float32
from schemas.estimate import ModelOutput
from schemas.parameters import POLLUTANTS

#: Rows of one inference.
ROWS_A_RUN: Final = 256


@dataclass(frozen=True)
class Inference:
    """What the head makes of one window: a row of its output."""

    output: HeadOutput
    row: int
    #: Shapley shares of the readings and the image in the AQI, by name; those without an effect left out.
    shares: Mapping[str, float] = field(default_factory=dict)

    def said(self, index: int) -> HeadSaid | None:
        """What the head says of the pollutant at that place in `POLLUTANTS`."""
        return said_of(self.output, self.row, index)

    def output_model(self, measured: Mapping[str, float]) -> ModelOutput:
        """The model's own say beside what is measured (ug/m3), for the record."""
        output, row = self.output, self.row
        by_head = {
            name: Interval(value, value, value)
            for index, name in enumerate(POLLUTANTS)
            if (value := output.concentration(row, index)) is not None
        }
        return ModelOutput(
            aqi=tidy(output.aqi[row]),
            lo=tidy(output.aqi_lo[row]),
            hi=tidy(output.aqi_hi[row]),
            sensors={name: tidy(one.value) for name, one in bounded(by_head, measured).items()},
            shares={name: share for name, share in self.shares.items() if share},
        )


def said_of(output: HeadOutput, row: int, index: int) -> HeadSaid | None:
    """What a row of the head's output says of the pollutant at that place in `POLLUTANTS`."""
    value = output.concentration(row, index)
    return None if value is None else HeadSaid(value, output.shown(row))


def infer(head: Head, windows: Sequence[Prepared], explain: bool) -> list[Inference | None]:
    """What the head says of each window, None where it is silent.

    With `explain`, also how much each input has to do with it.
    """
    output = predict(head, windows)
    speaking = [row for row in range(len(windows)) if output.speaks(row)]
    inferred: list[Inference | None] = [None] * len(windows)
    for row in speaking:
        inferred[row] = Inference(output, row)
    if speaking and explain and "aqi_mean" in head.bundle.manifest.training.configuration:
        asked = _inputs(head, [windows[row] for row in speaking])
        shares = shapley_shares(
            head, asked.embedding, asked.present, asked.sensors, asked.haze, asked.hour
        ).shares
        for row, of_it in zip(speaking, shares, strict=True):
            named = {name: tidy(share) for name, share in zip(PLAYERS, of_it, strict=True) if share}
            inferred[row] = Inference(output, row, named)
    return inferred


def predict(head: Head, windows: Sequence[Prepared]) -> HeadOutput:
    """The head's say on windows that have something to estimate from."""
    return head.predict(*_inputs(head, windows))


class _HeadRows(NamedTuple):
    """Inputs of the head, a window a row (`model.bundle.runtime.Head.predict`)."""

    embedding: Float32
    present: NDArray[np.bool_]  #: whether there is a usable frame
    sensors: Float32  #: (N, 6) ug/m3, NaN = missing
    haze: Float32
    hour: Float32
    unseen: NDArray[np.bool_]  #: at a site that no training window came from


def _inputs(head: Head, windows: Sequence[Prepared]) -> _HeadRows:
    sites = head.bundle.manifest.training.sites
    none = np.zeros(EMBEDDING_SIZE, np.float32)
    sensors = np.stack([window.vector for window in windows])
    unseen = np.array([window.view.station not in sites for window in windows])
    # At a site it never saw a picture makes the head worse than sensors alone: it is shown where it is all.
    beside = unseen & ~np.isnan(trusted_readings(head.bundle, sensors)).all(axis=1)
    return _HeadRows(
        np.stack([none if window.embedding is None else window.embedding for window in windows]),
        np.array([window.embedding is not None for window in windows]) & ~beside,
        sensors,
        np.stack([window.haze for window in windows]),
        np.array([window.hour for window in windows], np.float32),
        unseen,
    )


def tidy(value: Any) -> float:
    """Rounded to what is published."""
    return round(float(value), 6)
