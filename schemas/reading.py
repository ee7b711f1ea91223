"""Sensor readings: what a station sends, and the physical limits beyond which a value is no measurement."""

import math
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json, to_json
from typing_extensions import TypedDict

from schemas.base import EARLIEST_MS, LATEST_MS, DeviceId, Record, StationId, UtcTime, first_error, to_ms
from schemas.errors import Refused
from schemas.parameters import GASES, POLLUTANTS, Parameter, units_of

#: Values beyond these are fill values or faults (-999, 99999, -32768 …), never air. Concentrations in ug/m3
#: (mixing ratios are judged after rough conversion); the quality control of `aqi` judges what is merely
#: unlikely, and knows the fill values that lie within (aqi/sensors.toml: 6553.5, and of CO 65535). In clean
#: air an instrument's noise reaches below zero: such values are data, and the mean is wrong without them. A
#: saturated humidity sensor shows up to 119 %.
LIMITS: Final[dict[str, tuple[float, float]]] = {
    "pm25": (-15.0, 5_000.0),
    "pm10": (-20.0, 9_900.0),
    "no2": (-20.0, 9_000.0),
    "so2": (-20.0, 20_000.0),
    "co": (-500.0, 500_000.0),
    "o3": (-20.0, 5_000.0),
    "relativehumidity": (-6.0, 119.0),
    "temperature": (-90.0, 70.0),
    "pressure": (300.0, 1_100.0),
    "windspeed": (0.0, 120.0),
    "winddirection": (0.0, 360.0),
}
#: Rough ug/m3 per ppb at 25 degrees, only to apply LIMITS; the exact conversion is aqi.units.
_UG_PER_PPB: Final = {"no2": 1.88, "so2": 2.62, "co": 1.145, "o3": 1.96}
_FACTOR: Final[dict[tuple[str, str], float]] = {
    (parameter, unit): factor
    for parameter in LIMITS
    for unit in units_of(parameter)
    for per_ppb in [_UG_PER_PPB[parameter] if parameter in GASES else 1.0]
    for factor in [
        {
            "mg/m3": 1000.0,
            "ppb": per_ppb,
            "ppm": 1000 * per_ppb,
        }.get(unit, 1.0)
    ]
}


#: A value stands for an hour at most: a mean over more is no reading of the air at a time.
MAX_PERIOD_S: Final = 3600
PeriodSeconds = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_PERIOD_S,
        description="seconds that each value stands for (a mean over them, or the device's cadence); learned"
        " from the sensor's cadence where nobody declares it",
    ),
]
Stamp = Annotated[
    Literal["begins", "ends"],
    Field(description="whether a time is that of the beginning or the end of its declared period"),
]
TimeSource = Annotated[
    Literal["device", "broker", "server"],
    Field(
        description="whose clock `observed_at` is: the device's, or, where it has none, that of the MQTT"
        " broker or of the server that took the message in"
    ),
]
#: The sensor of a message that names none.
DEFAULT_SENSOR: Final = "main"
CHANNEL_PATTERN: Final = r"^[a-z0-9_]{1,16}$"


class Value(Record):
    """One measured value."""

    parameter: Parameter
    # Not finite is refused below, in the words for readings.
    value: Annotated[
        float, Field(allow_inf_nan=True, description="in `unit`; finite, within the physical limits")
    ]
    unit: Annotated[
        str, Field(description="ug/m3, mg/m3, ppb, ppm; weather: %, Cel, hPa, m/s, deg (from which it blows)")
    ]
    sensor: DeviceId = DEFAULT_SENSOR
    channel: Annotated[
        str,
        Field(
            pattern=CHANNEL_PATTERN,
            description="of sensors with several, such as cf_1 or atm; _a and _b at the end: twin channels",
        ),
    ] = "value"

    @model_validator(mode="after")
    def _physical(self) -> "Value":
        factor = _FACTOR.get((self.parameter, self.unit))
        if factor is None:
            raise PydanticCustomError(
                "unit", '{parameter} cannot come in "{unit}": use one of {units}',
                {"parameter": self.parameter, "unit": self.unit, "units": " ".join(units_of(self.parameter))},
            )  # fmt: skip
        low, high = LIMITS[self.parameter]
        if low <= self.value * factor <= high:
            return self
        if not math.isfinite(self.value):
            raise PydanticCustomError(
                "not_finite", "{parameter} is {value}: leave a missing value out instead",
                {"parameter": self.parameter, "value": str(self.value)},
            )  # fmt: skip
        raise PydanticCustomError(
            "out_of_range",
            "{parameter} = {value} {unit} is outside the physical range {low} to {high} {canonical}:"
            " a fill value or a broken sensor; leave it out",
            {
                "parameter": self.parameter, "value": self.value, "unit": self.unit, "low": low, "high": high,
                "canonical": "ug/m3" if self.parameter in POLLUTANTS else self.unit,
            },
        )  # fmt: skip


