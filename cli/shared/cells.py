"""Cells of tables of estimates: the index on its colour, a value with what it rests on."""

from datetime import datetime

from rich.text import Text

from aqi import standards
from aqi.errors import StandardError
from schemas.base import to_ms
from schemas.estimate import Estimate, IndexBlock, PollutantEstimate


def leading(estimate: Estimate) -> IndexBlock | None:
    """The index by the station's first standard."""
    return estimate.indices[0] if estimate.indices else None


def index_cell(index: IndexBlock | None, at: datetime) -> Text:
    """The index on the colour of its category."""
    if index is None or index.index is None:
        return Text("-", style="dim")
    try:
        colour = standards.load(index.standard, to_ms(at)).colour(index.index)
    except (StandardError, ValueError):
        # An estimate made by a newer release may name a standard that this one does not know.
        return Text(f" {index.index} ", style="bold")
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "white"
    return Text(f" {index.index:>3} ", style=f"bold {ink} on {colour}")


def pollutant_cell(pollutant: PollutantEstimate | None, *, interval: bool = True) -> Text:
    """The value, marked where it is not a plain measurement; with its interval where one is wanted."""
    if pollutant is None:
        return Text("-", style="dim")
    if pollutant.kind == "imputed":
        within = (
            f" ({pollutant.lo:.0f} to {pollutant.hi:.0f})"
            if interval and pollutant.lo is not None and pollutant.hi is not None
            else ""
        )
        return Text(f"~{pollutant.value:.1f}{within}", style="italic cyan")
    mark = "*" if pollutant.kind == "corrected" else ""
    return Text(f"{pollutant.value:.1f}{mark}", style="yellow" if pollutant.qc == 3 else "")
