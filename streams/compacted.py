"""Look at a partition from outside a group: the newest record of every key, or whether anything came."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.structs import TopicPartition

from streams.header_names import read_any_name
from streams.topics import MAX_RECORD_BYTES

read_any_name()


async def read_compacted(
    bootstrap: str, topic: str, partition: int, auth: Mapping[str, Any]
) -> dict[bytes, ConsumerRecord[bytes, bytes]]:
    """Newest record per key; keys whose newest record is a tombstone are left out."""
    newest: dict[bytes, ConsumerRecord[bytes, bytes]] = {}
    async for record in _records(bootstrap, topic, partition, auth):
        if record.value is None:
            newest.pop(record.key, None)
        else:
            newest[record.key] = record
    return newest


async def read_all_of(
    bootstrap: str, topic: str, partition: int, auth: Mapping[str, Any], keys: Collection[bytes]
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """All records of some keys that compaction has left so far, in order."""
    async for record in _records(bootstrap, topic, partition, auth):
        if record.key in keys:
            yield record


async def _records(
    bootstrap: str, topic: str, partition: int, auth: Mapping[str, Any]
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """What has a key, from the beginning to where the partition ends now."""
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        **auth,
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(tp, timeout_ms=1000)).values():
                for record in records:
                    if record.key is not None:
                        yield record
    finally:
        await consumer.stop()


async def appended_since(
    bootstrap: str, topics: Sequence[str], partition: int, at: int, auth: Mapping[str, Any]
) -> bool:
    """Whether the partition of one of `topics` has a record that came to the broker at `at`, ms, or later.

    Raises KafkaError where the broker does not say.
    """
    tps = [TopicPartition(topic, partition) for topic in topics]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, **auth)
    await consumer.start()
    try:
        consumer.assign(tps)
        found = await consumer.offsets_for_times(dict.fromkeys(tps, at))
        return any(first is not None for first in found.values())
    finally:
        await consumer.stop()
