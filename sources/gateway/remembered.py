"""What the gateway remembers of stations, of which strangers may invent any number: the latest ones. Pure."""

from collections import OrderedDict
from typing import Final, TypeVar

T = TypeVar("T")

#: Stations that are remembered.
MOST: Final = 20_000


def remember(known: OrderedDict[str, T], station: str, what: T) -> None:
    """Put a station's value last; what was put longest ago leaves where there are too many."""
    known[station] = what
    known.move_to_end(station)
    while len(known) > MOST:
        known.popitem(last=False)