#: A reading as a station sends it: for documents, and to try.
READING_EXAMPLE: Final = (
    '{"station": "my-roof", "observed_at": "2026-08-21T10:00:00Z",'
    ' "values": [{"parameter": "pm25", "value": 12.5, "unit": "ug/m3"}]}'
)


class Reading(Record):
    """One or many values that a station observed at one time. Kafka key: the station id."""

    station: StationId
    observed_at: Annotated[
        UtcTime,
        Field(description="when it was measured; with a `period`, its end (or its beginning: `stamp`)"),
    ]
    values: Annotated[tuple[Value, ...], Field(min_length=1, max_length=256)]
    period: PeriodSeconds | None = None
    stamp: Stamp = "ends"
    received_at: Annotated[UtcTime, Field(description="when it came in, through a gateway")] | None = None
    time_source: TimeSource | None = None


def encode(reading: Reading) -> bytes:
    """The message of a reading, its times in milliseconds, which `decode` reads fast; without defaults."""
    plain = reading.model_dump(exclude_defaults=True)
    plain["observed_at"] = to_ms(reading.observed_at)
    if reading.received_at is not None:
        plain["received_at"] = to_ms(reading.received_at)
    return to_json(plain)


class Quantity(NamedTuple):
    """A value as the stages use it: the fields of `Value`, without the cost of an object that checks."""

    parameter: str
    value: float
    unit: str
    sensor: str
    channel: str
    #: The scalings (cf_1, atm) that its sensor sends in turns, in the order in which they were first heard;
    #: none where it sends one only.
    scalings: tuple[str, ...] = ()
    #: Whether its station sends another value of the same thing: the other channel, or another sensor's.
    twinned: bool = False


def scaling_of(channel: str) -> str:
    """The scaling that a channel has: its name without the twin's letter. A letter alone: of `value`.

    Examples:
        >>> scaling_of("cf_1_a"), scaling_of("atm"), scaling_of("b")
        ('cf_1', 'atm', 'value')
    """
    if channel in ("a", "b"):
        return "value"
    return channel[:-2] if channel.endswith(("_a", "_b")) else channel


class Observation(NamedTuple):
    """A reading message as the stages use it. `period_s`: as declared in it, 0 where it declares none."""

    station: str
    time_ms: int
    values: list[Quantity]
    period_s: int = 0
    stamp: Literal["begins", "ends"] = "ends"

    @classmethod
    def of(cls, reading: Reading) -> "Observation":
        """What `decode` gives for a reading that it takes."""
        return cls(
            reading.station,
            to_ms(reading.observed_at),
            [Quantity(v.parameter, v.value, v.unit, v.sensor, v.channel) for v in reading.values],
            reading.period or 0,
            reading.stamp,
        )


class PlainValue(TypedDict):
    """A value as it was checked without making an object of it."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]
    parameter: Parameter
    value: Annotated[float, Field(allow_inf_nan=False)]
    unit: str
    sensor: NotRequired[DeviceId]
    channel: NotRequired[Annotated[str, Field(pattern=CHANNEL_PATTERN)]]


class PlainReading(TypedDict):
    """A message of the right form; what its time and its values say is not looked at yet (`plausible`)."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]
    station: StationId
    observed_at: int | str
    values: Annotated[list[PlainValue], Field(min_length=1, max_length=256)]
    period: NotRequired[PeriodSeconds]
    stamp: NotRequired[Stamp]
    received_at: NotRequired[int]
    time_source: NotRequired[TimeSource]


