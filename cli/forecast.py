"""`skyfuse forecast`: score forecasts on a folder, train them on one (docs/forecasts.md)."""

import json
import os
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.shared.fitting import fitting, screen
from cli.shared.training import bars, tell_left_out
from datasets.provenance import Provenance
from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.errors import ForecastError
from forecast.evaluation import ForecastScore, evaluate
from forecast.folder import read_panel
from forecast.panel import Panel
from schemas.parameters import LABELS

app = typer.Typer(
    help="Forecasts of the next three days: scored on a folder, trained on one.", no_args_is_help=True
)
#: Rows that ride together in a network when a folder is scored: the stream takes them one by one.
_BATCH: Final = 256


class KnownWeather(StrEnum):
    """What is known of the weather to come."""

    none = "none"
    observed = "observed"


@app.command("evaluate")
def evaluate_forecasts(
    folder: Annotated[Path, typer.Argument(help="Folder in the plain layout; docs/data-layout.md.")],
    bundle: Annotated[str, typer.Option(help="Forecast bundle, or 'default'.")] = "default",
    weather: Annotated[
        KnownWeather,
        typer.Option(
            help="Weather to come: none, or as it was observed, which stands in for a perfect forecast."
        ),
    ] = KnownWeather.none,
    start: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="Forecast from this day on (UTC); what lies before is history."
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            min=1,
            max=168,
            help="Hours from one forecast to the next; 6, say, would see four hours of the day.",
        ),
    ] = 5,
    pollutant: Annotated[str, typer.Option(help="Show only this one, such as pm25.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Score every model from one origin after another, with what was known there and nothing else."""
    if pollutant and pollutant not in LABELS:
        raise typer.BadParameter(f"{pollutant!r} is none of {', '.join(LABELS)}", param_hint="--pollutant")
    loaded = ForecastBundle.load(DEFAULT_FORECAST_BUNDLE if bundle == "default" else Path(bundle))
    panel, problems = _read(folder)
    begins = panel.begins if start is None else int(start.replace(tzinfo=UTC).timestamp()) // 3600
    told = weather == KnownWeather.observed
    with bars(Console(stderr=True, quiet=as_json)) as progress:
        scores = evaluate(panel, loaded.models(_BATCH), begins, every, told, progress)
    scores = [score for score in scores if not pollutant or score.pollutant == pollutant]
    if as_json:
        heading = {
            "bundle": loaded.manifest.name,
            "version": loaded.manifest.version,
            "weather": weather.value,
        }
        typer.echo(json.dumps({**heading, "scores": [score.as_json() for score in scores]}))
        return
    known = sorted(set(panel.stations) & set(loaded.manifest.training.stations))
    console = screen()
    console.print(
        f"{loaded.manifest.name} {loaded.manifest.version}: {len(panel.stations)} stations, every {every} h;"
        " ug/m3; RMSE of the mean, MAE of the median, [where 90 % of weeks drawn anew lie]",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    if told:
        console.print(
            "The weather to come is the observed one: a perfect forecast of it, which nobody has.",
            soft_wrap=True,
        )
    if known:
        console.print(
            f"Trained on {', '.join(map(escape, known))}, too: those are no stations that it never saw.",
            soft_wrap=True,
        )
    for name in dict.fromkeys(score.pollutant for score in scores):
        some = [score for score in scores if score.pollutant == name]
        console.print()
        console.print(f"{LABELS[name]}", style="bold")
        console.print(fitting(console, (_table(some, intervals) for intervals in (True, False))))
    tell_left_out(problems)


def _table(scores: list[ForecastScore], intervals: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("h", "model", "RMSE", "MAE", "CRPS", "in 90 %", "skill", "crossings", "hits", "false"):
        table.add_column(column, no_wrap=True, justify="left" if column == "model" else "right")
    for horizon in dict.fromkeys(score.horizon for score in scores):
        for score in scores:
            if score.horizon != horizon:
                continue
            cells = [
                f"{s.value:.1f} [{s.low:.1f}, {s.high:.1f}]" if intervals else f"{s.value:.1f}"
                for s in (score.rmse, score.mae, score.crps)
            ]
            table.add_row(
                str(horizon), score.model, *cells, f"{100 * score.coverage:.0f} %",
                f"{100 * score.skill:+.0f} %",
                str(score.crossings), str(score.hits), str(score.alarms),
            )  # fmt: skip
    return table


@app.command("train")
def train_forecasts(
    folder: Annotated[Path, typer.Argument(help="Folder in the plain layout; a year or more is worth it.")],
    output: Annotated[Path, typer.Option(help="The bundle that is made.")] = Path("runs/forecast"),
    name: Annotated[str, typer.Option(help="What the bundle is called.")] = "own",
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
    data: Annotated[str, typer.Option(help="What the data is called in manifest and card.")] = "",
    licence: Annotated[str, typer.Option(help="The data's licence.")] = "",
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Learn only from what lies before this day (UTC)."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many epochs of each network.")] = 24,
) -> None:
    """Train every model on a folder: a few minutes a pollutant, an hour or more for the networks without a
    GPU.
    """
    try:
        from forecast.training import run
        from forecast.training.fitting import NetworkConfig
    except ImportError as error:
        raise ForecastError(
            f"training needs the `train` extra ({error.name} is not installed):"
            " add [train] to what you gave pip"
        ) from error
    panel, problems = _read(folder)
    if until is not None:
        panel = panel.between(panel.begins, int(until.replace(tzinfo=UTC).timestamp()) // 3600)
    plan = run.TrainingPlan(
        networks=(
            NetworkConfig("cnn-lstm", epochs=epochs),
            NetworkConfig("cnn-lstm-attention", epochs=epochs, seed=1),
        ),
        jobs=min(os.cpu_count() or 1, 4),
    )  # fmt: skip
    with bars(Console(stderr=True)) as progress:
        manifest = run.train(
            panel, output, name, version, Provenance(data or folder.name, licence or "not stated"), plan,
            progress,
        )  # fmt: skip
    tell_left_out(problems)
    typer.echo(
        f"{output}: {', '.join(manifest.training.learned)}; score it on what was held back:"
        f" skyfuse forecast evaluate HELD_BACK --bundle {output}"
    )


def _read(folder: Path) -> tuple[Panel, list[str]]:
    if not folder.is_dir():
        raise ForecastError(f"{folder} is no folder; docs/data-layout.md says what can be read")
    return read_panel(folder, int(time.time() * 1000))
