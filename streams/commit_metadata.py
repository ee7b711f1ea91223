"""What a stage says of itself in the metadata of its commits: numbers, in JSON, with a version."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from streams.errors import CommitMetadataError

T = TypeVar("T")

_VERSION: Final = 1


def write_metadata(plain: Mapping[str, Any]) -> str:
    """The metadata that says this."""
    return json.dumps({"v": _VERSION, **plain}, separators=(",", ":"))


def read_metadata(metadata: str, taken: Callable[[Mapping[str, Any]], T]) -> T:
    """What `taken` makes of what the metadata says.

    Raises CommitMetadataError: of another version, unreadable, or `taken` finds something amiss in it.
    """
    try:
        plain = json.loads(metadata)
        if plain["v"] != _VERSION:
            raise CommitMetadataError(f"commit metadata version {plain['v']} is not known to this version")
        return taken(plain)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CommitMetadataError(f"unreadable commit metadata {metadata[:80]!r}: {error}") from error
