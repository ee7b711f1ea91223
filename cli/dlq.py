"""`skyfuse dlq`: what was refused and why, its exact bytes, and its way back.

A dead letter is named by where its original stood: topic/partition/offset. A record that was refused twice
(re-read after a crash) is one dead letter. One of a picture has no bytes: they are read where they stood.
"""

import asyncio
import codecs
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from kafka import TopicPartition
from kafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from cli.errors import DeadLetterError
from cli.shared.connection import kafka_connection
from infra.connect import broker_at_hand
from schemas.base import format_time
from schemas.dead_letter import REDRIVEN_FROM, DeadLetter
from schemas.times import HOUR_MS
from settings.sections import Settings
from sources.gateway.retry import take_again
from streams.record_sender import RecordSender
from streams.stage import Out
from streams.to_end import read_one, read_topic
from streams.topics import DEAD_LETTERS, FRAMES

_PREVIEW_BYTES: Final = 512
_KEY_CHARACTERS: Final = 80
#: Ids by which a record that was refused twice is known: it is counted once.
_REMEMBERED: Final = 200_000

app = typer.Typer(help="Refused records: list them, look at one, send it back.", no_args_is_help=True)


class Dead(NamedTuple):
    """A dead letter with its record as it was refused."""

    story: DeadLetter
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]  #: the original ones


def scan(connection: Mapping[str, Any], topic: str) -> Iterator[Dead | str]:
    """What is on `topic` now, one after the other: thirty days of them may be more than memory holds.

    Each dead letter, oldest first within a partition, or what and where of a record that skyfuse did not put
    there. Raises TopicReadError if the topic does not exist or the broker cannot be reached.
    """
    for record in read_topic(connection, topic):
        headers = list(record.headers)
        try:
            story = DeadLetter.from_headers(headers)
        except (KeyError, ValueError) as error:
            yield f"{topic}/{record.partition}/{record.offset}: {error!r}"
            continue
        yield Dead(story, record.key, record.value, DeadLetter.original_headers(headers))


def find(connection: Mapping[str, Any], topic: str, ids: Sequence[str]) -> list[Dead]:
    """The dead letters `ids`, in that order. Raises DeadLetterError naming those that are not there."""
    found: dict[str, Dead] = {}
    for dead in scan(connection, topic):
        if isinstance(dead, Dead) and dead.story.id in ids:
            before = found.get(dead.story.id)
            # Refused once more by a worker that read it again, it has been sent back all the same.
            if before is not None and dead.story.redriven_at is None:
                story = dead.story.model_copy(update={"redriven_at": before.story.redriven_at})
                dead = dead._replace(story=story)
            found[dead.story.id] = dead
    missing = [id for id in ids if id not in found]
    if missing:
        raise DeadLetterError(
            f"no dead letter {', '.join(missing)} on {topic}: `skyfuse dlq list` names those that are there"
        )
    return [found[id] for id in ids]


def with_picture(connection: Mapping[str, Any], dead: Dead) -> Dead:
    """A dead letter of a picture with the picture, from the topic of frames; any other one as it is.

    Raises DeadLetterError where it is gone, or never stood on a topic; TopicReadError.
    """
    story = dead.story
    if dead.value is not None or not (story.stage == "gateway" or story.topic.endswith(FRAMES.name)):
        return dead
    found = None
    if story.stage != "gateway":
        found = read_one(connection, TopicPartition(story.topic, story.partition), story.offset)
    # Of a topic that was made anew, another picture stands there.
    if found is None or (found.key, DeadLetter.original_headers(found.headers)) != (dead.key, dead.headers):
        kept = f"frames are kept for {FRAMES.retention_ms // HOUR_MS} h"
        why = "the gateway keeps none that it refuses" if story.stage == "gateway" else kept
        raise DeadLetterError(f"{story.id}: its picture is gone ({why}): send it again, or with --value-file")
    return dead._replace(value=found.value)


