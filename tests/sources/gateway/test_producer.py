"""The gateway's producer against a real broker that goes away and comes back."""

import asyncio
import time
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.stack.broker import EmbeddedBroker
from settings.sections import KafkaSettings, Settings
from sources.gateway.errors import KafkaAway
from sources.gateway.producer import ConfirmedProducer
from streams.admin import create_topics
from streams.stage import Out
from streams.topics import MAX_RECORD_BYTES, READINGS
from tests.busy import stretched

pytestmark = pytest.mark.broker


def record(number: int) -> Out:
    return Out(READINGS.name, b"s", str(number).encode())


def settings(bootstrap: str) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap=bootstrap, partitions=1))


async def values(bootstrap: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(READINGS.name, 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        found: list[bytes] = []
        while len(found) < end:
            for records in (await consumer.getmany(place, timeout_ms=500)).values():
                found += [one.value for one in records]
        return found
    finally:
        await consumer.stop()


def test_what_was_confirmed_is_there_and_a_broker_that_is_away_is_said_quickly(
    restartable_broker: EmbeddedBroker,
) -> None:
    broker = restartable_broker
    create_topics(settings(broker.bootstrap))

    async def run() -> list[bytes]:
        producer = ConfirmedProducer(settings(broker.bootstrap).kafka, patience_s=2.0)
        assert producer.away
        with pytest.raises(KafkaAway):
            await producer.publish([record(0)])
        await producer.start()
        assert await producer.reached(20)
        confirmed: list[object] = []
        await asyncio.gather(*(producer.publish([record(number)]) for number in range(200)))
        confirmed += range(200)

        broker.kill()
        began = time.monotonic()
        with pytest.raises(KafkaAway):
            await producer.publish([record(1000)])
        took = time.monotonic() - began
        assert 1.5 < took < stretched(5.0)
        began = time.monotonic()
        for number in range(1001, 1100):  # nobody waits in line for a dead broker
            with pytest.raises(KafkaAway) as raised:
                await producer.publish([record(number)])
            assert raised.value.retry_after_s > 0
        took = time.monotonic() - began
        assert took < stretched(1.0)

        broker.start()
        deadline = time.monotonic() + 60
        number = 2000
        while True:
            try:
                await producer.publish([record(number)])
                confirmed.append(number)
                break
            except KafkaAway:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
                number += 1
        found = await values(broker.bootstrap)
        await producer.stop()
        assert {str(one).encode() for one in confirmed} <= set(found)
        return found

    found = asyncio.run(run())
    assert len(set(found) - {b"1000"}) <= 210  # what was refused at once was not sent


def test_records_that_share_a_batch_do_not_share_its_faults_and_keep_their_order(
    restartable_broker: EmbeddedBroker,
) -> None:
    broker = restartable_broker
    create_topics(settings(broker.bootstrap))

    async def run() -> None:
        producer = ConfirmedProducer(settings(broker.bootstrap).kafka, patience_s=10.0)
        await producer.start()
        assert await producer.reached(20)
        bad = Out(READINGS.name, b"s", cast(bytes, "text"))
        several = [record(number) for number in range(100, 110)]
        told = await asyncio.gather(
            *(producer.publish([record(number)]) for number in range(50)),
            producer.publish([bad]),
            producer.publish(several),
            return_exceptions=True,
        )
        assert [type(one) for one in told if one is not None] == [TypeError]
        with pytest.raises(ValueError, match="more than Kafka takes"):
            await producer.publish([Out(READINGS.name, b"s", b"x" * MAX_RECORD_BYTES)])
        producer._patience_s = 0.5
        with pytest.raises(KafkaAway, match="does not know"):
            await producer.publish([Out("no.such.topic", b"s", b"x")])
        assert not producer.away
        await producer.stop()
        assert await values(broker.bootstrap) == [f"{n}".encode() for n in (*range(50), *range(100, 110))]

    asyncio.run(run())


def test_a_broker_that_comes_later_is_waited_for(restartable_broker: EmbeddedBroker) -> None:
    broker = restartable_broker
    create_topics(settings(broker.bootstrap))
    broker.kill()

    async def run() -> None:
        producer = ConfirmedProducer(settings(broker.bootstrap).kafka, patience_s=2.0)
        await producer.start()
        assert not await producer.reached(1.5)
        await asyncio.to_thread(broker.start)
        assert await producer.reached(30)
        await producer.publish([record(1)])
        await producer.stop()

    asyncio.run(run())
