"""`skyfuse calibration`: what would bring a sensor back to its neighbours, and the operator's word on it.

Nothing is corrected by itself: `suggest` looks, `accept` writes what was looked at into the station's record,
as one more version of it that counts from a time on.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from agents.network import StoredRegions, stored_regions
from aqi.correction import line_of, linear
from aqi.errors import CorrectionError
from cli.errors import CalibrationError
from cli.shared.calibration_plot import svg
from cli.shared.connection import kafka_connection
from cli.shared.live import utc_now
from cli.shared.options import parsed_station
from cli.shared.times import moment
from cli.shared.wording import counted
from fusion.together.departures import drift_of
from infra.connect import broker_at_hand
from network.calibration import Interval90, Suggestion, suggestion, watched_pollutants
from network.drift import DriftWatch
from schemas.base import format_time, from_ms
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.station import Sensor, Station
from schemas.times import DAY_MS
from settings.sections import Settings
from sources.stations.registry import StationRegistry
from streams.to_end import read_topic
from streams.topics import NETWORK_STATE

app = typer.Typer(
    help="Corrections of sensors that have left their neighbours: suggested, and accepted.",
    no_args_is_help=True,
)


def _pollutant(text: str) -> Pollutant:
    for name in POLLUTANTS:
        if name == text.lower():
            return name
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(POLLUTANTS)}")


_StationArgument = Annotated[
    str, typer.Argument(metavar="STATION", parser=parsed_station, help="Id of the station.")
]


class Suggested(NamedTuple):
    """A suggestion, and the correction to accept, which takes in the one in force; in words, why not."""

    pollutant: Pollutant
    found: Suggestion | None
    correction: str
    refusal: str


@app.command()
def suggest(
    station: _StationArgument,
    pollutant: Annotated[
        Any, typer.Option(parser=_pollutant, metavar="POLLUTANT", help="Of this only; else all it measures.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw it: an SVG file, or a folder for several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one document.")] = False,
) -> None:
    """Show by how much a station's sensors are off their neighbours, and what would correct that.

    It rests on the days that the network stage has kept. Nothing is changed.
    """
    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        connection = kafka_connection(settings)
        record = StationRegistry(connection, settings.kafka.prefix).record(station)
        regions = stored_regions(read_topic(connection, settings.kafka.names.of(NETWORK_STATE)))
    watch = watch_over(station, regions)
    if watch is None:
        raise CalibrationError(
            f"no region knows {station}: the network stage (network.enabled) has stored nothing of it"
        )
    found = suggested(record, watch, pollutant)
    if as_json:
        typer.echo(json.dumps([_plain(station, one) for one in found], indent=1, allow_nan=False))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for one in found:
            for line in told(station, one):
                console.print(line, markup=False)
    if plot is not None:
        _draw(plot, [one.found for one in found if one.found is not None])


def watch_over(station: str, regions: StoredRegions) -> DriftWatch | None:
    """The watch of the region that heard a station last: one that was moved is known in two."""
    knowing = [learned for _, learned in regions.values() if station in learned.roster]
    return max(knowing, key=lambda one: one.roster[station].heard).drift if knowing else None


def suggested(record: Station, watch: DriftWatch, pollutant: Pollutant | None) -> list[Suggested]:
    """What is suggested of a station. Raises CalibrationError."""
    if record.kind == "reference":
        raise CalibrationError(
            f"{record.station} is a reference station: others are measured by it, it is not corrected by them"
        )
    names = watched_pollutants(watch, record.station) if pollutant is None else [pollutant]
    if not names:
        raise CalibrationError(f"{record.station}: not one whole day of its sensors is known yet")
    found = []
    for name in names:
        said = suggestion(watch, record.station, name)
        if isinstance(said, str):
            found.append(Suggested(name, None, "", said))
            continue
        try:
            found.append(Suggested(name, said, correction_after(record, name, said), ""))
        except CalibrationError as error:
            found.append(Suggested(name, said, "", str(error)))
    return found


def correction_after(record: Station, pollutant: Pollutant, found: Suggestion) -> str:
    """Id of the correction that does what the one in force does, and then what is suggested."""
    before = line_of(sensor_of(record, pollutant).correction)
    if before is None:
        raise CalibrationError(
            f"{pollutant} of {record.station} is corrected by {sensor_of(record, pollutant).correction},"
            " which is no straight line: another cannot be put on top of it"
        )
    slope = found.slope.value * before[0]
    offset = found.slope.value * before[1] + found.offset.value
    return linear(float(f"{slope:.4g}"), float(f"{offset:.4g}")).id


def sensor_of(record: Station, pollutant: Pollutant) -> Sensor:
    """The one sensor of a pollutant in a station's record. Raises CalibrationError."""
    known = [one for one in record.sensors if pollutant in one.parameters]
    if not known:
        raise CalibrationError(
            f"the record of {record.station} has no sensor of {pollutant} that a correction could be written"
            " to: add it to its `sensors` by `skyfuse stations import`"
        )
    if len(known) > 1:
        have = ", ".join(one.sensor for one in known)
        raise CalibrationError(
            f"{pollutant} of {record.station} is measured by {have}: say which of them is off, by `skyfuse"
            " stations edit --correction SENSOR=...`"
        )
    return known[0]


