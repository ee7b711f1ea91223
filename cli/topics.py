"""`skyfuse topics`: create the topics that are missing, and say what differs."""

from typing import Annotated

import typer
from rich.table import Table

from cli.shared.fitting import screen
from infra.connect import broker_at_hand
from schemas.times import HOUR_MS
from settings.sections import Settings
from streams.admin import check_topics, create_topics
from streams.topics import TOPICS


def topics(
    check: Annotated[bool, typer.Option(help="Only compare with the broker, create nothing.")] = False,
) -> None:
    """Create the topics that are missing, and say what differs from the table."""
    with broker_at_hand(Settings(), lambda text: typer.echo(f"skyfuse: {text}", err=True)) as settings:
        created = [] if check else create_topics(settings)
        problems = check_topics(settings)
    table = Table("topic", "kept", "holds", box=None, pad_edge=False, header_style="bold")
    table.columns[0].overflow = "fold"
    for topic in TOPICS:
        hours = topic.retention_ms // HOUR_MS
        kept = "newest per key" if topic.cleanup == "compact" else f"{hours} h"
        table.add_row(settings.kafka.names.of(topic), kept, topic.holds)
    console = screen()
    console.print(table)
    for name in created:
        console.print(f"created {name}")
    for problem in problems:
        console.print(f"[red]{problem}")
    if problems:
        raise typer.Exit(1)
