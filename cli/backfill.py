"""`skyfuse backfill`: count what came too late, or lies in files of history, in the windows it belongs to."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backfill.report import Scope
from backfill.run import run
from cli.shared.backfilled import print_report
from cli.shared.options import Layout, TimezoneOption
from cli.shared.progress import shown
from cli.shared.times import moment
from datasets.layouts import Files
from infra.connect import broker_at_hand
from schemas.base import to_ms
from settings.sections import Settings


def backfill(
    files: Annotated[
        Path | None,
        typer.Argument(
            help="History: a folder, or one table of readings or frames (docs/data-layout.md). Without it:"
            " what lies on the late topic."
        ),
    ] = None,
    format: Annotated[Layout, typer.Option(help="Layout of the folder.")] = Layout.plain,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    since: Annotated[
        str | None, typer.Option(help="First window end: 2026-08-21T10:00:00Z, or an age: 6h.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Windows that end before this.")] = None,
    timezone: TimezoneOption = None,
) -> None:
    """Count what came too late, or lies in files: its windows are made again, as new revisions."""
    history = None if files is None else Files(files, format.value, timezone)
    if history is not None:
        history.require()
    raise typer.Exit(_backfill(Settings(), history, since, until, dry_run))


def _backfill(
    settings: Settings, files: Files | None, since: str | None, until: str | None, dry_run: bool
) -> int:
    """Make the windows that late data or files belong to again, as new revisions; print what became of them.

    Exit code 0: all of the files was used or known; 1: see what was printed.
    """
    now = datetime.now(UTC)
    bounds = [None if text is None else to_ms(moment(text, now)) for text in (since, until)]
    console = Console(highlight=False, soft_wrap=True)
    scope = Scope(bounds[0], bounds[1])
    with (
        broker_at_hand(settings, lambda text: console.print(f"skyfuse: {text}", style="dim")) as settings,
        shown(console, "reading") as progress,
    ):
        report = run(settings, scope, dry_run=dry_run, files=files, progress=progress)
    print_report(console, report, files, dry_run, settings.retention)
    return 1 if report.problems or report.left or (files is not None and report.open) else 0
