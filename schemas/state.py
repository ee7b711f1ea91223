"""State that outlives a process: one form and one version for all of it.

What a stage has learned is kept on a compacted topic, one record per station. A record is the MessagePack
array ``[version, CRC-32 of the body, body]``, and the body is the core's own types as msgspec writes them:
dataclasses and structs by the names of their fields, named tuples by position, floats to the last bit (NaN
and infinity too), arrays as `[dtype, shape, bytes]`. Nothing is written by hand for a type, so a type that
is stored has three rules:

* A field that is added has a default: records that were written before do not have it. In a named tuple it
  comes last. No version changes by that. A field that is not known (any more) is skipped.
* What changes otherwise (a field is renamed, or means something else) raises `VERSION` by one, and the
  record's codec gets a migration from the version before. `tests/golden` keeps records of each version,
  which must be read for ever, and the layout of the present one, so that none of this happens by oversight.
* Equal values give equal bytes: keys of mappings are strings, and are written in order.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

import msgspec
import numpy as np

from schemas.errors import DamagedState, NewerState

#: Of every stored record. Before it there were versions of single kinds, up to 5, in JSON.
VERSION: Final = 6

T = TypeVar("T")
#: From a version's plain data (as `msgspec.msgpack.decode` or `json.loads` gives them) to the next one's.
Migration = Callable[[Any], Any]

#: All there are, by name.
CODECS: Final[dict[str, "Codec[Any]"]] = {}

#: What plain data of another shape than was expected raise.
_MALFORMED: Final = (
    msgspec.MsgspecError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


class Codec(Generic[T]):
    """Reads and writes one kind of stored record.

    Args:
        name: what the record is, in words, for messages.
        kind: type of the state.
        migrations: by version, from that version's plain data to those of the next. A version whose data the
            next one reads as they are needs none. The first one is of the oldest version that is read.
    """

    def __init__(self, name: str, kind: type[T], migrations: Mapping[int, Migration] | None = None) -> None:
        self.name = name
        self.kind = kind
        self._migrations = dict(sorted((migrations or {}).items()))
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_from_plain)
        CODECS[name] = self

    def encode(self, state: T) -> bytes:
        """The record of a state; equal states have equal records."""
        body = pack(state)
        return msgspec.msgpack.encode((VERSION, zlib.crc32(body), body))

    def decode(self, data: bytes) -> T:
        """The state in a record of this version or an earlier one.

        Raises:
            NewerState: a later version has written it.
            DamagedState: it is no such record, or was altered.
        """
        try:
            version, body = _opened(data)
            if version > VERSION:
                raise NewerState(
                    f"the {self.name} is stored in version {version}, and this skyfuse reads up to {VERSION}:"
                    " start the newer skyfuse that wrote it (nothing was changed or deleted)"
                )
            if version == VERSION:
                return self._decoder.decode(body)
            oldest = min(self._migrations, default=VERSION)
            if version < oldest:
                raise DamagedState(f"the {self.name} has version {version}, older than any there was")
            plain = json.loads(body) if body.startswith(b"{") else msgspec.msgpack.decode(body)
            for since, migrate in self._migrations.items():
                if since >= version:
                    plain = migrate(plain)
            return msgspec.convert(plain, self.kind, dec_hook=_from_plain)
        except _MALFORMED as error:
            raise DamagedState(f"the {self.name} cannot be read: {error!r}") from error


def pack(value: object) -> bytes:
    """A part of a state as it is written, without version or checksum."""
    return _ENCODER.encode(value)


def unpack(kind: type[T], data: bytes) -> T:
    """Inverse of `pack`. Raises DamagedState."""
    try:
        return msgspec.msgpack.decode(data, type=kind, dec_hook=_from_plain)
    except _MALFORMED as error:
        raise DamagedState(f"no {kind.__name__} can be read: {error!r}") from error


def _opened(data: bytes) -> tuple[int, bytes]:
    """Version and body of a record."""
    if data.startswith(b"{"):  # JSON, of before version 6
        plain = json.loads(data)
        return int(plain["v"] if "v" in plain else plain["version"]), data
    version, *rest = msgspec.msgpack.decode(data, type=list[Any])
    if type(version) is not int:
        raise ValueError("it does not begin with a version")
    if version > VERSION:
        return version, b""  # whatever follows there
    checksum, body = rest
    if zlib.crc32(body) != checksum:
        raise ValueError("its checksum is wrong")
    return version, body


def _to_plain(value: Any) -> Any:
    """What msgspec cannot write by itself."""
    if isinstance(value, np.ndarray):
        kind = value.dtype.newbyteorder("<")
        return kind.str, value.shape, value.astype(kind, copy=False).tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no stored form")


def _from_plain(kind: Any, value: Any) -> Any:
    """What msgspec cannot read by itself."""
    if get_origin(kind) is not np.ndarray:
        raise TypeError(f"a {kind} has no stored form")
    wanted = np.dtype(get_args(get_args(kind)[1])[0])
    stored, shape, data = value
    if np.dtype(stored) != wanted.newbyteorder("<"):
        raise ValueError(f"an array of {stored} instead of {wanted.str}")
    return np.frombuffer(data, stored).reshape(shape).astype(wanted, copy=False)


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_to_plain, order="deterministic")
