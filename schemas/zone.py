"""Names of time zones (IANA tz database), as records, settings and requests give them."""

import zoneinfo
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError


@cache
def _zones() -> frozenset[str]:
    """The IANA zones that this machine knows. `localtime` is one of its own, not of a station."""
    return frozenset(zoneinfo.available_timezones() - {"localtime"}) | {"UTC"}


def zone_name(name: str) -> str:
    """`name` itself. Raises PydanticCustomError `unknown_zone`, a ValueError, where there is no such zone."""
    if name not in _zones():
        raise PydanticCustomError(
            "unknown_zone", "{zone} is no IANA time zone: write one such as Europe/Rome, or UTC",
            {"zone": repr(name[:64])},
        )  # fmt: skip
    return name


def zone_of_name(name: str) -> ZoneInfo:
    """The zone of that name. Raises as `zone_name`."""
    return ZoneInfo(zone_name(name))


ZoneName = Annotated[str, AfterValidator(zone_name)]
