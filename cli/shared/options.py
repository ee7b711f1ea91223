"""Options that several commands have."""

from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

import typer


class Layout(StrEnum):
    """How the folder is laid out."""

    plain = "layout"
    india_nepal = "india-nepal"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise typer.BadParameter(f"{name!r} is no IANA time zone such as Asia/Kolkata") from error


TimezoneOption = Annotated[
    ZoneInfo | None,
    typer.Option(
        "--timezone",
        parser=_zone,
        metavar="ZONE",
        help="Of times in the files that state none: Asia/Kolkata. Without it they are refused.",
    ),
]
