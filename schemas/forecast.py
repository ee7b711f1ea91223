"""What the air at a station will be: quantiles hour by hour, made at one time from what was known then."""

from typing import Annotated, Final

from pydantic import Field

from schemas.base import Record, StationId, UtcTime
from schemas.parameters import Pollutant

#: Hours that a forecast speaks of: the first ends an hour after it is made.
FORECAST_HOURS: Final = 72
#: Levels of the quantiles.
FORECAST_LEVELS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

#: So far ahead reasons are given.
REASONS_HOURS: Final = 12

_Hours = Annotated[tuple[float, ...], Field(min_length=FORECAST_HOURS, max_length=FORECAST_HOURS)]
_Indices = Annotated[tuple[int | None, ...], Field(min_length=FORECAST_HOURS, max_length=FORECAST_HOURS)]


class PollutantForecast(Record):
    """One pollutant, ug/m3; lists are by hour."""

    mean: _Hours
    quantiles: Annotated[
        tuple[_Hours, ...],
        Field(
            min_length=len(FORECAST_LEVELS), max_length=len(FORECAST_LEVELS),
            description="hours of the quantiles .05 .1 .25 .5 .75 .9 .95; they never cross",
        ),
    ]  # fmt: skip
    imputed_share: Annotated[
        float,
        Field(
            ge=0, le=1,
            description="share of the last 24 hours of which nothing was measured, so that it is guessed",
        ),
    ]  # fmt: skip
    models: Annotated[
        dict[str, str],
        Field(
            description="who spoke where it was not the model that the forecast names: by the hours ahead up"
            " to which (from those of the name before it)"
        ),
    ] = {}


class IndexForecast(Record):
    """The index that an hour's concentrations have on a standard's scale, as if they lasted."""

    standard: str
    index: Annotated[_Indices, Field(description="of the medians")]
    lo: Annotated[_Indices, Field(description="of the .05 quantiles")]
    hi: Annotated[_Indices, Field(description="of the .95 quantiles")]
    categories: Annotated[tuple[str, ...], Field(description="of the standard, the best one first")]
    probabilities: Annotated[
        tuple[_Hours, ...], Field(description="by category, that the hour's index lies in it")
    ]
    membership: Annotated[
        tuple[_Hours, ...],
        Field(
            description="by category, the degree to which the index of the medians belongs to it: within 5"
            " points of an edge to both, summing to 1; 0 where there is no index; empty: made by a version"
            " that did not tell"
        ),
    ] = ()

    def degrees(self, hour: int) -> dict[str, float]:
        """The categories to which the index of `hour` (0: the first) belongs, to what degree each; none where
        that is not told.
        """
        return {
            name: row[hour] for name, row in zip(self.categories, self.membership, strict=False) if row[hour]
        }


class ForecastReason(Record):
    """What moves the mean of one pollutant (ug/m3) so far ahead, beside an average hour of the training.

    last + usual + all shares + unshared = mean.
    """

    hours: Annotated[int, Field(ge=1, le=FORECAST_HOURS, description="ahead")]
    last: Annotated[float, Field(description="the last value")]
    mean: float
    usual: Annotated[float, Field(description="the change that is foretold in an average hour")] = 0.0
    shares: Annotated[
        dict[str, float],
        Field(description="what each subject adds: own, neighbours, wind to come ...; exact Shapley values"),
    ] = {}
    unshared: Annotated[float, Field(description="what no share was made of: neural networks")] = 0.0
    words: Annotated[str, Field(max_length=1000, description="the same in a sentence")]


class RunningScore(Record):
    """How forecasts so far ahead did at this station; older ones count less (a month: a third)."""

    count: Annotated[float, Field(ge=0, description="hours that count, older ones less")]
    mae: Annotated[float, Field(description="of the median, ug/m3")]
    rmse: Annotated[float, Field(description="of the mean, ug/m3")]
    crps: Annotated[float, Field(description="twice the mean pinball of the quantiles, ug/m3")]
    coverage: Annotated[float, Field(description="share of outcomes from .05 to .95")]
    skill: Annotated[float, Field(description="1 - MAE / MAE of persistence")]
    models: Annotated[
        dict[str, float],
        Field(description="MAE of each model's median before it was calibrated, ug/m3: all are scored"),
    ] = {}


class Forecast(Record):
    """What was known at the end of an hour of the 72 hours after it. Kafka key: the station id.

    The same inputs give the same bytes, also after a crash. Consumers keep the highest revision per (station,
    issued_at).
    """

    station: StationId
    issued_at: Annotated[UtcTime, Field(description="end of the last hour that was known; the n-th hour"
                                        " foretold begins n - 1 hours after it")]  # fmt: skip
    revision: Annotated[int, Field(ge=1, description="2: made again, late readings had come")]
    model: Annotated[str, Field(max_length=200, description="bundle, its version, and the model in it")]
    weather_issued_at: Annotated[
        UtcTime | None, Field(description="of the newest weather to come that was used; None: none was")
    ] = None
    pollutants: dict[Pollutant, PollutantForecast]
    indices: tuple[IndexForecast, ...]
    history_h: Annotated[
        int | None,
        Field(
            ge=0,
            description="hours of the last week of which anything was measured: with few of them it is the"
            " guess of a stranger; None: made by a version that did not tell",
        ),
    ] = None
    reasons: Annotated[
        dict[Pollutant, ForecastReason], Field(description="of the pollutants that make the index")
    ] = {}
    scores: Annotated[
        dict[Pollutant, dict[str, RunningScore]],
        Field(description="by hours ahead; of what was foretold and has come"),
    ] = {}
