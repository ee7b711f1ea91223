"""Changes of station records, as operators make them: what becomes of a record and of its history. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from aqi.known_names import check_station
from schemas.base import first_error, format_time, to_ms
from schemas.distances import distances
from schemas.errors import Refused
from schemas.limits import MAX_AHEAD_MS, VERSIONS_PER_STATION
from schemas.station import Station

#: A station that is set up again further away than this (km) breathes other air.
MOVED_KM: Final = 0.2
#: What changes no number: a record is put right by it, not followed by another.
_LABELS: Final = frozenset({"name", "city", "valid_from", "earlier"})


class Change(NamedTuple):
    """A record to send. `anew`: what was learned of the station is to be forgotten before it.

    `dropped`: earlier records that do not fit any more.
    """

    record: Station
    anew: bool = False
    dropped: int = 0


def made(fields: Mapping[str, Any]) -> Station:
    """The record of these fields. Raises Refused, with a sentence for each fault."""
    try:
        station = Station.model_validate_json(json.dumps(dict(fields)))
    except ValidationError as error:
        raise Refused(*first_error(error)) from error
    check_station(station)
    return station


def changed(
    before: Station, fields: Mapping[str, Any], since: datetime, now: datetime, *, moved: bool = False
) -> Change:
    """`before` with some fields changed, from the event time `since` on.

    A station that has moved begins anew, now: `moved` says that this is meant. Nothing is changed from a time
    to come on: a record says what is known now, and every reader of it shows what it says. Raises Refused.
    """
    if to_ms(since) - to_ms(now) > MAX_AHEAD_MS:
        raise Refused(
            "future_time",
            f"the change would count from {format_time(since)} on, which is still to come: records say what"
            " is so now. Make the change when the time has come (leave --from, ?from=, out)",
        )
    after = made(_plain(before) | dict(fields) | {"valid_from": None, "earlier": []})
    distance = _distance(before, after)
    anew = distance is not None and distance > MOVED_KM
    if anew and not moved:
        raise Refused(
            "moved",
            f"{before.station} would move by {distance:.1f} km: other air, so what was learned of it does not"
            " hold. Give the new place an id of its own; or say that it moved (--moved, ?moved=true),"
            " and the station begins anew now",
        )
    if anew and since != now:
        raise Refused("moved", "a station that moves begins anew now: leave --from out")
    if _numbers(before) == _numbers(after):
        return Change(after.model_copy(update={"valid_from": before.valid_from, "earlier": before.earlier}))
    versions = (before.model_copy(update={"earlier": ()}), *before.earlier)
    # What would have begun later has never been: the newest word counts.
    kept = [one for one in versions if one.valid_from is None or one.valid_from < since]
    record = after.model_copy(update={"valid_from": since, "earlier": tuple(kept[:VERSIONS_PER_STATION])})
    return Change(made(_plain(record)), anew, max(0, len(kept) - VERSIONS_PER_STATION))


def read_records(text: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The records in a file: a JSON list, or one record a line; each with where it stands. Raises Refused."""
    try:
        if text.lstrip().startswith("["):
            found = [(f"record {number}", one) for number, one in enumerate(json.loads(text), 1)]
        else:
            found = [
                (f"line {number}", json.loads(line))
                for number, line in enumerate(text.splitlines(), 1)
                if line.strip()
            ]
    except (ValueError, RecursionError) as error:
        raise Refused("not_json", f"it is neither a JSON list nor one JSON record a line: {error}") from error
    for where, one in found:
        if not isinstance(one, dict):
            raise Refused("not_json", f"{where} is no record: {{…}} is due")
    return found


def differences(before: Station, after: Station) -> Sequence[str]:
    """Names of the fields that differ, without those of the history."""
    one, other = _plain(before), _plain(after)
    return [name for name in one if name not in ("valid_from", "earlier") and one[name] != other[name]]


def _plain(station: Station) -> dict[str, Any]:
    return station.model_dump(mode="json")


def _numbers(station: Station) -> dict[str, Any]:
    return {name: value for name, value in _plain(station).items() if name not in _LABELS}


def _distance(one: Station, other: Station) -> float | None:
    if None in (one.latitude, one.longitude, other.latitude, other.longitude):
        return None
    assert one.latitude is not None
    assert one.longitude is not None
    assert other.latitude is not None
    assert other.longitude is not None
    return float(distances([(one.latitude, one.longitude)], [(other.latitude, other.longitude)])[0, 0])
