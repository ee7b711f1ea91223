"""`skyfuse forecast`: score forecasts on a folder or the store's history, train them on one
(docs/forecasts.md).
"""

import json
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.shared.fitting import fitting, screen
from cli.shared.forecast_report import COLUMNS, forecast_report, of_quarters, of_skill
from cli.shared.training import bars, tell_left_out
from cli.shared.wording import counted
from datasets.provenance import Provenance
from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.errors import ForecastError
from forecast.evaluation import FEW, ForecastScore, erring, evaluate
from forecast.explanation import dependences, explained, sentence
from forecast.features import weather_ahead
from forecast.folder import read_panel
from forecast.history import stored_panel
from forecast.models import ANCHORS, ForecastInputs
from forecast.panel import Panel
from forecast.surrogate import examples
from forecast.telling import amount
from schemas.arrays import Float32
from schemas.parameters import LABELS
from settings.sections import Settings
from sinks.store import Store

app = typer.Typer(help="Forecasts of the next three days: scored, explained, trained.", no_args_is_help=True)
#: Rows that ride together in a network when a folder is scored: the stream takes them one by one.
_BATCH: Final = 256
#: Of a report: hours ahead whose dependence it shows, on so many columns; hours ahead of the forecasts that
#: it explains; from how many origins.
_DEPENDENCE_HOURS: Final = (6, 24)
_COLUMNS: Final = 8
_EXAMPLE_HOURS: Final = 12
_SHOWN_ORIGINS: Final = 40


class KnownWeather(StrEnum):
    """What is known of the weather to come."""

    none = "none"
    observed = "observed"
    erring = "erring"


_FOLDER: Final = typer.Argument(
    help="Folder in the plain layout (docs/data-layout.md); the local store's own history unless given."
)
_STORE: Final = typer.Option("--store", help="Another store, such as that of a replay.")

_TOLD: Final = {
    KnownWeather.none: "The weather is known until each forecast is made, and not beyond.",
    KnownWeather.observed: "The weather to come is the observed one: a perfect forecast of it, which nobody"
    " has.",
    KnownWeather.erring: "The weather to come is the observed one with made errors, of the size that"
    " forecasts a day or two ahead have.",
}  # fmt: skip