_PLAIN: Final = TypeAdapter(PlainReading).validator
#: LIMITS in each unit itself.
_BOUNDS: Final = {
    (parameter, unit): (LIMITS[parameter][0] / factor, LIMITS[parameter][1] / factor)
    for (parameter, unit), factor in _FACTOR.items()
}


def plain_reading(data: bytes) -> PlainReading | None:
    """A message of the right form, fast; None: ask `accept`, which can explain."""
    try:
        plain: PlainReading = _PLAIN.validate_json(data)
    except ValidationError:
        return None  # not lost: `accept` looks again and has the words for it
    return plain


def plausible(plain: PlainReading) -> bool:
    """Whether time (in milliseconds) and values of a message of the right form are such as `accept` takes."""
    time_ms = plain["observed_at"]
    if not isinstance(time_ms, int) or not EARLIEST_MS <= time_ms <= LATEST_MS:
        return False
    if not EARLIEST_MS <= plain.get("received_at", time_ms) <= LATEST_MS:
        return False
    for value in plain["values"]:
        bounds = _BOUNDS.get((value["parameter"], value["unit"]))
        if bounds is None or not bounds[0] <= value["value"] <= bounds[1]:
            return False
    return True


def decode(data: bytes) -> Observation | None:
    """A plainly good reading, fast; None: ask `accept`, which can explain.

    Never says yes to what `accept` refuses, and then says the same. It knows times in milliseconds only.
    """
    plain = plain_reading(data)
    if plain is None or not plausible(plain):
        return None
    time_ms = plain["observed_at"]
    assert isinstance(time_ms, int)
    values = [
        Quantity(
            value["parameter"], value["value"], value["unit"], value.get("sensor", DEFAULT_SENSOR),
            value.get("channel", "value"),
        )
        for value in plain["values"]
    ]  # fmt: skip
    return Observation(plain["station"], time_ms, values, plain.get("period", 0), plain.get("stamp", "ends"))


class AcceptedReading(NamedTuple):
    """What of a message is used, None: nothing; and what cannot be, None: there is no such part."""

    reading: Reading | None
    refused: Refused | None


def accept(data: bytes) -> AcceptedReading:
    """A reading message, with what of it cannot be used.

    Good values beside a bad one are kept: the reading comes back with the good values and the refusal names
    the bad ones. Without a reading nothing is usable. The caller dead-letters the message in both cases.

    Examples:
        >>> reading, refused = accept(
        ...     b'{"station": "garden", "observed_at": "2026-08-21T10:00:00Z", "values": ['
        ...     b'{"parameter": "pm25", "value": 12.5, "unit": "ug/m3"},'
        ...     b'{"parameter": "no2", "value": 21.0, "unit": "furlongs"}]}'
        ... )
        >>> [(one.parameter, one.value) for one in reading.values]
        [('pm25', 12.5)]
        >>> refused.code
        'unit'
    """
    try:
        return AcceptedReading(Reading.model_validate_json(data), None)
    except ValidationError as error:
        refused = Refused(*first_error(error))
        details = error.errors(include_url=False, include_context=False, include_input=False)
    bad = {detail["loc"][1] for detail in details if len(detail["loc"]) > 1 and detail["loc"][0] == "values"}
    if not bad or any(detail["loc"][:1] != ("values",) or len(detail["loc"]) < 2 for detail in details):
        return AcceptedReading(None, refused)
    plain: dict[str, Any] = from_json(data)
    kept = [value for index, value in enumerate(plain["values"]) if index not in bad]
    if not kept:
        return AcceptedReading(None, refused)
    good = Reading.model_validate_json(to_json({**plain, "values": kept}))
    return AcceptedReading(good, refused)
