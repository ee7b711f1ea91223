"""What people say of a station's data: that it is not valid, or a note beside it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import DeviceId, Record, StationId, UtcTime, format_time
from schemas.parameters import Parameter


class Undone(Record):
    """That an annotation was taken back."""

    at: UtcTime
    by: str = ""


class Annotation(Record):
    """One annotation; the newest per key on the compacted topic aq.annotations.v1 counts. Kafka key: `id`.

    `invalid`: readings of the station (or one sensor, or one parameter) with times in [since, until) do not
    count. `note`: nothing but words.
    """

    id: Annotated[
        str, Field(max_length=128, description="station/when it was made; it lies on its station's partition")
    ]
    station: StationId
    kind: Literal["invalid", "note"]
    sensor: Annotated[DeviceId | None, Field(description="None: all of the station's")] = None
    parameter: Annotated[Parameter | None, Field(description="None: all that the sensor measures")] = None
    since: UtcTime
    until: UtcTime
    text: Annotated[str, Field(min_length=1, max_length=1000, description="why, in words")]
    by: Annotated[str, Field(max_length=100, description="who says so")] = ""
    made_at: UtcTime
    undone: Undone | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Annotation":
        if not self.since < self.until:
            raise PydanticCustomError(
                "not_a_time_span",
                "from {since} to {until}: the second time has to be later than the first",
                {"since": format_time(self.since), "until": format_time(self.until)},
            )
        if not self.id.startswith(f"{self.station}/"):
            raise PydanticCustomError(
                "wrong_id", "id {id} does not begin with its station {station}",
                {"id": self.id, "station": self.station},
            )  # fmt: skip
        return self
