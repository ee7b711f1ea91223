"""What a device says of itself, and what its broker says of it."""

from typing import Annotated

from pydantic import Field

from schemas.base import Record, StationId, UtcTime

#: Characters of what a device calls itself, or its firmware.
Named = Annotated[str, Field(max_length=120)]


class DeviceReport(Record):
    """Facts of a station's device, told by a gateway where they change. Kafka key: the station id."""

    station: StationId
    at: Annotated[UtcTime, Field(description="when it came in")]
    online: Annotated[
        bool | None, Field(description="its birth (true) or its last will (false); null: neither")
    ] = None
    battery_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    battery_volts: Annotated[float, Field(ge=0, le=60)] | None = None
    firmware: Named = ""
    model: Named = ""
    name: Named = ""
    latitude: Annotated[float, Field(ge=-90, le=90, description="degrees north, WGS 84")] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, description="degrees east, WGS 84")] | None = None
    origins: Annotated[
        tuple[Named, ...],
        Field(max_length=4, description="addresses that speak for it in turns, where there are several"),
    ] = ()
