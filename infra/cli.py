"""The command line: `skyfuse COMMAND`. Each command lives in a module of its own and is mounted here."""

import importlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError as NoJson
from rich.console import Console
from rich.table import Table

from aqi.command import aqi_command
from infra.commands import adapters, alerts, dlq, influx, stations
from infra.commands.query import query
from infra.commands.share import share
from infra.connect import broker_at_hand, with_broker
from infra.stack.processes import ended_by_signals
from infra.stores import make_room_for_live
from infra.wording import counted
from model.command import evaluate_command, export_command, train_command
from schemas.base import first_error
from schemas.errors import SkyfuseError
from settings.errors import SettingsError
from settings.in_force import in_force, origin
from settings.sections import Settings
from settings.spelling import unknown_variables
from streams.version import version

app = typer.Typer(
    help="Camera frames and pollutant readings in, continuous air-quality series out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(dlq.app, name="dlq")
app.add_typer(alerts.app, name="alerts")
app.add_typer(influx.app, name="influx")
app.add_typer(stations.app, name="stations")
app.add_typer(adapters.app, name="adapters")
app.command("query")(query)
app.command("share")(share)
app.command("aqi")(aqi_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("export")(export_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skyfuse {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end."),
    ] = False,
) -> None: ...


class RoleName(StrEnum):
    """Which part of the pipeline a worker runs."""

    vision = "vision"
    fusion = "fusion"
    sink = "sink"
    alert = "alert"


@app.command()
def up(
    seconds: Annotated[
        float | None, typer.Option("--for", min=1, help="End by itself after so many seconds.")
    ] = None,
    stations: Annotated[int, typer.Option(min=1, max=500, help="Simulated stations.")] = 6,
    history: Annotated[int, typer.Option(min=0, help="Minutes of simulated past to begin with.")] = 60,
    simulate: Annotated[
        bool, typer.Option(help="Feed it with the simulated city; --no-simulate: only with what you send.")
    ] = True,
) -> None:
    """Run everything on this machine and show it live."""
    from infra.up import up as run_up

    run_up(Settings(), seconds, stations, history, simulate)


@app.command()
def worker(
    role: Annotated[RoleName, typer.Argument(help="vision, fusion, sink or alert.")],
    web_port: Annotated[int, typer.Option(help="Port for /livez, /readyz and /metrics; 0: none.")] = 0,
    web_host: Annotated[
        str, typer.Option(help="Address they are served at; 0.0.0.0 where another machine asks for them.")
    ] = "127.0.0.1",
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run one worker until it is told to stop."""
    from agents.worker import run

    settings = with_broker(Settings())
    if role is RoleName.sink:
        make_room_for_live(settings)
    run(role.value, settings, web_port, web_host, log_level)


@app.command()
def simulate(
    stations: Annotated[int, typer.Option(min=1, max=500, help="How many stations.")] = 6,
    seed: Annotated[int, typer.Option(help="Another city.")] = 7,
    history: Annotated[float, typer.Option(min=0, help="Minutes of the past to begin with.")] = 0.0,
    speed: Annotated[
        float | None,
        typer.Option(min=1, help="How fast the history goes by; as fast as it can if not given."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")
    ] = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two frames of a camera.")] = 60.0,
) -> None:
    """Send a small made-up city's frames and readings, as its stations would."""
    import threading
    import time

    from infra.simulate.feed import feed
    from infra.simulate.place import settle

    stop = threading.Event()
    with ended_by_signals():
        try:
            settings = with_broker(Settings())
            summary = feed(
                settings, settle(settings.data_dir, int(time.time() * 1000), stations, seed),
                history_min=history, speed=speed, seconds=seconds, frame_period_s=every, stop=stop,
            )  # fmt: skip
        except KeyboardInterrupt:
            return
    typer.echo(
        f"sent {counted(summary.frames, 'frame')} and {counted(summary.readings, 'reading')}"
        f" of {counted(summary.stations, 'station')}"
    )


class Layout(StrEnum):
    """How the folder is laid out."""

    plain = "layout"
    india_nepal = "india-nepal"


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text.removesuffix("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither max nor a number such as 60") from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise typer.BadParameter(f"{name!r} is no IANA time zone such as Asia/Kolkata") from error


_Timezone = Annotated[
    ZoneInfo | None,
    typer.Option(
        "--timezone",
        parser=_zone,
        metavar="ZONE",
        help="Of times in the files that state none: Asia/Kolkata. Without it they are refused.",
    ),
]


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="Frames and readings (docs/data-layout.md).")],
    format: Annotated[Layout, typer.Option(help="Layout of the folder.")] = Layout.plain,
    speed: Annotated[str, typer.Option(help="max, or event seconds per second: 60.")] = "max",
    feed_only: Annotated[
        bool, typer.Option("--feed-only", help="Only send, to the topics of running workers.")
    ] = False,
    timezone: _Timezone = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Write the estimates into this store; without it, into a new one of the replay's own."
        ),
    ] = None,
) -> None:
    """Send history on disk through the pipeline, event time kept; without workers of its own: --feed-only.

    Exit code 0: every row was used; 1: some were late, refused or not sent (each is named), or it failed;
    2: wrong use or settings; 3 (--feed-only): sent, but no worker has read it yet.
    """
    from infra.replaying import History, feed_live
    from infra.replaying import replay as run_replay

    history = History(folder, format.value, timezone)
    if feed_only:
        if store is not None:
            raise typer.BadParameter("--store goes with workers of its own, not with --feed-only")
        raise typer.Exit(feed_live(with_broker(Settings()), history, _speed(speed)))
    raise typer.Exit(run_replay(Settings(), history, _speed(speed), store))


