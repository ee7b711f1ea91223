"""Which stations are let in: those of records and rules; what others send waits on topics of its own. Pure.

What waits is kept as it would have been published, in its order, for as long as those topics keep it.
`skyfuse stations adopt` lets a station in, and publishes what it has sent.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from schemas.reading import Reading
from sources.adapters.core.translation import Facts
from sources.gateway.arrival import Arrival, Picture
from sources.gateway.errors import KafkaAway
from sources.gateway.key_scope import ALL_STATIONS, KeyScope
from sources.gateway.remembered import remember
from streams.topics import FRAMES, QUARANTINE, QUARANTINED_FRAMES, READINGS, Topic

#: Of a station that waits a picture is kept so often, ms: nobody has asked for more of them.
_PICTURE_EVERY_MS: Final = 60_000


class Admission:
    """Decides by station where a reading, or a picture, goes.

    Args:
        patterns: ids, and beginnings of ids with a `*` at their end, that need no record.
        known: whether a station has a record.
        ready: whether all records have been read: before that nobody can be known from a stranger.
        within: boxes of south, west, north and east edge, degrees: who says that it stands in one needs no
            record.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        known: Callable[[str], bool],
        ready: Callable[[], bool],
        within: Sequence[tuple[float, float, float, float]] = (),
    ) -> None:
        self._rule = KeyScope(tuple(patterns))
        self._known = known
        self._ready = ready
        self._within = within
        #: Where stations state that they stand; and when a picture of each was kept.
        self._places: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._pictures: OrderedDict[str, int] = OrderedDict()

    def of_reading(self, reading: Reading, arrival: Arrival, facts: Sequence[Facts] = ()) -> Topic:
        """The topic for a reading. Raises KafkaAway while the records have not been read."""
        for fact in facts:  # not every message says where its station stands
            if fact.latitude is not None and fact.longitude is not None:
                remember(self._places, fact.station, (fact.latitude, fact.longitude))
        return READINGS if self.lets_in(reading.station, arrival) else QUARANTINE

    def lets_in(self, station: str, arrival: Arrival) -> bool:
        """Whether an arrival's station is let in. Raises KafkaAway, as for a reading."""
        named = arrival.scope is ALL_STATIONS and arrival.station == station
        return named or self._let_in(station, arrival.scope)

    def may_know(self, station: str) -> bool:
        """Whether a station is no stranger, or nobody can tell while the records have not been read."""
        return not self._ready() or self._let_in(station, KeyScope((station,), vouched=False))

    def of_picture(self, picture: Picture) -> Topic | None:
        """The topic for a picture; None: it is not kept. Raises KafkaAway, as for a reading."""
        if picture.scope is ALL_STATIONS or self._let_in(picture.station, picture.scope):
            return FRAMES
        last = self._pictures.get(picture.station)
        if last is not None and 0 <= picture.received_at - last < _PICTURE_EVERY_MS:
            return None
        remember(self._pictures, picture.station, picture.received_at)
        return QUARANTINED_FRAMES

    def _let_in(self, station: str, scope: KeyScope) -> bool:
        # A key for this very station: whoever made it knows it.
        if (
            (scope.vouched and station in scope.stations)
            or self._rule.covers(station)
            or self._known(station)
        ):
            return True
        place = self._places.get(station)
        if place is not None and any(_is_in(place, box) for box in self._within):
            return True
        if not self._ready():
            raise KafkaAway("the station records have not been read yet: again in a moment", 2)
        return False


def _is_in(place: tuple[float, float], box: tuple[float, float, float, float]) -> bool:
    """Whether a place lies in a box, which may reach over the date line (west > east)."""
    (latitude, longitude), (south, west, north, east) = place, box
    over = longitude >= west or longitude <= east if west > east else west <= longitude <= east
    return south <= latitude <= north and over
