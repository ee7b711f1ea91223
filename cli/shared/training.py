"""What the commands about models share: how folders are laid out, bars, and what could not be used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_PROBLEMS_SHOWN: Final = 20


class TrainingLayout(StrEnum):
    """How a folder of frames and readings is laid out."""

    india_nepal = "india-nepal"
    plain = "layout"
    milan = "milan"


def layout_of(folder: Path, given: TrainingLayout | None) -> TrainingLayout:
    """The layout that was named, or the one whose files lie there."""
    if given is not None:
        return given
    if (folder / "labels.csv").is_file():
        return TrainingLayout.india_nepal
    return TrainingLayout.milan if (folder / "pm25-hourly.csv.gz").is_file() else TrainingLayout.plain


@contextmanager
def bars(console: Console) -> Iterator[Any]:
    """A progress callback (what, done, total) that shows one bar per kind of work."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if not total:
                return
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report


def tell_left_out(problems: Sequence[str]) -> None:
    """What of a folder could not be used, on the error stream."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems[:_PROBLEMS_SHOWN]:
        console.print(f"[yellow]left out:[/yellow] {escape(problem)}")
    if len(problems) > _PROBLEMS_SHOWN:
        console.print(f"[yellow]left out:[/yellow] and {len(problems) - _PROBLEMS_SHOWN} more")
