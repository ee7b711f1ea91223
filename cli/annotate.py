"""`skyfuse annotate`: a note beside a station's data."""

from typing import Annotated

import typer

from cli.shared import annotations
from cli.shared.annotations import BY, PLACES, UNDO
from settings.sections import Settings


def annotate(
    places: Annotated[list[str] | None, PLACES] = None,
    text: Annotated[str | None, typer.Option(help='What there is to say: "barbecue next door".')] = None,
    by: Annotated[str | None, BY] = None,
    undo: Annotated[str | None, UNDO] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all notes.")] = False,
) -> None:
    """Put a note beside a station's data; it changes no value."""
    if listed:
        annotations.show(Settings(), "note")
    elif undo is not None:
        raise typer.Exit(annotations.undo(Settings(), "note", undo, by))
    elif not text:
        raise typer.BadParameter("say it in words: --text TEXT", param_hint="--text")
    else:
        raise typer.Exit(annotations.say(Settings(), "note", places or [], text, by=by))
