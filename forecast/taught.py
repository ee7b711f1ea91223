"""What the stations of a partition teach, hour by hour: kept for each by itself, learned for all together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.features import LOOKBACK, OriginFeatures
from forecast.local import KEPT, Corrected, Lessons, LocalRows, corrected, local_rows
from forecast.models import ANCHORS, interpolated
from forecast.panel import HORIZON
from forecast.running import PLACES, place_of_hour
from schemas.arrays import Float32, Float64, Int64
from schemas.parameters import POLLUTANTS

_P: Final = len(POLLUTANTS)
_HOURS: Final = tuple(range(1, HORIZON + 1))
_AT_ANCHORS: Final = [anchor - 1 for anchor in ANCHORS]
#: Stations that are corrected together: some tens of megabytes.
_TOGETHER: Final = 100


#: Hours that count, at most, of what was learned of the forecasts of another model.
_OF_ANOTHER_H: Final = 72.0


@dataclass
class LocalRecord:
    """Of one station.

    Attributes:
        made: (places,) hour (since 1970) at whose end it was said; 0: never.
        kept: (places, pollutants, `KEPT`) what is learned from when the hour has come.
        sums, tallies: of `Lessons`, without an axis of stations.
        scored: (pollutants,) hour of the last outcome.
        model: whose forecasts it was learned of; empty: not known.
    """

    made: Int64 = field(default_factory=lambda: np.zeros(PLACES, np.int64))
    kept: NDArray[np.float16] = field(default_factory=lambda: np.zeros((PLACES, _P, KEPT), np.float16))
    sums: Float32 = field(default_factory=lambda: Lessons().sums)
    tallies: Float64 = field(default_factory=lambda: Lessons().tallies)
    scored: Int64 = field(default_factory=lambda: np.zeros(_P, np.int64))
    model: str = ""

    def of(self, model: str) -> None:
        """Forecasts are those of `model` from now on. What was learned of another's counts for little: how
        that one erred is no more than a hint of how this one will. What it said teaches nothing any more.
        """
        if self.model and self.model != model:
            left = np.minimum(1.0, _OF_ANOTHER_H / np.maximum(self.tallies[..., :1], _OF_ANOTHER_H))
            self.tallies = self.tallies * left
            self.sums = (self.sums * left[..., None]).astype(np.float32)
            self.made = np.zeros_like(self.made)
        self.model = model

    def fresh(self, hour: int, outcome: Float32) -> Float32:
        """`outcome` (pollutants,) of `hour`, NaN where it has counted before. It counts once."""
        new = np.isfinite(outcome) & (self.scored != hour)
        self.scored[new] = hour
        return np.where(new, outcome, np.float32(np.nan))

    def say(self, hour: int, kept: NDArray[np.float16]) -> None:
        """Keep what was said at the end of `hour`: (anchors, pollutants, `KEPT`)."""
        for place in range(len(ANCHORS)):
            at = place_of_hour(place, hour)
            self.made[at], self.kept[at] = hour, kept[place]


def learn(
    records: Sequence[LocalRecord], hour: int, outcomes: Float32, features: OriginFeatures,
    rows: Sequence[int], typical: tuple[float, ...],
) -> None:  # fmt: skip
    """`hour`, the last one of the panel of `features`, has passed with `outcomes` (stations, pollutants); in
    its `rows` are the stations of `records`.
    """
    fresh = np.stack([one.fresh(hour, came) for one, came in zip(records, outcomes, strict=True)])
    if not np.isfinite(fresh).any():
        return
    lessons = _together(records)
    for place, anchor in enumerate(ANCHORS):
        at = place_of_hour(place, hour - anchor)
        due = np.array([one.made[at] == hour - anchor for one in records])
        if due.any():
            then = local_rows(features, typical, np.array([LOOKBACK - 1 - anchor]), anchor)
            lessons.learn(
                place, LocalRows(then.terms[rows, 0], then.last[rows, 0]),
                np.stack([one.kept[at] for one in records]),
                np.where(due[:, None], fresh, np.float32(np.nan)), typical,
            )  # fmt: skip
    for row, one in enumerate(records):
        one.sums, one.tallies = lessons.sums[row].copy(), lessons.tallies[row].copy()


def _together(records: Sequence[LocalRecord]) -> Lessons:
    return Lessons(np.stack([one.sums for one in records]), np.stack([one.tallies for one in records]))


def foretold(
    records: Sequence[LocalRecord], base: Float32, features: OriginFeatures, typical: tuple[float, ...]
) -> Corrected:
    """What the stations of `features`, of which `records` are, would make of `base` (stations, 72,
    pollutants, 8); what is kept of it is that of the anchors.
    """
    now = [local_rows(features, typical, np.array([LOOKBACK - 1]), ahead) for ahead in _HOURS]
    rows = LocalRows(
        np.concatenate([one.terms for one in now], axis=1), np.concatenate([one.last for one in now], axis=1)
    )
    leaning = _together(records).leaning(ANCHORS, features.panel.regions)
    made = []
    for start in range(0, len(records), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        by = _together(records[some]).correction(ANCHORS, leaning[some])
        made.append(
            corrected(
                base[some], LocalRows(rows.terms[some], rows.last[some]),
                type(by)(*(interpolated(part, _HOURS, 1) for part in by)),
            )
        )  # fmt: skip
    kept = np.concatenate([one.kept for one in made])
    return Corrected(np.concatenate([one.said for one in made]), kept[:, _AT_ANCHORS])
