"""How a station fares, as the compacted topic aq.fleet.v1 has it."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from schemas.base import Record, StationId, UtcTime
from schemas.device import DeviceText, SourceState
from schemas.limits import SOURCES_PER_STATION

#: What is wrong with a station itself. `camera`, `pull`: one that a gateway asks for it gives nothing, or
#: nothing new. `payload`: nothing of what it sends can be used.
Trouble = Literal["clock", "battery", "two_addresses", "camera", "pull", "payload"]
TROUBLES: Final[tuple[Trouble, ...]] = get_args(Trouble)


class TroubleAlert(Record):
    """Where an alert rule about a trouble stands at a station; without this it has nothing to say.

    Times in ms since 1970, the broker's, of records that say something of the trouble.
    """

    rule: str
    digest: Annotated[str, Field(description="of the rule that stands so")]
    above_ms: Annotated[
        int | None, Field(description="since when the trouble is there; null: it is gone")
    ] = None
    below_ms: Annotated[int | None, Field(description="since when it is gone; null: it is there")] = None
    last_ms: Annotated[int, Field(description="when something was said of it last")]
    opened_ms: Annotated[int | None, Field(description="when the alert opened; null: it is not open")] = None
    since_ms: Annotated[int | None, Field(description="since when the trouble was there then")] = None


class StationHealth(Record):
    """How a station fares; the newest per key counts. Whoever reads it says what that means by now.

    What is in lists is what the figures beside them are made of, for the worker that goes on with it.
    """

    station: StationId
    heard_at: Annotated[UtcTime, Field(description="when something of it came last")]
    first_at: Annotated[UtcTime, Field(description="when it was heard first")]
    observed_at: Annotated[UtcTime | None, Field(description="its newest stamp")] = None
    wait_s: Annotated[
        float, Field(ge=0, description="usual seconds from one arrival to the next; 0: not known")
    ] = 0
    period_s: Annotated[
        float, Field(ge=0, description="usual seconds from one stamp to the next; 0: not known")
    ] = 0
    clock_offset_s: Annotated[
        float | None, Field(description="how far its clock is ahead; negative: behind, or its way here long")
    ] = None
    battery_percent: float | None = None
    battery_volts: float | None = None
    firmware: DeviceText = ""
    model: DeviceText = ""
    offline_at: Annotated[
        UtcTime | None, Field(description="when its last will came; null: it is not away by that")
    ] = None
    origins: Annotated[
        tuple[DeviceText, ...], Field(max_length=4, description="addresses that speak for it in turns")
    ] = ()
    gaps_ms: Annotated[tuple[int, ...], Field(max_length=16, description="from arrival to arrival")] = ()
    leads_ms: Annotated[
        tuple[int, ...], Field(max_length=64, description="of each arrival, stamp minus arrival")
    ] = ()
    open_ms: Annotated[
        tuple[int, ...],
        Field(max_length=2, description="the arrival under way: when it began (ms), and its largest lead"),
    ] = ()
    stamp_gaps_ms: Annotated[tuple[int, ...], Field(max_length=16, description="from stamp to stamp")] = ()
    hours: Annotated[
        tuple[tuple[int, int], ...],
        Field(
            max_length=32, description="stamps that came of each of the last hours: hour since 1970, count"
        ),
    ] = ()
    offsets: Annotated[
        dict[str, int], Field(max_length=4, description="by kind of record, offset after the last one in it")
    ] = {}
    sources: Annotated[
        tuple[SourceState, ...],
        Field(max_length=SOURCES_PER_STATION, description="cameras and addresses that a gateway asks for it"),
    ] = ()
    unheard: Annotated[
        bool, Field(description="nothing of it ever came: only what is fetched of it is known")
    ] = False
    alerts: Annotated[
        tuple[TroubleAlert, ...], Field(description="where alert rules about its troubles stand")
    ] = ()
