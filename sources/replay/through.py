"""Whether the workers have read what a replay sent, and what became of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from settings.sections import Settings
from sources.replay.outcome import RowsOutcome
from streams import topics
from streams.admin import admin_client, client_arguments, dial
from streams.errors import TopicError, TopicReadError
from streams.join import Settled
from streams.to_end import looking_in, read_partitions
from streams.topics import Topic

#: Per (topic with prefix, partition) the offset after its last record.
EndOffsets = Mapping[tuple[str, int], int]
_POLL_SECONDS: Final = 0.5


def ends(settings: Settings, *listed: Topic) -> EndOffsets:
    """Where topics end now. Raises TopicReadError."""
    try:
        with admin_client(settings.kafka) as client:
            found = client.list_partition_offsets(
                dict.fromkeys(_partitions(settings, listed), OffsetSpec.LATEST)
            )
    except (TopicError, KafkaError) as error:
        raise TopicReadError(f"the broker does not say where its topics end: {error}") from error
    return {(tp.topic, tp.partition): int(end.offset) for tp, end in found.items()}


def await_read(
    settings: Settings,
    role: str,
    inputs: tuple[Topic, ...],
    *,
    patience: float,
    final_after_ms: int | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> bool:
    """Wait until the workers of `role` have read `inputs` to where they end now.

    `final_after_ms`: and until every window that ends at or before it is final. False where nothing has moved
    for `patience` seconds.
    """
    group = settings.kafka.names.group(role)
    wanted: EndOffsets | None = None
    moved, before = time.monotonic(), None
    while True:
        meanwhile()
        try:
            if wanted is None:
                wanted = ends(settings, *inputs)
            missing = _missing(settings, group, wanted, final_after_ms)
        except (TopicError, TopicReadError, KafkaError):
            missing = None  # the broker is restarting, or the group does not exist yet
        if missing is not None and not missing:
            return True
        if missing != before:
            moved, before = time.monotonic(), missing
        if time.monotonic() - moved > patience:
            return False
        time.sleep(_POLL_SECONDS)


def _missing(
    settings: Settings, group: str, wanted: EndOffsets, final_after_ms: int | None
) -> Mapping[tuple[str, int], tuple[int, int]]:
    """The partitions that are not read up to `wanted`: how far they are, and their final windows' horizon."""
    tps = [TopicPartition(*place) for place in wanted]
    with admin_client(settings.kafka) as client:
        committed: dict[Any, Any] = client.list_group_offsets({group: tps})[group]
    found = {}
    for tp in tps:
        place, kept = (tp.topic, tp.partition), committed.get(tp)
        settled = None if kept is None or kept.offset < 0 else Settled.parse(kept.offset, kept.metadata)
        # How far it has read; the settled offset stays behind while windows may be revised.
        position, done = (0, 0) if settled is None else (settled.position, settled.done)
        if position < wanted[place] or (final_after_ms is not None and done <= final_after_ms):
            found[place] = position, done
    return found


def read_outcome(settings: Settings, run: str, begin: EndOffsets) -> RowsOutcome:
    """What the topics of late data and dead letters tell of `run`, from `begin` to where they end now.

    Raises TopicReadError.
    """
    outcome = RowsOutcome()
    try:
        dial(settings.kafka)
    except TopicError as error:
        raise TopicReadError(f"the broker cannot be reached: {error}") from error
    with looking_in(client_arguments(settings.kafka)) as consumer:
        try:
            for topic, note in ((topics.LATE, outcome.note_late), (topics.DEAD_LETTERS, outcome.note_dead)):
                places = _partitions(settings, (topic,))
                since = {tp: begin.get((tp.topic, tp.partition), 0) for tp in places}
                for record in read_partitions(consumer, places, since):
                    note(record, run)
        except KafkaError as error:
            raise TopicReadError(f"late data and dead letters cannot be read: {error}") from error
    return outcome


def _partitions(settings: Settings, listed: tuple[Topic, ...]) -> list[Any]:
    return [
        TopicPartition(settings.kafka.names.of(topic), number)
        for topic in listed
        for number in range(settings.kafka.partitions)
    ]
