"""What arrived at the gateway, and what became of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from types import MappingProxyType
from typing import Literal, NamedTuple

from camera.image import Area
from sources.adapters.core.parts import Part
from sources.adapters.core.translation import Facts, UnbelievedClock
from sources.gateway.key_scope import ALL_STATIONS, KeyScope


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
