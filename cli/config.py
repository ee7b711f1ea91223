"""`skyfuse config`: which settings are in force, and who says so."""

import typer

from settings.in_force import in_force
from settings.sections import Settings


def config() -> None:
    """Show which settings are in force, and who says so: the environment, the file, or the default."""
    rows = in_force(Settings())
    wide, values = (
        max(len(text) for text in column) for column in ([r.name for r in rows], [r.value for r in rows])
    )
    for row in rows:
        typer.echo(f"{row.name:{wide}}  {row.value:{values}}  {row.origin}")
