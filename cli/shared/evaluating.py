"""`skyfuse evaluate --network`: how a region fills its own gaps, as a table or JSON."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from backfill.hourly import read_folder
from cli.shared.fitting import fitting, screen
from cli.shared.training import bars, tell_left_out
from datasets.errors import LayoutError
from fusion.together.witnesses import possible_in_region
from model.evaluation.region import NEW_PLACES, RIVALS, Outcome, evaluate_region
from model.evaluation.region_hours import read_region
from model.evaluation.region_outages import EVERYWHERE
from schemas.parameters import LABELS, POLLUTANTS

#: Share of draws of whole weeks in which a rival did better than the network from which on it was no luck.
_SURELY = 0.95
#: Marks a rival that did better so, and one that may have had luck.
_BETTER, _PERHAPS = "*", "~"


def evaluate_network(folder: Path, outages: Sequence[int], as_json: bool) -> None:
    """Score the network on a folder and say how it did. Raises LayoutError."""
    outages = list(dict.fromkeys(outages))
    data, problems = read_region(folder, read_folder)
    with bars(Console(stderr=True, quiet=as_json)) as progress:
        outcomes = evaluate_region(
            data, outages=outages, new_places=NEW_PLACES, possible=possible_in_region, progress=progress
        )
    if not any(outcome.values for outcome in outcomes):
        raise LayoutError(f"{folder}: too few hours to learn from and to score")
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "stations": len(data.members.stations),
                    "variables": len(data.members),
                    "hours": len(data.times),
                    "outcomes": [outcome.to_plain() for outcome in outcomes],
                },
                allow_nan=False,
            )
        )
        return
    console = screen()
    console.print(
        f"{len(data.members.stations)} stations, {len(data.times)} hours; while silent: RMSE in ug/m3 / R2 "
        f"of what was read; {_BETTER}: a witness alone that did better, {_PERHAPS}: by chance, perhaps "
        f"(in fewer than {_SURELY:.0%} of draws of whole weeks)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for silence in dict.fromkeys(outcome.silence for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome.silence == silence]
        console.print()
        console.print(
            fitting(console, (outcome_table(silence, rows, shown) for shown in range(len(RIVALS), -1, -1)))
        )
    scored = {outcome.hours for outcome in outcomes if outcome.values and outcome.silence != "new place"}
    if short := [str(hours) for hours in outages if hours not in scored]:
        console.print(
            f"not scored: outages of {', '.join(short)} h; {len(data.times)} hours are too few for them,"
            " beside those that are learned from first",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for hours, missed in _without_turn(outcomes):
        console.print(
            f"not scored: {EVERYWHERE}, {hours} h: {', '.join(missed)}; too few hours for its turn to come",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    tell_left_out(problems)


def _without_turn(outcomes: Sequence[Outcome]) -> Iterator[tuple[int, list[str]]]:
    """Of outages of a whole pollutant, by length, the pollutants that are scored elsewhere and not there."""
    scored = {outcome.pollutant for outcome in outcomes if outcome.values}
    there = [outcome for outcome in outcomes if outcome.silence == EVERYWHERE and outcome.values]
    for hours in dict.fromkeys(outcome.hours for outcome in there):
        missed = scored - {outcome.pollutant for outcome in there if outcome.hours == hours}
        if missed:
            yield hours, [LABELS[one] for one in POLLUTANTS if one in missed]


def outcome_table(silence: str, outcomes: Sequence[Outcome], shown: int) -> Table:
    """One kind of outage with the first so many rivals; those that did better than the network are marked."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(silence, no_wrap=True)
    for column in ("", "values", "network", *RIVALS[:shown], "in 90 %", "worst month"):
        table.add_column(column, no_wrap=column == "network", justify="right")
    for outcome in outcomes:
        cells = [_skill(outcome, name) for name in ("network", *RIVALS[:shown])]
        table.add_row(
            LABELS[outcome.pollutant], _length(outcome), str(outcome.values), *cells,
            _percent(outcome.coverage), _percent(outcome.worst_month),
        )  # fmt: skip
    return table


def _skill(outcome: Outcome, name: str) -> str:
    skill = outcome.skills.get(name)
    if skill is None:
        return "-"
    mark = ""
    if name != "network" and skill[0] < outcome.skills["network"][0]:
        mark = _BETTER if outcome.ahead[name] >= _SURELY else _PERHAPS
    r2 = f"{skill[1]:.2f}" if math.isfinite(skill[1]) else "-"
    return f"{mark}{skill[0]:.1f}/{r2}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "-"


def _length(outcome: Outcome) -> str:
    if outcome.silence == "new place":
        return f"{outcome.hours} h of own data" if outcome.hours else "never measured"
    return (
        f"{outcome.hours // 24} days"
        if outcome.hours % 24 == 0 and outcome.hours > 24
        else f"{outcome.hours} h"
    )
