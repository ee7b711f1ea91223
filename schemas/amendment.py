"""A change of the past, for the fusion worker: what it has to know of hours that were made again.

A record on its own input aq.readings.v1, told from readings by its type. There it has a place in the log, and
comes back when the log is read again. So all of it says what *is*: taken in twice, it changes nothing.
"""

from typing import Annotated, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import DeviceId, Record, StationId, UtcTime, to_ms
from schemas.parameters import Parameter, Pollutant
from schemas.reading import LIMITS
from schemas.times import HOUR_MS

#: Value of the header `ce_type` of such a record.
AMENDMENT_TYPE: Final = b"skyfuse.amendment.v1"
#: ug/m3 that no air ever has, and that single precision still holds.
_BEYOND_AIR: Final = 1e9


def check_air(parameter: Pollutant, value: float) -> None:
    """The past may be changed into what could have been measured. PydanticCustomError for anything else."""
    low, high = LIMITS[parameter]
    if not low <= value <= high:
        raise PydanticCustomError(
            "out_of_range",
            "{parameter} = {value} ug/m3 is outside the physical range {low} to {high}",
            {"parameter": parameter, "value": value, "low": low, "high": high},
        )


class HourMean(Record):
    """Mean of a pollutant over an hour, as the averages count it (`aqi.slots.Mean`)."""

    value: Annotated[float, Field(ge=-_BEYOND_AIR, le=_BEYOND_AIR, description="ug/m3")]
    measured_s: Annotated[int, Field(ge=0, le=3600, description="seconds that were measured")]
    imputed_s: Annotated[int, Field(ge=0, le=3600, description="seconds that were imputed")] = 0
    below: Annotated[
        float, Field(ge=0, le=_BEYOND_AIR, description="how far its interval reaches down, ug/m3")
    ] = 0.0
    above: Annotated[
        float, Field(ge=0, le=_BEYOND_AIR, description="how far its interval reaches up, ug/m3")
    ] = 0.0
    persistence: Annotated[
        float, Field(ge=0, le=1, description="correlation of its error with that of an hour later")
    ] = 1.0

    @model_validator(mode="after")
    def _within_an_hour(self) -> "HourMean":
        if not 0 < self.measured_s + self.imputed_s <= 3600:
            raise PydanticCustomError(
                "not_an_hour", "{measured} s measured, {imputed} s imputed: an hour has 1 to 3600 s of data",
                {"measured": self.measured_s, "imputed": self.imputed_s},
            )  # fmt: skip
        return self


class AmendedHour(Record):
    """An hour as its windows have it now. A pollutant that is left out has no data in it."""

    end: Annotated[UtcTime, Field(description="end of a whole hour of UTC")]
    means: dict[Pollutant, HourMean]

    @model_validator(mode="after")
    def _whole(self) -> "AmendedHour":
        if to_ms(self.end) % HOUR_MS:
            raise PydanticCustomError(
                "not_an_hour", "{end} does not end an hour of UTC", {"end": self.end.isoformat()}
            )
        for name, mean in self.means.items():
            check_air(name, mean.value)
        return self


class Heard(Record):
    """The newest measurement of a pollutant."""

    value: Annotated[float, Field(ge=-_BEYOND_AIR, le=_BEYOND_AIR, description="ug/m3")]
    at: Annotated[UtcTime, Field(description="end of its window")]


class Unheard(Record):
    """From when to when what was measured of a pollutant was withdrawn."""

    since: UtcTime
    until: UtcTime


class Withheld(Record):
    """Readings that do not count: of a station or one of its sensors, with times in [since, until)."""

    id: Annotated[str, Field(max_length=128, description="of the annotation that says why")]
    sensor: DeviceId | None = None
    parameter: Parameter | None = None
    since: UtcTime
    until: UtcTime


class Amendment(Record):
    """What a station's worker has to know anew. Kafka key: the station id."""

    station: StationId
    hours: Annotated[
        tuple[AmendedHour, ...], Field(max_length=400, description="hours to replace in the averages")
    ] = ()
    heard: Annotated[
        dict[Pollutant, Heard], Field(description="counts where nothing newer was measured")
    ] = {}
    unheard: Annotated[
        dict[Pollutant, Unheard],
        Field(description="a last value, and a virtual sensor's level, from then are given up"),
    ] = {}
    withhold: Annotated[
        tuple[Withheld, ...], Field(max_length=100, description="readings that do not count from here on")
    ] = ()
    release: Annotated[
        tuple[str, ...], Field(max_length=100, description="ids of `withhold` that are over")
    ] = ()

    @model_validator(mode="after")
    def _possible(self) -> "Amendment":
        for name, heard in self.heard.items():
            check_air(name, heard.value)
        spans = [(one.since, one.until) for one in self.unheard.values()]
        for since, until in [*spans, *((one.since, one.until) for one in self.withhold)]:
            if not since < until:
                raise PydanticCustomError(
                    "not_a_span", "from {since} to {until}: it ends before it begins",
                    {"since": since.isoformat(), "until": until.isoformat()},
                )  # fmt: skip
        return self
