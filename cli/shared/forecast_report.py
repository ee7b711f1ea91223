"""An evaluation of forecasts as a page of Markdown: scores, and what forecasts depend on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from forecast.evaluation import ForecastScore
from forecast.explanation import Dependence
from schemas.parameters import LABELS

#: Of a table of scores.
COLUMNS: Final = (
    "h", "model", "RMSE", "MAE", "CRPS", "in 90 %", "of a quarter", "skill", "crossings", "hits", "false",
)  # fmt: skip


def forecast_report(
    title: str, scores: Sequence[ForecastScore], dependences: Mapping[tuple[str, int], Sequence[Dependence]]
) -> str:
    """`dependences` by pollutant and hours ahead."""
    lines = [f"# {title}", ""]
    for name in dict.fromkeys(score.pollutant for score in scores):
        lines += _scores(name, [score for score in scores if score.pollutant == name])
    for (name, ahead), columns in dependences.items():
        lines += _dependences(name, ahead, columns)
    return "\n".join(lines)


def of_quarters(score: ForecastScore) -> str:
    """The lowest and the highest share of a quarter's outcomes that lay in its 90 %."""
    held = score.quarter_range
    return "" if held is None else f"{100 * held[0]:.0f} to {100 * held[1]:.0f} %"


def _scores(name: str, scores: Sequence[ForecastScore]) -> Iterator[str]:
    yield f"## {LABELS[name]}"
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for score in sorted(scores, key=lambda one: one.horizon):
        cells = [f"{s.value:.1f} ({s.low:.1f} to {s.high:.1f})" for s in (score.rmse, score.mae, score.crps)]
        yield (
            f"| {score.horizon} | {score.model} | {' | '.join(cells)} | {100 * score.coverage:.0f} % |"
            f" {of_quarters(score)} | {100 * score.skill:+.0f} % |"
            f" {score.crossings} | {score.hits} | {score.alarms} |"
        )
    yield ""


def _dependences(name: str, ahead: int, columns: Sequence[Dependence]) -> Iterator[str]:
    yield f"## What {LABELS[name]} {ahead} h ahead depends on"
    yield ""
    yield "Mean size of the Shapley value; then the mean change foretold where the column is at its quantiles"
    yield "(partial dependence of ridge and trees in the mix), ug/m3."
    yield ""
    yield "| column | moves by | .05 | .25 | .5 | .75 | .95 |"
    yield "|---|---|---|---|---|---|---|"
    for one in columns:
        cells = [f"{value:.3g}: {change:+.3g}" for value, change in zip(one.values, one.changes, strict=True)]
        yield f"| {one.column} | {one.weight:.3g} | {' | '.join(cells)} |"
    yield ""
