"""`skyfuse invalidate` and `skyfuse annotate`: what people say of a station's data, and its consequences.

An annotation is put on aq.annotations.v1 first: it is the audit record, and every later backfill consults it.
What follows from an invalidation is backfill's work (`backfill.run`): the fusion worker is told
which readings do not count from here on, windows are made again without them, averages are mended.
"""

import getpass
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import typer
from kafka import TopicPartition
from kafka.errors import KafkaError
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from backfill.annotations import read_annotations
from backfill.report import BackfillReport, Scope
from backfill.run import run
from cli.errors import AnnotationError, QueryError
from cli.shared.backfilled import print_report
from cli.shared.connection import kafka_connection
from cli.shared.progress import shown
from cli.shared.times import moment
from infra.connect import with_broker
from schemas.annotation import Annotation, Undone
from schemas.base import first_error, format_time, to_ms
from settings.sections import Settings
from sources.annotating import new_annotation, send_annotation
from streams import topics
from streams.accept import Keys
from streams.admin import create_topics
from streams.errors import TopicReadError
from streams.to_end import looking_in, read_partitions

PLACES = typer.Argument(help="STATION [SENSOR] FROM TO; times: 2026-08-21T10:00:00Z, or an age: 6h.")
BY = typer.Option("--by", help="Who says so; your login name if not given.")
UNDO = typer.Option("--undo", metavar="ID", help="Take this one back, instead of making one.")

AnnotationKind = Literal["invalid", "note"]
#: A window's readings may stand for times up to an hour before its end.
_PERIOD: Final = timedelta(hours=1)


def say(
    settings: Settings,
    kind: AnnotationKind,
    places: Sequence[str],
    text: str,
    *,
    parameter: str | None = None,
    by: str | None = None,
    dry_run: bool = False,
) -> int:
    """Annotate a station, `places` being STATION [SENSOR] FROM TO. Raises BadParameter, TopicReadError."""
    made = _annotation(kind, places, text, parameter, _who(by), datetime.now(UTC))
    return _act(with_broker(settings), made, dry_run)


def undo(
    settings: Settings, kind: AnnotationKind, id: str, by: str | None = None, dry_run: bool = False
) -> int:
    """Take an annotation back. Raises AnnotationError where there is none of that id, or it is undone."""
    settings = with_broker(settings)
    found = {one.id: one for one in everything(settings) if one.kind == kind}.get(id)
    if found is None:
        raise AnnotationError(
            f"there is no {_NAMES[kind]} {id!r}: `skyfuse {_COMMANDS[kind]} --list` shows all"
        )
    if found.undone is not None:
        raise AnnotationError(f"{id} was taken back at {format_time(found.undone.at)} already")
    now = datetime.now(UTC).replace(microsecond=0)
    return _act(settings, found.model_copy(update={"undone": Undone(at=now, by=_who(by))}), dry_run)


def show(settings: Settings, kind: AnnotationKind) -> None:
    """Print all annotations of a kind, those that were taken back included."""
    now = datetime.now(UTC)
    console = Console(highlight=False, soft_wrap=True)
    found = [one for one in everything(with_broker(settings)) if one.kind == kind]
    for one in found:
        state = ", in force" if one.until > now and kind == "invalid" else ""
        if one.undone is not None:
            state = f", undone {format_time(one.undone.at)} by {one.undone.by or 'nobody known'}"
        what = f"{one.sensor or 'all sensors'}, {one.parameter or 'all parameters'}"
        console.print(
            escape(
                f"{one.id}  {what}, {format_time(one.since)} to {format_time(one.until)}"
                f" (by {one.by or 'nobody known'}{state}): {one.text}"
            )
        )
    console.print(f"{len(found)} {_NAMES[kind]}{'' if len(found) == 1 else 's'}")


def everything(settings: Settings) -> list[Annotation]:
    """Every annotation there is, by station and time. Raises TopicReadError."""
    name = settings.kafka.names.of(topics.ANNOTATIONS)
    with looking_in(kafka_connection(settings)) as consumer:
        try:
            if name not in consumer.topics():
                return []
            places = [TopicPartition(name, number) for number in range(settings.kafka.partitions)]
            records = list(read_partitions(consumer, places))
        except KafkaError as error:
            raise TopicReadError(f"the topic {name} cannot be read: {error}") from error
    return read_annotations(records, Keys(settings.kafka.partitions))


_NAMES: Final = {"invalid": "invalidation", "note": "note"}
_COMMANDS: Final = {"invalid": "invalidate", "note": "annotate"}


def _annotation(
    kind: AnnotationKind, places: Sequence[str], text: str, parameter: str | None, by: str, now: datetime
) -> Annotation:
    if len(places) not in (3, 4):
        command = _COMMANDS[kind]
        raise typer.BadParameter(
            f"{command} takes STATION [SENSOR] FROM TO, such as `skyfuse {command} harbour main"
            f" 2026-08-21T10:00:00Z 2026-08-21T12:00:00Z`; got {len(places)}: {' '.join(places) or 'nothing'}"
        )
    station, *sensor, first, last = places
    try:
        since, until = (moment(one, now) for one in (first, last))
    except QueryError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        return new_annotation(
            station, now, kind=kind, sensor=sensor[0] if sensor else None, parameter=parameter,
            since=since, until=until, text=text, by=by,
        )  # fmt: skip
    except ValidationError as error:
        raise typer.BadParameter(first_error(error).message) from error


def _who(by: str | None) -> str:
    if by is not None:
        return by
    with suppress(OSError, KeyError):  # a container's user may have no name
        return getpass.getuser()
    return ""


def _act(settings: Settings, made: Annotation, dry_run: bool) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if not dry_run:
        create_topics(settings)  # an installation of before has no topic of annotations
        send_annotation(settings.kafka, made)
    what = "taken back" if made.undone else _NAMES[made.kind]
    console.print(escape(f"{made.id}: {what}{' (not written: --dry-run)' if dry_run else ''}"))
    if made.kind == "note":
        return 0
    scope = Scope(to_ms(made.since), to_ms(made.until + _PERIOD), made.station, annotated_only=True)
    with shown(console, "reading") as progress:
        report = run(settings, scope, dry_run=dry_run, progress=progress, draft=made)
    print_report(console, report, None, dry_run, settings.retention, annotated_only=True)
    _explain(console, made, report)
    return 1 if report.count("impossible") else 0


def _explain(console: Console, made: Annotation, report: BackfillReport) -> None:
    now = datetime.now(UTC)
    if made.until > now and made.undone is None:
        console.print(f"until {format_time(made.until)} such readings do not count as they come")
    elif not report.annotated:
        sensors = ", ".join(sorted(report.sensors))
        heard = f"; heard then: {sensors}" if sensors else ""
        console.print(
            escape(
                f"[no readings of {made.station}{f' {made.sensor}' if made.sensor else ''} at that time are"
                f" on the log, which keeps them for 7 days{heard}]"
            )
        )
