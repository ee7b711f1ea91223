"""`skyfuse share`: estimates of the local store in the formats of others."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import QueryError
from cli.shared.periods import told
from cli.shared.times import moment
from exchange import ngsi_ld, openaq, sensorthings
from schemas.estimate import Estimate
from schemas.station import Station
from settings.sections import Settings
from sinks.store import Store


class ShareFormat(StrEnum):
    """Whose format."""

    ngsi_ld = "ngsi-ld"
    sensorthings = "sensorthings"
    sensorthings_things = "sensorthings-things"
    openaq = "openaq"


def render(
    target: ShareFormat, estimates: Sequence[Estimate], stations: dict[str, Station], now: datetime
) -> Any:
    """The document of `target`, as JSON-able data."""
    made: dict[ShareFormat, Callable[[], Any]] = {
        ShareFormat.ngsi_ld: lambda: [
            ngsi_ld.entity(estimate, stations[estimate.station])
            for estimate in {one.station: one for one in estimates}.values()
            if estimate.station in stations and stations[estimate.station].latitude is not None
        ],
        ShareFormat.sensorthings: lambda: sensorthings.observations(estimates),
        ShareFormat.sensorthings_things: lambda: [
            sensorthings.thing(station) for station in stations.values()
        ],
        ShareFormat.openaq: lambda: openaq.transform(estimates, stations, exported_on=now),
    }
    return made[target]()


def share(
    target: Annotated[
        ShareFormat, typer.Argument(help="ngsi-ld: the newest window of each station; others: all windows.")
    ],
    station: Annotated[str | None, typer.Option(help="Only this station.")] = None,
    since: Annotated[str | None, typer.Option(help="First window end: RFC 3339, or an age: 6h.")] = None,
    until: Annotated[str | None, typer.Option(help="Windows that end before this.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
) -> None:
    """Write estimates of the local store as NGSI-LD, SensorThings or OpenAQ JSON."""
    now = datetime.now(UTC)
    first = None if since is None else moment(since, now)
    last = None if until is None else moment(until, now)
    with Store(Settings().store_path, read_only=True) as store:
        estimates = store.read(station, since=first, until=last)
        if target not in (ShareFormat.ngsi_ld, ShareFormat.sensorthings_things):
            left = store.left(station, since=first, until=last, limit=1)
            if left:
                typer.echo(f"skyfuse: not in this document: {told(left)} (skyfuse query)", err=True)
        stations = {
            name: record for name, record in store.stations().items() if station is None or name == station
        }
    text = json.dumps(render(target, estimates, stations, now), ensure_ascii=False, indent=1) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise QueryError(f"{output} cannot be written: {error}") from error
