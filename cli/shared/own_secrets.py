"""Secrets in files that only their owner can read: found, or made anew."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cli.errors import InfluxInitError
from schemas.secret import SecretError


class Secret:
    """A secret given as a variable's text, or kept in a file."""

    def __init__(
        self, what: str, variable: str, text: str | None, file: Path, tidy: Callable[[str], str]
    ) -> None:
        self.what = what
        self.file = file
        self._variable = variable
        self._text = text
        self._tidy = tidy

    def find(self) -> str | None:
        """What there is, or None. Raises InfluxInitError, without the secret, for what cannot be one."""
        if self._text:
            where, text = self._variable, self._text
        elif self.file.exists():
            where, text = str(self.file), read_file(self.file)
        else:
            return None
        try:
            if found := self._tidy(text):
                return found
            wrong = "is empty"
        except SecretError as error:
            wrong = str(error)
        mend = "give it anew" if where == self._variable else "delete it or fill it"
        raise InfluxInitError(f"{where}, the {self.what}, {wrong}: {mend}")

    def find_or_make(self, done: list[str]) -> str:
        """What there is; else a new one, which is on the disk when this returns."""
        found = self.find()
        if found is None:
            found = secrets.token_urlsafe(32)
            write_file(self.file, found)
            done.append(f"wrote {self.file}: the new {self.what}")
        return found


def read_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InfluxInitError(f"{file} cannot be read: {error}") from error
    except UnicodeDecodeError:  # which quotes what it cannot read
        raise InfluxInitError(f"{file} is damaged, it is no text: delete it or fill it") from None


def write_file(file: Path, text: str) -> None:
    """Whole or not at all, and readable by its owner only from its first byte on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
