"""Weather as somebody issued it: of the hours to come, or of hours that have passed."""

from typing import Annotated, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import Record, StationId, UtcTime, format_time, to_ms
from schemas.times import HOUR_MS

#: Hours of one issue: ten days, and two that have passed.
MOST_HOURS: Final = 288


class WeatherHour(Record):
    """The weather of the hour that begins at `valid_at`; what is not known is left out."""

    valid_at: Annotated[UtcTime, Field(description="beginning of the hour, a whole one")]
    temperature: Annotated[float | None, Field(ge=-100, le=70, description="degrees C, 2 m")] = None
    dewpoint: Annotated[float | None, Field(ge=-110, le=50, description="degrees C, 2 m")] = None
    pressure: Annotated[float | None, Field(ge=300, le=1200, description="hPa, at the ground")] = None
    wind_speed: Annotated[float | None, Field(ge=0, le=150, description="m/s, 10 m")] = None
    wind_direction: Annotated[
        float | None, Field(ge=0, le=360, description="degrees from which it blows")
    ] = None
    rain: Annotated[float | None, Field(ge=0, le=500, description="mm in the hour")] = None
    boundary_layer: Annotated[float | None, Field(ge=0, le=20_000, description="its height, m")] = None

    @model_validator(mode="after")
    def _whole_hour(self) -> "WeatherHour":
        if to_ms(self.valid_at) % HOUR_MS:
            raise PydanticCustomError(
                "not_an_hour", "valid_at {at} is no whole hour (UTC)", {"at": format_time(self.valid_at)}
            )
        return self


class WeatherIssue(Record):
    """One issue of the weather at a station. Kafka key: the station id.

    A forecast of the air that is made at some time uses what had been issued by then, of each hour the newest
    issue. An hour that had passed when it was issued is an observation.
    """

    station: StationId
    issued_at: Annotated[UtcTime, Field(description="when this was known: not the first hour it speaks of")]
    hours: Annotated[tuple[WeatherHour, ...], Field(min_length=1, max_length=MOST_HOURS)]
    latitude: Annotated[float | None, Field(ge=-90, le=90, description="of the place it is of")] = None
    longitude: Annotated[float | None, Field(ge=-180, le=180)] = None
    source: Annotated[str, Field(max_length=200, description="who issued it")] = ""
