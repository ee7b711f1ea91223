"""Dead letters: the original key, value and headers, untouched, with the story in `x-dlq-*` headers.

Of a refused picture the value is left out: it stays on the topic of frames, where the letter's id names it,
for as long as frames are kept there. Letters of earlier versions have it.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.base import Headers, Record, UtcTime, format_time, parse_time

_PREFIX: Final = "x-dlq-"
#: Set on a record that came back from the dead letters; the value is the dead letter's id.
REDRIVEN_FROM: Final = "x-redriven-from"


class DeadLetter(Record):
    """Why and where a record was refused. The record itself is the Kafka value of aq.dlq.v1 (no picture)."""

    stage: Annotated[
        Literal["vision", "fusion", "network", "sink", "alert", "forecast", "gateway"],
        Field(description="which worker refused it"),
    ]
    code: Annotated[str, Field(description="stable reason code")]
    reason: Annotated[str, Field(description="what is wrong, where, and how to mend it")]
    topic: Annotated[
        str, Field(description="where the record was read; gateway.ADAPTER (no topic) of what arrived there")
    ]
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    failed_at: Annotated[UtcTime, Field(description="broker time of the record: stable over retries")]
    partly_used: Annotated[bool, Field(description="true: the good values of the message were used")] = False
    redriven_at: Annotated[
        UtcTime | None,
        Field(description="when it was sent back: the letter is written once more then, with this"),
    ] = None

    @property
    def id(self) -> str:
        """topic/partition/offset: the same however often the record is refused."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def to_headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers to append to the original ones."""
        fields = self.model_dump(mode="python") | {"failed_at": format_time(self.failed_at)}
        if self.redriven_at is None:
            del fields["redriven_at"]
        else:
            fields["redriven_at"] = format_time(self.redriven_at)
        return [(self.header_name(name), str(value).encode()) for name, value in fields.items()]

    @staticmethod
    def header_name(field: str) -> str:
        """The header that carries a field."""
        return _PREFIX + field.replace("_", "-")

    @classmethod
    def from_headers(cls, headers: Headers) -> "DeadLetter":
        """The story told by a dead letter's headers (KeyError or ValueError where they are not complete).

        A record may have come with headers of these names: the last one of each is the story's.
        """
        named = dict(headers)
        text = {
            field: raw.decode()
            for field in cls.model_fields
            if (raw := named.get(cls.header_name(field))) is not None
        }
        return cls.model_validate(
            text
            | {
                "partition": int(text["partition"]),
                "offset": int(text["offset"]),
                "failed_at": parse_time(text["failed_at"]),
                "partly_used": text["partly_used"] == "True",
                "redriven_at": parse_time(text["redriven_at"]) if "redriven_at" in text else None,
            }
        )

    @staticmethod
    def original_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
        """The headers that the record had before it was refused."""
        return [(key, raw) for key, raw in headers if not key.startswith(_PREFIX)]
