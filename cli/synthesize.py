"""`skyfuse synthesize`: years of made station data, faithful to a folder's (docs/forecasts.md)."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from cli.shared.fitting import fitting, screen
from cli.shared.training import tell_left_out
from forecast.errors import ForecastError
from forecast.folder import read_panel
from forecast.synthesis.bootstrap import bootstrapped
from forecast.synthesis.fidelity import FidelityReport, PollutantFidelity, fidelity
from forecast.synthesis.gaussian import simulated
from forecast.synthesis.sifting import SiftLevel, sifted
from forecast.synthesis.vault import vaulted
from forecast.synthesis.writing import write_panel
from schemas.parameters import LABELS

#: Measured hours from which there is something to be faithful to.
_LEAST_HOURS: Final = 28 * 24
_REPORT: Final = "fidelity.json"


class Method(StrEnum):
    """How years are made."""

    bootstrap = "bootstrap"
    gaussian = "gaussian"
    sdv = "sdv"


def synthesize(
    folder: Annotated[Path, typer.Argument(help="What was measured, in the plain layout.")],
    output: Annotated[Path, typer.Option(help="The folder that is made, in the plain layout.")],
    method: Annotated[
        Method,
        typer.Option(
            "--with",
            help="bootstrap: pieces of what was measured, put together; gaussian: hours that never were; sdv:"
            " days that never were, by the Synthetic Data Vault (an extra; Business Source License).",
        ),
    ] = Method.gaussian,
    days: Annotated[int, typer.Option(min=28, max=366 * 20, help="How long it is.")] = 365,
    seed: Annotated[int, typer.Option(help="Another seed makes other years.")] = 0,
    sift: Annotated[
        SiftLevel,
        typer.Option(
            help="For sharing: so many values are guessed anew and hours swapped; stations lose their names."
        ),
    ] = SiftLevel.none,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON only.")] = False,
) -> None:
    """Make years of station data like those of FOLDER, and say how faithful they are."""
    if not folder.is_dir():
        raise ForecastError(f"{folder} is no folder; docs/data-layout.md says what can be read")
    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise ForecastError(f"{output} is there and not empty: name another folder")
    measured, problems = read_panel(folder, int(time.time() * 1000))
    if measured.hours < _LEAST_HOURS:
        raise ForecastError(
            f"{folder} has {measured.hours} hours: {_LEAST_HOURS} ({_LEAST_HOURS // 24} days) are the least"
            " to be faithful to, a year is better"
        )
    make = {Method.bootstrap: bootstrapped, Method.gaussian: simulated, Method.sdv: vaulted}[method]
    made = sifted(make(measured, days * 24, seed), sift, seed)
    report = fidelity(measured, made)
    write_panel(made, output)
    (output / _REPORT).write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    _show(report)
    tell_left_out(problems)
    typer.echo(
        f"{output}: {len(made.stations)} stations, {days} days; the whole report is {output / _REPORT}"
    )


def _show(report: FidelityReport) -> None:
    console = screen()
    console.print("Measured, then made; ug/m3.", highlight=False)
    console.print(fitting(console, (_table(report.pollutants, wide) for wide in (True, False))))
    privacy = report.privacy
    if privacy is None:
        console.print("Too few whole days to say whether made ones give measured ones away.", soft_wrap=True)
        return
    console.print(
        f"Days of {LABELS[privacy.pollutant]}: {100 * privacy.copies:.0f} % of the made ones are measured"
        f" ones; {100 * privacy.close:.0f} % lie nearer to one than 95 % of strangers do (strangers:"
        " 5 %).",
        soft_wrap=True,
        highlight=False,
    )


def _table(pollutants: tuple[PollutantFidelity, ...], wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["", "apart", "mean", "p95", "highest", "above", "1 h", "24 h"]
    for column in [*columns, *(["stations", "RMSE 1 h", "RMSE 24 h"] if wide else [])]:
        table.add_column(column, no_wrap=True, justify="right" if column else "left")
    for one in pollutants:
        cells = [
            LABELS[one.pollutant], f"{one.distance:.3f}", _two(one.mean),
            _two((one.quantiles[0][2], one.quantiles[1][2])), _two(one.highest),
            "{:.1f} {:.1f} %".format(*(100 * share for share in one.exceedances)),
            "{:.2f} {:.2f}".format(*one.autocorrelation[1]),
            "{:.2f} {:.2f}".format(*one.autocorrelation[24]),
        ]  # fmt: skip
        if wide:
            cells += [
                "-" if one.together is None else "{:.2f} {:.2f}".format(*one.together),
                _two(one.learned[1]), _two(one.learned[24]),
            ]  # fmt: skip
        table.add_row(*cells)
    return table


def _two(values: tuple[float, float]) -> str:
    return f"{values[0]:.3g} {values[1]:.3g}"