def redrive(
    connection: Mapping[str, Any],
    topic: str,
    letters: Sequence[Dead],
    mended: Sequence[Dead],
    now: datetime,
) -> None:
    """Send `mended` back to where `letters` came from, each confirmed by all replicas, and mark the letters.

    A letter that was sent back is written to its `topic` once more, with the time: topics cannot be changed.

    A keyed record goes where its key belongs, one without a key to the partition it came from. What a gateway
    could not translate is translated again: an adapter may have learned meanwhile.
    Raises DeadLetterError for the first that is not confirmed; those before it are sent.
    """
    for one in mended:
        if one.key is None and one.value is None:
            raise DeadLetterError(
                f"{one.story.id} has neither key nor value: mend it with --value-file or --key"
            )
    with RecordSender(connection) as sender:
        for letter, one in zip(letters, mended, strict=True):
            try:
                for record in _records(one, topic.removesuffix(DEAD_LETTERS.name)):
                    headers = [*record.headers, (REDRIVEN_FROM, one.story.id.encode())]
                    sender.publish(replace(record, headers=headers))
                story = letter.story.model_copy(update={"redriven_at": now})
                sender.publish(Out(topic, letter.key, letter.value, [*letter.headers, *story.to_headers()]))
            except KafkaError as error:
                raise DeadLetterError(f"{one.story.id} was not confirmed by the broker: {error}") from error


def _records(dead: Dead, prefix: str) -> list[Out]:
    """What is sent for a dead letter. Raises DeadLetterError."""
    headers = [(name, raw) for name, raw in dead.headers if name != REDRIVEN_FROM]
    if dead.story.stage != "gateway":
        partition = dead.story.partition if dead.key is None else None
        return [Out(dead.story.topic, dead.key, dead.value, headers, partition)]
    named = {name: (raw or b"").decode(errors="replace") for name, raw in headers}
    try:
        made = asyncio.run(take_again(named, dead.value or b"", Settings().gateway, prefix))
    except (KeyError, ValueError) as error:
        raise DeadLetterError(f"{dead.story.id}: its headers do not say how it came: {error!r}") from error
    for record in made:
        if record.topic == prefix + DEAD_LETTERS.name:
            story = DeadLetter.from_headers(record.headers)
            if not story.partly_used:
                raise DeadLetterError(f"{dead.story.id} still cannot be used: {story.reason}")
    return made


def mend(
    dead: Dead, *, value: bytes | None = None, key: bytes | None = None, headers: Mapping[str, str]
) -> Dead:
    """`dead` with what is given put in place of the original (a header that is set appears once)."""
    kept = [(name, raw) for name, raw in dead.headers if name not in headers]
    return dead._replace(
        value=dead.value if value is None else value,
        key=dead.key if key is None else key,
        headers=kept + [(name, text.encode()) for name, text in headers.items()],
    )


def preview(value: bytes) -> str:
    """The start of a value: as text where it is UTF-8, else as a hex dump."""
    head = value[:_PREVIEW_BYTES]
    try:
        # Incremental: the limit may cut a character in two, and that does not make the text binary.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) == len(value))
        if all(char.isprintable() or char in "\n\t\r" for char in text):
            return text + (" ..." if len(value) > len(head) else "")
    except UnicodeDecodeError:
        pass
    rows = []
    for start in range(0, len(head), 16):
        row = head[start : start + 16]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{start:08x}  {row.hex(' '):<47}  {plain}")
    return "\n".join(rows) + ("\n..." if len(value) > len(head) else "")


def _text(raw: bytes | None) -> str:
    return "(none)" if raw is None else raw.decode(errors="backslashreplace")


@contextmanager
def _place() -> Iterator[tuple[dict[str, Any], str]]:
    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        yield kafka_connection(settings), settings.kafka.names.of(DEAD_LETTERS)


