"""Options that several commands have."""

from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from pydantic_core import PydanticCustomError

from schemas.base import is_id
from schemas.duration import parse_duration
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


def parsed_seconds(text: str | float) -> float:
    """A duration that was given, s. Raises BadParameter."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _parsed_span(text: str | float) -> float:
    seconds = parsed_seconds(text)
    if not seconds:
        raise typer.BadParameter("no time at all")
    return seconds


ForOption = Annotated[
    float | None,
    typer.Option("--for", parser=_parsed_span, metavar="SPAN", help="End by itself after so long: 90s, 5m."),
]
TimezoneOption = Annotated[
    ZoneInfo | None,
    typer.Option(
        "--timezone",
        parser=parsed_zone,
        metavar="ZONE",
        help="Of times in the files that state none: Asia/Kolkata. Without it they are refused.",
    ),
]
