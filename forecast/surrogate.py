"""A forecast as a line through what the same model says of altered inputs: a local surrogate in the manner of
LIME (Ribeiro, Singh and Guestrin 2016, "Why should I trust you?", KDD). Pure.

Of each altered copy some subjects are kept and the others are as usual (each series' median in the folder);
a ridge, weighted by how alike a copy is to what was, says what keeping a subject adds. It asks only what
comes out: so it speaks of the whole mix, neural networks too, of which exact Shapley values
(`forecast.explanation`) know only trees and ridge; and it is a line, as good as its `fidelity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.columns import SKY, SKY_TO_COME, Subject
from forecast.explanation import ForecastExplanation, explained, last_values
from forecast.features import LOOKBACK
from forecast.mix import Mix
from forecast.models import ForecastInputs
from forecast.panel import HORIZON, Panel
from schemas.arrays import Float32, Float64, Int64
from schemas.parameters import POLLUTANTS

#: Altered copies of the inputs.
_COPIES: Final = 128
#: How fast a copy counts less as more of it is altered, in roots of the number of subjects (LIME's).
_KERNEL: Final = 0.75
#: So small that it only keeps a line defined where two subjects never differ.
_PENALTY: Final = 1e-3
_P: Final = len(POLLUTANTS)


@dataclass(frozen=True)
class LocalSurrogate:
    """`shares`: what each subject's being as it was, and not as usual, adds to the change that is foretold,
    ug/m3. `fidelity`: how much of the copies' weighted variance the line explains (R2, 1 at best).
    """

    shares: Mapping[Subject, float]
    fidelity: float


@dataclass(frozen=True)
class ExplainedForecast:
    """A forecast from the end of the hour `origin` (since 1970), explained both ways."""

    station: str
    origin: int
    exact: ForecastExplanation
    local: LocalSurrogate


def surrogate(
    mix: Mix, inputs: ForecastInputs, station: int, origin: int, pollutant: int, horizon: int
) -> LocalSurrogate:
    """Of the mean that `mix` foretells for a station (its row) from the end of the panel's hour `origin`."""
    subjects, copies = _subjects(inputs.told), np.random.default_rng(0)
    kept = np.ones((_COPIES, len(subjects)), np.bool_)
    for row in kept[1:]:
        row[copies.choice(len(subjects), copies.integers(1, len(subjects) + 1), replace=False)] = False
    altered = _altered(inputs, station, origin, pollutant, kept)
    rows = np.arange(_COPIES) * (len(altered.panel.stations) // _COPIES)
    last_hour = altered.panel.hours - 1
    said = mix.predict(altered, np.array([last_hour]), (horizon,))[rows, 0, 0, pollutant, -1]
    last = last_values(mix, altered, pollutant)[rows, last_hour]
    shares, fidelity = _line(kept, said.astype(np.float64) - last)
    return LocalSurrogate(dict(zip(subjects, shares.tolist(), strict=True)), fidelity)


def examples(
    mix: Mix, inputs: ForecastInputs, origins: Int64, pollutant: int, horizon: int
) -> list[ExplainedForecast]:
    """Of all stations at `origins` of the panel the forecast that rises most, the one that falls most, and
    the one whose change is in the middle.
    """
    said = mix.predict(inputs, origins, (horizon,))[:, :, 0, pollutant, -1]
    change = said - last_values(mix, inputs, pollutant)[:, origins]
    order = np.argsort(np.abs(change), axis=None, kind="stable")
    found = []
    for place in dict.fromkeys((int(change.argmax()), int(change.argmin()), int(order[len(order) // 2]))):
        station, at = (int(one) for one in np.unravel_index(place, change.shape))
        origin = int(origins[at])
        found.append(
            ExplainedForecast(
                inputs.panel.stations[station], inputs.panel.begins + origin,
                explained(mix, inputs, station, origin, pollutant, horizon),
                surrogate(mix, inputs, station, origin, pollutant, horizon),
            )
        )  # fmt: skip
    return found


def _subjects(told: int) -> tuple[Subject, ...]:
    """What a copy may have as usual. The clock is not: no hour is a usual one."""
    now: tuple[Subject, ...] = ("own", "neighbours", "others", *SKY)
    return tuple(dict.fromkeys((*now, *SKY_TO_COME) if told else now))


def _altered(
    inputs: ForecastInputs, station: int, origin: int, pollutant: int, kept: NDArray[np.bool_]
) -> ForecastInputs:
    """The copies as one panel that ends with `origin`: each a region of its own, with the station first."""
    panel, first = inputs.panel, max(origin + 1 - LOOKBACK, 0)
    near = [
        row for row in range(len(panel.stations))
        if row != station and (not panel.regions or panel.regions[row] == panel.regions[station])
    ]  # fmt: skip
    rows = [station, *near]
    subjects = _subjects(inputs.told)
    known, usual = _beside_usual(panel.values[rows], slice(first, origin + 1))
    of_value = np.full((len(rows), _P + len(SKY)), subjects.index("others"))
    of_value[:, pollutant] = subjects.index("neighbours")
    of_value[0, pollutant] = subjects.index("own")
    of_value[:, _P:] = [subjects.index(subject) for subject in SKY]
    values = np.where(kept[:, of_value][:, :, None], known, usual)
    weather = None
    if inputs.weather is not None:
        known, usual = _beside_usual(inputs.weather[rows], slice(first, origin + 1 + HORIZON))
        come = kept[:, [subjects.index(subject) for subject in SKY_TO_COME]]
        weather = np.where(come[:, None, None], known, usual).reshape(-1, *known.shape[1:])
    copies = range(len(kept))
    return ForecastInputs(
        Panel(
            tuple(f"{copy}/{row}" for copy in copies for row in rows), panel.begins + first,
            tuple(panel.offsets[row] for _ in copies for row in rows), values.reshape(-1, *values.shape[2:]),
            tuple(copy for copy in copies for _ in rows),
        ),
        weather,
    )  # fmt: skip


def _beside_usual(series: Float32, hours: slice) -> tuple[Float32, Float32]:
    """`series` (stations, hours, channels) in some `hours`, and the same with each known value as usual."""
    never = np.isnan(series).all(axis=1, keepdims=True)
    usual = np.nanmedian(np.where(never, np.float32(0), series), axis=1, keepdims=True)
    known = series[:, hours]
    return known, np.where(np.isnan(known), known, usual)


def _line(kept: NDArray[np.bool_], change: Float64) -> tuple[Float64, float]:
    """What keeping each subject adds, and the weighted R2."""
    design = kept.astype(np.float64)
    weight = np.exp(-(~kept).sum(axis=1) / (_KERNEL**2 * kept.shape[1]))
    weight /= weight.sum()
    centred, target = design - weight @ design, change - weight @ change
    weighed = centred * weight[:, None]
    shares = np.linalg.solve(centred.T @ weighed + _PENALTY * np.eye(kept.shape[1]), weighed.T @ target)
    spread = float(weight @ target**2)
    left = float(weight @ (target - centred @ shares) ** 2)
    return shares, 1 - left / spread if spread > 0 else 1.0
