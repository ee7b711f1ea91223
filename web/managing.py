"""What the API answers to those who manage stations and write notes, as models."""

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from schemas.annotation import Annotation
from schemas.base import DeviceId, StationId, UtcTime
from schemas.parameters import Parameter
from schemas.station import Station
from web.documents import Document


class RecordsPage(Document):
    """Stations' records, by id, each with what counted before. `next` leads to the next page."""

    records: tuple[Station, ...]
    next: str | None


class WaitingStation(Document):
    """A station that has sent and is not let in; the gateway keeps what it sends (gateway.unknown)."""

    station: str
    readings: int
    pictures: int
    first: UtcTime
    last: UtcTime
    adapters: tuple[str, ...]
    origins: Annotated[tuple[str, ...], Field(description="addresses, brokers or folders that it came from")]


class WaitingList(Document):
    """Who waits to be let in, by id."""

    waiting: tuple[WaitingStation, ...]


class Adopted(Document):
    """A station that was let in, and how many messages of it were published."""

    station: str
    published: int


def _words(text: str) -> str:
    """A text that somebody can read. Lines may be several."""
    if not text.strip():
        raise PydanticCustomError("blank", "there are only blanks in it")
    if any(unicodedata.category(one) == "Cc" and one not in "\n\r\t" for one in text):
        raise PydanticCustomError("control_characters", "there are control characters in it")
    return text


class NewNote(Document):
    """A note to put beside a station's data: it changes no value."""

    station: StationId
    since: UtcTime
    until: Annotated[UtcTime, Field(description="later than `since`")]
    text: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_words)]
    sensor: Annotated[DeviceId | None, Field(description="null: all of the station's")] = None
    parameter: Annotated[Parameter | None, Field(description="null: all that it measures")] = None


class Note(Document):
    """What somebody said of a station's data. `invalid`: readings of that time do not count."""

    id: str
    station: str
    kind: Literal["invalid", "note"]
    sensor: str | None
    parameter: str | None
    since: UtcTime
    until: UtcTime
    text: str
    made_at: UtcTime

    @classmethod
    def of(cls, annotation: Annotation) -> "Note":
        """Without who said so: anybody may read it."""
        names = cls.model_fields.keys()
        return cls(**{name: getattr(annotation, name) for name in names})


class NotesList(Document):
    """Notes and invalidations of a station that were not taken back, the newest first."""

    station: str
    notes: tuple[Note, ...]
