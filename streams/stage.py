"""What a stage is to its driver: the records it is given, those it puts out, and where it stands."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from settings.names import TopicNames
from streams.topics import Topic


class KafkaRecord(Protocol):
    """The part of aiokafka's ConsumerRecord that is used."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


@dataclass(frozen=True)
class Out:
    """A record to produce. Without a partition, the key decides (murmur2, as every Kafka client can)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None


class Appended(NamedTuple):
    """Of a partition's log: its first offset, and the one before which everything came before some time."""

    first: int
    before: int


class Publish(Protocol):
    """Produce records in order and return when the broker has confirmed every one; DeliveryError if not."""

    async def __call__(self, records: Iterable[Out], /) -> None: ...


class Stage(Protocol):
    """The work on one partition number between two rebalances."""

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take the records of one poll, in log order. May wait: that is the back-pressure."""

    async def tick(self) -> None:
        """About once a second."""

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Per topic the offset to commit and its metadata, when everything before it is out and confirmed."""

    def committed(self) -> None:
        """What `settle` gave last is committed."""

    def paused(self) -> set[str]:
        """Topics of which no more can be taken for now."""

    async def close(self) -> None:
        """The partition is gone: drop everything."""


#: By topic the offset that is committed, and its metadata.
Committed = Mapping[str, tuple[int, str]]
OpenStage = Callable[[int, Committed], Awaitable[Stage]]


@dataclass(frozen=True)
class StageIo:
    """Where a stage stands: what it reads and writes by, beside the domain's own parts.

    `partition`: the number of all its topics' partitions. `names`: what these topics are called here.
    `committed`: where the stage before it has left off. `clock`: seconds since 1970.
    """

    partition: int
    publish: Publish
    names: TopicNames = field(default_factory=TopicNames)
    committed: Committed = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    def start(self, topic: Topic) -> tuple[int, str]:
        """The offset at which to go on with a topic, and the metadata that was committed with it."""
        return self.committed.get(self.names.of(topic), (0, ""))
