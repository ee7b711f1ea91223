"""Producing from a command: a record at a time, with the broker's word for each."""

from collections.abc import Mapping
from typing import Any, Final, Self

from kafka import KafkaProducer

from streams.stage import Out
from streams.topics import MAX_RECORD_BYTES

_CONFIRM_S: Final = 30.0


class RecordSender:
    """A producer of kafka-python, for commands. A context manager.

    `connection`: keyword arguments of kafka-python's clients. Raises KafkaError where no broker is reached.
    """

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._producer = KafkaProducer(**connection, acks="all", max_request_size=MAX_RECORD_BYTES)
        self._unconfirmed: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()

    def send(self, record: Out) -> int:
        """Begin to send a record; gives how many are not confirmed yet. Raises KafkaError."""
        self._unconfirmed.append(
            self._producer.send(
                record.topic, key=record.key, value=record.value, headers=list(record.headers),
                partition=record.partition,
            )
        )  # fmt: skip
        return len(self._unconfirmed)

    def confirm(self) -> None:
        """Wait until the broker has confirmed all that was sent. Raises KafkaError."""
        sent, self._unconfirmed = self._unconfirmed, []
        for one in sent:
            one.get(timeout=_CONFIRM_S)

    def publish(self, record: Out) -> None:
        """Send a record and wait until it is confirmed. Raises KafkaError."""
        self.send(record)
        self.confirm()
