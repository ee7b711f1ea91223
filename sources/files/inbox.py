"""A watched folder: files are claimed, and leave it for `done` or `failed`, by renaming alone.

Where a file lies says what is known of it; there is no other record that a crash could tear from it.

    FOLDER/…            put there by somebody; taken when it has not grown for a while
    FOLDER/.working/    claimed: it is read, and read again after a crash
    FOLDER/done/        all of it is confirmed
    FOLDER/failed/      it cannot be used, and NAME.reason.txt says why

A file that is read again gives the same records, since all that they depend on stays with it: its bytes, and
the time of its last change, which renaming keeps.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

_WORKING: Final = ".working"
DONE: Final = "done"
FAILED: Final = "failed"
#: Names under which programs write what is not whole yet.
_UNFINISHED: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", ".lock")
_DEPTH: Final = 6
#: Files that are looked at in one round; the others wait for the next.
_MOST_FILES: Final = 10_000
#: So often a file is read again after a crash.
_MOST_TRIES: Final = 9
#: Of a name in `.working`, which begins with 17 signs of ours.
_MOST_NAME: Final = 200


class _Subfolder(NamedTuple):
    """A folder below the watched one: the names on the way to it, its files', and it opened."""

    parents: tuple[str, ...]
    files: list[str]
    descriptor: int


class _Seen(NamedTuple):
    size: int
    changed_ns: int
    since: float


@dataclass(frozen=True)
class Claimed:
    """A file that is ours: its name in `.working`, and that which it had."""

    path: Path
    name: str


class Inbox:
    """One folder.

    Args:
        folder: it must be there.
        quiet_s: for how long a file has not changed when it is whole.
        clock: seconds that only grow.
    """

    def __init__(self, folder: Path, quiet_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._quiet_s = quiet_s
        self._clock = clock
        self._seen: dict[tuple[int, int], _Seen] = {}
        self._working = folder / _WORKING

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the folder; False: another process does. Raises OSError."""
        for name in (_WORKING, DONE, FAILED):
            (self.folder / name).mkdir(exist_ok=True)
            if (self.folder / name).is_symlink():
                raise OSError(errno.ELOOP, "it leads elsewhere", str(self.folder / name))
        lock = os.open(self._working / ".held", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    def begun(self) -> Iterator[Claimed]:
        """What was claimed before a crash, oldest first. Raises OSError.

        A file with which the process has ended again and again is put away: others wait behind it.
        """
        found = [
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
            for entry in os.scandir(self._working)
            if re.match(r"[0-9a-f]{15}\d-", entry.name)
        ]
        for _, name in sorted(found):
            tries, known_as = int(name[15]), name[17:]
            if tries == _MOST_TRIES:
                words = f"the process that read it has ended {tries} times before it was done"
                self.failed(Claimed(self._working / name, known_as), words)
                continue
            again = f"{name[:15]}{tries + 1}-{known_as}"
            os.rename(self._working / name, self._working / again)
            yield Claimed(self._working / again, known_as)

    def claim(self) -> list[Claimed]:
        """Take what is whole, oldest first. Links, and what is no file, are let lie. Raises OSError."""
        now = self._clock()
        seen: dict[tuple[int, int], _Seen] = {}
        ready: dict[Claimed, int] = {}
        working = os.open(self._working, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for folder in self._walk():
                for name in sorted(folder.files):
                    if name.startswith((".", "~")) or name.lower().endswith(_UNFINISHED):
                        continue
                    try:
                        status = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    file = status.st_dev, status.st_ino
                    before = self._seen.get(file)
                    same = before is not None and before[:2] == (status.st_size, status.st_mtime_ns)
                    since = before.since if before is not None and same else now
                    if now - since < self._quiet_s:
                        seen[file] = _Seen(status.st_size, status.st_mtime_ns, since)
                        continue
                    known_as = "__".join((*folder.parents, name))
                    ours = f"{secrets.token_hex(8)[:15]}0-{_shortened(known_as)}"
                    os.rename(name, ours, src_dir_fd=folder.descriptor, dst_dir_fd=working)
                    ready[Claimed(self._working / ours, ours[17:])] = status.st_mtime_ns
        finally:
            os.close(working)
        self._seen = seen
        return sorted(ready, key=lambda one: (ready[one], one.name))

    def _walk(self) -> Iterator[_Subfolder]:
        """It and the folders below; each is open until the next one is asked for."""
        counted = 0
        for top, folders, files, place in os.fwalk(self.folder, follow_symlinks=False):
            parents = Path(top).relative_to(self.folder).parts
            own = (_WORKING, DONE, FAILED) if not parents else ()
            folders[:] = sorted(one for one in folders if one not in own and not one.startswith("."))
            if len(parents) >= _DEPTH:
                folders.clear()
            room = _MOST_FILES - counted
            yield _Subfolder(parents, files[:room], place)
            counted += len(files)
            if counted >= _MOST_FILES:
                return

    @contextmanager
    def opened(self, one: Claimed) -> Iterator[IO[bytes]]:
        """The file, to read. Raises OSError."""
        with os.fdopen(os.open(one.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            yield file

    def done(self, one: Claimed, remark: str = "") -> None:
        """All of it is confirmed. `remark`: what of it was not used. Raises OSError."""
        self._leave(one, DONE, remark)

    def failed(self, one: Claimed, reason: str) -> None:
        """It cannot be used. Raises OSError."""
        self._leave(one, FAILED, reason)

    def gone(self, one: Claimed) -> None:
        """It is published and is not to be kept. Raises OSError."""
        one.path.unlink(missing_ok=True)

    def give_back(self, one: Claimed) -> None:
        """Somebody still writes it: it is waited for once more. Raises OSError."""
        os.rename(one.path, _free(self.folder / one.name))

    def _leave(self, one: Claimed, where: str, words: str) -> None:
        place = _free(self.folder / where / one.name)
        if words:
            # Before the file itself: who sees it there finds the reason beside it.
            reason = place.with_name(f"{place.name}.reason.txt")
            reason.write_text(words + "\n", errors="backslashreplace")
        os.rename(one.path, place)


def _free(path: Path) -> Path:
    """The path, or with a number where there is one of that name: nothing is overwritten."""
    if not os.path.lexists(path):
        return path
    number = 2
    while os.path.lexists(path.with_name(f"{number}-{path.name}")):
        number += 1
    return path.with_name(f"{number}-{path.name}")


def _shortened(name: str) -> str:
    """The end of a name that is too long: there stands what it is."""
    return os.fsdecode(os.fsencode(name)[-_MOST_NAME:])
