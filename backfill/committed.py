"""How far the fusion workers are: what they have committed, and so which windows are final."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)

from settings.sections import Settings
from streams import topics
from streams.admin import admin_client
from streams.errors import TopicReadError
from streams.join import Settled

#: How long a broker may be without a coordinator for the fusion workers' group.
_COORDINATOR_SECONDS: Final = 30.0
_COORDINATOR_POLL_SECONDS: Final = 0.2


def horizons_of(read: Mapping[Any, Settled]) -> dict[int, int]:
    """Per partition, the end of the last window that is final, from what was committed of its sources."""
    done: dict[int, int] = {}
    for tp, settled in read.items():
        done[tp.partition] = min(settled.done, done.get(tp.partition, settled.done))
    return done


def read_so_far(settings: Settings) -> dict[Any, Settled]:
    """Per partition of its sources, how far the fusion worker is."""
    kafka = settings.kafka
    group = kafka.names.group("fusion")
    names = [kafka.names.of(topic) for topic in (topics.FEATURES, topics.READINGS)]
    with admin_client(kafka) as client:
        tps = [TopicPartition(name, number) for name in names for number in range(kafka.partitions)]
        committed = _committed(client, group, tps)
    return {
        tp: Settled.parse(kept.offset, kept.metadata)
        for tp, kept in committed.items()
        if kept is not None and kept.offset >= 0
    }


def _committed(client: Any, group: str, tps: Sequence[TopicPartition]) -> Any:
    """What the group has committed.

    A broker makes the topic in which groups are kept when it is first asked about one, and until then says
    that there is no coordinator: that passes within seconds, as it does after a broker has gone.
    """
    deadline = time.monotonic() + _COORDINATOR_SECONDS
    while True:
        try:
            return client.list_group_offsets({group: tps})[group]
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError) as error:
            if time.monotonic() > deadline:
                raise TopicReadError(
                    f"for {_COORDINATOR_SECONDS:.0f} s the broker has had no coordinator for group {group}:"
                    " does its log say that it cannot make the topic __consumer_offsets?"
                    f" (offsets.topic.replication.factor must not exceed the number of brokers): {error}"
                ) from error
        time.sleep(_COORDINATOR_POLL_SECONDS)
