"""Reading what a topic holds now, for commands that show it."""

from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from streams.admin import consumer_limits
from streams.errors import TopicReadError


def read_to_end(connection: Mapping[str, Any], topic: str) -> Iterator[Any]:
    """The records (kafka-python's ConsumerRecord) on `topic` now, as they come; each partition in order.

    Raises TopicReadError where there is no such topic or the broker does not answer.
    """
    try:
        consumer = KafkaConsumer(**connection, **consumer_limits(), group_id=None, enable_auto_commit=False)
    except KafkaError as error:
        raise TopicReadError(f"the broker cannot be reached: {error}") from error
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise TopicReadError(f"there is no topic {topic}: `skyfuse topics` creates the topics")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(timeout_ms=500).values():
                yield from records
    except KafkaError as error:
        raise TopicReadError(f"the topic {topic} cannot be read: {error}") from error
    finally:
        consumer.close()
