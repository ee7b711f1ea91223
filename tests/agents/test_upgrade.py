"""A worker of today takes over from one of version 5: its state topic, its committed offsets."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from fusion.stored import read
from schemas.state import VERSION
from settings.sections import Settings
from streams import topics
from streams.admin import client_arguments
from streams.join import Settled
from streams.topics import Topic
from tests.golden import world
from tests.golden.test_golden import records
from tests.harness import REPLAY, Sent, fleet, punctuations, read_all, reading, send, stored, until

pytestmark = pytest.mark.broker


def test_a_state_topic_of_version_5_is_taken_over(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = kafka_settings(partitions=1, window=REPLAY)
    old = records("stations-5")
    newest = max(int(dict(record.headers)["x-checkpoint-at"]) for record in old)
    done = newest + world.LATENESS  # as far as the worker before had come
    state = [Sent(topics.STATE, record.key, record.value, tuple(record.headers), 0) for record in old]
    at = next(place for place, record in enumerate(old) if record.key == b"find#1")
    state[at] = dataclasses.replace(state[at], value=(state[at].value or b"")[:-9])
    first = done + 10 * world.MINUTE
    with fleet(settings, tmp_path, roles=()) as workers:
        send(settings, state)
        committed(settings, (topics.READINGS, topics.FEATURES), done)
        workers.start("fusion")
        workers.start("sink")
        ahead = [
            dataclasses.replace(punctuations(first + world.HOUR, 1)[0], topic=side)
            for side in (topics.READINGS, topics.FEATURES)
        ]
        sent = [reading(name, first + 1000, {"pm10": 40.0}) for name in ("gas", "cam", "find")]
        send(settings, [*sent, *ahead])
        until("an estimate of each station", lambda: workers.check() and len(stored(settings)) == 3, 90)
        until(
            "a snapshot of each in the new form", lambda: workers.check() and len(renewed(settings)) >= 3, 60
        )
        log = workers.log("fusion")
    made = {station: estimate for (station, _), estimate in stored(settings).items()}
    # Days after they were heard for the last time: only the old state knows of these.
    assert made["gas"].pollutants["so2"].method == "last"
    assert made["cam"].pollutants["o3"].method in ("last", "camera")
    # A damaged record is told, and costs its station what came after the one before.
    assert "'find'" in log
    assert "it goes on from the snapshot before" in log
    assert made["find"].pollutants["pm25"].method in ("last", "camera")
    assert not read_all(settings, topics.DEAD_LETTERS)


def committed(settings: Settings, of: tuple[Topic, ...], done: int) -> None:
    """What the worker before committed: nothing read yet, all windows up to `done` final."""
    consumer = KafkaConsumer(
        **client_arguments(settings.kafka), group_id=f"{settings.kafka.prefix}skyfuse-fusion",
        enable_auto_commit=False,
    )  # fmt: skip
    try:
        kept = Settled(0, done, 0, done).metadata()
        consumer.commit(
            {
                TopicPartition(settings.kafka.prefix + topic.name, 0): OffsetAndMetadata(0, kept, -1)
                for topic in of
            }
        )
    finally:
        consumer.close()


def renewed(settings: Settings) -> set[str]:
    """Stations with a snapshot of the present version."""
    found = set()
    for record in read_all(settings, topics.STATE):
        if not record.value.startswith(b"{"):
            name = record.key.decode().rpartition("#")[0]
            read(name, record.value)
            found.add(name)
    assert VERSION >= 6
    return found
