"""How far each address has been asked, and when it may be asked again: kept on disk (SQLite)."""

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple, Self

from sources.fetch import Known

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pull (
    name TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    cursor_ms INTEGER,
    not_before_ms INTEGER NOT NULL,
    etag TEXT,
    last_modified TEXT
) STRICT
"""


class Cursor(NamedTuple):
    """Where an entry stands. `cursor_ms`: up to when all was answered and confirmed."""

    cursor_ms: int | None = None
    not_before_ms: int = 0
    known: Known = Known()


def _mark(url: str) -> str:
    """An address by which it is known again; it may have a key in it, which is not to be kept here."""
    return hashlib.sha256(url.encode()).hexdigest()


class Cursors:
    """One process at a time. A context manager. Raises sqlite3.Error where the file cannot be used."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._store = sqlite3.connect(file, isolation_level=None, timeout=10.0)
        self._store.execute("PRAGMA journal_mode=WAL")
        self._store.execute("PRAGMA synchronous=FULL")
        self._store.execute(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def read(self, name: str, url: str) -> Cursor:
        """Where an entry was; a new beginning where its address is another one than it was."""
        row = self._store.execute(
            "SELECT cursor_ms, not_before_ms, etag, last_modified FROM pull WHERE name = ? AND url = ?",
            (name, _mark(url)),
        ).fetchone()
        return Cursor() if row is None else Cursor(row[0], row[1], Known(row[2], row[3]))

    def keep(self, name: str, url: str, cursor: Cursor) -> None:
        """What is kept when this returns is kept."""
        self._store.execute(
            "INSERT OR REPLACE INTO pull VALUES (?, ?, ?, ?, ?, ?)",
            (name, _mark(url), *cursor[:2], cursor.known.etag, cursor.known.last_modified),
        )
