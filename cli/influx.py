"""`skyfuse influx init`: sets up an InfluxDB 2 for skyfuse (`cli.shared.influx_setup`)."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli.errors import InfluxInitError
from cli.shared.influx_setup import admin_of, initialise
from settings.sections import Settings

app = typer.Typer(help="The InfluxDB that skyfuse writes to.", no_args_is_help=True)


@app.command("init")
def init_command(
    tokens: Annotated[
        Path,
        typer.Option(
            help="Folder for read.token, for write.token if influx.token_file names no other file, and for"
            " what is not given below."
        ),
    ],
    admin_user: Annotated[str, typer.Option(help="New server only: its first user.")] = "admin",
    admin_password_file: Annotated[
        Path | None,
        typer.Option(
            help="New server only: its first user's password; else see above, else"
            " TOKENS/admin.password. Made if the file is not there."
        ),
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            help="A token that may do everything; else see above, else TOKENS/operator.token. Made on a"
            " new server if the file is not there."
        ),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Keep windows for so many days (90 if not given).")
    ] = None,
) -> None:
    """Set up a new InfluxDB 2, or make what is missing on one: buckets and least-privilege tokens.

    Secrets are not shown but written to files that only their owner can read. Run it as often as you like.

    SKYFUSE_INFLUX_ADMIN_PASSWORD and SKYFUSE_INFLUX_ADMIN_TOKEN, where they are set, are instead of files.
    """
    influx = Settings().influx
    if influx.url is None:
        raise InfluxInitError(
            "influx.url is not set: name the InfluxDB 2, as in SKYFUSE_INFLUX__URL=http://influx:8086"
        )
    admin = admin_of(os.environ, tokens, admin_user, admin_token_file, admin_password_file)
    done = initialise(influx.url, influx.org, influx.bucket, admin, tokens, days, influx.token_file)
    console = Console(highlight=False, soft_wrap=True)
    for line in done or ["everything is as it should be"]:
        console.print(escape(line))
