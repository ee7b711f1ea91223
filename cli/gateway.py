"""`skyfuse gateway`: who may send to it."""

from typing import Annotated

import typer
from pydantic import ValidationError

from schemas.base import first_error
from settings.sections import Settings
from sources.gateway.errors import KeyFileError
from sources.gateway.keys import StoredKey, changing_keys, digest_of, new_key, read_keys

app = typer.Typer(
    help="The way in for devices, run by `skyfuse worker gateway`: its keys.", no_args_is_help=True
)
keys = typer.Typer(help="Who may speak for which station.", no_args_is_help=True)
app.add_typer(keys, name="keys")

_KeyNameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the key, for people.")]


@keys.command()
def add(
    name: _KeyNameArgument,
    station: Annotated[
        list[str],
        typer.Option(metavar="ID", help='A station it is for; "fleet-*": all that begin so. Several times.'),
    ],
    signed: Annotated[
        bool, typer.Option("--signed", help="It signs requests and is never sent (docs/ingest.md).")
    ] = False,
    without: Annotated[
        bool,
        typer.Option(
            "--without-key",
            help="Let the stations be spoken for without a key: firmware that cannot send one.",
        ),
    ] = False,
    manages: Annotated[
        bool,
        typer.Option("--manages", help="It may list and change the records of these stations, too."),
    ] = False,
    short: Annotated[
        bool,
        typer.Option(
            "--short", help="16 letters and digits: for cameras that take no longer password (FTP)."
        ),
    ] = False,
) -> None:
    """Make a key and print it: it is shown this once, and only its digest is kept."""
    if signed and without:
        raise typer.BadParameter("--signed and --without-key exclude each other")
    if manages and without:
        raise typer.BadParameter("--manages needs a key")
    secret = None if without else new_key(short=short)
    try:
        made = StoredKey(
            name=name,
            stations=tuple(station),
            sha256=None if secret is None else digest_of(secret),
            signs=signed,
            manages=manages,
        )
    except ValidationError as error:
        raise typer.BadParameter(first_error(error)[1]) from error
    file = Settings().keys_path
    with changing_keys(file) as known:
        if any(key.name == name for key in known):
            raise KeyFileError(f"{file} has a key {name} already: `skyfuse gateway keys remove {name}` first")
        known.append(made)
    if secret is not None:
        typer.echo(secret)
    typer.echo(f"skyfuse: {_told(made)}; gateways know it within a second", err=True)


@keys.command("list")
def list_command() -> None:
    """All keys, and which stations they are for."""
    known = read_keys(Settings().keys_path)
    for key in known:
        typer.echo(_told(key))
    if not known:
        typer.echo("no key yet: skyfuse gateway keys add NAME --station ID", err=True)


@keys.command()
def remove(name: _KeyNameArgument) -> None:
    """Take a key out: from within a second on, nobody can use it."""
    file = Settings().keys_path
    with changing_keys(file) as known:
        kept = [key for key in known if key.name != name]
        if len(kept) == len(known):
            raise KeyFileError(f"{file} has no key {name}: `skyfuse gateway keys list`")
        known[:] = kept


def _told(key: StoredKey) -> str:
    how = " without a key" if key.sha256 is None else ", signed" if key.signs else ""
    how += ", and their records" if key.manages else ""
    scopes = f"; scopes {', '.join(key.scopes)} (skyfuse keys)" if key.scopes else ""
    return f"{key.name}: {', '.join(key.stations) or 'no station'}{how}{scopes}"
