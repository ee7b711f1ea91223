"""What a device says of itself, and what its broker says of it."""

from typing import Annotated, Final

from pydantic import Field

from schemas.base import Record, StationId, UtcTime

#: Characters of what a device calls itself, or its firmware.
DeviceText = Annotated[str, Field(max_length=120)]


#: The source that is the device's own clock: its state says why its times were refused.
CLOCK: Final = "clock"
#: The source that is what the device sends: its state says why nothing of it can be used.
PAYLOAD: Final = "payload"


class SourceState(Record):
    """How something does that a gateway fetches of a station (a camera, an address that is asked); or the
    clock of its device, where its times are not believed, or what it sends, where nothing of it can be used.
    """

    source: Annotated[DeviceText, Field(description="which: `camera mast`, `pull roof`, `clock`, `payload`")]
    state: Annotated[str, Field(max_length=40, description="a word: ok, night, unauthorized, timeout …")]
    well: Annotated[bool, Field(description="whether nobody need look")]
    why: Annotated[str, Field(max_length=200, description="what is wrong, for people")] = ""
    since: Annotated[UtcTime, Field(description="when it began to be so")]
    reported_at: Annotated[UtcTime, Field(description="when a gateway reported last that it is so")]


class DeviceReport(Record):
    """Facts of a station's device, told by a gateway where they change. Kafka key: the station id."""

    station: StationId
    at: Annotated[UtcTime, Field(description="when it came in")]
    online: Annotated[
        bool | None, Field(description="its birth (true) or its last will (false); null: neither")
    ] = None
    battery_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    battery_volts: Annotated[float, Field(ge=0, le=60)] | None = None
    firmware: DeviceText = ""
    model: DeviceText = ""
    name: DeviceText = ""
    latitude: Annotated[float, Field(ge=-90, le=90, description="degrees north, WGS 84")] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, description="degrees east, WGS 84")] | None = None
    origins: Annotated[
        tuple[DeviceText, ...],
        Field(max_length=4, description="addresses that speak for it in turns, where there are several"),
    ] = ()
    source: Annotated[
        SourceState | None,
        Field(description="how something does that is fetched of it; then it says nothing else"),
    ] = None
