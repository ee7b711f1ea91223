"""`skyfuse evaluate --network FOLDER --drift`: how the drift watch finds made faults, as tables or JSON."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from backfill.hourly import read_folder
from cli.shared.fitting import fitting, screen
from cli.shared.training import bars, tell_left_out
from datasets.errors import LayoutError
from model.evaluation.drift import LEARNING, DriftOutcome, evaluate_drift
from model.evaluation.region import read_region
from schemas.parameters import LABELS


def evaluate_drift_watch(folder: Path, as_json: bool) -> None:
    """Score the drift watch on a folder and say how it did. Raises LayoutError."""
    data, problems = read_region(folder, read_folder)
    with bars(Console(stderr=True, quiet=as_json)) as progress:
        outcomes = evaluate_drift(data, progress=progress)
    if not any(outcome.faults for outcome in outcomes if outcome.fault != "none"):
        raise LayoutError(f"{folder}: too few days to learn from ({LEARNING}) and to make faults in")
    if as_json:
        typer.echo(json.dumps([outcome.to_plain() for outcome in outcomes], allow_nan=False))
        return
    console = screen()
    console.print(
        f"{len(data.members.stations)} stations, {len(data.times) // 24} days; days until a fault is named",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    faults = [outcome for outcome in outcomes if outcome.fault != "none"]
    console.print(fitting(console, (_table(faults, kinds) for kinds in (True, False))))
    console.print()
    alarms = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("without a fault", "sensor-years", "false alarms a year"):
        alarms.add_column(column, no_wrap=True, justify="left" if column == "without a fault" else "right")
    calm = [outcome for outcome in outcomes if outcome.fault == "none"]
    for outcome in calm:
        if outcome.pollutant is not None:
            alarms.add_row(LABELS[outcome.pollutant], f"{outcome.faults:.1f}", f"{outcome.others:.2f}")
    if len(calm) > 1:
        alarms.add_row("a whole station", "", f"{sum(outcome.others for outcome in calm):.2f}")
    console.print(alarms)
    tell_left_out(problems)


def _table(outcomes: Sequence[DriftOutcome], kinds: bool) -> Table:
    """Faults by pollutant, and of all; with what they were called or not."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("fault", "", "made", "median", "nine in ten", "missed", "right kind"):
        table.add_column(column, no_wrap=True, justify="left" if column in ("fault", "") else "right")
    if kinds:
        table.add_column("called")
    for outcome in outcomes:
        called = sorted(outcome.kinds.items(), key=lambda one: -one[1])
        cells = [
            outcome.fault, "all" if outcome.pollutant is None else LABELS[outcome.pollutant],
            f"{outcome.faults:.0f}", _days(outcome.quantile(0.5)), _days(outcome.quantile(0.9)),
            f"{outcome.missed:.0%}", f"{outcome.right:.0%}",
        ]  # fmt: skip
        table.add_row(*cells, *([", ".join(f"{kind} {count}" for kind, count in called)] if kinds else []))
    return table


def _days(days: float) -> str:
    return f"{days:.0f} days" if math.isfinite(days) else "never"