@app.command("evaluate")
def evaluate_forecasts(
    folder: Annotated[Path | None, _FOLDER] = None,
    store: Annotated[Path | None, _STORE] = None,
    bundle: Annotated[str, typer.Option(help="Forecast bundle, or 'default'.")] = "default",
    weather: Annotated[
        KnownWeather,
        typer.Option(
            help="Weather to come: none; as it was observed, which stands in for a perfect forecast; or that"
            " with errors of a real forecast's size."
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
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also write a page of Markdown, with what forecasts depend on and some of them explained"
            " (--pollutant, or pm25)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Score every model from one origin after another, with what was known there and nothing else."""
    if pollutant and pollutant not in LABELS:
        raise typer.BadParameter(f"{pollutant!r} is none of {', '.join(LABELS)}", param_hint="--pollutant")
    loaded = _bundle(bundle)
    known_as, panel, problems = _known_hours(folder, store)
    begins = panel.begins if start is None else _hour(start)
    ahead = _to_come(panel, weather)
    with bars(Console(stderr=True, quiet=as_json)) as progress:
        scores = evaluate(panel, loaded.models(_BATCH), begins, every, ahead, progress)
    if not scores:
        made = len(range(max(begins - panel.begins, 0), panel.hours - 1, every))
        raise ForecastError(
            f"nothing could be scored: {FEW} forecasts of a pollutant that came true are needed, and the"
            f" {counted(panel.hours, 'hour')} of {known_as}, with a forecast every {every} h (--every),"
            f" make {made} at each station: it takes more hours{', or a smaller --every' * (every > 1)}"
        )
    scores = [score for score in scores if not pollutant or score.pollutant == pollutant]
    if report is not None:
        title = f"{loaded.manifest.name} {loaded.manifest.version} on {known_as}"
        inputs, mix, shown = ForecastInputs(panel, ahead), loaded.mix(_BATCH), pollutant or "pm25"
        first = max(begins - panel.begins, 0)
        origins = np.linspace(first, panel.hours - 1, _SHOWN_ORIGINS).astype(np.int64)
        depends = {
            (shown, hours): dependences(mix, inputs, origins, list(LABELS).index(shown), hours, _COLUMNS)
            for hours in _DEPENDENCE_HOURS
        }
        told = examples(mix, inputs, origins, list(LABELS).index(shown), _EXAMPLE_HOURS)
        report.write_text(forecast_report(title, _TOLD[weather], scores, depends, told))
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
        f"{loaded.manifest.name} {loaded.manifest.version}: {counted(len(panel.stations), 'station')}, every"
        f" {every} h;"
        " ug/m3; RMSE of the mean, MAE of the median, [where 90 % of weeks drawn anew lie]",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    console.print(_TOLD[weather], soft_wrap=True)
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
    for column in COLUMNS:
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
                str(horizon), score.model, *cells, f"{100 * score.coverage:.0f} %", of_quarters(score),
                of_skill(score) if intervals else f"{100 * score.skill:+.0f} %",
                str(score.crossings), str(score.hits), str(score.alarms),
            )  # fmt: skip
    return table


@app.command("explain")
def explain_forecast(
    folder: Annotated[Path, typer.Argument(help="Folder in the plain layout; docs/data-layout.md.")],
    station: Annotated[str, typer.Argument(help="One of its stations.")],
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d"],
            help="When the forecast is made (UTC, a full hour); the end of the folder's hours unless given.",
        ),
    ] = None,
    pollutant: Annotated[str, typer.Option(help="Such as pm25.")] = "pm25",
    ahead: Annotated[int, typer.Option(help=f"Hours ahead: {', '.join(map(str, ANCHORS))}.")] = 12,
    weather: Annotated[
        KnownWeather, typer.Option(help="Weather to come, as in evaluate.")
    ] = KnownWeather.none,
    bundle: Annotated[str, typer.Option(help="Forecast bundle, or 'default'.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Say why a forecast is what it is: what each thing that was known adds to its mean."""
    if pollutant not in LABELS:
        raise typer.BadParameter(f"{pollutant!r} is none of {', '.join(LABELS)}", param_hint="--pollutant")
    if ahead not in ANCHORS:
        raise typer.BadParameter(f"{ahead} is none of {', '.join(map(str, ANCHORS))}", param_hint="--ahead")
    loaded = _bundle(bundle)
    panel, problems = _read(folder)
    if station not in panel.stations:
        raise ForecastError(f"{folder} has no station {station!r}: it has {', '.join(panel.stations)}")
    origin = panel.hours - 1 if at is None else _hour(at) - panel.begins - 1
    if not 0 <= origin < panel.hours:
        raise ForecastError(
            f"{folder} has no hour that ends then: from {_stated(panel.begins + 1)} to"
            f" {_stated(panel.begins + panel.hours)}"
        )
    mix = loaded.mix(_BATCH)
    inputs = ForecastInputs(panel, _to_come(panel, weather))
    found = explained(
        mix, inputs, panel.stations.index(station), origin, list(LABELS).index(pollutant), ahead
    )
    if as_json:
        typer.echo(json.dumps({"station": station, **asdict(found), "words": sentence(found)}))
        return
    console = screen()
    console.print(
        f"{LABELS[pollutant]} at {station}, {ahead} h after {_stated(panel.begins + origin + 1)}:"
        f" a mean of {amount(found.mean)} ug/m3 after {amount(found.last)}, {sentence(found)}",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what was known")
    table.add_column("ug/m3", justify="right", no_wrap=True)
    table.add_row("last value", f"{found.last:.2f}")
    table.add_row("change in an average hour", f"{found.usual:+.2f}")
    for subject, by in sorted(found.shares.items(), key=lambda item: -abs(item[1])):
        if abs(by) >= 0.005:
            table.add_row(subject, f"{by:+.2f}")
    table.add_row("networks and the rest, not shared out", f"{found.unshared:+.2f}")
    console.print(table)
    tell_left_out(problems)


@app.command("train")
def train_forecasts(
    folder: Annotated[Path | None, _FOLDER] = None,
    store: Annotated[Path | None, _STORE] = None,
    output: Annotated[Path, typer.Option(help="The bundle that is made.")] = Path("runs/forecast"),
    name: Annotated[str, typer.Option(help="What the bundle is called.")] = "own",
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
    data: Annotated[str, typer.Option(help="What the data is called in manifest and card.")] = "",
    licence: Annotated[str, typer.Option(help="The data's licence.")] = "",
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Learn only from what lies before this day (UTC)."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many epochs of each network.")] = 16,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="A neural network to train, again for each further one: cnn-lstm, cnn-lstm-attention,"
            " fl-cnn-lstm (shown fuzzy grades), gru, mixer. The first two unless given."
        ),
    ] = None,
) -> None:
    """Train every model on a folder, or on what the local store knows: some minutes a pollutant, as many for
    each network. A year or more is worth it.
    """
    try:
        from forecast.training import run
        from forecast.training.fitting import NetworkConfig
        from forecast.training.network import architectures
        from forecast.training.tables import TablesPlan
    except ImportError as error:
        raise ForecastError(
            f"training needs the `train` extra ({error.name} is not installed): in a clone"
            " `./skyfuse forecast train` installs it; a package from pip is to be installed as skyfuse[train]"
        ) from error
    known_as, panel, problems = _known_hours(folder, store)
    if until is not None:
        panel = panel.between(panel.begins, _hour(until))
    plan = run.TrainingPlan(
        networks=tuple(
            NetworkConfig(kind, epochs=epochs)
            for kind in architectures(network or ("cnn-lstm", "cnn-lstm-attention"))
        ),
        tabular=TablesPlan(jobs=min(os.cpu_count() or 1, 4)),
    )  # fmt: skip
    with bars(Console(stderr=True)) as progress:
        manifest = run.train(
            panel, output, name, version, Provenance(data or known_as, licence or "not stated"), plan,
            progress,
        )  # fmt: skip
    tell_left_out(problems)
    typer.echo(
        f"{output}: {', '.join(manifest.training.learned)}; score it on what was held back:"
        f" skyfuse forecast evaluate HELD_BACK --bundle {output}; the forecast worker takes it with"
        f' forecast.bundle = "{output}" in skyfuse.toml'
    )


