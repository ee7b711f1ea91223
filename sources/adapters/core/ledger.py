"""The account of a payload: what of it was refused, left out or remarked, and how much was looked at."""

from typing import Final

from schemas.errors import Refused
from sources.adapters.core.parts import Names
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import SourceFormat

#: Values of one payload; more are refused.
MAX_VALUES: Final = 100_000
#: Entries and names that an adapter looks at in one payload.
MAX_LOOKS: Final = 300_000


class Ledger:
    """What became of a payload's parts, but for those that are values. Bounded, however large it is."""

    def __init__(self, format: SourceFormat) -> None:
        self.format = format
        self.values = 0
        self.refused = Names()
        self.left_out = Names()
        self.remarks = Names()
        self._looks = 0

    def full(self) -> bool:
        """Whether there are as many values as one payload may have."""
        return self.values >= MAX_VALUES

    def look(self) -> None:
        """One more look at an entry or a name; a payload of too many is refused from there on."""
        self._looks += 1
        if self._looks > MAX_LOOKS:
            raise Refused("too_many", f"more than {MAX_LOOKS} entries and names in one payload")

    def refuse(self, code: str, part: Node, why: str) -> None:
        """A part that cannot be used, taken with all that is in it."""
        self.refused.add(code, part.path, part, why)
        part.drop()

    def leave(self, code: str, part: Node, why: str) -> None:
        """A part that is known and is no reading, taken with all that is in it."""
        self.left_out.add(code, part.path, part, why)
        part.drop()
