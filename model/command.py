"""`skyfuse train`, `evaluate`, `export` and `explain`: thin commands over this package.

Torch is imported inside `train` and `export` only; `evaluate` and `explain` need nothing but the run time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from datasets.errors import LayoutError
from infra.errors import QueryError
from infra.fitting import fitting, screen
from infra.wording import counted
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from model.errors import TrainingError
from model.evaluation.evaluate import Report, evaluate
from model.evaluation.online import OnlineData, OnlineReport, evaluate_online, read_layout, read_milan

__all__ = ["evaluate_command", "export_command", "train_command"]

DATA: Final = "Air Pollution Image Dataset from India and Nepal (Rouniyar, Utomo, John A, Hsiung 2023)"
#: What has to be known of that data; goes into the card.
REMARKS: Final = (
    "The AQI values were read off portals of different national scales; classes have US EPA edges."
    " The concentration columns are taken as they stand. NO2, SO2, CO and O3 have no unit there: the bundle"
    " withholds them, neither reading nor telling them. PM10 agrees with official hourly ug/m3 at the same"
    " place. PM2.5 does in clean air and in Nepal; above about 60 at Indian portals it reads like India's"
    " sub-index, up to three times the concentration: at a site that was not trained on its interval is"
    " 1.75 times as wide, which covers that."
)
LICENCE: Final = "CC BY-NC-SA 3.0 IGO (non-commercial, share alike)"


_PROBLEMS_SHOWN: Final = 20


class Layout(StrEnum):
    """How a folder of frames and readings is laid out."""

    india_nepal = "india-nepal"
    plain = "layout"
    milan = "milan"


class Ablation(StrEnum):
    """What is varied while everything else stays as configured."""

    alpha = "alpha"
    fusion = "fusion"
    masking = "masking"
    backbone = "backbone"
    fine_tuning = "fine-tuning"


def _layout(folder: Path, given: Layout | None) -> Layout:
    """The layout that was named, or the one whose files lie there."""
    if given is not None:
        return given
    if (folder / "labels.csv").is_file():
        return Layout.india_nepal
    return Layout.milan if (folder / "pm25-hourly.csv.gz").is_file() else Layout.plain


@contextmanager
def _bars(console: Console) -> Iterator[Any]:
    """A progress callback (what, done, total) that shows one bar per kind of work."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if not total:
                return
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report


