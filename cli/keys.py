"""`skyfuse keys`: who may ask the page's API for what."""

from typing import Annotated

import typer
from pydantic import ValidationError

from schemas.base import first_error
from settings.sections import Settings
from sources.gateway.errors import KeyFileError
from sources.gateway.keys import SCOPES, ApiScope, StoredKey, changing_keys, digest_of, new_key, read_keys

app = typer.Typer(
    help="Keys of the page's API (`skyfuse worker web`), by scope: read, frames, write, admin.",
    no_args_is_help=True,
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the key, for people.")]


@app.command()
def create(
    name: _Name,
    scope: Annotated[
        list[str], typer.Option(metavar="SCOPE", help=f"One of {', '.join(SCOPES)}. Several times.")
    ],
) -> None:
    """Make a key and print it: it is shown this once, and only its digest is kept."""
    asked: list[ApiScope] = [one for one in SCOPES if one in scope]
    strange = sorted(set(scope) - set(SCOPES))
    if strange:
        raise typer.BadParameter(f"{', '.join(strange)}: there are {', '.join(SCOPES)}")
    secret = new_key()
    try:
        made = StoredKey(name=name, scopes=tuple(asked), sha256=digest_of(secret))
    except ValidationError as error:
        raise typer.BadParameter(first_error(error)[1]) from error
    file = Settings().keys_path
    with changing_keys(file) as known:
        if any(key.name == name for key in known):
            raise KeyFileError(f"{file} has a key {name} already: `skyfuse keys revoke {name}` first")
        known.append(made)
    typer.echo(secret)
    typer.echo(f"skyfuse: {_told(made)}; servers know it within a second", err=True)


@app.command("list")
def list_command() -> None:
    """All keys with scopes, and which."""
    known = [key for key in read_keys(Settings().keys_path) if key.scopes]
    for key in known:
        typer.echo(_told(key))
    if not known:
        typer.echo("no key yet: skyfuse keys create NAME --scope read", err=True)


@app.command()
def revoke(name: _Name) -> None:
    """Take a key out: from within a second on, nobody can use it."""
    file = Settings().keys_path
    with changing_keys(file) as known:
        kept = [key for key in known if key.name != name or not key.scopes]
        if len(kept) == len(known):
            raise KeyFileError(f"{file} has no key {name} with scopes: `skyfuse keys list`")
        known[:] = kept


def _told(key: StoredKey) -> str:
    stations = f"; sends for {', '.join(key.stations)}" if key.stations else ""
    return f"{key.name}: {', '.join(key.scopes)}{stations}"
