"""`skyfuse evaluate`: score a bundle on a folder, through the same code as a worker."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backfill.hourly import read_folder
from cli.errors import QueryError
from cli.shared.evaluating import evaluate_network
from cli.shared.evaluating_drift import evaluate_drift_watch
from cli.shared.fitting import fitting, screen
from cli.shared.training import TrainingLayout, bars, layout_of, tell_left_out
from cli.shared.wording import counted
from datasets.errors import LayoutError
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from model.evaluation.evaluate import EvaluationReport, evaluate
from model.evaluation.histories import OnlineData, read_layout, read_milan
from model.evaluation.online import OnlineProtocol, evaluate_online
from model.evaluation.online_report import OnlineReport
from model.evaluation.region import OUTAGES


def evaluate_command(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder, or 'default'; nothing with --network.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of frames and readings: one test set.")
    ] = None,
    layout: Annotated[
        TrainingLayout | None,
        typer.Option("--format", help="How the folder is laid out; else its files tell."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Also write one JSON line per window (--online: per scored hour)."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Replay in time order: the virtual sensor with made outages.")
    ] = False,
    start: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="--online: score from this day on (the station's zone); learn from what lies before.",
        ),
    ] = None,
    learn_from: Annotated[
        Path | None,
        typer.Option(
            help="--online: learn first from this folder: the same stations' past, in the same layout."
        ),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="Instead: replay this folder's stations as one region with made outages."),
    ] = None,
    outage: Annotated[
        list[int] | None,
        typer.Option(min=1, help="--network: length of the made outages in hours; may be given often."),
    ] = None,
    drift: Annotated[
        bool, typer.Option("--drift", help="--network: make faults, and see when the drift watch names them.")
    ] = False,
    standard: Annotated[
        str | None,
        typer.Option(help="AQI standard of the truth, computed from the readings; else the stated AQI."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the encoder.")] = 1,
) -> None:
    """Score a bundle on a folder, through the same code as a worker."""
    if network is not None:
        if bundle is not None:
            raise typer.BadParameter("--network takes its folder only: skyfuse evaluate --network FOLDER")
        if drift:
            evaluate_drift_watch(network, as_json)
            return
        evaluate_network(network, outage or list(OUTAGES), as_json)
        return
    if outage or drift:
        raise typer.BadParameter("--outage and --drift go with --network")
    if bundle is None or folder is None:
        raise typer.BadParameter("name a bundle and a folder: skyfuse evaluate default FOLDER")
    loaded = Bundle.load(DEFAULT_BUNDLE if str(bundle) == "default" else bundle)
    if online:
        _evaluate_online(loaded, folder, layout_of(folder, layout), start, learn_from, as_json, predictions)
        return
    if start is not None or learn_from is not None:
        raise typer.BadParameter("--start and --learn-from go with --online")
    with bars(Console(stderr=True, quiet=as_json)) as progress:
        report = evaluate(loaded, folder, layout_of(folder, layout), progress, threads, standard, read_folder)
    if predictions is not None:
        _write_lines(predictions, report.predictions)
    if as_json:
        typer.echo(json.dumps({**report.summary, "predictions": report.predictions}, allow_nan=False))
    else:
        _show(report)
        tell_left_out(report.summary["left_out"])


def _write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    try:
        with file.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise QueryError(f"{file} cannot be written: {error.strerror or error}") from error


def _show(report: EvaluationReport) -> None:
    summary = report.summary
    console = screen()
    console.print(
        f"{summary['bundle']}: {counted(summary['windows'], 'window')}, {counted(summary['frames'], 'frame')}"
        f" ({summary['frames_refused']} refused); AQI, RMSE / accuracy",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(fitting(console, (_masks_table(summary["masks"], shown) for shown in (4, 3, 2, 1))))
    console.print(
        "* the best of the US EPA (2012, 2024) and India tables on the sensors shown",
        style="italic", soft_wrap=True,
    )  # fmt: skip
    partly = [entry["said"] for entry in summary["masks"].values() if _said_partly(entry)]
    if partly:
        console.print(
            f"† it said something in a part of the windows only ({100 * min(partly):.0f} % at the least); in"
            " the others the mean of its training stands in, as it does for the tables and the last value. By"
            " site, what was said counts alone.",
            style="italic", soft_wrap=True,
        )  # fmt: skip
    sites = summary["sites_all_inputs"]
    if sites:
        console.print()
        console.print(_sites_table(sites))


def _said_partly(entry: Mapping[str, Any]) -> bool:
    """Whether the model said something in a part of a pattern's windows."""
    return 0 < float(entry.get("said", 1)) < 1


