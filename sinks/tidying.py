"""What the local store lets go when its time is over, and the space that this gives back."""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sinks import foretold
from sinks import retention as kept_for
from sinks.retention import Retention
from sinks.store_file import JOURNAL_BYTES, StoreFile
from sinks.store_schema import INCREMENTAL

log = logging.getLogger(__name__)

#: The lock is held no longer at a time by what is only tidied up.
_HOLD_S: Final = 0.05
#: Windows that are over their time, looked for at a time.
_SEARCHED: Final = 4096
#: Forecasts that are over their time, at a time.
_FORETOLD: Final = 256
#: Event time that passes, ms, before it is looked again where there was nothing.
_SEARCH_AGAIN_MS: Final = 60_000
#: Free pages that are left for new windows: at least so many, and a tenth of the file; cut off at a time.
_SLACK_PAGES: Final = 128
_CUT_PAGES: Final = 128


def free_space(path: Path) -> int:
    """Bytes that are free where the file lies."""
    return shutil.disk_usage(path.parent).free


class Tidying:
    """Lets go of what is over its time in a store's file. `now`: the time, ms since the epoch."""

    def __init__(
        self, file: StoreFile, retention: Retention, now: Callable[[], int],
        free_space: Callable[[Path], int],
    ) -> None:  # fmt: skip
        self._file = file
        self._retention = retention
        self._now = now
        self._free_space = free_space
        #: Hours whose windows are to leave, and up to where event time was when there was none.
        self._over: list[tuple[str, int]] = []
        self._searched = -(2**62)
        self._compacted = False

    def tidy(self, windows: int, seconds: float) -> None:
        """See `Store.tidy`."""
        if self._retention == Retention():
            return
        deadline = time.monotonic() + seconds
        left = 0
        while left < windows or time.monotonic() < deadline:
            gone = self._file.attempt(self.let_go)
            if gone is None:
                self.give_back(deadline)
                return
            left += gone

    def let_go(self, db: sqlite3.Connection) -> int | None:
        """One portion of what is over its time; how many windows, None where there is nothing more."""
        began = time.monotonic()
        horizon = kept_for.horizon(db, self._now())
        if not self._over and horizon >= self._searched + _SEARCH_AGAIN_MS:
            cutoff = kept_for.cutoff(self._retention.windows, horizon)
            self._over = kept_for.due_hours(db, cutoff, horizon, _SEARCHED)
            if not self._over:
                self._searched = horizon
        if not self._over:
            expired = kept_for.expire(db, self._retention, horizon, limit=8)
            cutoff = kept_for.cutoff(self._retention.windows, horizon)
            return 0 if foretold.expire(db, cutoff, _FORETOLD) or expired else None
        left = 0
        while self._over and time.monotonic() - began < _HOLD_S:
            # If this is taken back, the next search finds it again.
            left += kept_for.roll_up(db, *self._over.pop(0), horizon)
        return left

    def give_back(self, deadline: float) -> None:
        """Cut free pages off the file's end, beyond those that new windows need soon."""
        if self._file.pragma("auto_vacuum") != INCREMENTAL:
            self._write_anew()
            return

        while time.monotonic() < deadline:
            slack = max(_SLACK_PAGES, self._file.pragma("page_count") // 10)
            pages = min(_CUT_PAGES, self._file.pragma("freelist_count") - slack)
            cut = f"PRAGMA incremental_vacuum({pages})"
            if pages <= 0 or self._file.attempt(lambda db, cut=cut: db.execute(cut).fetchall()) is None:  # type: ignore[misc]
                return

    def _write_anew(self) -> None:
        """Bring a file of an earlier version into the form of which an end can be cut off; tried once."""
        if self._compacted:
            return
        self._compacted = True
        size = self._file.used()
        free = self._free_space(self._file.path)
        if free < 2 * size + JOURNAL_BYTES:  # a copy, and the journal of writing it back
            log.warning(
                "the store %s gives no space back: for that it has to be written anew once, which takes %.1f"
                " GiB of free space, and there are %.1f: make room, and restart the sink",
                self._file.path, (2 * size + JOURNAL_BYTES) / 2**30, free / 2**30,
            )  # fmt: skip
            return
        log.info(
            "the store %s is written anew once (%.2f GiB), so that it gives space back",
            self._file.path,
            size / 2**30,
        )
        began = time.monotonic()
        temporary = os.environ.get("SQLITE_TMPDIR")
        # The copy would lie in /tmp, which is often small.
        os.environ["SQLITE_TMPDIR"] = str(self._file.path.parent.absolute())
        try:
            self._file.write_anew()
        except sqlite3.Error as error:
            log.warning("the store %s could not be written anew (%s); nothing is lost, it will be tried again"
                        " at the next start", self._file.path, error)  # fmt: skip
            return
        finally:
            if temporary is None:
                del os.environ["SQLITE_TMPDIR"]
            else:
                os.environ["SQLITE_TMPDIR"] = temporary
        log.info("the store %s was written anew in %.1f s", self._file.path, time.monotonic() - began)
