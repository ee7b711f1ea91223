"""`skyfuse stations`: which there are, and what is recorded of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.shared.connection import kafka_connection
from cli.shared.fitting import fitting, screen
from cli.shared.live import utc_now
from cli.shared.options import parsed_station
from cli.shared.times import age_words, moment
from cli.shared.wording import counted
from schemas.base import format_time, from_ms
from schemas.errors import Refused
from schemas.station import Station
from settings.sections import Settings
from sources.errors import StationError
from sources.stations.edits import Change, differences
from sources.stations.quarantine import Waiting
from sources.stations.registry import StationRegistry

_T = TypeVar("_T")

app = typer.Typer(help="Stations: their records; who waits to be let in.", no_args_is_help=True)


_Id = Annotated[str, typer.Argument(metavar="STATION", parser=parsed_station, help="Id of the station.")]
_StationNameOption = Annotated[str | None, typer.Option(help="For people.")]
_CityOption = Annotated[str | None, typer.Option(help="Where it is, in words.")]
_LatOption = Annotated[float | None, typer.Option("--lat", help="Degrees north.")]
_LonOption = Annotated[float | None, typer.Option("--lon", help="Degrees east.")]
_ZoneOption = Annotated[str | None, typer.Option("--zone", help="IANA zone, such as Europe/Rome.")]
_KindOption = Annotated[str | None, typer.Option(help="reference, low-cost, camera-only or simulated.")]
_StandardOption = Annotated[
    list[str] | None, typer.Option("--standard", help="AQI standard; again for more, the first one leads.")
]
_CorrectionOption = Annotated[
    list[str] | None,
    typer.Option("--correction", help="SENSOR=CORRECTION, such as main=linear:slope=0.8; of a known sensor."),
]


@app.command("list")
def list_command() -> None:
    """List the stations that have a record."""
    known = _registry(Settings()).records()
    console = screen()
    if known:
        console.print(fitting(console, _tables([known[name] for name in sorted(known)])))
    console.print(counted(len(known), "station"), style="dim", highlight=False)


def _tables(stations: Sequence[Station]) -> Iterator[Table]:
    columns: dict[str, Callable[[Station], str]] = {
        "Name": lambda one: one.name,
        "Kind": lambda one: one.kind,
        "Place": lambda one: "-" if one.latitude is None else f"{one.latitude:.4f} {one.longitude:.4f}",
        "Zone": lambda one: one.timezone,
        "Standards": lambda one: ", ".join(one.standards),
        "Since": lambda one: "-" if one.valid_from is None else f"{one.valid_from:%Y-%m-%d %H:%M}",
    }
    for shown in (list(columns), ["Name", "Kind", "Place", "Zone"], ["Kind", "Place"], ["Kind"]):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("Station", overflow="fold")
        for head in shown:
            table.add_column(head, no_wrap=head != "Name")
        for one in stations:
            table.add_row(Text(one.station), *(Text(columns[head](one)) for head in shown))
        yield table


@app.command()
def show(station: _Id) -> None:
    """Show a station's record, and what it was before."""
    record = _registry(Settings()).record(station)
    console = Console(highlight=False, soft_wrap=True)
    for name, value in record.model_dump(mode="json", exclude={"earlier"}).items():
        if value not in (None, "", []):
            console.print(f"{name:11} {value if isinstance(value, str) else json.dumps(value)}", markup=False)
    versions = (record, *record.earlier)
    for later, before in pairwise(versions):
        assert later.valid_from is not None
        since = "ever" if before.valid_from is None else format_time(before.valid_from)
        changes = ", ".join(
            f"{name} {json.dumps(_field(before, name))}" for name in differences(later, before)
        )
        console.print(
            f"from {since} to {format_time(later.valid_from)}: {changes or 'the same'}", markup=False
        )


def _field(station: Station, name: str) -> Any:
    return station.model_dump(mode="json")[name]


@app.command()
def add(
    station: _Id, name: _StationNameOption = None, city: _CityOption = None, lat: _LatOption = None,
    lon: _LonOption = None, zone: _ZoneOption = None, kind: _KindOption = None,
    standard: _StandardOption = None,
) -> None:  # fmt: skip
    """Record a station that has no record yet. Cameras and sensors come by `import`."""
    fields = _given(name, city, lat, lon, zone, kind, standard)
    _registry(Settings()).add({"station": station, **fields})
    Console().print(f"{station} is recorded", highlight=False)


