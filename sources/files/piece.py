"""A payload of a file, and how much a file may unpack to."""

from typing import Final, NamedTuple

from sources.adapters.core.translation import MAX_BYTES
from sources.errors import FileRefused

#: What one file may unpack to, and how much more that may be than the file itself where it is much.
MOST_BYTES: Final = 1024 * 1024 * 1024
_MOST_TIMES: Final = 100
_MUCH: Final = 16 * 1024 * 1024
#: Rows of a payload: an adapter looks at 300,000 entries at most.
ROWS: Final = 20_000
CUT_AT: Final = MAX_BYTES // 2


class Piece(NamedTuple):
    """A payload of a file: where it is from, the adapter that knows it, its bytes."""

    where: str
    adapter: str
    body: bytes


class Unread(NamedTuple):
    """A part of an archive that cannot be read, and why; the others can."""

    where: str
    error: FileRefused


class Budget:
    """What a file may still unpack to: `left` bytes."""

    def __init__(self, left: int) -> None:
        self.left = left

    @classmethod
    def of_file(cls, size: int) -> "Budget":
        """That of a file of `size` bytes on disk."""
        return cls(min(MOST_BYTES, max(_MUCH, _MOST_TIMES * size)))

    def spend(self, size: int) -> None:
        """So much came. Raises FileRefused."""
        self.expect(size)
        self.left -= size

    def expect(self, size: int) -> None:
        """Whether so much may still come. Raises FileRefused."""
        if size > self.left:
            raise FileRefused("bomb", "it unpacks to far more than a file of this size should")
