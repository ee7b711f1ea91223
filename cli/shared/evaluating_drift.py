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
from model.evaluation.drift_beside import SlidesFound
from model.evaluation.region_hours import read_region
from schemas.parameters import LABELS, Pollutant


def evaluate_drift_watch(folder: Path, as_json: bool) -> None:
    """Score the drift watch on a folder and say how it did. Raises LayoutError."""
    data, problems = read_region(folder, read_folder)
    with bars(Console(stderr=True, quiet=as_json)) as progress:
        outcomes, beside = evaluate_drift(data, progress=progress)
    if not any(outcome.faults for outcome in outcomes if outcome.fault != "none"):
        raise LayoutError(f"{folder}: too few days to learn from ({LEARNING}) and to make faults in")
    if as_json:
        plain = [one.to_plain() for one in outcomes] + [one.to_plain() for one in beside]
        typer.echo(json.dumps(plain, allow_nan=False))
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
    console.print()
    console.print(_beside(beside))
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


def _beside(found: Sequence[SlidesFound]) -> Table:
    """The watch beside a plain CUSUM; a row for each pollutant, slide and number of alarms."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("slides laid on afterwards", "", "false alarms a year", "slides", "plain CUSUM", "watch"):
        left = column in ("slides laid on afterwards", "")
        table.add_column(column, no_wrap=True, justify="left" if left else "right")
    rows: dict[tuple[Pollutant, float, float], dict[str, SlidesFound]] = {}
    for one in found:
        rows.setdefault((one.pollutant, one.alarms, one.per_day), {})[one.rule] = one
    for (pollutant, alarms, per_day), rules in rows.items():
        waits = [math.inf if (wait := rules[rule].median) is None else wait for rule in ("cusum", "watch")]
        table.add_row(
            f"{per_day:.0%} a day, up or down", LABELS[pollutant], f"{alarms:.2f}",
            f"{rules['watch'].slides}", *map(_days, waits),
        )  # fmt: skip
    return table


def _days(days: float) -> str:
    return f"{days:.0f} days" if math.isfinite(days) else "never"
