"""`skyfuse invalidate`: readings that do not count, and what follows from that."""

from typing import Annotated

import typer

from cli.shared import annotations
from cli.shared.annotations import BY, PLACES, UNDO
from settings.sections import Settings


def invalidate(
    places: Annotated[list[str] | None, PLACES] = None,
    reason: Annotated[str | None, typer.Option(help="Why, in words; it is kept.")] = None,
    parameter: Annotated[str | None, typer.Option(help="Only this: pm25, no2 ...")] = None,
    by: Annotated[str | None, BY] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    undo: Annotated[str | None, UNDO] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all invalidations.")] = False,
) -> None:
    """Take readings out of windows, averages, indices and aggregates, by new revisions; TO may lie ahead."""
    if listed:
        annotations.show(Settings(), "invalid")
    elif undo is not None:
        raise typer.Exit(annotations.undo(Settings(), "invalid", undo, by, dry_run))
    elif not reason:
        raise typer.BadParameter("say why in words: --reason TEXT", param_hint="--reason")
    else:
        raise typer.Exit(
            annotations.say(
                Settings(), "invalid", places or [], reason, parameter=parameter, by=by, dry_run=dry_run
            )
        )