@app.command()
def edit(
    station: _Id, name: _StationNameOption = None, city: _CityOption = None, lat: _LatOption = None,
    lon: _LonOption = None, zone: _ZoneOption = None, kind: _KindOption = None,
    standard: _StandardOption = None, correction: _CorrectionOption = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Time of the data from which it counts (RFC 3339, or an age: 6h); now."),
    ] = None,
    moved: Annotated[
        bool, typer.Option("--moved", help="It stands elsewhere: what was learned of it is forgotten.")
    ] = False,
) -> None:  # fmt: skip
    """Change a station's record, from a time of the data on; what was before is kept for before.

    A change acts on windows that begin then or later. Windows that are final stay as they are (`skyfuse
    backfill` makes them anew).
    """
    registry, now = _registry(Settings()), _now()
    fields = _given(name, city, lat, lon, zone, kind, standard)
    if correction:
        fields["sensors"] = _checked(lambda: _corrected(registry.record(station), correction))
    if not fields:
        raise typer.BadParameter("nothing to change is given")
    at = now if since is None else moment(since, now)
    before, change = registry.edit(station, fields, at, now, moved=moved)
    told = ", ".join(differences(before, change.record)) or "nothing"
    console = Console(highlight=False)
    console.print(f"{station}: {told} changed{_since(before, change)}")
    if change.anew:
        console.print("what was learned of it at the old place is forgotten; its series stays")
    if change.dropped:
        console.print(f"{counted(change.dropped, 'record')} of long ago had no room in the history")


def _since(before: Station, change: Change) -> str:
    at = change.record.valid_from
    return "" if at is None or at == before.valid_from else f" from {format_time(at)} on"


def _corrected(station: Station, given: Sequence[str]) -> list[dict[str, Any]]:
    sensors = [one.model_dump(mode="json") for one in station.sensors]
    for text in given:
        sensor, equals, name = text.partition("=")
        found = [one for one in sensors if one["sensor"] == sensor]
        if not equals or not found:
            have = ", ".join(one["sensor"] for one in sensors) or "none: `import` records sensors"
            raise Refused("no_sensor", f"{text!r} names no sensor of the record; there are {have}")
        for one in found:
            one["correction"] = name
    return sensors


@app.command("waiting")
def waiting_command() -> None:
    """List the stations that wait to be let in (setting gateway.unknown = "quarantine").

    Exit code 0: none waits; 1: some do.
    """
    settings = Settings()
    found = _registry(settings).waiting()
    now = utc_now()
    # Lines, not a table: an id is needed whole.
    console = Console(soft_wrap=True, highlight=False)
    for name, one in sorted(found.items()):
        console.print(
            f"{name}  {_amount(one)}, the last {age_words(now - from_ms(one.last))} ago",
            markup=False,
        )
        console.print(f"    {', '.join(one.adapters)} from {', '.join(one.origins) or '-'}", markup=False)
    console.print(f"{counted(len(found), 'station')} waiting", style="dim")
    if found:
        console.print("let one in: `skyfuse stations adopt STATION`", style="dim")
        raise typer.Exit(1)


def _amount(one: Waiting) -> str:
    pictures = f" and {counted(one.pictures, 'picture')}" if one.pictures else ""
    return f"{counted(one.count, 'reading')}{pictures}"


@app.command()
def adopt(
    station: _Id, name: _StationNameOption = None, city: _CityOption = None, lat: _LatOption = None,
    lon: _LonOption = None, zone: _ZoneOption = None, kind: _KindOption = None,
    standard: _StandardOption = None,
) -> None:  # fmt: skip
    """Let a station in: it gets a record, and what waits of it is published in its order.

    What is older than windows may be revised is late: `skyfuse backfill` counts it.
    """
    fields = _given(name, city, lat, lon, zone, kind, standard)
    count = _registry(Settings()).adopt(station, fields)
    Console().print(f"{station} is let in; {counted(count, 'message')} published", highlight=False)


@app.command()
def retire(station: _Id) -> None:
    """Retire a station: its alerts end, what was learned of it is forgotten, its series stays.

    If it speaks again, it begins anew, as a station that nobody knows.
    """
    _registry(Settings()).retire(station)
    Console().print(f"{station} is retired; its series stays", highlight=False)


@app.command("import")
def import_command(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="JSON: a list, or a record a line.")
    ],
) -> None:
    """Record the stations of a file, all or, where one has a fault, none. The form is that of `export`."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise StationError("refused", f"{file}: {error}") from error
    try:
        news, same = _registry(Settings()).take(text, _now())
    except StationError as error:
        raise StationError(error.code, f"{file}: {error}") from error
    Console().print(
        f"{counted(news, 'station')} recorded{f', {same} as they were' if same else ''}", highlight=False
    )


def _now() -> datetime:
    now = utc_now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@app.command()
def export() -> None:
    """Write all records, with their history, one a line: what `import` takes."""
    known = _registry(Settings()).records()
    for name in sorted(known):
        typer.echo(known[name].model_dump_json(exclude_defaults=True))


def _given(
    name: str | None, city: str | None, lat: float | None, lon: float | None, zone: str | None,
    kind: str | None, standard: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    if (lat is None) != (lon is None):
        raise typer.BadParameter("a place has both --lat and --lon")
    given = {
        "name": name, "city": city, "latitude": lat, "longitude": lon, "timezone": zone, "kind": kind,
        "standards": list(standard) if standard else None,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value is not None}


def _checked(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except Refused as refused:
        raise StationError("refused", refused.message) from refused


def _registry(settings: Settings) -> StationRegistry:
    return StationRegistry(kafka_connection(settings), settings.kafka.prefix)