def _hour(when: datetime) -> int:
    """Hours since 1970."""
    return int(when.replace(tzinfo=UTC).timestamp()) // 3600


def _stated(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:%MZ}"


def _bundle(named: str) -> ForecastBundle:
    return ForecastBundle.load(DEFAULT_FORECAST_BUNDLE if named == "default" else Path(named))


def _to_come(panel: Panel, weather: KnownWeather) -> Float32 | None:
    """The weather to come, (stations, hours + 72, channels)."""
    if weather == KnownWeather.none:
        return None
    observed = weather_ahead(panel)
    return erring(observed) if weather == KnownWeather.erring else observed


class _KnownHours(NamedTuple):
    """Hours to learn from or to be judged by, where they are from, and what had to be left out."""

    known_as: str
    panel: Panel
    problems: list[str]


def _known_hours(folder: Path | None, store: Path | None) -> _KnownHours:
    """Of a folder, else of a store. Raises ForecastError, StoreError."""
    if folder is not None:
        if store is not None:
            raise typer.BadParameter("give a folder or a store, not both", param_hint="--store")
        return _KnownHours(folder.name, *_read(folder))
    path = store or Settings().store_path
    with Store(path, read_only=True) as kept, bars(Console(stderr=True)) as progress:
        panel = stored_panel(kept, partial(progress, "stations read"))
    return _KnownHours(path.stem, panel, [])


def _read(folder: Path) -> tuple[Panel, list[str]]:
    if not folder.is_dir():
        raise ForecastError(f"{folder} is no folder; docs/data-layout.md says what can be read")
    return read_panel(folder, int(time.time() * 1000))
