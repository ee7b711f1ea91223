"""`skyfuse stations`: take a station out of service."""

from typing import Annotated, Final

import typer
from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from cli.errors import StationError
from cli.shared.connection import kafka_connection
from schemas.base import StationId
from settings.sections import Settings
from streams.topics import STATIONS

_CONFIRM_S: Final = 30.0

app = typer.Typer(help="Stations: take one out of service.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """More commands than one may come: `retire` is named, also while it is alone."""


@app.command()
def retire(station: Annotated[str, typer.Argument(help="Id of the station.")]) -> None:
    """Retire a station: its alerts end, what was learned of it is forgotten, its series stays.

    If it speaks again, it begins anew, as a station that nobody knows.
    """
    try:
        TypeAdapter(StationId).validate_python(station)
    except ValidationError as error:
        raise typer.BadParameter(
            f"{station!r} is no station id (letters, digits, . _ -)", param_hint="STATION"
        ) from error
    settings = Settings()
    try:
        producer = KafkaProducer(**kafka_connection(settings), acks="all")
        try:
            # A record without a value is a tombstone: the topic forgets the station, and so do the workers.
            producer.send(settings.kafka.names.of(STATIONS), key=station.encode(), value=None).get(
                timeout=_CONFIRM_S
            )
        finally:
            producer.close()
    except KafkaError as error:
        raise StationError(f"{station} is not retired, the broker did not confirm it: {error}") from error
    Console().print(f"{station} is retired; its series stays", highlight=False)
