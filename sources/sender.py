"""Producing as a station would: confirmed, in order, and never more than a little in memory."""

from collections import deque
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from datasets.errors import SourceError
from settings.sections import KafkaSettings
from streams.admin import admin_client, client_arguments, dial
from streams.errors import TopicError
from streams.topics import MAX_RECORD_BYTES

#: Unconfirmed at most: half a second of a fast replay, and a third of an embedded broker's heap.
_MOST_RECORDS: Final = 10_000
_MOST_BYTES: Final = 32 * 1024 * 1024
#: Longer than the producer itself tries (delivery_timeout_ms).
_PATIENCE_S: Final = 150.0


class _Pending(NamedTuple):
    future: Any
    size: int
    what: str


class Sender:
    """An idempotent kafka-python producer that waits for confirmation before much is outstanding.

    Keyed records go where murmur2 puts them, as every stage expects. A context manager: leaving it without an
    exception waits until all is confirmed. Raises SourceError where the broker cannot be reached or does not
    confirm a record.
    """

    def __init__(self, kafka: KafkaSettings, *, linger_ms: int = 20) -> None:
        self._kafka = kafka
        self._prefix = kafka.prefix
        self._pending: deque[_Pending] = deque()
        self._bytes = 0
        self._partitions: dict[str, int] = {}
        self.confirmed = 0
        try:
            dial(kafka)
            arguments = client_arguments(kafka)
        except TopicError as error:
            raise SourceError(str(error)) from error
        try:
            self._producer = KafkaProducer(
                **arguments,
                acks="all",
                enable_idempotence=True,
                linger_ms=linger_ms,
                batch_size=256 * 1024,
                max_request_size=MAX_RECORD_BYTES,
                max_block_ms=30_000,
                allow_auto_create_topics=False,
            )
        except KafkaError as error:
            raise SourceError(f"no Kafka broker answers at {kafka.bootstrap}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            # After a failure what is outstanding is given up: a repeated replay sends it again.
            self._producer.close(timeout=None if kind is None else 0)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic (named without prefix) has. Raises SourceError where it is missing."""
        if topic not in self._partitions:
            name = self._prefix + topic
            try:
                # The producer would ask for a missing topic again and again until its time is up.
                with admin_client(self._kafka) as client:
                    [found] = client.describe_topics([name])
            except (KafkaError, TopicError) as error:
                raise SourceError(f"topic {name} cannot be looked up: {error}") from error
            if found["error_code"] != 0 or not found["partitions"]:
                raise SourceError(f"topic {name} does not exist: run `skyfuse topics`")
            self._partitions[topic] = len(found["partitions"])
        return self._partitions[topic]

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> bool:
        """Produce one record; False where it is larger than Kafka may carry, and was not sent."""
        size = len(value) + len(key or b"") + 200
        while self._pending and (self._bytes + size > _MOST_BYTES or len(self._pending) >= _MOST_RECORDS):
            self._confirm()
        try:
            future = self._producer.send(
                self._prefix + topic, value=value, key=key, headers=headers or [], partition=partition
            )
        except MessageSizeTooLargeError:
            return False
        except KafkaError as error:
            raise SourceError(f"cannot send to {self._prefix}{topic}: {error}") from error
        self._pending.append(_Pending(future, size, f"{self._prefix}{topic}, key {key!r}"))
        self._bytes += size
        while self._pending and self._pending[0].future.is_done:
            self._confirm()
        return True

    def flush(self) -> None:
        """Wait until everything is confirmed."""
        try:
            self._producer.flush(_PATIENCE_S)
        except KafkaError as error:
            raise SourceError(f"the broker did not confirm what was sent: {error}") from error
        while self._pending:
            self._confirm()

    def _confirm(self) -> None:
        pending = self._pending.popleft()
        try:
            pending.future.get(_PATIENCE_S)
        except KafkaError as error:
            raise SourceError(
                f"the broker did not confirm a record ({pending.what}): {error}. "
                "What came before it is there; sending all of it again does no harm"
            ) from error
        self._bytes -= pending.size
        self.confirmed += 1
