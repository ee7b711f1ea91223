"""Camera frames: raw image bytes as the Kafka value, metadata as CloudEvents binary headers."""

from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from schemas.base import DeviceId, Headers, Record, StationId, UtcTime, first_error, format_time
from schemas.errors import Refused

FRAME_TYPE: Final = "skyfuse.frame.v1"
#: A frame larger than this is refused, live, in a replay and in training alike; stations scale down before
#: they send.
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024

#: Kafka header of each attribute.
HEADERS: Final = {
    "ce_specversion": "specversion",
    "ce_type": "type",
    "ce_id": "id",
    "ce_source": "source",
    "ce_time": "time",
    "ce_station": "station",
    "ce_camera": "camera",
    "content-type": "content_type",
}
#: Those that have no default.
REQUIRED: Final = ("ce_id", "ce_source", "ce_time", "ce_station")


class FrameHeader(Record):
    """CloudEvents attributes of a frame, each a UTF-8 header `ce_<name>`. Kafka key: the station."""

    specversion: Literal["1.0"] = "1.0"
    type: Literal["skyfuse.frame.v1"] = FRAME_TYPE
    id: Annotated[str, Field(min_length=1, max_length=256, description="unique per source")]
    source: Annotated[str, Field(min_length=1, max_length=256, description="URI reference of the sender")]
    time: Annotated[UtcTime, Field(description="when the picture was taken")]
    station: StationId
    camera: DeviceId = "main"
    content_type: Annotated[str, Field(pattern=r"^image/[a-z0-9.+-]+$")] = "image/jpeg"

    def to_headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers that carry this record."""
        values = self.model_dump(mode="python") | {"time": format_time(self.time)}
        return [(header, str(values[name]).encode()) for header, name in HEADERS.items()]


def accept_header(headers: Headers) -> FrameHeader:
    """The frame header in a record's Kafka headers; unknown headers (tracing …) are let be.

    Raises Refused.
    """
    found: dict[str, str] = {}
    for key, raw in headers:
        name = HEADERS.get(key)
        if name is None or raw is None:  # a Kafka header may have no value
            continue
        try:
            found[name] = raw.decode()
        except UnicodeDecodeError as error:
            raise Refused(
                "not_utf8", f"header {key} is not UTF-8: {error.reason} at byte {error.start}"
            ) from error
    missing = [header for header in REQUIRED if HEADERS[header] not in found]
    if missing:
        raise Refused(
            "missing_header",
            f"a frame carries its metadata as CloudEvents headers; missing: {', '.join(missing)}",
        )
    try:
        return FrameHeader.model_validate(found)
    except ValidationError as error:
        code, message = first_error(error)
        raise Refused(code, f"header ce_{message}") from error
