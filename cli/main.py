"""The command line: `skyfuse COMMAND`. Each command lives in a module of its own and is mounted here."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError as NoJson
from rich.console import Console

from cli import (
    adapters,
    alerts,
    annotate,
    aqi,
    backfill,
    bench,
    calibration,
    config,
    dlq,
    doctor,
    evaluate,
    export,
    fleet,
    forecast,
    gateway,
    influx,
    invalidate,
    keys,
    network,
    query,
    replay,
    share,
    simulate,
    stations,
    synthesize,
    topics,
    train,
    up,
    weather,
    worker,
)
from schemas.base import first_error
from schemas.errors import SkyfuseError
from settings.errors import SettingsError
from settings.in_force import origins
from settings.sections import Settings
from settings.spelling import no_json, unknown_variables
from streams.version import version

#: Columns under which help has no panels: they would cut the names of options.
_PANELS_FROM: Final = 70

app = typer.Typer(
    help="Camera frames and pollutant readings in, continuous air-quality series out.",
    rich_markup_mode="rich" if Console().width >= _PANELS_FROM else None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "up": up.up, "worker": worker.worker, "simulate": simulate.simulate, "replay": replay.replay,
    "backfill": backfill.backfill, "invalidate": invalidate.invalidate, "annotate": annotate.annotate,
    "fleet": fleet.fleet, "query": query.query, "share": share.share,
    "aqi": aqi.aqi_command, "doctor": doctor.doctor_command,
    "config": config.config, "topics": topics.topics, "train": train.train_command,
    "evaluate": evaluate.evaluate_command, "export": export.export_command,
    "synthesize": synthesize.synthesize,
}  # fmt: skip
for name, command in _COMMANDS.items():
    app.command(name)(command)
app.command("bench", context_settings=bench.CONTEXT)(bench.bench)
for group in (
    dlq,
    alerts,
    influx,
    stations,
    adapters,
    gateway,
    keys,
    network,
    forecast,
    weather,
    calibration,
):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


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


def main() -> None:
    """Entry point. An error that was foreseen is one sentence, not a traceback."""
    for unknown in unknown_variables(Settings, os.environ):
        if unknown.likely is None:  # a likely slip is refused by the settings themselves
            typer.echo(f"skyfuse: {unknown}", err=True)
    try:
        try:
            app(prog_name="skyfuse")
        finally:
            sys.stdout.flush()
    except SettingsError as error:
        typer.echo(f"skyfuse: {error}", err=True)
        sys.exit(2)
    except NoJson as error:  # its cause quotes what was given, which may be a secret
        what = no_json(Settings, os.environ) or f"{error}: a whole section as a variable is written in JSON"
        typer.echo(f"skyfuse: settings: {what}", err=True)
        sys.exit(2)
    except SkyfuseError as error:
        typer.echo(f"skyfuse: {error}", err=True)
        sys.exit(1)
    except ValidationError as error:
        code, message = first_error(error)
        where = ""
        if error.title == Settings.__name__:
            place = tuple(str(part) for part in error.errors(include_url=False)[0]["loc"])
            where = f", {origins(place)}" if place else ""
        slip = no_json(Settings, os.environ) if code in ("tuple_type", "dict_type") else None
        told = f": {slip}" if slip else f"{where}: {message.replace('Value error, ', '')}"
        told += "" if slip or code == "value_error" else f" [{code}]"
        typer.echo(f"skyfuse: settings{told}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        typer.echo(f"skyfuse: the disk is full: {error}; make room and run this again", err=True)
        # What is still to be written would fail once more when Python ends.
        os._exit(1)


if __name__ == "__main__":
    main()
