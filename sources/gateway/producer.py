"""Producing from an event loop: confirmed, bounded in time and memory, quick to say that Kafka is away."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from settings.sections import KafkaSettings
from sources.gateway.errors import KafkaAway
from streams.credentials import for_aiokafka
from streams.stage import Out
from streams.topics import MAX_RECORD_BYTES

log = logging.getLogger(__name__)

#: Unconfirmed bytes at most; beyond them senders wait, and after a while are turned away.
_MOST_BYTES: Final = 32 * 1024 * 1024
#: What a record costs beside its bytes.
_RECORD_BYTES: Final = 500
#: Seconds between tries to reach a broker that is away.
_RETRY_S: Final = 1.0


class ConfirmedProducer:
    """An idempotent producer. `publish` returns when the broker has confirmed every record.

    A record that is not confirmed within `patience_s` raises KafkaAway. It may still arrive: whoever sends it
    again makes a copy, which the join of the stages does not count. While the oldest unconfirmed record is
    older than that, further ones are refused at once, so that nobody waits in line for a dead broker.
    """

    def __init__(
        self, kafka: KafkaSettings, *, patience_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._patience_s = patience_s
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._bytes = 0
        #: When what is not confirmed was sent, by a number that grows.
        self._sent: dict[int, float] = {}
        self._number = 0
        self._room = asyncio.Event()
        self._reached = asyncio.Event()

    async def start(self) -> None:
        """Begin to connect; the broker need not be there."""
        self._connecting = asyncio.create_task(self._connect(), name="kafka-connects")

    async def stop(self, within_s: float = 5.0) -> None:
        """Wait a little for what is unconfirmed, and close."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), within_s)

    @property
    def away(self) -> bool:
        """Whether the broker has not confirmed for longer than one waits for it."""
        if self._producer is None:
            return True
        oldest = next(iter(self._sent.values()), None)
        return oldest is not None and self._clock() - oldest > self._patience_s

    async def reached(self, timeout_s: float) -> bool:
        """Wait until a broker was reached for the first time; False: not within `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), timeout_s)
        return self._reached.is_set()

    async def publish(self, records: Sequence[Out]) -> None:
        """Produce in order and wait for every confirmation. Raises KafkaAway.

        A record larger than any topic takes raises ValueError: callers bound what they make.
        """
        until = self._clock() + self._patience_s
        try:
            async with asyncio.timeout(self._patience_s):
                sent = [await self._send(record) for record in records]
        except TimeoutError:
            raise KafkaAway("Kafka takes nothing more", round(self._patience_s)) from None
        if not sent:
            return
        # Not cancelled where the time is up: what was sent is counted until it is confirmed.
        _, waiting = await asyncio.wait(sent, timeout=max(until - self._clock(), 0.001))
        if waiting:
            raise KafkaAway(f"Kafka has not confirmed within {self._patience_s:g} s", round(self._patience_s))
        for confirmation in sent:
            error = confirmation.exception()
            if isinstance(error, KafkaError):
                self._renew(error)
                raise KafkaAway(f"Kafka has not confirmed: {error!r}") from error
            confirmation.result()

    async def _send(self, record: Out) -> asyncio.Future[Any]:
        size = len(record.value or b"") + len(record.key or b"") + _RECORD_BYTES
        while self._bytes and self._bytes + size > _MOST_BYTES:
            self._room.clear()
            await self._room.wait()
        if self.away:
            raise KafkaAway("Kafka is away", round(self._patience_s))
        assert self._producer is not None
        try:
            confirmation: asyncio.Future[Any] = await self._producer.send(
                record.topic, record.value, key=record.key, partition=record.partition,
                headers=list(record.headers),
            )  # fmt: skip
        except MessageSizeTooLargeError as error:
            raise ValueError(
                f"a record of {size} bytes for {record.topic} is more than Kafka takes"
            ) from error
        except KafkaError as error:
            self._renew(error)
            raise KafkaAway(f"Kafka cannot be written to: {error!r}") from error
        self._number += 1
        number = self._number
        self._bytes += size
        self._sent[number] = self._clock()

        def done(future: asyncio.Future[Any]) -> None:
            self._bytes -= size
            self._sent.pop(number, None)
            self._room.set()
            if not future.cancelled():
                future.exception()  # looked at here: who sent it may have given up

        confirmation.add_done_callback(done)
        return confirmation

    async def _connect(self) -> None:
        warned = False
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka.bootstrap,
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_batch_size=256 * 1024,
                max_request_size=MAX_RECORD_BYTES,
                metadata_max_age_ms=30_000,
                **for_aiokafka(self._kafka),
            )
            try:
                await producer.start()
            except BaseException as error:
                with contextlib.suppress(KafkaError, asyncio.CancelledError):
                    await producer.stop()
                if not isinstance(error, KafkaError | OSError):
                    raise
                if not warned:
                    log.warning(
                        "no broker answers at %s, and is waited for: %r", self._kafka.bootstrap, error
                    )
                    warned = True
                await asyncio.sleep(_RETRY_S)
                continue
            self._producer = producer
            self._reached.set()
            return

    def _renew(self, error: KafkaError) -> None:
        """After an error that is not one of waiting, this producer may be of no more use: make a new one."""
        broken, self._producer = self._producer, None
        if broken is None:
            return
        log.warning("the producer failed and is made anew: %r", error)

        async def renew() -> None:
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(broken.stop(), 2.0)
            await self._connect()

        self._connecting = asyncio.create_task(renew(), name="kafka-reconnects")