@app.command("list")
def list_command(
    stage: Annotated[
        str | None, typer.Option(help="Only what this stage refused: vision, fusion ...")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Only this reason code.")] = None,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="Show so many of them, the newest.")] = 1000,
) -> None:
    """List the dead letters."""
    rows: dict[str, tuple[str, DeadLetter]] = {}
    known: dict[str, None] = {}
    aliens: deque[str] = deque(maxlen=last)
    count = alien = 0
    with _place() as (connection, topic):
        for dead in scan(connection, topic):
            if isinstance(dead, str):
                alien += 1
                aliens.append(dead)
                continue
            story = dead.story
            if (stage and story.stage != stage) or (code and story.code != code):
                continue
            count += story.id not in known
            known[story.id] = None
            if len(known) > _REMEMBERED:
                del known[next(iter(known))]
            before = rows.pop(story.id, None)
            if before is not None and story.redriven_at is None:
                story = story.model_copy(update={"redriven_at": before[1].redriven_at})
            rows[story.id] = _text(dead.key)[:_KEY_CHARACTERS], story
            if len(rows) > last:
                del rows[next(iter(rows))]
    # Two lines each, not a table: at 80 columns, and in a pipe, a table cuts the id that `show` needs.
    console = Console(soft_wrap=True, highlight=False)
    for id, (key, story) in rows.items():
        sent_back = "" if story.redriven_at is None else f"  sent back {format_time(story.redriven_at)}"
        console.print(
            f"[bold]{escape(id)}[/bold]  {story.stage}: {escape(story.code)}  key {escape(key)}"
            f"  {format_time(story.failed_at)}{sent_back}"
        )
        console.print(f"    {escape(story.reason)}")
    shown = "" if len(rows) == count else f", the newest {len(rows)} are shown (--last)"
    console.print(f"{count} dead letter{'' if count == 1 else 's'}{shown}")
    for place in aliens:
        console.print(f"[yellow]not a dead letter of skyfuse:[/yellow] {escape(place)}")
    if alien > len(aliens):
        console.print(f"[yellow]and {alien - len(aliens)} more of them before[/yellow]")


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="topic/partition/offset, as `list` prints it.")],
    raw: Annotated[Path | None, typer.Option(help="Write the record's exact bytes to this file.")] = None,
) -> None:
    """Show one dead letter: why it was refused, its headers and its value."""
    gone = ""
    with _place() as (connection, topic):
        (dead,) = find(connection, topic, [id])
        try:
            dead = with_picture(connection, dead)
        except DeadLetterError as error:
            if raw is not None:
                raise
            gone = str(error)
    story, value = dead.story, dead.value
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{escape(story.id)}[/bold]  refused by {story.stage} at {format_time(story.failed_at)}"
    )
    console.print(f"[bold]reason[/bold]   {escape(f'{story.code}: {story.reason}')}")
    if story.redriven_at is not None:
        console.print(f"[bold]note[/bold]     sent back at {format_time(story.redriven_at)}")
    if story.partly_used:
        console.print("[bold]note[/bold]     the good values of this message were used")
    console.print(f"[bold]key[/bold]      {escape(_text(dead.key))}")
    for name, header in dead.headers:
        console.print(f"[bold]header[/bold]   {escape(f'{name}: {_text(header)}')}")
    if value is None:
        console.print(f"[bold]value[/bold]    {escape(gone or '(none)')}")
    else:
        console.print(f"[bold]value[/bold]    {len(value)} bytes")
        console.print(escape(preview(value)))
    if raw is not None:
        try:
            raw.write_bytes(value or b"")
        except OSError as error:
            raise DeadLetterError(f"{raw} cannot be written: {error}") from error
        console.print(f"wrote {len(value or b'')} bytes to {escape(str(raw))}")


@app.command("redrive")
def redrive_command(
    ids: Annotated[list[str], typer.Argument(help="topic/partition/offset, one or more.")],
    value_file: Annotated[Path | None, typer.Option(help="Send this file's bytes as the value.")] = None,
    set_header: Annotated[
        list[str] | None, typer.Option(help="name=value; replaces the header of that name.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Send with this key (the station).")] = None,
) -> None:
    """Send dead letters back to their topic, as they were or mended."""
    headers: dict[str, str] = {}
    for pair in set_header or ():
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{pair!r} is not name=value", param_hint="--set-header")
        headers[name] = text
    if value_file is not None and len(ids) > 1:
        raise typer.BadParameter("mends one dead letter, but several are named", param_hint="--value-file")
    try:
        value = None if value_file is None else value_file.read_bytes()
    except OSError as error:
        raise DeadLetterError(f"{value_file} cannot be read: {error}") from error
    with _place() as (connection, topic):
        letters = find(connection, topic, ids)
        mended = [
            mend(
                dead if value is not None else with_picture(connection, dead),
                value=value, key=None if key is None else key.encode(), headers=headers,
            )
            for dead in letters
        ]  # fmt: skip
        redrive(connection, topic, letters, mended, datetime.now(UTC))
    for dead in mended:
        way = (
            "through its adapter" if dead.story.stage == "gateway" else f"back to {escape(dead.story.topic)}"
        )
        Console().print(f"sent {escape(dead.story.id)} {way}", highlight=False)
