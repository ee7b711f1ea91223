"""The file of the local store: one connection, its lock, transactions that wait while the disk is full."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sinks import store_schema
from streams.errors import StoreError
from streams.patience import Hindrance, Patience

log = logging.getLogger(__name__)

_LOCK_WAIT_S: Final = 10.0
#: Conditions of the disk or of another process that pass: waited for. Anything else is an error.
_PASSING: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
)
#: A journal that has grown beyond this, as when the file is written anew, is cut when it is empty again.
JOURNAL_BYTES: Final = 64 * 1024 * 1024

_T = TypeVar("_T")


class StoreFile:
    """The file at `path`; made if it is missing, but for a reader. `on_full`: may make room in the file.

    Raises StoreError where it is missing (reader) or cannot be opened.
    """

    def __init__(
        self, path: Path, *, read_only: bool, patience: Patience, on_full: Callable[[], None]
    ) -> None:
        self.path = path
        self._read_only = read_only
        self._patience = patience
        self._on_full = on_full
        self._lock = threading.Lock()
        if read_only and not path.is_file():
            raise StoreError(f"there is no store at {path}: run `skyfuse up` first, or set data_dir")
        if not read_only and not path.exists():
            store_schema.create(path)
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
                uri=True, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        except sqlite3.Error as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error

    def bring_up_to_date(self) -> None:
        """Bring a store of an earlier version up to date; a reader reads it as it is. Raises StoreError."""
        with self.reading() as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
            version = store_schema.check(db, self.path)
        if version < store_schema.SCHEMA_VERSION and not self._read_only:
            self.transact(store_schema.migrate)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for reading. Raises StoreError."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise StoreError(f"the store {self.path} cannot be read: {error}") from error

    def select(self, sql: str, values: Sequence[str | int] = ()) -> list[Any]:
        """The rows of one statement. Raises StoreError."""
        with self.reading() as db:
            return db.execute(sql, values).fetchall()

    def has(self, table: str) -> bool:
        """Whether there is that table: a reader finds a store of an earlier version as it is."""
        return bool(self.select("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)))

    def pragma(self, name: str) -> int:
        """One of SQLite's numbers. Raises StoreError."""
        return int(self.select(f"PRAGMA {name}")[0][0])

    def used(self) -> int:
        """Bytes of the file that are in use. Raises StoreError."""
        return (self.pragma("page_count") - self.pragma("freelist_count")) * self.pragma("page_size")

    def transact(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `change` gives, done as a whole; waits while the disk is full.

        Raises WaitStopped, StoreError.
        """
        attempt = 0
        while True:
            try:
                with self._lock, self._transaction():
                    changed = change(self._db)
                if attempt:
                    self._patience.on_end()
                return changed
            except sqlite3.Error as error:
                if _primary_code(error) not in _PASSING:
                    raise StoreError(f"the store {self.path} cannot be written: {error}") from error
                words = f"the store {self.path} cannot be written: {error} (free some space, or wait)"
                if _primary_code(error) == sqlite3.SQLITE_FULL:
                    # What is over its time may make room in the file itself, where the disk has none.
                    self._on_full()
            self._patience.pause(attempt, Hindrance("store", "cannot be written", words))
            attempt += 1

    def attempt(self, change: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """A transaction that nobody waits for: None where disk or lock are in the way now."""
        try:
            with self._lock, self._transaction():
                return change(self._db)
        except sqlite3.Error as error:
            if _primary_code(error) not in _PASSING:
                raise StoreError(f"the store {self.path} cannot be tidied up: {error}") from error
            log.info("the store %s is tidied up later: %s", self.path, error)
            return None

    def write_anew(self) -> None:
        """Write the whole file anew, in the form of which an end can be cut off. Raises sqlite3.Error."""
        with self._lock:
            self._db.set_progress_handler(lambda: self._patience.wait(0), 100_000)
            try:
                self._db.execute(f"PRAGMA auto_vacuum = {store_schema.INCREMENTAL}")
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._db.set_progress_handler(None, 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code (extended codes carry it in their low byte)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