def told(station: str, one: Suggested) -> list[str]:
    """A suggestion in lines."""
    name = f"{station} {one.pollutant}"
    if one.found is None:
        return [f"{name}: nothing is suggested: {one.refusal}"]
    found = one.found
    if found.departure is None:
        how = "has not left its neighbours"
    else:
        how = drift_of(found.departure, one.pollutant).reason.removeprefix(f"{one.pollutant} ")
        how += f", named {format_time(from_ms(found.departure.named * DAY_MS))[:10]}"
    lines = [
        f"{name} {how}",
        f"    slope {_interval(found.slope)}, offset {_interval(found.offset)} ug/m3 (90 % intervals)",
        f"    by {counted(found.days, 'day')}, {counted(found.hours, 'hour')},"
        f" {counted(found.stations, 'other station')} of its region",
    ]
    if one.correction:
        lines.append(
            f"    to accept it: skyfuse calibration accept {station} {one.pollutant} {one.correction}"
        )
    else:
        lines.append(f"    it cannot be accepted: {one.refusal}")
    return lines


def _interval(found: Interval90) -> str:
    value, lo, hi = (one + 0.0 for one in found)  # no minus before a zero
    return f"{value:.4g}" if lo == hi else f"{value:.4g} ({lo:.4g} to {hi:.4g})"


def _plain(station: str, one: Suggested) -> dict[str, Any]:
    plain: dict[str, Any] = {"station": station, "pollutant": one.pollutant, "correction": one.correction}
    if one.refusal:
        plain["refusal"] = one.refusal
    if one.found is not None:
        departure = one.found.departure
        plain |= {
            "slope": one.found.slope._asdict(),
            "offset": one.found.offset._asdict(),
            "days": one.found.days,
            "hours": one.found.hours,
            "stations": one.found.stations,
            "drift": None
            if departure is None
            else drift_of(departure, one.pollutant).model_dump(mode="json"),
        }
    return plain


def _draw(plot: Path, found: list[Suggestion]) -> None:
    for one in found:
        several = plot.is_dir() or len(found) > 1
        file = plot / f"{one.station}-{one.pollutant}.svg" if several else plot
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(svg(one), encoding="utf-8")
        except OSError as error:
            raise CalibrationError(f"{file} cannot be written: {error.strerror or error}") from error
        typer.echo(f"drawn: {file}", err=True)


@app.command()
def accept(
    station: _StationArgument,
    pollutant: Annotated[Any, typer.Argument(parser=_pollutant, metavar="POLLUTANT")],
    correction: Annotated[str, typer.Argument(help="As `suggest` printed it: linear:slope=...,offset=...")],
    since: Annotated[
        str | None,
        typer.Option("--from", help="Time of the data from which it counts (RFC 3339, or an age: 6h); now."),
    ] = None,
) -> None:
    """Write a correction into a station's record, from a time on; what was before is kept for before.

    It acts on windows that begin then or later; `skyfuse backfill` makes those before anew. `skyfuse stations
    show` shows all that ever counted, and `accept` with an earlier one takes it back.
    """
    settings = Settings()
    registry = StationRegistry(kafka_connection(settings), settings.kafka.prefix)
    record = registry.record(station)
    sensors = with_correction(record, pollutant, correction)
    now = utc_now()
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    at: datetime = now if since is None else moment(since, now)
    _, change = registry.edit(station, {"sensors": sensors}, at, now)
    from_then = (
        "" if change.record.valid_from is None else f" from {format_time(change.record.valid_from)} on"
    )
    typer.echo(f"{station}: {pollutant} is corrected by {correction}{from_then}")


def with_correction(record: Station, pollutant: Pollutant, correction: str) -> list[dict[str, Any]]:
    """The sensors of a record, that of a pollutant with another correction: of this pollutant alone.

    Raises CalibrationError.
    """
    if record.kind == "reference":
        raise CalibrationError(f"{record.station} is a reference station, which is not corrected by others")
    line = line_of(correction)
    try:
        if line is None:
            raise CorrectionError(f"{correction!r} is no linear:slope=NUMBER,offset=NUMBER, nor identity")
        linear(*line)
    except CorrectionError as error:
        raise CalibrationError(str(error)) from error
    own = sensor_of(record, pollutant)
    sensors = []
    for one in record.sensors:
        if one != own:
            sensors.append(one)
            continue
        rest = tuple(name for name in own.parameters if name != pollutant)
        if rest:
            sensors.append(own.model_copy(update={"parameters": rest}))
        sensors.append(own.model_copy(update={"parameters": (pollutant,), "correction": correction}))
    return [one.model_dump(mode="json") for one in sensors]