def _masks_table(masks: Mapping[str, Any], shown: int) -> Table:
    """Scores by what was shown, with the first so many predictors."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("inputs", *("model", "tables*", "mean", "last")[:shown], "in 90 %"):
        table.add_column(column, no_wrap=column != "inputs")
    for mask, entry in masks.items():
        scored = entry["aqi"]
        tables = [
            name for name in scored if name.startswith("calculator") and scored[name]["rmse"] is not None
        ]
        best = min(tables, key=lambda name: float(scored[name]["rmse"]), default="")
        cells = []
        for name in ("model", best, "training mean", "last value")[:shown]:
            score = scored.get(name)
            known = score is not None and score["rmse"] is not None
            silent = name == "model" and entry.get("said") == 0
            mark = "†" if name == "model" and _said_partly(entry) else ""
            cells.append(
                f"{score['rmse']:.1f}/{100 * score['accuracy']:.0f} %{mark}" if known and not silent else "-"
            )
        table.add_row(mask, *cells, f"{100 * entry['coverage']:.0f} %" if "coverage" in entry else "-")
    return table


def _sites_table(sites: Mapping[str, Any]) -> Table:
    """Scores by site, every input shown, the worst first: the mean hides it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("site, all inputs", overflow="fold")
    for column in ("windows", "RMSE", "MAE", "accuracy"):
        table.add_column(column, justify="right", no_wrap=True)

    def said(score: float | None) -> str:
        return "-" if score is None else f"{score:.1f}"

    for name, score in sorted(sites.items(), key=lambda item: -(item[1]["rmse"] or 0.0)):
        table.add_row(
            escape(name), str(score["windows"]), said(score["rmse"]), said(score["mae"]),
            f"{100 * score['accuracy']:.0f} %",
        )  # fmt: skip
    return table


def _histories(folder: Path, layout: TrainingLayout) -> list[OnlineData]:
    if layout == TrainingLayout.milan:
        return [read_milan(folder)]
    if layout == TrainingLayout.plain:
        stations, problems = read_layout(folder, read_folder)
        tell_left_out(problems)
        return stations
    raise LayoutError("--online needs frames over many days: --format layout, or milan for the Milan webcam")


def _evaluate_online(
    bundle: Bundle,
    folder: Path,
    layout: TrainingLayout,
    start: datetime | None,
    learn_from: Path | None,
    as_json: bool,
    predictions: Path | None,
) -> None:
    stations = _histories(folder, layout)
    before = {} if learn_from is None else {one.station: one for one in _histories(learn_from, layout)}
    reports: list[OnlineReport] = []
    left_out: list[str] = []
    for data in stations:
        learned = before.get(data.station)
        if learn_from is not None and learned is None:
            left_out.append(f"{data.station}: {learn_from} has nothing of it to learn from")
            continue
        if not data.readings.get("pm25"):
            left_out.append(f"{data.station}: no reading of pm25 to score by")
            continue
        with bars(Console(stderr=True, quiet=as_json)) as progress:
            report = evaluate_online(
                data, bundle, OnlineProtocol(start=None if start is None else start.date()),
                learned=learned, progress=progress,
            )  # fmt: skip
        typer.echo(report.to_json() if as_json else report.to_markdown())
        reports.append(report)
    tell_left_out(left_out)
    if predictions is not None:
        _write_lines(predictions, (hour for report in reports for hour in report.hours()))
    if not reports:
        raise LayoutError(f"{folder}: nothing to score")
