"""Which file is whose: the live store, and the store of each replay.

A replay's estimates are of another time than the live ones, so they have a file of their own. While a folder
of data has no live store, `store.sqlite` is a link to the newest replay's; the first live worker takes the
link away. So `skyfuse query` shows a replay where there is nothing else to show, and `skyfuse up` never does.
"""

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from infra.errors import StackError
from settings.sections import Settings

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def new_replay_store(settings: Settings, folder: Path) -> Path:
    """A path for the estimates of a replay of `folder`, where no file is yet. Raises StackError."""
    replays = settings.data_dir / "replays"
    try:
        replays.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"{replays} cannot be made: {error}") from error
    name = _UNFIT.sub("-", folder.resolve().stem)[:64].strip("-.") or "replay"
    stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    path, number = replays / f"{stem}.sqlite", 1
    while path.exists():
        number += 1
        path = replays / f"{stem}-{number}.sqlite"
    return path


def show_replay(settings: Settings, store: Path) -> bool:
    """Let `store.sqlite` lead to a replay's store, unless it is a live store. Whether it does."""
    link = settings.data_dir / "store.sqlite"
    if link.exists() and not link.is_symlink():
        return False
    fresh = link.with_suffix(".link")
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.path.relpath(store, link.parent))
        fresh.replace(link)
    except OSError as error:
        raise StackError(f"{link} cannot be made to lead to {store}: {error}") from error
    return True


def replay_shown(settings: Settings) -> Path | None:
    """The replay's store that `store.sqlite` leads to; None where it is a live store, or none is there."""
    path = settings.store_path
    return path.resolve() if settings.store is None and path.is_symlink() else None


def replay_stores(settings: Settings) -> list[Path]:
    """Stores of replays, newest first."""
    with suppress(OSError):
        found = [(path.stat().st_mtime, path) for path in (settings.data_dir / "replays").glob("*.sqlite")]
        return [path for _, path in sorted(found, reverse=True)]
    return []


def make_room_for_live(settings: Settings) -> Path | None:
    """Take the link to a replay's store away, so that a live one is made; where it led to, or None."""
    shown = replay_shown(settings)
    if shown is not None:
        settings.store_path.unlink(missing_ok=True)
    return shown
