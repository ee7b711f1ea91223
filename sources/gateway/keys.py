"""Who may speak for which station, and who may ask the page for what: keys, of which digests are kept.

They are in a file of the operator's: TOML, written by `skyfuse gateway keys` and `skyfuse keys`, read again
when it has changed. A key is 256 random bits, so a plain SHA-256 of it cannot be turned back. A key that
signs is never sent: the request carries its name and a signature, made with its digest, of the time, the
path and the body.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import string
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import Record, first_error
from sources.gateway.errors import KeyFileError
from sources.gateway.key_scope import KeyScope

#: Seconds that a signature's time may be off.
SIGNED_WITHIN_S: Final = 300
#: Seconds between two looks at whether the file has changed.
_LOOK_S: Final = 1.0
_BEGINS: Final = "sf_"
#: 95 bits: of a digest of it nobody makes the key either.
_SHORT: Final = 16
_PLAIN: Final = string.ascii_letters + string.digits
_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\*?|\*")
_SIGNATURE: Final = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


def _pattern(text: str) -> str:
    if _PATTERN.fullmatch(text) is None:
        raise PydanticCustomError(
            "station", "{text} is neither a station id nor the beginning of one with a * at its end",
            {"text": repr(text[:80])},
        )  # fmt: skip
    return text


#: What somebody may do at the page's API (docs/page.md has the table).
ApiScope = Literal["read", "frames", "write", "admin"]
SCOPES: Final[tuple[ApiScope, ...]] = get_args(ApiScope)


class StoredKey(Record):
    """A key as it is kept. Without a digest: its stations may be spoken for without a key."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    stations: tuple[Annotated[str, AfterValidator(_pattern)], ...] = ()
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    signs: bool = False
    #: Whether it may list and change the records of these stations, too.
    manages: bool = False
    #: What it may do at the page's API; nothing, if not given.
    scopes: tuple[ApiScope, ...] = ()

    @model_validator(mode="after")
    def _for_something(self) -> "StoredKey":
        if not self.stations and not self.scopes:
            raise PydanticCustomError("no_use", "a key is for stations, for scopes, or for both")
        if self.scopes and (self.sha256 is None or self.signs):
            raise PydanticCustomError("no_secret", "scopes are for keys that are shown, and do not sign")
        return self

    @cached_property
    def scope(self) -> KeyScope:
        """The stations that it may speak for."""
        keyless = self.sha256 is None
        managed = ("*",) if "admin" in self.scopes else self.stations if self.manages else ()
        return KeyScope(self.stations, f"key {self.name}", keyless, () if keyless else managed)


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(*, short: bool = False) -> str:
    """A key nobody else has; `short`: 16 letters and digits, as many cameras take no longer password."""
    if short:
        return "".join(secrets.choice(_PLAIN) for _ in range(_SHORT))
    return _BEGINS + secrets.token_urlsafe(32)


