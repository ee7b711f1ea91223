"""From Kafka records to what the stages work on; what cannot be used becomes a dead letter."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from aiokafka.partitioner import murmur2

from schemas.base import format_time, from_ms
from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.reading import Observation, accept, decode
from streams.cadence import Periods
from streams.driver import Out
from streams.join import Item

#: A station's clock may run ahead of the broker's by this much; its watermark never does.
MAX_AHEAD_MS: Final = 300_000
MAX_READING_BYTES: Final = 1024 * 1024
#: Header of a record on aq.late.v1: topic/partition/offset where it stood first.
LATE_FROM: Final = "x-late-from"
#: Header of what a replay sent: the run, a blank, and which rows it was made of (infra/replay/places.py).
ORIGIN: Final = "x-origin"
PUNCTUATION_TYPE: Final = b"skyfuse.punctuation.v1"


class KafkaRecord(Protocol):
    """The part of aiokafka's ConsumerRecord that is used."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]]


def is_punctuation(record: KafkaRecord) -> bool:
    """Whether the record is progress without data."""
    return record.key is None and ("ce_type", PUNCTUATION_TYPE) in record.headers


def dead_letter(
    topic: str, stage: Any, record: KafkaRecord, refused: Refused, partly_used: bool = False
) -> Out:
    """The record as it came, with the reason in its headers, for the dead-letter topic."""
    story = DeadLetter(
        stage=stage,
        code=refused.code,
        reason=refused.message,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        failed_at=from_ms(max(record.timestamp, 1_000_000_000_000)),
        partly_used=partly_used,
    )
    return Out(topic, record.key, record.value, [*record.headers, *story.to_headers()])


class Keys:
    """Checks that a record carries its station as key and lies where that key belongs."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._known: dict[bytes, tuple[str, int]] = {}

    def partition(self, station: str) -> int:
        """Where the station's key belongs."""
        return int((murmur2(station.encode()) & 0x7FFFFFFF) % self._partitions)

    def check(self, record: KafkaRecord, station: str) -> None:
        """Refused where the key is missing, names another station, or was partitioned by another rule."""
        key = record.key
        if key is None:
            raise Refused("no_key", f"the record has no key: produce it with the key {station!r}")
        known = self._known.get(key)
        if known is None:
            try:
                name = key.decode()
            except UnicodeDecodeError as error:
                raise Refused(
                    "key_mismatch", f"the key {key[:64]!r} is not UTF-8: use the station id"
                ) from error
            known = name, self.partition(name)
            if name == station:
                self._known[key] = known
        if known[0] != station:
            raise Refused(
                "key_mismatch", f"the key is {known[0][:80]!r} but the record names station {station!r}"
            )
        if known[1] != record.partition:
            raise Refused(
                "wrong_partition",
                f"key {station!r} belongs on partition {known[1]}, the record lies on {record.partition}:"
                " set the producer's partitioner to murmur2 (librdkafka: partitioner=murmur2_random)",
            )


def check_time(time_ms: int, record: KafkaRecord) -> int:
    """The time the record may vouch for: its own, but never later than its arrival at the broker."""
    if time_ms > record.timestamp + MAX_AHEAD_MS:
        ahead = (time_ms - record.timestamp) / 1000
        raise Refused(
            "future_time",
            f"time {format_time(from_ms(time_ms))} is {ahead:.0f} s ahead of the broker's clock"
            f" ({format_time(from_ms(record.timestamp))}): set the station's clock",
        )
    return min(time_ms, record.timestamp)


def reading_items(record: KafkaRecord, keys: Keys, periods: Periods) -> tuple[list[Item], Refused | None]:
    """The join's items of a reading message, and what of it was refused while the rest is used.

    Raises Refused where nothing of the message can be used.
    """
    value = record.value
    if value is None:
        raise Refused("empty", "the record has no value")
    if len(value) > MAX_READING_BYTES:
        raise Refused(
            "too_large", f"a reading message of {len(value)} bytes; the limit is {MAX_READING_BYTES}"
        )
    refused = None
    observation = decode(value)
    if observation is None:
        reading, refused = accept(value)
        if reading is None:
            assert refused is not None
            raise refused
        observation = Observation.of(reading)
    station, time_ms, values = observation.station, observation.time_ms, observation.values
    keys.check(record, station)
    seen = check_time(time_ms, record)
    offset = record.offset
    return [
        Item(
            station,
            standing.time,
            seen,
            (v.sensor, v.parameter, v.channel, time_ms),
            (v.value, v.unit),
            v,
            offset,
            standing.since,
            standing.until,
        )
        for v, standing in zip(values, periods.of(observation, record.timestamp, offset), strict=True)
    ], refused