@app.command()
def backfill(
    files: Annotated[
        Path | None,
        typer.Argument(
            help="History: a folder, or one table of readings or frames (docs/data-layout.md). Without it:"
            " what lies on the late topic."
        ),
    ] = None,
    format: Annotated[Layout, typer.Option(help="Layout of the folder.")] = Layout.plain,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    since: Annotated[
        str | None, typer.Option(help="First window end: 2026-08-21T10:00:00Z, or an age: 6h.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Windows that end before this.")] = None,
    timezone: _Timezone = None,
) -> None:
    """Count what came too late, or lies in files: its windows are made again, as new revisions."""
    from infra.commands.backfill import Files
    from infra.commands.backfill import backfill as run_backfill

    history = None if files is None else Files(files, format.value, timezone)
    raise typer.Exit(run_backfill(Settings(), history, since, until, dry_run))


_PLACES = typer.Argument(help="STATION [SENSOR] FROM TO; times: 2026-08-21T10:00:00Z, or an age: 6h.")
_BY = typer.Option("--by", help="Who says so; your login name if not given.")
_UNDO = typer.Option("--undo", metavar="ID", help="Take this one back, instead of making one.")


@app.command()
def invalidate(
    places: Annotated[list[str] | None, _PLACES] = None,
    reason: Annotated[str | None, typer.Option(help="Why, in words; it is kept.")] = None,
    parameter: Annotated[str | None, typer.Option(help="Only this: pm25, no2 ...")] = None,
    by: Annotated[str | None, _BY] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    undo: Annotated[str | None, _UNDO] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all invalidations.")] = False,
) -> None:
    """Take readings out of windows, averages, indices and aggregates, by new revisions; TO may lie ahead."""
    from infra.commands import annotate as annotations

    if listed:
        annotations.show(Settings(), "invalid")
    elif undo is not None:
        raise typer.Exit(annotations.undo(Settings(), "invalid", undo, by, dry_run))
    elif not reason:
        raise typer.BadParameter("say why in words: --reason TEXT", param_hint="--reason")
    else:
        raise typer.Exit(
            annotations.say(
                Settings(), "invalid", places or [], reason, parameter=parameter, by=by, dry_run=dry_run
            )
        )


