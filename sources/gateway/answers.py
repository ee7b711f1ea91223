"""What the gateway answers over HTTP, as models: the OpenAPI document is made from them."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import Field
from pydantic_core import to_json

from schemas.base import Record
from sources.gateway.arrival import Receipt
from sources.gateway.errors import RefusalCode


class PartNamed(Record):
    """A part of what was sent that became no value, or a remark."""

    code: Annotated[str, Field(description="stable, for programs")]
    where: Annotated[str, Field(description="its place in what was sent")]
    why: str
    times: Annotated[int, Field(ge=1)] = 1


class TakenAnswer(Record):
    """What became of a request. It is on the topics, or, where `spooled`, on disk until it is."""

    published: Annotated[int, Field(ge=0, description="messages on the input topics, confirmed by Kafka")]
    values: Annotated[int, Field(ge=0, description="values in them")]
    stations: tuple[str, ...] = ()
    refused: Annotated[tuple[PartNamed, ...], Field(description="what could not be used, and why")] = ()
    left_out: Annotated[
        tuple[PartNamed, ...],
        Field(description="known parts that are no reading: nothing is wrong with them"),
    ] = ()
    remarks: Annotated[tuple[PartNamed, ...], Field(description="how times were understood")] = ()
    dead_letter: Annotated[
        str | None, Field(description="where the bytes of what was refused lie: `skyfuse dlq show ID`")
    ] = None
    duplicate: Annotated[bool, Field(description="it had come before, and was not counted again")] = False
    spooled: Annotated[bool, Field(description="Kafka is away; it is on disk until it is back")] = False

    @classmethod
    def of(cls, receipt: Receipt) -> "TakenAnswer":
        """The answer for a receipt."""
        return cls(
            published=receipt.published,
            values=receipt.values,
            stations=receipt.stations[:100],
            refused=tuple(PartNamed(**part._asdict()) for part in receipt.refused),
            left_out=tuple(PartNamed(**part._asdict()) for part in receipt.left_out),
            remarks=tuple(PartNamed(**part._asdict()) for part in receipt.remarks),
            dead_letter=receipt.dead_letter,
            duplicate=receipt.duplicate,
            spooled=receipt.spooled,
        )


class TurnedAway(Record):
    """A request that was not taken, and why."""

    error: RefusalCode
    why: str


class HttpAnswer(NamedTuple):
    """An answer before it is written to a connection."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}

    @classmethod
    def taken(cls, receipt: Receipt) -> "HttpAnswer":
        """200 where anything came of it or nothing was wrong with it, 422 where all of it was refused."""
        if receipt.refused or receipt.left_out or receipt.remarks or receipt.facts:
            useless = receipt.refused and not receipt.published
            return cls(422 if useless else 200, _body(receipt))
        return cls(200, _plain_body(receipt))

    @classmethod
    def turned_away(
        cls, code: RefusalCode, why: str, status: int, retry_after_s: int | None = None
    ) -> "HttpAnswer":
        """It was not taken."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        if status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="skyfuse"'
        return cls(status, to_json(TurnedAway(error=code, why=why)), headers)


def _body(receipt: Receipt) -> bytes:
    return TakenAnswer.of(receipt).model_dump_json(exclude_defaults=True).encode()


#: Of receipts without remarks a station's are alike.
_plain_body = lru_cache(4096)(_body)
