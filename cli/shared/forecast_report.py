"""An evaluation of forecasts as a page of Markdown: scores, what forecasts depend on, a few explained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from forecast.evaluation import CROSSINGS, ForecastScore
from forecast.explanation import Dependence, sentence
from forecast.surrogate import ExplainedForecast
from forecast.telling import amount
from schemas.base import from_ms
from schemas.parameters import LABELS

#: Of a table of scores.
COLUMNS: Final = (
    "h", "model", "RMSE", "MAE", "CRPS", "in 90 %", "of a quarter", "skill", "crossings", "hits", "false",
)  # fmt: skip


def forecast_report(
    title: str, told: str, scores: Sequence[ForecastScore],
    dependences: Mapping[tuple[str, int], Sequence[Dependence]], examples: Sequence[ExplainedForecast],
) -> str:  # fmt: skip
    """`told`: what was known of the weather to come; `dependences` by pollutant and hours ahead."""
    lines = [
        f"# {title}", "", told, "",
        "ug/m3: RMSE of the mean, MAE of the median, CRPS of the quantiles, and where 90 % of scores of weeks"
        " drawn anew lie; skill: 1 - MAE / MAE of persistence. A crossing: the value was not above the"
        " threshold, and came to be; hits were foretold by the median, false ones in vain.", "",
    ]  # fmt: skip
    for name in dict.fromkeys(score.pollutant for score in scores):
        lines += _scores(name, [score for score in scores if score.pollutant == name])
    for (name, ahead), columns in dependences.items():
        lines += _dependences(name, ahead, columns)
    lines += _examples(examples)
    return "\n".join(lines)


def of_quarters(score: ForecastScore) -> str:
    """The lowest and the highest share of a quarter's outcomes that lay in its 90 %."""
    held = score.quarter_range
    return "" if held is None else f"{100 * held[0]:.0f} to {100 * held[1]:.0f} %"


def of_skill(score: ForecastScore) -> str:
    """Skill against persistence, and where it lies for 90 % of draws of weeks."""
    low, high = score.skill_range
    return f"{100 * score.skill:+.0f} % [{100 * low:+.0f}, {100 * high:+.0f}]"


def _scores(name: str, scores: Sequence[ForecastScore]) -> Iterator[str]:
    yield f"## {LABELS[name]}"
    yield ""
    yield f"Threshold of crossings: {CROSSINGS[name]:g} ug/m3."
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for score in sorted(scores, key=lambda one: one.horizon):
        cells = [f"{s.value:.1f} ({s.low:.1f} to {s.high:.1f})" for s in (score.rmse, score.mae, score.crps)]
        yield (
            f"| {score.horizon} | {score.model} | {' | '.join(cells)} | {100 * score.coverage:.0f} % |"
            f" {of_quarters(score)} | {of_skill(score)} |"
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


def _examples(examples: Sequence[ExplainedForecast]) -> Iterator[str]:
    if not examples:
        return
    yield f"## {LABELS[examples[0].exact.pollutant]}: three forecasts {examples[0].exact.horizon} h ahead"
    yield ""
    yield "The one that rises most, the one that falls most, and one in the middle. Exact: Shapley values of"
    yield "trees and ridge beside an average hour of the training. Line: a local surrogate in LIME's manner,"
    yield "a ridge over what the whole mix, networks too, says where some of what was known is as usual."
    yield "Where the two agree, believe them; where the line explains little of its copies, believe it not."
    for one in examples:
        hour = from_ms((one.origin + 1) * 3_600_000)
        yield ""
        exact = one.exact
        yield (
            f"**{one.station}, {hour:%Y-%m-%d %H:%M} UTC**: a mean of {amount(exact.mean)} after"
            f" {amount(exact.last)} ug/m3, {sentence(exact)}."
            f" The line explains {100 * one.local.fidelity:.0f} % of its copies."
        )
        yield ""
        yield "| what was known | exact | line |"
        yield "|---|---|---|"
        for subject, share in sorted(exact.shares.items(), key=lambda item: -abs(item[1])):
            if subject not in one.local.shares and abs(share) < 0.005:
                continue
            line = f"{one.local.shares[subject]:+.2f}" if subject in one.local.shares else ""
            yield f"| {subject} | {share:+.2f} | {line} |"
        yield f"| networks and the rest, not shared out | {exact.unshared:+.2f} | |"
    yield ""
