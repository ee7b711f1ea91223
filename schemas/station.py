"""A station of the network: what is installed where, and which indices are declared for it."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import STATION_PATTERN, DeviceId, Record, StationId, UtcTime, to_ms
from schemas.limits import (
    CAMERAS_PER_STATION,
    SENSORS_PER_STATION,
    STANDARDS_PER_STATION,
    VERSIONS_PER_STATION,
)
from schemas.parameters import Parameter
from schemas.reading import CHANNEL_PATTERN, DEFAULT_SENSOR, PeriodSeconds, Stamp
from schemas.zone import ZoneName

#: Least height and width of a far band, as a fraction of the picture's: a few rows of it show no contrast.
LEAST_BAND: Final = 0.02
_EVER: Final = datetime.min.replace(tzinfo=UTC)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


class FarBand(Record):
    """The strip of a camera's picture that shows the far scene, as fractions of its height and width."""

    top: Annotated[float, Field(ge=0, lt=1, description="upper edge, fraction of the height")]
    bottom: Annotated[float, Field(gt=0, le=1, description="lower edge, fraction of the height")]
    left: Annotated[float, Field(ge=0, lt=1, description="left edge, fraction of the width")] = 0.0
    right: Annotated[float, Field(gt=0, le=1, description="right edge, fraction of the width")] = 1.0

    @model_validator(mode="after")
    def _a_strip(self) -> "FarBand":
        if self.bottom - self.top < LEAST_BAND or self.right - self.left < LEAST_BAND:
            raise PydanticCustomError(
                "no_band",
                "top {top}, bottom {bottom}, left {left}, right {right} are no strip of a picture: top lies"
                " above bottom (0 is the upper edge) and left before right, by {least} at least",
                {**self.model_dump(), "least": LEAST_BAND},
            )
        return self


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
        PeriodSeconds | None,
        Field(description="seconds that its values stand for, where messages do not say"),
    ] = None
    stamp: Annotated[Stamp, Field(description="whether its times begin or end that period")] = "ends"


class Station(Record):
    """A station record; the newest per key on the compacted topic aq.stations.v1 counts.

    It holds all that ever counted: itself from `valid_from` on, and what is `earlier` before that. So a
    change of a place, a standard or a correction acts from a time of the data, whenever the record is read.
    """

    station: StationId
    name: str = ""
    city: str = ""
    latitude: Annotated[float, Field(ge=-90, le=90, description="degrees north, WGS 84")] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, description="degrees east, WGS 84")] | None = None
    timezone: Annotated[ZoneName, Field(description="IANA zone of the station's civil time")] = "UTC"
    kind: Literal["reference", "low-cost", "camera-only", "simulated"] = "low-cost"
    region: Annotated[
        str,
        Field(
            pattern=STATION_PATTERN + "|^$",
            description="stations that breathe one air and fill each other's gaps (docs/network.md); empty:"
            " the region of all that have a position",
        ),
    ] = ""
    standards: Annotated[
        tuple[str, ...],
        AfterValidator(_distinct),
        Field(
            min_length=1, max_length=STANDARDS_PER_STATION, description="AQI standards, the first one leads"
        ),
    ] = ("us-epa-2024",)
    cameras: Annotated[tuple[Camera, ...], Field(max_length=CAMERAS_PER_STATION)] = ()
    sensors: Annotated[tuple[Sensor, ...], Field(max_length=SENSORS_PER_STATION)] = ()
    valid_from: Annotated[
        UtcTime | None, Field(description="event time since when this counts; null: always")
    ] = None
    earlier: Annotated[
        tuple["Station", ...],
        Field(max_length=VERSIONS_PER_STATION, description="what counted before that, newest first"),
    ] = ()

    @model_validator(mode="after")
    def _in_order(self) -> "Station":
        versions = (self, *self.earlier)
        for later, before in pairwise(versions):
            if before.station != self.station or before.earlier:
                raise PydanticCustomError(
                    "no_version", "what is earlier is of the same station, and has nothing earlier in it"
                )
            if later.valid_from is None or (before.valid_from or _EVER) >= later.valid_from:
                raise PydanticCustomError(
                    "no_order", "each record begins (valid_from) after the one that is earlier than it"
                )
        return self

    def at(self, time_ms: int) -> "Station":
        """What counts at a time of the data: of what was before all of it, the oldest."""
        for version in (self, *self.earlier):
            if version.valid_from is None or to_ms(version.valid_from) <= time_ms:
                return version
        return (self, *self.earlier)[-1]

    def sensor_of(self, sensor: str, parameter: str) -> Sensor | None:
        """What is recorded of a sensor for a parameter. A message that names no sensor is the only one's."""
        known = [one for one in self.sensors if parameter in one.parameters]
        for one in known:
            if one.sensor == sensor:
                return one
        return known[0] if sensor == DEFAULT_SENSOR and len(known) == 1 else None


class StoredStation(NamedTuple):
    """A record that an earlier version took in, and in words what of it is left out."""

    record: Station
    left_out: list[str]


def stored_station(data: bytes | str) -> StoredStation:
    """A record that an earlier version took in.

    Earlier versions looked neither at zones nor at the edges of far bands. Such a record holds on, in UTC and
    without that band, rather than that a station loses its name and standards by an upgrade. Raises
    ValidationError where it is no record all the same.
    """
    try:
        return StoredStation(Station.model_validate_json(data), [])
    except ValidationError as error:
        first = error
    try:
        plain: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise first from None
    left_out = []
    if isinstance(plain, dict):
        for found in first.errors(include_url=False, include_input=False, include_context=False):
            match found["loc"]:
                case ("timezone",) if found["type"] == "unknown_zone":
                    plain.pop("timezone")
                    left_out.append(f"timezone: {found['msg']}; UTC until then")
                case ("cameras", int(number), "far_band") if found["type"] == "no_band":
                    plain["cameras"][number].pop("far_band")
                    left_out.append(f"far_band of camera {number + 1}: {found['msg']}; none until then")
    return StoredStation(Station.model_validate_json(json.dumps(plain)), left_out)