def signature_of(digest: str, at_s: int, path: str, body: bytes) -> str:
    """The header that signs a request: `t=TIME,v1=HEX`, HMAC-SHA-256 with the digest (hex) of the key."""
    made = hmac.new(digest.encode(), f"{at_s}.{path}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={made.hexdigest()}"


def read_keys(file: Path) -> list[StoredKey]:
    """The keys in a file; none where there is no file. Raises KeyFileError."""
    try:
        table: Mapping[str, Any] = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{file} is no TOML: {error}") from error
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read: {error.strerror}") from error
    entries = table.get("key", [])
    if set(table) - {"key"} or not isinstance(entries, list):
        raise KeyFileError(f"{file}: it holds tables [[key]] and nothing else")
    keys = []
    for number, entry in enumerate(entries, 1):
        try:
            plain = dict(entry) | {name: tuple(entry.get(name, ())) for name in ("stations", "scopes")}
            keys.append(StoredKey.model_validate(plain))
        except (ValidationError, TypeError, ValueError, AttributeError) as error:
            why = first_error(error)[1] if isinstance(error, ValidationError) else "it is no table"
            raise KeyFileError(f"{file}, key {number}: {why}") from error
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise KeyFileError(f"{file}: there are two keys of the name {name}")
    return keys


@contextmanager
def changing_keys(file: Path) -> Iterator[list[StoredKey]]:
    """The keys in a file, to be changed: written back at the end, whole. Raises KeyFileError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (file.parent / f".{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read_keys(file)
            yield keys
            fresh = file.with_name(f".{file.name}.new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
                handle.write("# Written by `skyfuse gateway keys`. Keys themselves are not in it.\n")
                handle.write("".join(_written(key) for key in keys))
                handle.flush()
                os.fsync(handle.fileno())
            fresh.replace(file)
    except OSError as error:
        raise KeyFileError(f"{file} cannot be written: {error.strerror}") from error


def _written(key: StoredKey) -> str:
    # Names and stations have no letter that TOML would want escaped.
    stations = ", ".join(f'"{station}"' for station in key.stations)
    digest = "" if key.sha256 is None else f'sha256 = "{key.sha256}"\n'
    signs = "signs = true\n" if key.signs else ""
    manages = "manages = true\n" if key.manages else ""
    listed = ", ".join(f'"{scope}"' for scope in key.scopes)
    scopes = f"scopes = [{listed}]\n" if key.scopes else ""
    return f'\n[[key]]\nname = "{key.name}"\nstations = [{stations}]\n{digest}{signs}{manages}{scopes}'


@dataclass(frozen=True)
class Signed:
    """The signature of a request as it came: by which key, and the header."""

    name: str
    signature: str


class KeyRing:
    """The keys that count now.

    A file that was changed to something wrong leaves the keys before it in force, and says so once.
    """

    def __init__(
        self, file: Path, *, clock: Callable[[], float] = time.monotonic,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._file = file
        self._clock = clock
        self._complain = complain
        self._looked = float("-inf")
        self._version: object = None
        self._by_digest: dict[str, StoredKey] = {}
        self._by_name: dict[str, StoredKey] = {}
        self._open: KeyScope | None = None
        self._take(read_keys(file))
        self._version = self._stat()

    def holder(self, key: str) -> KeyScope | None:
        """The stations of whoever shows this key; None: nobody's."""
        self._look()
        found = self._by_digest.get(digest_of(key))
        return None if found is None or found.signs else found.scope

    def shown(self, key: str) -> StoredKey | None:
        """The key that was shown; None: nobody's."""
        self._look()
        return self._by_digest.get(digest_of(key))

    def signer(self, signed: Signed, now_s: float, path: str, body: bytes) -> KeyScope | None:
        """The stations of whoever signed a request; None: nobody did, or too long ago."""
        self._look()
        key = self._by_name.get(signed.name)
        parts = _SIGNATURE.fullmatch(signed.signature)
        if key is None or key.sha256 is None or parts is None:
            return None
        if abs(now_s - int(parts[1])) > SIGNED_WITHIN_S:
            return None
        right = signature_of(key.sha256, int(parts[1]), path, body)
        return key.scope if hmac.compare_digest(right, signed.signature) else None

    @property
    def keyless(self) -> KeyScope | None:
        """The stations that may be spoken for without a key; None: there are none."""
        self._look()
        return self._open

    def __len__(self) -> int:
        self._look()
        return len(self._by_name)

    def _look(self) -> None:
        if self._clock() - self._looked < _LOOK_S:
            return
        self._looked = self._clock()
        version = self._stat()
        if version == self._version:
            return
        self._version = version
        try:
            self._take(read_keys(self._file))
        except KeyFileError as error:
            self._complain(f"{error}; the keys before it stay in force")

    def _stat(self) -> object:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _take(self, keys: list[StoredKey]) -> None:
        self._by_digest = {key.sha256: key for key in keys if key.sha256 is not None}
        self._by_name = {key.name: key for key in keys}
        stations = tuple(station for key in keys if key.sha256 is None for station in key.stations)
        self._open = KeyScope(stations, "who has no key", True) if stations else None