def evaluate_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, or 'default'.")],
    folder: Annotated[Path, typer.Argument(help="Folder of frames and readings: one test set.")],
    layout: Annotated[
        Layout | None, typer.Option("--format", help="How the folder is laid out; else its files tell.")
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
    standard: Annotated[
        str | None,
        typer.Option(help="AQI standard of the truth, computed from the readings; else the stated AQI."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the encoder.")] = 1,
) -> None:
    """Score a bundle on a folder, through the same code as a worker."""
    loaded = Bundle.load(DEFAULT_BUNDLE if str(bundle) == "default" else bundle)
    if online:
        _evaluate_online(loaded, folder, _layout(folder, layout), start, learn_from, as_json, predictions)
        return
    if start is not None or learn_from is not None:
        raise typer.BadParameter("--start and --learn-from go with --online")
    with _bars(Console(stderr=True, quiet=as_json)) as progress:
        report = evaluate(loaded, folder, _layout(folder, layout), progress, threads, standard)
    if predictions is not None:
        _write_lines(predictions, report.predictions)
    if as_json:
        typer.echo(json.dumps({**report.summary, "predictions": report.predictions}, allow_nan=False))
    else:
        _show(report)
        _tell(report.summary["left_out"])


def _write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    try:
        with file.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise QueryError(f"{file} cannot be written: {error.strerror or error}") from error


def _tell(problems: Sequence[str]) -> None:
    """What of a folder could not be used, on the error stream."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems[:_PROBLEMS_SHOWN]:
        console.print(f"[yellow]left out:[/yellow] {escape(problem)}")
    if len(problems) > _PROBLEMS_SHOWN:
        console.print(f"[yellow]left out:[/yellow] and {len(problems) - _PROBLEMS_SHOWN} more")


def _show(report: Report) -> None:
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
    sites = summary["sites_all_inputs"]
    if sites:
        console.print()
        console.print(_sites_table(sites))


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
            cells.append(f"{score['rmse']:.1f}/{100 * score['accuracy']:.0f} %" if known else "-")
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


def _histories(folder: Path, layout: Layout) -> list[OnlineData]:
    if layout == Layout.milan:
        return [read_milan(folder)]
    if layout == Layout.plain:
        stations, problems = read_layout(folder)
        _tell(problems)
        return stations
    raise LayoutError("--online needs frames over many days: --format layout, or milan for the Milan webcam")


def _evaluate_online(
    bundle: Bundle,
    folder: Path,
    layout: Layout,
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
        with _bars(Console(stderr=True, quiet=as_json)) as progress:
            report = evaluate_online(
                data, bundle, start=None if start is None else start.date(), learned=learned,
                progress=progress,
            )  # fmt: skip
        typer.echo(report.to_json() if as_json else report.to_markdown())
        reports.append(report)
    _tell(left_out)
    if predictions is not None:
        _write_lines(predictions, (hour for report in reports for hour in report.hours()))
    if not reports:
        raise LayoutError(f"{folder}: nothing to score")


def train_command(
    config: Annotated[
        str, typer.Argument(help="'robust', 'paper', or a .toml file like model/configs/robust.toml.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of frames and readings.")],
    layout: Annotated[
        Layout | None, typer.Option("--format", help="How the folder is laid out; else its files tell.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="AQI standard to learn, such as in-naqi-2014, instead of the configuration's."),
    ] = None,
    concentrations: Annotated[
        Path | None,
        typer.Option(help="Plain folder with true concentrations of stations of an india-nepal folder."),
    ] = None,
    fine_tune: Annotated[
        int | None, typer.Option(min=1, max=8, help="Train the backbone's last so many blocks too.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Run folder: model, report, plots.")] = Path("runs/latest"),
    cache: Annotated[Path, typer.Option(help="Where encoded frames are kept.")] = Path(".skyfuse/features"),
    seed: Annotated[int | None, typer.Option(help="Another seed than the configuration's.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the configuration's.")] = None,
    data: Annotated[str, typer.Option(help="What the data is called in manifest and card.")] = "",
    licence: Annotated[str, typer.Option(help="The data's licence.")] = "",
    remarks: Annotated[str, typer.Option(help="What a user of the model has to know of the data.")] = "",
    ablation: Annotated[
        Ablation | None,
        typer.Option(help="Compare variants by grouped cross-validation instead of training."),
    ] = None,
) -> None:
    """Train on a folder: cross-validated report, calibrated intervals, and a model to export."""
    try:
        import torch

        from model.training import export
        from model.training import run as training_run
    except ImportError as error:
        raise TrainingError(
            f"training needs the `train` extra ({error.name} is not installed): `./skyfuse train`"
            " in a checkout installs it; elsewhere add [train] to what you gave pip"
        ) from error
    torch.set_num_threads(max(1, torch.get_num_threads()))
    changes: dict[str, Any] = {
        key: value
        for key, value in (("seed", seed), ("backbone", backbone), ("target", target))
        if value is not None
    }
    if fine_tune is not None:
        changes["fine_tune"] = {"blocks": fine_tune}
    source = training_run.Folder(folder, _layout(folder, layout), concentrations)
    if source.layout == Layout.india_nepal:
        data, licence, remarks = data or DATA, licence or LICENCE, remarks or REMARKS
    console = Console(stderr=True)
    with _bars(console) as progress:
        if ablation is not None:
            rows = training_run.ablation(ablation.value, config, source, cache, progress, changes)
        else:
            trained, problems = training_run.run(
                config, source, output, cache, progress, changes,
                data or folder.name, licence or "not stated", remarks,
            )  # fmt: skip
    if ablation is not None:
        table = Table(
            "variant", "all inputs", "no pm", "image only", title=f"{config}: {ablation.value}, grouped"
        )
        for name, entry in rows.items():
            if "missing" in entry:
                console.print(f"{escape(name)}: {escape(entry['missing'])}")
                continue
            cells = [
                f"{entry[mask]['rmse']:.1f} / {100 * entry[mask]['accuracy']:.0f} %"
                for mask in ("all", "no pm", "image only")
            ]
            table.add_row(name, *cells)
        Console().print(table)
        return
    export.save(output, trained)
    _tell(problems)
    all_inputs = trained.report["grouped"]["all"]["aqi"]["model"]
    console.print(
        f"grouped: RMSE {all_inputs['rmse']:.1f}, accuracy {100 * all_inputs['accuracy']:.0f} %;"
        f" report in {output / 'report.md'}; make a bundle with: skyfuse export {output} BUNDLE"
    )


def export_command(
    run: Annotated[Path, typer.Argument(help="Run folder of skyfuse train.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    name: Annotated[str, typer.Option(help="Name in the bundle's id.")] = "city",
    version: Annotated[str, typer.Option(help="Version in the bundle's id.")] = "1",
    int8: Annotated[
        Path | None,
        typer.Option("--int8", help="Quantise the encoder, calibrated on frames of this folder."),
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option("--format", help="How that folder is laid out; else its files tell.")
    ] = None,
) -> None:
    """Make a bundle that workers load from a training run."""
    try:
        from model.training import export
        from model.training import run as training_run
    except ImportError as error:
        raise TrainingError(
            f"exporting needs the `train` extra ({error.name} is not installed): `./skyfuse train`"
            " in a checkout installs it; elsewhere add [train] to what you gave pip"
        ) from error
    with _bars(Console(stderr=True)) as progress:
        written = export.export(bundle, export.load(run), name, version)
        if int8 is not None:
            frames = training_run.calibration_frames(training_run.Folder(int8, _layout(int8, layout)))
            written = export.quantise(written, bundle, frames, progress)
    typer.echo(f"{written.id} in {bundle}: set SKYFUSE_BUNDLE to use it")
