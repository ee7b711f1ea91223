"""A topic as it stands: read from outside any group, from its beginning to where it ends now.

For those who look in from time to time, with kafka-python. A worker that opens a stage reads so too, within
its event loop: `streams/compacted.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.errors import TopicReadError
from streams.topics import MAX_RECORD_BYTES

_POLL_MS: Final = 500


@contextmanager
def looking_in(connection: Mapping[str, Any]) -> Iterator[Any]:
    """A KafkaConsumer without a group, closed at the end; every record of every topic fits.

    Raises TopicReadError where the broker cannot be reached.
    """
    try:
        consumer = KafkaConsumer(
            **connection,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            fetch_max_bytes=2 * MAX_RECORD_BYTES,
            group_id=None,
            enable_auto_commit=False,
        )
    except KafkaError as error:
        raise TopicReadError(f"the broker cannot be reached: {error}") from error
    try:
        yield consumer
    finally:
        consumer.close()


def read_partitions(
    consumer: Any, partitions: Sequence[TopicPartition], since: Mapping[TopicPartition, int] | None = None
) -> Iterator[Any]:
    """The records of partitions from their beginnings, or from `since`, to where they end now.

    They come as they are fetched (kafka-python's ConsumerRecord), each partition in order. Raises KafkaError.
    """
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    for place, offset in (since or {}).items():
        consumer.seek(place, min(offset, ends[place]))
    while any(consumer.position(place) < ends[place] for place in partitions):
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            yield from records


def read_one(connection: Mapping[str, Any], place: TopicPartition, offset: int) -> Any | None:
    """The record at an offset; None where it is not there any more. Raises TopicReadError."""
    with looking_in(connection) as consumer:
        try:
            if place.partition not in (consumer.partitions_for_topic(place.topic) or ()):
                return None
            begin, end = consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
            if not begin <= offset < end:
                return None
            found = next(read_partitions(consumer, [place], {place: offset}), None)
        except KafkaError as error:
            raise TopicReadError(f"the topic {place.topic} cannot be read: {error}") from error
    return found if found is not None and found.offset == offset else None


def read_topic(connection: Mapping[str, Any], topic: str) -> Iterator[Any]:
    """The records on `topic` now. Raises TopicReadError where there is none or no broker answers."""
    with looking_in(connection) as consumer:
        try:
            numbers = consumer.partitions_for_topic(topic)
            if not numbers:
                raise TopicReadError(f"there is no topic {topic}: `skyfuse topics` creates the topics")
            yield from read_partitions(
                consumer, [TopicPartition(topic, number) for number in sorted(numbers)]
            )
        except KafkaError as error:
            raise TopicReadError(f"the topic {topic} cannot be read: {error}") from error
