"""Annotations on their way to their topic: what the command line and the page's API both do."""

from datetime import datetime
from typing import Any

from schemas.annotation import Annotation
from schemas.base import format_time
from settings.sections import KafkaSettings
from sources.sender import Sender
from streams import topics
from streams.accept import Keys


def new_annotation(station: str, now: datetime, **fields: Any) -> Annotation:
    """An annotation of a station, made now: its id has that time. Raises ValidationError."""
    made_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return Annotation(id=f"{station}/{format_time(made_at)}", station=station, made_at=made_at, **fields)


def send_annotation(kafka: KafkaSettings, annotation: Annotation) -> None:
    """Put it on the topic, on its station's partition. Raises SourceError where that is not confirmed."""
    with Sender(kafka) as sender:
        sender.send(
            topics.ANNOTATIONS.name, annotation.id.encode(), annotation.model_dump_json().encode(),
            partition=Keys(kafka.partitions).partition(annotation.station),
        )  # fmt: skip
