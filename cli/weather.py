"""`skyfuse weather`: weather to come, and that has passed, for the forecasts of the air."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.shared.training import tell_left_out
from cli.shared.wording import counted
from datasets.errors import SourceError
from infra.connect import with_broker
from infra.stack.processes import ended_by_signals
from schemas.duration import parse_duration
from schemas.station import Station
from schemas.weather import WeatherIssue
from settings.sections import Settings
from sinks.store import Store
from sources.errors import FetchError
from sources.fetch import Asked, Fetcher
from sources.sender import Sender
from sources.weather import OPEN_METEO, open_meteo, open_meteo_query, read_weather_file
from streams.admin import create_topics
from streams.topics import WEATHER

app = typer.Typer(help="Weather for the forecasts: from files, or from a service.", no_args_is_help=True)
#: A service is not asked more often: nothing new would be there.
_LEAST_S: Final = 600.0
#: Of an answer, which has some 20 kB.
_MOST_BYTES: Final = 1024 * 1024

_Stations = Annotated[list[str] | None, typer.Option("--station", help="Of this station; again for more.")]


@app.command("send")
def send_weather(
    files: Annotated[list[Path], typer.Argument(help="weather.csv, or JSON of Open-Meteo's form.")],
    station: _Stations = None,
    issued: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%SZ"], help="When a JSON was issued, UTC; now if not given."),
    ] = None,
) -> None:
    """Send what files have. A row of a table is known when its hour is over."""
    now = datetime.now(UTC)
    at = now if issued is None else issued.replace(tzinfo=UTC)
    problems: list[str] = []

    def all_of() -> Iterator[WeatherIssue]:
        for file in files:
            yield from read_weather_file(file, station or [], at, now, problems)

    found = all_of()
    # What cannot be read is told without a broker, and nothing of it is sent.
    first = next(found, None)
    if first is None:
        tell_left_out(problems)
        raise SourceError(
            f"nothing was sent: {', '.join(map(str, files))} "
            + ("has no row that can be used; the lines above say why" if problems else "has no row")
            + (f" of {', '.join(station)}" if station and not problems else "")
        )
    sent = _send(with_broker(Settings()), chain([first], found))
    tell_left_out(problems)
    typer.echo(f"sent {counted(sent, 'issue')} of weather")


@app.command("fetch")
def fetch_weather(
    station: _Stations = None,
    url: Annotated[
        str, typer.Option(help="Of a service that answers in Open-Meteo's form.", show_default="its own")
    ] = OPEN_METEO,
    every: Annotated[str, typer.Option(help="Again after this long (10m or more); once if not given.")] = "",
    local: Annotated[bool, typer.Option(help="The address may be one of a private network.")] = False,
) -> None:
    """Ask a service for each station that has a position, and send what it says."""
    seconds = _every(every) if every else None
    settings = with_broker(Settings())
    stop = threading.Event()
    with ended_by_signals():
        try:
            while True:
                places = _places(settings, station or [])
                issues, problems = asyncio.run(_asked(places, url, local))
                sent = _send(settings, iter(issues))
                for problem in problems:
                    typer.echo(f"skyfuse: {problem}", err=True)
                typer.echo(f"sent weather of {counted(sent, 'station')} of {len(places)}")
                if seconds is None or stop.wait(seconds):
                    break
        except KeyboardInterrupt:
            return
    if problems and not issues:
        raise SourceError("no weather was had; the lines above say why")


def _every(stated: str) -> float:
    try:
        seconds = parse_duration(stated).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--every") from error
    if seconds < _LEAST_S:
        raise typer.BadParameter(
            f"{stated} is less than 10m: nothing new would be there", param_hint="--every"
        )
    return seconds


def _places(settings: Settings, wanted: Sequence[str]) -> list[Station]:
    with Store(settings.store_path, read_only=True) as store:
        known = store.stations()
    missing = [name for name in wanted if name not in known]
    if missing:
        raise SourceError(f"the store has no record of {', '.join(missing)}: skyfuse stations lists them")
    chosen = [known[name] for name in wanted] if wanted else list(known.values())
    placed = [one for one in chosen if one.latitude is not None and one.longitude is not None]
    if not placed:
        raise SourceError(
            "no station has a position: skyfuse stations edit STATION --lat DEGREES --lon DEGREES"
        )
    return placed


async def _asked(places: Sequence[Station], url: str, local: bool) -> tuple[list[WeatherIssue], list[str]]:
    """What the service says of each place, one after another, and what went wrong."""
    issues, problems = [], []
    for one in places:
        assert one.latitude is not None
        assert one.longitude is not None
        fetcher = Fetcher(
            Asked(open_meteo_query(url, one.latitude, one.longitude), local, most_bytes=_MOST_BYTES)
        )
        try:
            body = (await fetcher.fetch()).body
            issues.append(open_meteo(body or b"", one.station, datetime.now(UTC), "open-meteo"))
        except (FetchError, SourceError) as error:
            problems.append(f"{one.station}: {error}")
        finally:
            await fetcher.close()
    return issues, problems


def _send(settings: Settings, issues: Iterator[WeatherIssue]) -> int:
    create_topics(settings)  # an installation of before has no topic of the weather
    sent = 0
    with Sender(settings.kafka) as sender:
        for issue in issues:
            sender.send(WEATHER.name, issue.station.encode(), issue.model_dump_json().encode())
            sent += 1
    return sent
