"""Forecasts scored from one origin after another, with what was known there and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecast.calibration import calibrated
from forecast.errors import ForecastError
from forecast.local import LOCAL
from forecast.mix import said_by_each
from forecast.models import ForecastInputs, ForecastModel, Persistence
from forecast.panel import HORIZON, Panel, crps
from forecast.rehearsal import rehearsed
from model.evaluation.blocks import drawn_means
from model.evaluation.progress import Progress
from schemas.arrays import Float32
from schemas.parameters import POLLUTANTS

HORIZONS: Final = (1, 3, 6, 12, 24, 48, 72)
#: Where a forecast of a crossing is counted, in ug/m3: US EPA 2024, lower edge of "Unhealthy", for particles;
#: for gases hourly limits of EU 2008/50 (NO2, SO2, the alert-free ozone 180) and 10 mg/m3 of CO.
CROSSINGS: Final = {"pm25": 55.5, "pm10": 255.0, "no2": 200.0, "so2": 350.0, "co": 10_000.0, "o3": 180.0}
#: How it is called what the stream would have published.
PUBLISHED: Final = "published"
#: Hours before the first origin from which on it is learned what is learned on the way.
_LEARNS_BEFORE: Final = 180 * 24
FEW: Final = 24
#: Outcomes from which a quarter's coverage says something: with fewer it is off by 2 % by chance alone.
_OF_A_QUARTER: Final = 300


class ScoreInterval(NamedTuple):
    """A score, and where 90 % of the scores of weeks drawn anew lie."""

    value: float
    low: float
    high: float


class QuarterCoverage(NamedTuple):
    """Outcomes of a quarter of a year, and what share of them lay from .05 to .95."""

    outcomes: int
    coverage: float


@dataclass(frozen=True)
class ForecastScore:
    """How one model did for one pollutant and horizon.

    RMSE is the mean's, MAE the median's; `crps` twice the mean pinball of the seven quantiles; `coverage`
    what share of outcomes lay from .05 to .95, `quarters` that of each quarter of a year, by the end of its
    hours (UTC); `skill` 1 - MAE / MAE of persistence, `skill_range` where it lies for 90 % of draws of
    weeks, the same weeks for both; of `crossings` hours above the threshold that were not
    above it at the origin, `hits` were foretold by the median, and `alarms` were foretold in vain.
    """

    model: str
    pollutant: str
    horizon: int
    count: int
    rmse: ScoreInterval
    mae: ScoreInterval
    crps: ScoreInterval
    coverage: float
    quarters: dict[str, QuarterCoverage]
    skill: float
    skill_range: tuple[float, float]
    skill_rmse: float
    crossings: int
    hits: int
    alarms: int

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            key: list(value) if isinstance(value, ScoreInterval) else value
            for key, value in self.__dict__.items()
        } | {"quarters": {name: quarter._asdict() for name, quarter in self.quarters.items()}}

    @property
    def quarter_range(self) -> tuple[float, float] | None:
        """The lowest and the highest coverage of a quarter; None where none has outcomes enough."""
        held = [quarter.coverage for quarter in self.quarters.values() if quarter.outcomes >= _OF_A_QUARTER]
        return (min(held), max(held)) if held else None


#: How far forecasts of the weather are off a day or two ahead, by `WEATHER_CHANNELS` but the wind's parts
#: and rain: K, K, hPa; the parts in m/s. Of the size that weather services report of theirs; not measured
#: here.
_ERRORS: Final = (2.0, 2.5, 1.5)
_WIND_ERROR: Final = 1.2
#: What is left of such an error an hour later.
_LASTS: Final = 0.93
#: Of hours with rain those that nobody foretold.
_RAIN_MISSED: Final = 0.3


def erring(weather: Float32, seed: int = 0) -> Float32:
    """The weather to come as a forecast has it: `weather` (stations, hours, channels) with errors of a real
    one's size, that last for some hours and are the same for all stations, however far ahead.
    """
    random = np.random.default_rng(seed)
    noise = random.standard_normal((weather.shape[1], 6)) * np.sqrt(1 - _LASTS**2)
    noise[0] /= np.sqrt(1 - _LASTS**2)
    for hour in range(1, len(noise)):
        noise[hour] += _LASTS * noise[hour - 1]
    heat, wind = noise[:, :3] * _ERRORS, noise[:, 3:5] * _WIND_ERROR
    out = weather.copy()
    out[..., :3] += heat.astype(np.float32)
    out[..., 3:5] += wind.astype(np.float32)
    # A mean speed is more than that of the mean wind, and a forecast of it is no larger on the whole.
    out[..., 5] = np.maximum(weather[..., 5] + noise[:, 5].astype(np.float32), 0.0)
    dry = random.random(len(noise)) < _RAIN_MISSED
    out[..., 6] = np.where(dry, 0.0, weather[..., 6] * np.exp(noise[:, 5]))
    return np.where(np.isnan(weather), np.float32(np.nan), out).astype(np.float32)


def evaluate(
    panel: Panel, models: Sequence[ForecastModel], start: int, every: int, weather: Float32 | None,
    progress: Progress,
) -> list[ForecastScore]:  # fmt: skip
    """Scores of every model, pollutant and horizon, from origins `every` hours apart, the first at hour
    `start` (since 1970) or at the panel's first; then of the last model as its stations correct it, and of
    what the stream would have published. What is learned on the way is learned from half a year before the
    first origin on, where there are such hours. `weather` to come (`weather_ahead`, or `erring` of that):
    None where none is told.
    """
    first = max(start - panel.begins, 0)
    warm = min(first, _LEARNS_BEFORE) // every
    origins = np.arange(first - warm * every, panel.hours - 1, every)
    if len(origins) <= warm:
        raise ForecastError(
            "no hour is left to forecast from: give an earlier start or a folder with more hours"
        )
    inputs = ForecastInputs(panel, weather)
    truth = _truth(panel, origins)
    last = panel.values[:, origins[warm:], : len(POLLUTANTS)]
    scores: list[ForecastScore] = []
    floor: dict[tuple[str, int], _Floor] = {}
    each: list[Float32] = []

    def score(name: str, raw: Float32) -> None:
        said = calibrated(raw, truth, HORIZONS, every)[:, warm:]
        scores.extend(_scores(name, said, truth[:, warm:], last, panel.begins + origins[warm:], floor))
        progress("models", len(each), len(models) + 1)

    for model, raw in zip(models, said_by_each(models, inputs, origins, HORIZONS), strict=True):
        each.append(raw)
        score(model.name, raw)
    typical = next(model.typical for model in models if isinstance(model, Persistence))
    of_stream = rehearsed(each, truth, inputs.features, origins, HORIZONS, typical, every)
    for name, raw in zip((LOCAL, PUBLISHED), of_stream, strict=True):
        score(name, raw)
    progress("models", len(models) + 1, len(models) + 1)
    return scores


class _Floor(NamedTuple):
    """Persistence: MAE, RMSE, and its MAE in each draw of weeks (the same for every model)."""

    mae: float
    rmse: float
    drawn: NDArray[np.float64]


def _truth(panel: Panel, origins: NDArray[np.int64]) -> Float32:
    """What was measured: (stations, origins, horizons, pollutants), NaN after the end."""
    nothing = np.full((len(panel.stations), HORIZON, len(POLLUTANTS)), np.nan, np.float32)
    known = np.concatenate([panel.values[..., : len(POLLUTANTS)], nothing], axis=1)
    return np.stack([known[:, origins + horizon] for horizon in HORIZONS], axis=2)


def _scores(
    model: str, said: Float32, truth: Float32, last: Float32, hours: NDArray[np.int64],
    floor: dict[tuple[str, int], _Floor],
) -> Iterator[ForecastScore]:  # fmt: skip
    for column, pollutant in enumerate(POLLUTANTS):
        for place, horizon in enumerate(HORIZONS):
            outcome, forecast = truth[:, :, place, column], said[:, :, place, column]
            known = np.isfinite(outcome)
            if known.sum() < FEW:
                continue
            y, q = outcome[known].astype(np.float64), forecast[known].astype(np.float64)
            hour = np.broadcast_to(hours, outcome.shape)[known]
            square, absolute = (q[:, 7] - y) ** 2, np.abs(q[:, 3] - y)
            score = crps(q[:, :7], y)
            drawn = drawn_means(hour // 168, np.stack([square, absolute, score], 1))
            rmse, mae = float(np.sqrt(square.mean())), float(absolute.mean())
            if model == "persistence":
                floor[pollutant, horizon] = _Floor(mae, rmse, drawn[:, 1])
            base = floor.get((pollutant, horizon), _Floor(np.nan, np.nan, drawn[:, 1]))
            skills = [_skill(*both) for both in zip(drawn[:, 1].tolist(), base.drawn.tolist(), strict=True)]
            skill_low, skill_high = np.quantile(skills, (0.05, 0.95)).tolist()
            edge = CROSSINGS[pollutant]
            now = last[:, :, column][known]
            calm = np.isfinite(now) & (now <= edge)
            inside = (y >= q[:, 0]) & (y <= q[:, 6])
            crossed, foretold = (y > edge) & calm, (q[:, 3] > edge) & calm
            yield ForecastScore(
                model, pollutant, horizon, int(known.sum()),
                ScoreInterval(rmse, *np.sqrt(np.quantile(drawn[:, 0], (0.05, 0.95))).tolist()),
                ScoreInterval(mae, *np.quantile(drawn[:, 1], (0.05, 0.95)).tolist()),
                ScoreInterval(float(score.mean()), *np.quantile(drawn[:, 2], (0.05, 0.95)).tolist()),
                float(inside.mean()), _by_quarter(hour + horizon, inside),
                _skill(mae, base.mae), (skill_low, skill_high), _skill(rmse, base.rmse),
                int(crossed.sum()), int((crossed & foretold).sum()), int((foretold & ~crossed).sum()),
            )  # fmt: skip


def _by_quarter(hours: NDArray[np.int64], inside: NDArray[np.bool_]) -> dict[str, QuarterCoverage]:
    """`inside` by the quarter of `hours` (since 1970), named as 2016-Q2."""
    months = hours.astype("datetime64[h]").astype("datetime64[M]").astype(np.int64)
    quarters = months // 3
    return {
        f"{1970 + one // 4}-Q{one % 4 + 1}": QuarterCoverage(
            int((quarters == one).sum()), float(inside[quarters == one].mean())
        )
        for one in np.unique(quarters).tolist()
    }


def _skill(error: float, floor: float) -> float:
    """1: no error; 0: that of persistence (or persistence has none, or was not asked)."""
    return 1 - error / floor if floor > 0 else 0.0
