"""How faithful made years are to the measured ones, and whether they give measured days away."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from forecast.evaluation import CROSSINGS
from forecast.panel import Panel
from schemas.arrays import Float64
from schemas.parameters import POLLUTANTS

LAGS: Final = (1, 6, 24, 168)
AHEAD: Final = (1, 6, 24)
_QUANTILES: Final = (0.05, 0.5, 0.95, 0.999)
#: Hours of a pollutant at a station from which it is looked at.
_FEW: Final = 500
#: The last part of the measured time: it tests what was learned of either, and what days are like that
#: nobody copied.
_HELD_BACK: Final = 0.25
#: What a line that foretells is shown of the last hours.
_SHOWN: Final = (0, 1, 2, 3, 6, 12, 23, 24)
#: Days that are compared at most, on either side.
_DAYS: Final = 3000


@dataclass(frozen=True)
class PollutantFidelity:
    """One pollutant over all stations, measured and made, in this order where there are two.

    `distance` is the largest difference of the two distribution functions (Kolmogorov and Smirnov);
    `quantiles` at .05 .5 .95 .999 and `highest` in ug/m3; `autocorrelation` by hours; `together` the mean
    correlation of two stations; `exceedances` the share of hours above `threshold`; `learned` the RMSE on the
    end of the measured time, by hours ahead, of a line that learned from the measured time before and of one
    that learned from the made.
    """

    pollutant: str
    distance: float
    mean: tuple[float, float]
    quantiles: tuple[tuple[float, ...], tuple[float, ...]]
    highest: tuple[float, float]
    autocorrelation: dict[int, tuple[float, float]]
    together: tuple[float, float] | None
    threshold: float
    exceedances: tuple[float, float]
    learned: dict[int, tuple[float, float]]


@dataclass(frozen=True)
class Privacy:
    """How near made days lie to measured ones: days of 24 hours of one pollutant at one station.

    `usual` is the distance from a day of the end of the measured time to the nearest of the time before, by
    its .05 quantile and median; `made` the same of made days to the nearest measured one; `close` the share
    of made days that are nearer than `usual`'s .05 quantile (.05 is what strangers have); `copies` the share
    that are a measured day.
    """

    pollutant: str
    usual: tuple[float, float]
    made: tuple[float, float]
    close: float
    copies: float


@dataclass(frozen=True)
class FidelityReport:
    """All of it."""

    pollutants: tuple[PollutantFidelity, ...]
    privacy: Privacy | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def fidelity(measured: Panel, made: Panel) -> FidelityReport:
    """Of the pollutants that were measured for `_FEW` hours at a station."""
    found = []
    for column, name in enumerate(POLLUTANTS):
        real, ours = (panel.values[..., column].astype(np.float64) for panel in (measured, made))
        if np.isfinite(real).sum() >= _FEW and np.isfinite(ours).sum() >= _FEW:
            found.append(_of_pollutant(name, real, ours))
    if not found:
        return FidelityReport((), None)
    first = POLLUTANTS.index(found[0].pollutant)
    privacy = _privacy(
        found[0].pollutant,
        measured.values[..., first].astype(np.float64),
        made.values[..., first].astype(np.float64),
    )
    return FidelityReport(tuple(found), privacy)


def _of_pollutant(name: str, real: Float64, ours: Float64) -> PollutantFidelity:
    known, invented = real[np.isfinite(real)], ours[np.isfinite(ours)]
    edge = CROSSINGS[name]
    split = int(real.shape[1] * (1 - _HELD_BACK))
    together = (_together(real), _together(ours)) if len(real) > 1 else None
    return PollutantFidelity(
        name, _distance(known, invented), (float(known.mean()), float(invented.mean())),
        (_quantiles(known), _quantiles(invented)), (float(known.max()), float(invented.max())),
        {lag: (_autocorrelation(real, lag), _autocorrelation(ours, lag)) for lag in LAGS}, together, edge,
        (float((known > edge).mean()), float((invented > edge).mean())),
        {
            ahead: (
                _learned(real[:, :split], real[:, split:], ahead), _learned(ours, real[:, split:], ahead)
            )
            for ahead in AHEAD
        },
    )  # fmt: skip


def _quantiles(values: Float64) -> tuple[float, ...]:
    return tuple(np.quantile(values, _QUANTILES).tolist())


def _distance(one: Float64, other: Float64) -> float:
    at = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(part), at, "right") / len(part) for part in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _correlation(one: Float64, other: Float64) -> float:
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 48 or not (one[known].std() and other[known].std()):
        return float("nan")
    return float(np.corrcoef(one[known], other[known])[0, 1])


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _autocorrelation(series: Float64, lag: int) -> float:
    return _mean([_correlation(row[lag:], row[:-lag]) for row in series])


def _together(series: Float64) -> float:
    pairs = [(a, b) for a in range(len(series)) for b in range(a)]
    return _mean([_correlation(series[a], series[b]) for a, b in pairs])


def _learned(learn: Float64, test: Float64, ahead: int) -> float:
    """RMSE on `test` of a line in the last hours and the clock of the day, fitted to `learn`."""
    rows, target = _rows(learn, ahead)
    tried, truth = _rows(test, ahead)
    if len(target) < 100 or len(truth) < 100:
        return float("nan")
    centre, scale = rows.mean(0), rows.std(0) + 1e-6
    known = np.c_[(rows - centre) / scale, np.ones(len(rows))]
    penalty = 1e-3 * len(known) * np.eye(known.shape[1])
    penalty[-1, -1] = 0.0
    weights = np.linalg.solve(known.T @ known + penalty, known.T @ target)
    said = np.c_[(tried - centre) / scale, np.ones(len(tried))] @ weights
    return float(np.sqrt(np.mean((said - truth) ** 2)))


def _rows(series: Float64, ahead: int) -> tuple[Float64, Float64]:
    most, hours = max(_SHOWN), series.shape[1]
    at = np.arange(most, max(hours - ahead, most))
    day = 2 * np.pi * (at % 24) / 24
    parts, targets = [], []
    for row in series:
        shown = np.stack([row[at - back] for back in _SHOWN] + [np.sin(day), np.cos(day)], axis=1)
        target = row[at + ahead]
        known = np.isfinite(shown).all(1) & np.isfinite(target)
        parts.append(shown[known])
        targets.append(target[known])
    return np.concatenate(parts), np.concatenate(targets)


def _privacy(name: str, real: Float64, ours: Float64) -> Privacy | None:
    split = int(real.shape[1] * (1 - _HELD_BACK)) // 24 * 24
    before, after, invented = _days(real[:, :split]), _days(real[:, split:]), _days(ours)
    every = np.concatenate([before, after])
    if min(len(before), len(after), len(invented)) < 20:
        return None
    usual, made = _nearest(after, before), _nearest(invented, every)
    near = float(np.quantile(usual, 0.05))
    return Privacy(
        name, (near, float(np.median(usual))), (float(np.quantile(made, 0.05)), float(np.median(made))),
        float((made < near).mean()), float((made < 1e-6).mean()),
    )  # fmt: skip


def _days(series: Float64) -> Float64:
    """Whole days as log levels (days, 24), at most `_DAYS` of them."""
    days = series[:, : series.shape[1] // 24 * 24].reshape(-1, 24)
    days = np.log1p(np.maximum(days[np.isfinite(days).all(1)], 0.0))
    return days[:: max(-(-len(days) // _DAYS), 1)]


def _nearest(days: Float64, others: Float64) -> Float64:
    """Root mean square distance of each day to the nearest of the others."""
    found = [
        np.sqrt(((part[:, None] - others[None]) ** 2).mean(2).min(1))
        for part in np.array_split(days, max(len(days) // 50, 1))
    ]
    return np.concatenate(found)
