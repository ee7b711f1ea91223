"""What a region hears of its stations: each one's estimate by itself, and how far event time has come."""

from typing import Annotated, Final

from pydantic import Field

from schemas.base import Record
from schemas.estimate import Estimate
from schemas.features import Float32Bytes

#: `ce_type` of a mark.
MARK_TYPE: Final = b"skyfuse.mark.v1"
#: Before its id: the region of a station that has neither a place nor a region, as no other is called.
ALONE_IN: Final = "@"


class WindowSight(Record):
    """What a station's camera shows in a window, as a readout is learned on."""

    layout: Annotated[str, Field(max_length=300, description="camera, encoder and what `vector` is made of")]
    vector: Float32Bytes
    humidity: Annotated[float | None, Field(description="relative humidity, %")] = None


class Alone(Record):
    """A revision of a window as the station alone has it, with what the region has to know of the station.

    Kafka key: the station id. Partition: that of the region's name, so that a region meets on one.
    """

    estimate: Estimate
    source: Annotated[int, Field(ge=0, description="partition of the fusion stage that it comes from")]
    region: Annotated[
        str,
        Field(
            description="its name; empty: of all stations that have a position; @ID: of that station alone"
        ),
    ]
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    standards: Annotated[tuple[str, ...], Field(min_length=1, description="AQI standards, the first leads")]
    reference_celsius: Annotated[float, Field(description="temperature at which its gases are reported")]
    reference: Annotated[bool, Field(description="a reference station: its neighbours do not doubt it")] = (
        False
    )
    averaged_since: Annotated[
        int, Field(description="end of the first hour that its averages rest on, ms; 0: of none")
    ] = 0
    sight: Annotated[
        WindowSight | None,
        Field(description="where its camera has learned nothing beside a sensor: the region may teach it"),
    ] = None


class Mark(Record):
    """How far a partition of the fusion stage has come: sent to every partition of the topic, without key."""

    source: Annotated[int, Field(ge=0, description="number of that partition")]
    final: Annotated[
        int,
        Field(description="ms; of windows that end up to here nothing comes any more, and those that end up"
              " to the allowed lateness after it were published"),
    ]  # fmt: skip
