"""How far a replay is: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from schemas.base import format_time, from_ms
from sources.replay.feed import ReplayProgress

_EVERY_S: Final = 5.0


@contextmanager
def shown(console: Console, title: str) -> Iterator[Callable[[ReplayProgress], None]]:
    """A callback for `feed(progress=...)` that shows how far it is on `console`."""
    if not console.is_terminal:
        yield _lines(console, title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TextColumn("{task.fields[at]}"), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, at="")

        def update(progress: ReplayProgress) -> None:
            bar.update(task, completed=progress.sent, total=progress.total, at=_moment(progress))

        yield update


def _lines(console: Console, title: str) -> Callable[[ReplayProgress], None]:
    said = time.monotonic()

    def update(progress: ReplayProgress) -> None:
        nonlocal said
        if time.monotonic() - said >= _EVERY_S:
            said = time.monotonic()
            console.print(f"{title}: {progress.sent} of {progress.total} events, at {_moment(progress)}")

    return update


def _moment(progress: ReplayProgress) -> str:
    return "" if progress.time_ms is None else format_time(from_ms(progress.time_ms))
