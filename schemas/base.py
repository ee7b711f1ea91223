"""Common ground of all records: strictness, identifiers and time."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from schemas.times import MILLISECOND

#: An integer below this cannot be milliseconds of a plausible date: it is seconds.
_SECONDS_BELOW: Final = 100_000_000_000

STATION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
StationId = Annotated[str, Field(pattern=STATION_PATTERN, description="station id; also the Kafka key")]
DeviceId = Annotated[
    str, Field(pattern=STATION_PATTERN, description="id of a sensor or camera, unique in its station")
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: Of a Kafka record. A header may have no value.
Headers = Iterable[tuple[str, bytes | None]]
#: JSON as Python has it.
JsonObject = dict[str, Any]

_ID: Final = re.compile(STATION_PATTERN)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Event times before this are clock faults (1970, 2000-01-01 of a dead real-time clock …).
_EARLIEST: Final = datetime(2000, 1, 2, tzinfo=UTC)
EARLIEST_MS: Final = 946_771_200_000
#: The end of the year 9999, beyond which no date is.
LATEST_MS: Final = 253_402_300_799_999

_RFC3339 = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$")
_NAIVE = re.compile(r"^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$")


def is_id(text: str) -> bool:
    """Whether `text` may be the id of a station, a sensor or a camera."""
    return _ID.fullmatch(text) is not None


def parse_time(value: object) -> datetime:
    """RFC 3339 text with a zone, or integer milliseconds since the epoch, as a UTC datetime.

    Resolution is the millisecond; finer digits are cut. Raises PydanticCustomError with one of the types
    ``naive_time``, ``time_in_seconds``, ``time_out_of_range``, ``not_a_time``.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise PydanticCustomError(
                "naive_time", "time {text} has no zone: attach UTC", {"text": str(value)}
            )
        parsed = value.astimezone(UTC)
    elif isinstance(value, str):
        if _NAIVE.match(value):
            raise PydanticCustomError(
                "naive_time", "time {text} has no zone: append Z (UTC) or an offset such as +05:30",
                {"text": value},
            )  # fmt: skip
        if not _RFC3339.match(value):
            raise PydanticCustomError(
                "not_a_time", '"{text}" is not RFC 3339 such as 2026-08-21T10:00:00Z', {"text": value[:64]}
            )
        try:
            parsed = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise PydanticCustomError(
                "not_a_time", '"{text}" is no date: {error}', {"text": value[:64], "error": str(error)}
            ) from error
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < _SECONDS_BELOW:
            raise PydanticCustomError(
                "time_in_seconds",
                "time {text} looks like seconds: integers are milliseconds since 1970, so multiply by 1000",
                {"text": value},
            )
        try:
            parsed = from_ms(value)
        except (ValueError, OverflowError) as error:
            raise PydanticCustomError(
                "time_out_of_range", "time {text} ms is no date", {"text": value}
            ) from error
    else:
        raise PydanticCustomError(
            "not_a_time", "a time is RFC 3339 text or integer milliseconds, not {kind}",
            {"kind": type(value).__name__},
        )  # fmt: skip
    if parsed < _EARLIEST:
        raise PydanticCustomError(
            "time_out_of_range",
            "time {text} lies before 2000-01-02: the device's clock was probably never set",
            {"text": parsed.isoformat()},
        )
    finer = parsed.microsecond % 1000
    return parsed - timedelta(microseconds=finer) if finer else parsed


def to_ms(moment: datetime) -> int:
    """Integer milliseconds since the epoch (finer digits are cut)."""
    return (moment - _EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    """The UTC datetime of integer milliseconds since the epoch."""
    return _EPOCH + timedelta(milliseconds=ms)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with a trailing Z; milliseconds only where there are any."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


UtcTime = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
            "description": "RFC 3339 with a zone, or integer milliseconds since the epoch",
        },
        mode="validation",
    ),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Record(BaseModel):
    """Strict, closed and immutable: a field that is not declared is refused, not ignored.

    Numbers are finite. JSON knows no NaN and no infinity, but many producers write them, and 1e999 is one.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


#: Faults that are named in full; a message of hundreds of values may have as many.
_NAMED: Final = 8


class RecordFault(NamedTuple):
    """Code of pydantic's first error, and a sentence that names every fault with the path of its field."""

    code: str
    message: str


def first_error(refusal: ValidationError) -> RecordFault:
    """What is wrong with a record.

    Whoever mends the record mends all of it at once. Beyond eight faults the others are counted.
    """
    found = refusal.errors(include_url=False, include_context=False)
    # An all-refused list also reports itself as too short; that says nothing to whoever mends it.
    errors = [error for error in found if error["type"] != "too_short"] or found
    if errors[0]["type"] == "json_invalid":
        return RecordFault(
            "not_json", f"the message is not JSON: {errors[0]['msg'].removeprefix('Invalid JSON: ')}"
        )
    code = errors[0]["type"]
    faults = [_fault(error) for error in errors]
    more = f" (and {len(faults) - _NAMED} more)" if len(faults) > _NAMED else ""
    code = "not_finite" if code == "finite_number" else str(code)
    return RecordFault(code, "; ".join(faults[:_NAMED]) + more)


def _fault(error: ErrorDetails) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "finite_number":
        return f"{path or 'the message'} is {error['input']!s:.20}: leave out what does not exist"
    return f"{path}: {error['msg']}" if path else error["msg"]
