"""Options that several commands have."""

from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from pydantic_core import PydanticCustomError

from schemas.base import is_id
from schemas.zone import zone_of_name


class Layout(StrEnum):
    """How the folder is laid out."""

    plain = "layout"
    india_nepal = "india-nepal"


def parsed_zone(name: str) -> ZoneInfo:
    """A zone that was given. Raises BadParameter."""
    try:
        return zone_of_name(name)
    except PydanticCustomError as error:
        raise typer.BadParameter(error.message()) from error


def parsed_station(text: str) -> str:
    """A station that was given. Raises BadParameter."""
    if not is_id(text):
        raise typer.BadParameter(f"{text!r} is no station id (letters, digits, . _ -)")
    return text


TimezoneOption = Annotated[
    ZoneInfo | None,
    typer.Option(
        "--timezone",
        parser=parsed_zone,
        metavar="ZONE",
        help="Of times in the files that state none: Asia/Kolkata. Without it they are refused.",
    ),
]