@app.command("annotate")
def annotate_command(
    places: Annotated[list[str] | None, _PLACES] = None,
    text: Annotated[str | None, typer.Option(help='What there is to say: "barbecue next door".')] = None,
    by: Annotated[str | None, _BY] = None,
    undo: Annotated[str | None, _UNDO] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all notes.")] = False,
) -> None:
    """Put a note beside a station's data; it changes no value."""
    from infra.commands import annotate as annotations

    if listed:
        annotations.show(Settings(), "note")
    elif undo is not None:
        raise typer.Exit(annotations.undo(Settings(), "note", undo, by))
    elif not text:
        raise typer.BadParameter("say it in words: --text TEXT", param_hint="--text")
    else:
        raise typer.Exit(annotations.say(Settings(), "note", places or [], text, by=by))


@app.command("doctor")
def doctor_command() -> None:
    """Check what skyfuse needs on this machine, and say how to mend what is missing."""
    from infra.doctor import doctor

    raise typer.Exit(doctor(Settings(), Console()))


@app.command("config")
def config_command() -> None:
    """Show which settings are in force, and who says so: the environment, the file, or the default."""
    rows = in_force(Settings())
    wide, values = (
        max(len(text) for text in column) for column in ([r.name for r in rows], [r.value for r in rows])
    )
    for row in rows:
        typer.echo(f"{row.name:{wide}}  {row.value:{values}}  {row.origin}")


@app.command()
def topics(
    check: Annotated[bool, typer.Option(help="Only compare with the broker, create nothing.")] = False,
) -> None:
    """Create the topics that are missing, and say what differs from the table."""
    from streams.admin import check_topics, create_topics
    from streams.topics import TOPICS

    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        created = [] if check else create_topics(settings)
        problems = check_topics(settings)
    table = Table("topic", "holds", "cleanup", "kept")
    for topic in TOPICS:
        hours = topic.retention_ms // 3_600_000
        kept = "newest per key" if topic.cleanup == "compact" else f"{hours} h"
        table.add_row(settings.kafka.prefix + topic.name, topic.holds, topic.cleanup, kept)
    console = Console()
    console.print(table)
    for name in created:
        console.print(f"created {name}")
    for problem in problems:
        console.print(f"[red]{problem}")
    if problems:
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which benchmark; none: list them.")] = None,
) -> None:
    """Run a benchmark; it ends in one JSON line."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if not names:
        raise typer.BadParameter(
            "benchmarks are no part of an installed package: run `./skyfuse bench` in a checkout"
        )
    if name is None:
        typer.echo("\n".join(names))
        return
    if name not in names:
        raise typer.BadParameter(f"no benchmark {name!r}; there are: {', '.join(names)}")
    # A checkout's folder, not an installed package: the wrapper keeps it off the path.
    sys.path.insert(0, str(folder.parent))
    raise typer.Exit(importlib.import_module(f"benchmarks.{name}").main(context.args))


def main() -> None:
    """Entry point. An error that was foreseen is one sentence, not a traceback."""
    for unknown in unknown_variables(Settings, list(os.environ)):
        if unknown.likely is None:  # a likely slip is refused by the settings themselves
            typer.echo(f"skyfuse: {unknown}", err=True)
    try:
        app(prog_name="skyfuse")
    except SettingsError as error:
        typer.echo(f"skyfuse: {error}", err=True)
        sys.exit(2)
    except NoJson as error:  # its cause quotes what was given, which may be a secret
        typer.echo(f"skyfuse: settings: {error}: a whole section as a variable is written in JSON", err=True)
        sys.exit(2)
    except SkyfuseError as error:
        typer.echo(f"skyfuse: {error}", err=True)
        sys.exit(1)
    except ValidationError as error:
        code, message = first_error(error)
        where = ""
        if error.title == Settings.__name__:
            place = tuple(str(part) for part in error.errors(include_url=False)[0]["loc"])
            where = f", {origin(place)}" if place else ""
        typer.echo(f"skyfuse: settings{where}: {message} [{code}]", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
