"""`skyfuse network`: the regions of stations that fill one another's gaps, and who listens to whom."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.network import StoredRegions, stored_regions
from cli.errors import RegionError
from cli.shared.connection import kafka_connection
from cli.shared.fitting import fitting, screen
from cli.shared.wording import counted
from fusion.together.learning import Learned
from infra.connect import broker_at_hand
from network.listening import SILENT_HOURS, Listening, listening
from schemas.alone import ALONE_IN
from schemas.base import format_time, from_ms
from schemas.parameters import LABELS
from settings.sections import Settings
from streams.to_end import read_topic
from streams.topics import NETWORK_STATE

app = typer.Typer(
    help="Stations that fill one another's gaps: the regions, and who listens to whom.", no_args_is_help=True
)

#: How the region of all stations is shown whose records name none, and have a place.
_UNNAMED: Final = "(no name)"
#: Most stations that are named beside a sensor.
_NAMED: Final = 6


@app.callback()
def _group() -> None: ...


@app.command()
def show(
    region: Annotated[
        str | None, typer.Argument(help='A region\'s name, "" for that without a name; nothing: all regions.')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one document.")] = False,
) -> None:
    """Who listens to whom in a region, and how much: what would stand in for each sensor if it fell silent.

    Without a region: which there are. It shows what was learned by the newest hour that is final.
    """
    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        records = read_topic(kafka_connection(settings), settings.kafka.names.of(NETWORK_STATE))
        regions = stored_regions(records)
    if not regions and (region is not None or not as_json):
        nothing = nothing_yet(settings.window.allowed_lateness, datetime.now(UTC))
        if region is not None:
            raise RegionError(nothing)
        typer.echo(f"skyfuse: {nothing}")
    elif as_json:
        typer.echo(json.dumps(_plain(region, regions), indent=1, allow_nan=False))
    elif region is None:
        show_regions(regions, screen())
    else:
        show_region(region, regions, screen())


def nothing_yet(lateness: timedelta, now: datetime) -> str:
    """That nothing is stored yet, and when something will be: an hour is learned when its last window is
    final, and stored when nothing that it corrects can be published any more, a `lateness` later.
    """
    after = 2 * lateness
    begun = (now - after).replace(minute=0, second=0, microsecond=0)
    return (
        "no region has learned anything yet: a full hour (UTC) is stored when the data's own clock is"
        f" {after.total_seconds() / 60:.0f} min past it (twice window.allowed_lateness). Of stations that"
        f" send now, try again a little after {begun + timedelta(hours=1) + after:%H:%M}Z. Only where"
        " network.enabled is set and `skyfuse worker network` runs (`skyfuse up` does both) is anything"
        " learned"
    )


def show_regions(regions: StoredRegions, console: Console) -> None:
    """All regions, a line each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Region", overflow="fold")
    for column in ("Stations", "Sensors", "Learned to"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, (at, learned) in regions.items():
        members = learned.air.members
        table.add_row(
            Text(_called(name)), str(len(members.stations)), str(len(members)), format_time(from_ms(at))
        )
    console.print(table)
    console.print(
        'who listens to whom: skyfuse network show REGION ("" for the one without a name)',
        style="dim", highlight=False, markup=False,
    )  # fmt: skip


def show_region(region: str, regions: StoredRegions, console: Console) -> None:
    """Who listens to whom in a region. Raises RegionError."""
    at, learned = _found(region, regions)
    members = learned.air.members
    console.print(
        Text(
            f"region {_called(region)}: {counted(len(members.stations), 'station')},"
            f" {counted(len(members), 'sensor')}, learned to {format_time(from_ms(at))}"
        )
    )
    console.print(
        f"were a sensor silent for {SILENT_HOURS} h: shares of other stations, of the station's other"
        " pollutants (own) and of its own past in what is then said of it",
        style="dim", highlight=False,
    )  # fmt: skip
    found = listening(learned.air)
    console.print(fitting(console, (_table(found, named) for named in range(_NAMED, 0, -1))))


def _called(region: str) -> str:
    """A region in words: that of a station alone is called by it."""
    return f"{region} (a station alone)" if region.startswith(ALONE_IN) else region or _UNNAMED


def _found(region: str, regions: StoredRegions) -> tuple[int, Learned]:
    if region in regions:
        return regions[region]
    names = ", ".join(repr(name) for name in list(regions)[:5]) + (" …" if len(regions) > 5 else "")
    raise RegionError(f"no region {region!r} has learned anything; there is {names} (skyfuse network show)")


def _plain(region: str | None, regions: StoredRegions) -> object:
    if region is not None:
        at, learned = _found(region, regions)
        return plain_region(region, at, learned, listening(learned.air))
    return [
        {
            "region": name,
            "stations": len(learned.air.members.stations),
            "sensors": len(learned.air.members),
            "learned_to": format_time(from_ms(at)),
        }
        for name, (at, learned) in regions.items()
    ]


def plain_region(region: str, at: int, learned: Learned, found: Sequence[Listening]) -> dict[str, Any]:
    """A region for programs: shares from 0 to 1."""
    return {
        "region": region,
        "learned_to": format_time(from_ms(at)),
        "stations": list(learned.air.members.stations),
        "silent_hours": SILENT_HOURS,
        "sensors": [
            {
                "station": one.variable.station,
                "pollutant": one.variable.pollutant,
                "hours": round(one.hours),
                "heard": one.heard,
                "neighbours": {name: round(share, 4) for name, share in one.neighbours.items()},
                "own": round(one.own, 4),
                "past": round(one.past, 4),
            }
            for one in found
        ],
    }


def _table(found: Sequence[Listening], named: int) -> Table:
    """A row for each sensor, beside it the first so many stations that it listens to."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Station", overflow="fold")
    table.add_column("", no_wrap=True)
    for column in ("Hours", "Others", "Own", "Past"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Listens to", overflow="fold")
    before = ""
    for one in found:
        station, pollutant = one.variable
        cells = list(_cells(one))
        if not any((one.neighbours, one.own, one.past)):
            cells = ["-"] * 3
        words = ", ".join(f"{name} {_percent(share)}" for name, share in list(one.neighbours.items())[:named])
        more = len(one.neighbours) - named
        table.add_row(
            Text("" if station == before else station), Text(LABELS[pollutant], "" if one.heard else "dim"),
            _hours(one), *cells, Text(words + (f" +{more}" if more > 0 else "")),
        )  # fmt: skip
        before = station
    return table


def _cells(one: Listening) -> Iterator[str]:
    yield _percent(sum(one.neighbours.values()))
    yield _percent(one.own)
    yield _percent(one.past)


def _hours(one: Listening) -> str:
    return "never" if not one.hours else f"{one.hours:.0f}" + ("" if one.heard else " silent")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
