"""`skyfuse adapters`: which payloads are understood, and what one would become."""

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import typer

from cli.shared.options import parsed_station, parsed_zone
from cli.shared.scaffold import new_adapter
from cli.shared.wording import counted
from schemas.base import format_time
from schemas.errors import Refused
from sources.adapters import adapters
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.parts import Part
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import MAX_BYTES, translate
from sources.codecs.runner import CodecProcess, JavaScriptCodec

app = typer.Typer(help="Payloads of stations, clouds and portals that are understood.", no_args_is_help=True)

_AdapterArgument = Annotated[str, typer.Argument(metavar="NAME", help="Which one: `skyfuse adapters list`.")]


def _adapter(name: str) -> Adapter:
    known = adapters()
    if name not in known:
        raise typer.BadParameter(f"no adapter {name!r}; there are: {', '.join(sorted(known))}")
    return known[name]


def _codec_of(
    adapter: Adapter, file: Path | None, process: CodecProcess
) -> Callable[[Sequence[str]], JavaScriptCodec | None]:
    if file is None:
        return lambda _: None
    if not adapter.raw:
        have = ", ".join(sorted(name for name, one in adapters().items() if one.raw))
        raise typer.BadParameter(f"{adapter.name} has no raw bytes; there are: {have}", param_hint="--codec")
    try:
        codec = JavaScriptCodec.of_file(file, process)
    except (Refused, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--codec") from error
    return lambda _: codec


@app.command("list")
def list_command() -> None:
    """All adapters, and of what."""
    known = adapters()
    wide = max(len(name) for name in known)
    for name in sorted(known):
        typer.echo(f"{name:{wide}}  {known[name].title}")


@app.command()
def show(name: _AdapterArgument) -> None:
    """What an adapter states of its payloads."""
    found = _adapter(name)
    for what, said in found.stated().items():
        typer.echo(f"{what:12}  {said}")
    typer.echo("")
    for key, field in found.fields.items():
        where = "" if field.sensor == "main" else f" of sensor {field.sensor}"
        scaled = (
            "" if field.factor == 1.0 and not field.offset else f", times {field.factor:g} + {field.offset:g}"
        )
        missing = f"; no value: {', '.join(f'{n:g}' for n in field.missing)}" if field.missing else ""
        typer.echo(
            f"  {key}: {field.parameter} in {field.unit}, channel {field.channel}{where}{scaled}{missing}"
        )
    for path, what in found.others.items():
        typer.echo(f"  {path}: not taken ({what})")


@app.command("try")
def try_command(
    name: _AdapterArgument,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A payload, as it comes.")],
    station: Annotated[
        str | None,
        typer.Option(parser=parsed_station, metavar="ID", help="Station, where the payload names none."),
    ] = None,
    zone: Annotated[
        ZoneInfo | None,
        typer.Option(
            parser=parsed_zone, metavar="ZONE", help="The station's zone, for times that state none."
        ),
    ] = None,
    topic: Annotated[str, typer.Option(help="MQTT topic, or path of the request.")] = "",
    codec: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A vendor's decodeUplink (JavaScript), for raw bytes."
        ),
    ] = None,
) -> None:
    """What a payload would become if it came now; nothing is sent.

    Exit code 0: something came of it, and nothing was refused; 1: not so; 2: wrong use.
    """
    adapter = _adapter(name)
    with file.open("rb") as handle:
        data = handle.read(MAX_BYTES + 1)
    receiver: Literal["broker", "server"] = "broker" if topic and not topic.startswith("/") else "server"
    with contextlib.closing(CodecProcess()) as process:
        context = Context(
            datetime.now(UTC), station, zone, topic, receiver=receiver,
            codec_of=_codec_of(adapter, codec, process),
        )  # fmt: skip
        made = translate(adapter, data, context)
    for reading in made.readings:
        of = f", over {counted(reading.period, 'second')}, time {reading.stamp}" if reading.period else ""
        typer.echo(f"{reading.station}  {format_time(reading.observed_at)} ({reading.time_source}{of})")
        for value in reading.values:
            where = f"{value.sensor}, {value.channel}"
            typer.echo(f"  {value.parameter} = {value.value:g} {value.unit}  [{where}]")
    for facts in made.facts:
        told = ", ".join(
            f"{key} {value}" for key, value in facts._asdict().items() if value not in ("", None)
        )
        typer.echo(told)
    for title, parts in (("refused", made.refused), ("left out", made.left_out), ("remark", made.remarks)):
        for part in parts:
            typer.echo(f"{title}: {_said(part)}", err=title == "refused")
    if made.refused or not (made.readings or made.facts):
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the adapter: small letters, digits, single dashes.")],
) -> None:
    """Begin an adapter: a module that works, a payload, and what comes of it; the contract test passes.

    Only in a checkout (./skyfuse adapters new NAME): tests come with it.
    """
    root = Path(__file__).parents[1]
    for file in new_adapter(root, name):
        typer.echo(file.relative_to(root))
    typer.echo("")
    typer.echo("Put a real payload into first.json, and what it means into the module. Then")
    typer.echo(
        f"  .venv/bin/python -m tests.sources.adapters.golden {name}   writes what comes of it: judge it"
    )
    typer.echo("  .venv/bin/python -m tests.sources.adapters.test_page   lists it in docs/ingest.md")
    typer.echo(f"  ./skyfuse test tests/sources/adapters -q -k {name}   tries it")


def _said(part: Part) -> str:
    where = f"{part.where}: " if part.where else ""
    times = f" ({part.times} times)" if part.times > 1 else ""
    return f"{where}{part.why} [{part.code}]{times}"
