"""Times as people give them and are told them."""

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cli.errors import QueryError
from schemas.base import parse_time
from schemas.duration import parse_duration
from schemas.station import Station


def moment(text: str, now: datetime) -> datetime:
    """RFC 3339 with a zone, or an age such as 90s, 30m, 6h, 2d before `now`. Raises QueryError."""
    try:
        # A number alone could be a year, and 10:00 a time of day: an age has a unit.
        if text[:1] != "-" and text[-1:].lower() in ("s", "m", "n", "h", "d"):
            return now - parse_duration(text)
        return parse_time(text)
    except (ValueError, OverflowError) as error:
        raise QueryError(f"{error} (or an age such as 30m, 6h, 2d)") from error


def local_time(at: datetime, zone: tzinfo | None) -> str:
    """A time (UTC) on a station's own clocks, with its date where that is another than UTC's."""
    if zone is None:
        return ""
    local = at.astimezone(zone)
    return f"{local:%H:%M %Z}" if local.date() == at.date() else f"{local:%Y-%m-%d %H:%M %Z}"


def zones_of(stations: Mapping[str, Station]) -> dict[str, tzinfo]:
    """The time zones of the stations whose records name one other than UTC."""
    return {name: ZoneInfo(one.timezone) for name, one in stations.items() if one.timezone != "UTC"}


def age_words(length: timedelta) -> str:
    """A length of time in its leading unit: 90 s, 15 min, 30 h, 12 d, 4 y."""
    seconds = length.total_seconds()
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3_600, 48), ("d", 86_400, 730)):
        if seconds < size * most:
            return f"{max(0, int(seconds // size))} {unit}"
    return f"{int(seconds // (365.25 * 86_400))} y"
