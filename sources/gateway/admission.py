"""Which stations are let in: those of records and rules; readings of others wait on their own topic. Pure.

What waits is kept as it would have been published, in its order, for as long as that topic keeps it.
`skyfuse stations adopt` lets a station in, and publishes what it has sent.
"""

from collections.abc import Callable, Sequence

from schemas.reading import Reading
from sources.gateway.arrival import Arrival, KeyScope
from sources.gateway.errors import KafkaAway
from streams.topics import QUARANTINE, READINGS, Topic


class Admission:
    """Decides by station where a reading goes.

    Args:
        patterns: ids, and beginnings of ids with a `*` at their end, that need no record.
        known: whether a station has a record.
        ready: whether all records have been read: before that nobody can be known from a stranger.
    """

    def __init__(
        self, patterns: Sequence[str], known: Callable[[str], bool], ready: Callable[[], bool]
    ) -> None:
        self._rule = KeyScope(tuple(patterns))
        self._known = known
        self._ready = ready

    def __call__(self, reading: Reading, arrival: Arrival) -> Topic:
        """The topic for a reading. Raises KafkaAway while the records have not been read."""
        station = reading.station
        # A key for this very station: whoever made it knows it.
        if station in arrival.scope.stations or self._rule.covers(station) or self._known(station):
            return READINGS
        if not self._ready():
            raise KafkaAway("the station records have not been read yet: again in a moment", 2)
        return QUARANTINE
