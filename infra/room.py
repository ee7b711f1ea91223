"""How much room the disks have that data lie on, and when that is said.

Thresholds are in docs/outputs.md. What is free is asked by a function that is handed in.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from settings.sections import RetentionSettings
from settings.values import FOREVER
from sinks.pace import Pace

_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB
#: Free disk: below the first Kafka does not start, below the second a day of frames may not fit.
LEAST: Final = 256 * _MIB
LOW: Final = 2 * _GIB
#: A level is left again only where so much more is free: not told every second at its edge.
_AGAIN: Final = 1.1
#: A store that is never to let windows go is told of when the disk is full in fewer days.
_AHEAD_DAYS: Final = 30

Free = Callable[[Path], int]


def there(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    found = path.absolute()
    while not found.exists():
        found = found.parent
    return found


def free_space(path: Path) -> int:
    """Bytes that are free where `path` lies or will lie."""
    return shutil.disk_usage(there(path)).free


def sized(count: float) -> str:
    """Bytes in MiB or GiB, for a person."""
    return f"{count / _MIB:.0f} MiB" if count < _GIB else f"{count / _GIB:.1f} GiB"


@dataclass
class Rooms:
    """Watches the disks of some folders while `up` runs; the same disk is told once."""

    folders: Sequence[Path]
    free: Free = free_space
    _levels: dict[int, int] = field(default_factory=dict)

    def news(self) -> list[str]:
        """What is to be told now: that a disk has become nearly full, or full, or has room again."""
        told = []
        for folder in self.folders:
            try:
                found = there(folder)
                disk, free = found.stat().st_dev, self.free(found)
            except OSError:
                continue  # the folder was just removed, which is told elsewhere
            before = self._levels.get(disk, 0)
            level = max(_level(free), min(before, _level(int(free / _AGAIN))))
            self._levels[disk] = level
            if level > before:
                told.append(_words(found, free, level))
            elif level < before:
                told.append(f"there is room again on the disk of {found}: {sized(free)} free")
        return told


def _level(free: int) -> int:
    return 2 if free < LEAST else 1 if free < LOW else 0


def _words(folder: Path, free: int, level: int) -> str:
    if level == 2:
        return (
            f"the disk of {folder} is full ({sized(free)} free): Kafka needs {sized(LEAST)}, and"
            " sinks wait; make room, nothing that was taken is lost"
        )
    return (
        f"the disk of {folder} is nearly full ({sized(free)} free): make room before it is, or keep less"
        " (retention.windows)"
    )


def outlook(pace: Pace, kept: RetentionSettings, free: int) -> tuple[str, str]:
    """What a store will grow to in words, and what to do where it will not fit ("" where it will)."""
    if kept.windows >= FOREVER:
        found = f"{sized(pace.used)}, grows by {sized(pace.a_day)} a day for ever"
        days = (free - LEAST) / pace.a_day if pace.a_day else float("inf")
        if days >= _AHEAD_DAYS:
            return found, ""
        return found, (
            f"the disk is full in {days:.0f} days: make room, or keep less (retention.windows,"
            " docs/outputs.md)"
        )
    # A day more than the windows that are kept: those of the hour that is not over, and free pages.
    whole = pace.a_day * (kept.windows / timedelta(days=1) + 1)
    found = f"{sized(pace.used)}, windows of {kept.windows.days} days take {sized(whole)}"
    missing = whole - pace.used - (free - LEAST)
    if missing <= 0:
        return found, ""
    return found, (
        f"the disk is too small for that by {sized(missing)}: make room, or keep less (retention.windows,"
        " docs/outputs.md)"
    )
