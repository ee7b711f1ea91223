"""A station of the network: what is installed where, and which indices are declared for it."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import DeviceId, Record, StationId
from schemas.parameters import Parameter
from schemas.reading import CHANNEL_PATTERN, Period, Stamp


class FarBand(Record):
    """The strip of a camera's picture that shows the far scene, as fractions of its height and width."""

    top: Annotated[float, Field(ge=0, lt=1, description="upper edge, fraction of the height")]
    bottom: Annotated[float, Field(gt=0, le=1, description="lower edge, fraction of the height")]
    left: Annotated[float, Field(ge=0, lt=1, description="left edge, fraction of the width")] = 0.0
    right: Annotated[float, Field(gt=0, le=1, description="right edge, fraction of the width")] = 1.0


class FoundBand(Record):
    """A far band that fusion found for a camera whose record sets none."""

    camera: DeviceId
    far_band: FarBand
    pairs: Annotated[int, Field(ge=1, description="hours with a picture and PM2.5 that it was found from")]


class CameraBands(Record):
    """The far bands found at a station; the newest record per key on aq.camera-bands.v1 counts."""

    station: StationId
    bands: tuple[FoundBand, ...]


class Camera(Record):
    """A fixed camera."""

    camera: DeviceId
    far_band: FarBand | None = None


class Sensor(Record):
    """A sensor and the correction that is applied to its values."""

    sensor: DeviceId
    parameters: tuple[Parameter, ...]
    correction: Annotated[
        str, Field(description="id of a named correction, such as identity or linear:slope=0.8,offset=1.5")
    ] = "identity"
    model: Annotated[
        str,
        Field(description="type of the sensor, such as sds011: its fill values are known (aqi/sensors.toml)"),
    ] = ""
    fill_values: Annotated[
        tuple[float, ...],
        Field(
            max_length=32,
            description="numbers, as the sensor sends them, that mean no value: saturation, an error code",
        ),
    ] = ()
    channel: Annotated[
        str | None,
        Field(
            pattern=CHANNEL_PATTERN,
            description="of several scalings of one measurement (cf_1, atm) the one to take",
        ),
    ] = None
    period: Annotated[
        Period | None, Field(description="seconds that its values stand for, where messages do not say")
    ] = None
    stamp: Annotated[Stamp, Field(description="whether its times begin or end that period")] = "ends"


class Station(Record):
    """A station record; the newest per key on the compacted topic aq.stations.v1 counts."""

    station: StationId
    name: str = ""
    city: str = ""
    latitude: Annotated[float, Field(ge=-90, le=90, description="degrees north, WGS 84")] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, description="degrees east, WGS 84")] | None = None
    timezone: Annotated[str, Field(description="IANA zone of the station's civil time")] = "UTC"
    kind: Literal["reference", "low-cost", "camera-only", "simulated"] = "low-cost"
    standards: Annotated[
        tuple[str, ...], Field(min_length=1, description="AQI standards, the first one leads")
    ] = ("us-epa-2024",)
    cameras: tuple[Camera, ...] = ()
    sensors: tuple[Sensor, ...] = ()
