"""What arrived at the gateway, who may speak for whom, and what became of it. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from camera.image import Area
from sources.adapters.core.parts import Part
from sources.adapters.core.translation import Facts, UnbelievedClock


def _pattern(stations: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(one).replace(r"\*", ".*") for one in stations) or r"(?!)")


@dataclass(frozen=True)
class KeyScope:
    """Which stations somebody may speak for: ids, and beginnings of ids with a `*` at their end."""

    stations: tuple[str, ...]
    #: Who it is, for people: the name of a key, a broker, a folder. Never a secret.
    holder: str = ""
    #: They showed no key: what is of other stations is not kept.
    keyless: bool = False
    #: The stations whose records they may list and change.
    managed: tuple[str, ...] = ()
    #: Whether somebody has made it for these stations, and so knows them; a topic names whatever it likes.
    vouched: bool = True

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _pattern(self.stations)

    @cached_property
    def _managed_pattern(self) -> re.Pattern[str]:
        return _pattern(self.managed)

    def manages(self, station: str) -> bool:
        """Whether they may list and change the record of `station`."""
        return self._managed_pattern.fullmatch(station) is not None

    def covers(self, station: str) -> bool:
        """Whether `station` is one of them."""
        return self._pattern.fullmatch(station) is not None

    @property
    def only(self) -> str | None:
        """The station that they speak for where nothing names one: a single one, of whoever showed a key.

        Without a key it takes no more than any sender's wrong address to be taken for that station.
        """
        if self.keyless:
            return None
        [first, *more] = self.stations or ("*",)
        return None if more or "*" in first else first


#: What the operator has set up: a folder, a camera, a cloud that is asked.
ALL_STATIONS: Final = KeyScope(("*",))


class Arrival(NamedTuple):
    """A payload as it arrived.

    Args:
        adapter: name of the adapter that knows it (`sources.adapters`).
        body: its bytes, unpacked.
        received_at: when it came, ms since 1970.
        way: how it came: a few words that name a series (http, mqtt, file, pull …).
        topic: MQTT topic, path of the request, or of the file, without a query.
        origin: whose it is, for people: an address, a broker, a folder. Never a secret.
        station: which station it is of, where the way in says so.
        scope: the stations that the sender may speak for.
        headers: of the request, by lower-case name; only those that adapters read.
        receiver: who stamped it where it has no time.
        zone: of the station's civil time, where the way in knows; else its record's.
        read_at: when it was read, ms, of a file: its own time says nothing of the present.
    """

    adapter: str
    body: bytes
    received_at: int
    way: str
    topic: str = ""
    origin: str = ""
    station: str | None = None
    scope: KeyScope = ALL_STATIONS
    headers: Mapping[str, str] = MappingProxyType({})
    receiver: Literal["broker", "server"] = "server"
    zone: tzinfo | None = None
    read_at: int = 0


@dataclass(frozen=True)
class Picture:
    """A camera's picture as it arrived.

    Args:
        station: of which station.
        taken_at: when it was taken, ms since 1970.
        data: the file's bytes (JPEG, PNG, still WebP).
        received_at: when it came, ms since 1970.
        camera: of that station.
        way, origin, scope: as of an `Arrival`.
        crop: the part that is kept, where not all of it is.
        read_at: when it was read, ms, of a file: both times are the file's own.
    """

    station: str
    taken_at: int
    data: bytes
    received_at: int
    way: str
    camera: str = "main"
    origin: str = ""
    scope: KeyScope = ALL_STATIONS
    crop: Area | None = None
    read_at: int = 0


class Receipt(NamedTuple):
    """What became of an arrival. All of it is confirmed by the broker.

    `published`: records on the input topics; `values` in them; `refused`: parts that could not be used, by
    name; `dead_letter`: where its bytes lie, if anything was refused (`skyfuse dlq show`).
    """

    published: int = 0
    values: int = 0
    stations: tuple[str, ...] = ()
    refused: tuple[Part, ...] = ()
    left_out: tuple[Part, ...] = ()
    remarks: tuple[Part, ...] = ()
    facts: tuple[Facts, ...] = ()
    wrong_clocks: tuple[UnbelievedClock, ...] = ()
    dead_letter: str | None = None
    #: The station whose message could not be used at all, where the way in says whose it is.
    unusable_of: str | None = None
    #: It is known: a network server's second copy, or the same idempotency key.
    duplicate: bool = False
    #: It waits on disk for Kafka; nothing else is known of it yet.
    spooled: bool = False
