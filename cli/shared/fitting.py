"""Tables as wide as the screen: columns are left out before anything in one is cut."""

import os
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

#: Wider than any table.
ANY_WIDTH: Final = 10_000


def screen() -> Console:
    """Standard output. A pipe has no width: what reads it gets all, unless COLUMNS says how wide it is."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = ANY_WIDTH
    return console


def natural_width(console: Console, table: Table) -> int:
    """Columns that a table takes where nothing in it is cut or folded."""
    unbounded = console.options.update(max_width=ANY_WIDTH)
    return Measurement.get(console, unbounded, table).maximum


def fitting(console: Console, tables: Iterable[Table]) -> Table:
    """The first table, of the widest first, that `console` has room for; where it has for none, the last."""
    found = None
    for table in tables:
        found = table
        if natural_width(console, table) <= console.width:
            break
    if found is None:
        raise ValueError("no table to choose from")
    return found
