"""The models behind one interface: from what is known at an origin to seven quantiles and a mean.

All say concentrations in ug/m3 as (stations, origins, horizons, pollutants, 8): the seven `QUANTILES`, which
never cross, then the mean. A row is the same bits in whatever batch it is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from forecast.averages import coming
from forecast.features import LEVELS, TOLD, Normalisation, OriginFeatures, future, lagged, past
from forecast.panel import CHANNELS, HORIZON, Panel
from forecast.trees import Forest
from schemas.arrays import Float32, Int64
from schemas.parameters import POLLUTANTS

_P: Final = len(POLLUTANTS)
#: Horizons for which trees, ridge, mix and widths are made; those between are interpolated.
ANCHORS: Final = (1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 48, 60, 72)
#: Longest distance from a last value to an hour foretold for which errors are tabled.
LONGEST: Final = 2 * HORIZON
#: Quantiles that trees learn; the others lie on their line from the median, this far along.
TREE_QUANTILES: Final = (0.1, 0.5, 0.9)
_ALONG: Final = (1.4, 1.0, 0.5)
#: Horizons up to which trees have sets of their own, in hours: tomorrow is told by other things than now.
FIRST: Final = 1
NEAR: Final = 3
MIDDLE: Final = 12

Origins = NDArray[np.int64]


@dataclass
class ForecastInputs:
    """What is known: the panel's hours, and the weather to come (None: nothing), (stations, hours + 72,
    channels).
    """

    panel: Panel
    weather: Float32 | None = None
    _features: OriginFeatures | None = field(default=None, repr=False)
    _coming: dict[int, Float32] = field(default_factory=dict, repr=False)

    def coming(self, horizon: int) -> Float32 | None:
        """What the weather will be until an anchor, as columns; None where nothing is known of it."""
        if self.weather is None:
            return None
        if not self._coming:
            self._coming.update(coming(self.weather, self.panel.hours, ANCHORS))
        return self._coming[horizon]

    @property
    def features(self) -> OriginFeatures:
        if self._features is None:
            self._features = OriginFeatures(self.panel)
        return self._features

    @property
    def told(self) -> int:
        """Which of two sets of a model serves: 0 without the weather to come, 1 with it."""
        return int(self.weather is not None)


class ForecastModel(Protocol):
    """One way to foretell."""

    @property
    def name(self) -> str: ...

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        """(stations, origins, horizons, pollutants, 8) for hours of the panel that have passed."""
        ...


def ordered(said: Float32) -> Float32:
    """Quantiles sorted (a crossing is no distribution), nothing below zero."""
    said[..., :-1] = np.sort(said[..., :-1], axis=-1)
    return np.maximum(said, np.float32(0.0))


@dataclass(frozen=True)
class Persistence:
    """The last value; as wide as values that far apart differed in training. `drift` is (LONGEST,
    pollutants, 8).
    """

    drift: Float32
    typical: tuple[float, ...]
    name: str = "persistence"

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        out = np.empty((len(inputs.panel.stations), len(origins), len(horizons), _P, 8), np.float32)
        for pollutant in range(_P):
            last = inputs.features.last(pollutant, self.typical[pollutant])[:, origins]
            age = np.nan_to_num(inputs.features.ages[..., pollutant][:, origins], nan=HORIZON).astype(
                np.int64
            )
            for at, horizon in enumerate(horizons):
                apart = np.minimum(age + horizon, LONGEST) - 1
                out[:, :, at, pollutant] = last[..., None] + self.drift[apart, pollutant]
        return ordered(out)


@dataclass(frozen=True)
class SeasonalNaive:
    """The same hour of the last day of which it is known, as wide as values whole days apart differed."""

    drift: Float32
    typical: tuple[float, ...]
    name: str = "seasonal naive"

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        out = np.empty((len(inputs.panel.stations), len(origins), len(horizons), _P, 8), np.float32)
        for pollutant in range(_P):
            own = inputs.features.pollutants[..., pollutant]
            last = inputs.features.last(pollutant, self.typical[pollutant])[:, origins]
            for at, horizon in enumerate(horizons):
                then, apart = last, np.full(last.shape, min(horizon + 24, LONGEST))
                for days in (3, 2, 1, 0):
                    back = -horizon % 24 + 24 * days
                    same = lagged(own, back)[:, origins]
                    known = ~np.isnan(same)
                    then = np.where(known, same, then)
                    apart = np.where(known, min(horizon + back, LONGEST), apart)
                out[:, :, at, pollutant] = then[..., None] + self.drift[apart - 1, pollutant]
        return ordered(out)


@dataclass(frozen=True)
class Climatology:
    """What the training years had in that month at that hour by the sun: (12, 24, pollutants, 8)."""

    table: Float32
    name: str = "climatology"

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        panel = inputs.panel
        hours = panel.begins + origins[:, None] + np.asarray(horizons)[None]
        out = [self.table[month_and_hour(hours + round(offset))] for offset in panel.offsets]
        return ordered(np.stack(out).astype(np.float32))


def month_and_hour(hours: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Month (0 to 11) and hour of the day of hours since 1970."""
    months = (hours // 24).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months % 12, hours % 24


class _Anchored(NamedTuple):
    """Where horizons lie: the anchors that they need, and of each the two places among these, and how far it
    lies along from the lower one (0 to 1)."""

    needed: list[int]
    lower: Int64
    upper: Int64
    along: Float32


def _between(horizons: Sequence[int]) -> _Anchored:
    lower = [max(anchor for anchor in ANCHORS if anchor <= horizon) for horizon in horizons]
    upper = [min(anchor for anchor in ANCHORS if anchor >= horizon) for horizon in horizons]
    needed = sorted({*lower, *upper})
    along = [0.0 if a == b else (h - a) / (b - a) for a, b, h in zip(lower, upper, horizons, strict=True)]
    return _Anchored(
        needed, np.array([needed.index(a) for a in lower]), np.array([needed.index(b) for b in upper]),
        np.array(along, np.float32),
    )  # fmt: skip


def interpolated(at_anchors: Float32, horizons: Sequence[int], axis: int) -> Float32:
    """A table over all `ANCHORS` along `axis`, at `horizons` instead."""
    needed, lower, upper, along = _between(horizons)
    some = np.take(at_anchors, [ANCHORS.index(anchor) for anchor in needed], axis=axis)
    shape = [1] * some.ndim
    shape[axis] = len(horizons)
    weight = along.reshape(shape)
    return (np.take(some, lower, axis) * (1 - weight) + np.take(some, upper, axis) * weight).astype(
        np.float32
    )


class PollutantRows:
    """The rows of trees and ridge of one pollutant from some origins.

    How the air moved comes last: bundles that were made before it was asked have the columns before it.
    """

    def __init__(self, inputs: ForecastInputs, pollutant: int, origins: Origins) -> None:
        self._inputs, self._pollutant, self._origins = inputs, pollutant, origins
        self._origin = inputs.features.origin(pollutant, origins)
        self._shifts = inputs.features.shifts(pollutant, origins)

    def at(self, horizon: int) -> Float32:
        """(stations * origins, columns)."""
        coming = self._inputs.coming(horizon)
        ahead = self._inputs.features.ahead(self._pollutant, self._origins, horizon, coming)
        rows = np.concatenate([self._origin, ahead, self._shifts], axis=-1)
        return rows.reshape(-1, rows.shape[-1])


class _Tabular:
    """What trees and ridge share: rows at the anchors that are needed, a change since the last value,
    interpolation.
    """

    typical: tuple[float, ...]
    spread: Float32

    def changes(self, rows: Float32, told: int, pollutant: int, horizon: int, /) -> Float32:
        """(rows, 8) in units of `spread`."""
        raise NotImplementedError

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        needed, lower, upper, along = _between(horizons)
        stations = len(inputs.panel.stations)
        out = np.empty((stations, len(origins), len(horizons), _P, 8), np.float32)
        for pollutant in range(_P):
            last = inputs.features.last(pollutant, self.typical[pollutant])[:, origins]
            of_pollutant = PollutantRows(inputs, pollutant, origins)
            at_anchors = np.stack(
                [
                    self.changes(of_pollutant.at(horizon), inputs.told, pollutant, horizon).reshape(
                        stations, len(origins), 8
                    )
                    * self.spread[horizon - 1, pollutant]
                    for horizon in needed
                ],
                axis=2,
            )
            weight = along[:, None]
            change = at_anchors[:, :, lower] * (1 - weight) + at_anchors[:, :, upper] * weight
            out[:, :, :, pollutant] = last[..., None, None] + change
        return ordered(out)


class Serving(NamedTuple):
    """The mean and the `TREE_QUANTILES`, whether they do not see the weather to come that is told, and the
    line that the mean stands on (None: on the last value).
    """

    forests: tuple[Forest, ...]
    blind: bool
    line: "Ridge | None"


Forests = Mapping[tuple[int, int], tuple[Forest, ...]]


@dataclass(frozen=True)
class Trees(_Tabular):
    """Boosted trees on the residual over persistence, the horizon among their columns.

    `forests` has for each (told, pollutant) the mean and the `TREE_QUANTILES`; `first`, `near` and `middle`
    the same up to `FIRST`, `NEAR` and `MIDDLE` (where a bundle has them). In `first` and `near` (0, p) serves
    for both: the weather to come tells next to nothing there. On a line, trees learned what it leaves over.
    """

    forests: Forests
    typical: tuple[float, ...]
    spread: Float32
    name: str = "trees"
    first: Forests = field(default_factory=dict)
    near: Forests = field(default_factory=dict)
    middle: Forests = field(default_factory=dict)
    first_line: "Ridge | None" = None
    near_line: "Ridge | None" = None

    def of(self, told: int, pollutant: int, horizon: int) -> Serving | None:
        """What serves there; None: none was learned."""
        parts = (FIRST, self.first, self.first_line), (NEAR, self.near, self.near_line)
        for until, kept, line in parts:
            for key in ((told, pollutant), (0, pollutant)):
                if horizon <= until and key in kept:
                    return Serving(kept[key], key[0] < told, line)
        for until, kept in ((MIDDLE, self.middle), (HORIZON, self.forests)):
            if horizon <= until and (told, pollutant) in kept:
                return Serving(kept[told, pollutant], False, None)
        return None

    def changes(self, rows: Float32, told: int, pollutant: int, horizon: int, /) -> Float32:
        return self._on_line(self._walked(rows, told, pollutant, horizon), rows, told, pollutant, horizon)

    def _walked(self, rows: Float32, told: int, pollutant: int, horizon: int) -> Float32:
        """What the trees by themselves say: (rows, 8)."""
        serving = self.of(told, pollutant, horizon)
        if serving is None:
            return np.zeros((len(rows), 8), np.float32)
        if serving.blind:
            rows = np.delete(rows, TOLD, axis=1)
        mean, low, middle, high = (forest.predict(rows) for forest in serving.forests)
        below = [middle + (low - middle) * np.float32(far) for far in _ALONG]
        above = [middle + (high - middle) * np.float32(far) for far in reversed(_ALONG)]
        return np.stack([*below, middle, *above, mean], axis=-1)

    def _on_line(self, said: Float32, rows: Float32, told: int, pollutant: int, horizon: int) -> Float32:
        """`said` with its mean on the line, where it stands on one."""
        serving = self.of(told, pollutant, horizon)
        if serving is None or serving.line is None:
            return said
        seen = np.delete(rows, TOLD, axis=1) if serving.blind else rows
        mean = said[:, -1:] + serving.line.means(seen, 0, pollutant, horizon)[:, None]
        return np.concatenate([said[:, :-1], mean], axis=-1)


@dataclass(frozen=True)
class Ridge(_Tabular):
    """Linear in the same columns, one set of weights for each anchor; as wide as it erred, by the level of
    the air.

    `weights[told]` (pollutants, anchors, columns + 1, the last the constant), `centre` and `scale` [told]
    (pollutants, columns), `errors` (2, pollutants, anchors, 7). `filled`: whether an hour of which nothing is
    known is taken to be as the last one (bundles of before took the mean). `furthest`: of `standard`.
    """

    weights: tuple[Float32, Float32]
    centre: tuple[Float32, Float32]
    scale: tuple[Float32, Float32]
    errors: Float32
    typical: tuple[float, ...]
    spread: Float32
    name: str = "ridge"
    filled: bool = False
    furthest: float = 5.0

    def changes(self, rows: Float32, told: int, pollutant: int, horizon: int, /) -> Float32:
        level = ridge_level(rows, self.typical[pollutant])
        mean = self.means(rows, told, pollutant, horizon)
        wide = self.errors[told, pollutant, ANCHORS.index(horizon)] * level[:, None]
        return np.concatenate([mean[:, None] + wide, mean[:, None]], axis=-1).astype(np.float32)

    def means(self, rows: Float32, told: int, pollutant: int, horizon: int) -> Float32:
        """The mean change (rows,), in units of `spread`."""
        return linear(
            self.standard(rows, told, pollutant), self.weights[told][pollutant, ANCHORS.index(horizon)]
        )

    def standard(self, rows: Float32, told: int, pollutant: int) -> Float32:
        """Its columns of `rows` as its weights take them."""
        rows = rows[:, : self.centre[told].shape[1]]
        if self.filled:
            rows = filled(rows, self.typical[pollutant])
        return standard(rows, self.centre[told][pollutant], self.scale[told][pollutant], self.furthest)


def filled(rows: Float32, typical: float) -> Float32:
    """Levels that are unknown are as the last value, the first column; that one is `typical`."""
    known = rows.copy()
    known[:, 0] = np.nan_to_num(rows[:, 0], nan=typical)
    levels = known[:, LEVELS]
    known[:, LEVELS] = np.where(np.isnan(levels), known[:, :1], levels)
    return known


def standard(rows: Float32, centre: Float32, scale: Float32, furthest: float) -> Float32:
    """Rows with mean 0 and spread 1, nothing further than `furthest` from it; what is unknown is the mean."""
    scaled: Float32 = np.clip(np.nan_to_num((rows - centre) / scale, nan=0.0), -furthest, furthest)
    return scaled


def linear(rows: Float32, weights: Float32) -> Float32:
    """rows @ weights + constant, summed column by column: BLAS sums as the batch is large."""
    total = np.full(len(rows), weights[-1], np.float64)
    for column in range(rows.shape[1]):
        total += rows[:, column] * np.float64(weights[column])
    return total.astype(np.float32)


def ridge_level(rows: Float32, typical: float) -> Float32:
    """How large errors are beside those of usual air: by the last value, the first column."""
    return (np.float32(0.3) + np.nan_to_num(rows[:, 0], nan=typical) / np.float32(typical)).astype(np.float32)


class NetworkModel:
    """A network in ONNX over the last `window` hours; every row by itself, so that a batch changes no bit."""

    def __init__(
        self, name: str, graph: bytes, window: int, by: Normalisation, spread: Float32, batch: int = 1
    ) -> None:
        self.name, self._window, self._by, self._spread, self._batch = name, window, by, spread, batch
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
        seen = past(inputs.features, self._by)
        before = self._before(inputs.panel)
        coming = future(inputs.panel, inputs.weather, self._by)
        picked = [horizon - 1 for horizon in horizons]
        spread = self._spread[picked][:, :, None]
        last = np.stack([inputs.features.last(p, self._by.typical[p]) for p in range(_P)], -1)
        out = np.empty((len(seen), len(origins), len(horizons), _P, 8), np.float32)
        for row in range(len(seen)):
            padded = np.concatenate([before[row], seen[row]])
            for start in range(0, len(origins), self._batch):
                hours = origins[start : start + self._batch]
                feeds: dict[str, Any] = {
                    "past": np.stack([padded[hour : hour + self._window] for hour in hours]),
                    "future": np.stack([coming[row, hour + 1 : hour + 1 + HORIZON] for hour in hours]),
                }
                change = np.asarray(self._session.run(["change"], feeds)[0], np.float32)[:, picked]
                out[row, start : start + len(hours)] = last[row, hours][:, None, :, None] + change * spread
        return ordered(out)

    def _before(self, panel: Panel) -> Float32:
        """The hours before the panel, of which nothing is known but what time it was."""
        hours = self._window - 1
        shape = (len(panel.stations), hours, len(CHANNELS))
        earlier = replace(panel, begins=panel.begins - hours, values=np.full(shape, np.nan, np.float32))
        return past(OriginFeatures(earlier), self._by)


def moved(said: Float32, offsets: Float32) -> Float32:
    """Quantiles moved by `offsets` (..., 7) widths, in order again; the mean, made by itself, within them."""
    width = said[..., -2:-1] - said[..., :1]
    out = ordered(np.concatenate([said[..., :-1] + offsets * width, said[..., -1:]], axis=-1))
    out[..., -1] = np.clip(out[..., -1], out[..., 0], out[..., -2])
    return out
