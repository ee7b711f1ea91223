"""The embedded Apache Kafka: starts, serves, refuses with reasons, and loses nothing to kill -9."""

import socket
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.errors import BrokerError
from infra.stack import broker as module
from infra.stack.broker import EmbeddedBroker, running_bootstrap
from settings.sections import KafkaSettings, Settings
from streams.admin import check_topics, create_topics
from streams.topics import MAX_RECORD_BYTES

pytestmark = pytest.mark.broker


def _settings(running: EmbeddedBroker) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap=running.bootstrap, partitions=2))


def _values(running: EmbeddedBroker, topic: str) -> list[bytes]:
    """All values of partition 0 of a topic, read up to its end."""
    with KafkaConsumer(bootstrap_servers=running.bootstrap, auto_offset_reset="earliest") as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        values: list[bytes] = []
        while consumer.position(partition) < end:
            for records in consumer.poll(1000).values():
                values += [record.value for record in records]
        return values


def _send(running: EmbeddedBroker, topic: str, values: list[bytes], **config: object) -> None:
    with KafkaProducer(bootstrap_servers=running.bootstrap, **config) as producer:
        for future in [producer.send(topic, value, partition=0) for value in values]:
            future.get(30)


@pytest.mark.slow
def test_acknowledged_records_survive_kill_9_and_a_clean_restart(restartable_broker: EmbeddedBroker) -> None:
    settings = _settings(restartable_broker)
    create_topics(settings)
    sent = [b"%d" % number for number in range(5000)]
    _send(restartable_broker, "aq.readings.v1", sent)
    address = restartable_broker.bootstrap

    restartable_broker.kill()
    assert not restartable_broker.running
    assert running_bootstrap(restartable_broker.data_dir) is None
    restartable_broker.start()
    assert restartable_broker.bootstrap == address, "clients know the old address"
    assert _values(restartable_broker, "aq.readings.v1") == sent

    restartable_broker.stop()
    restartable_broker.start()
    assert _values(restartable_broker, "aq.readings.v1") == sent
    assert check_topics(settings) == []


@pytest.mark.slow
def test_another_broker_object_finds_the_data_of_the_first(tmp_path: Path) -> None:
    # A folder with spaces, accents and an emoji: Java's properties files are Latin-1 with escapes.
    folder = tmp_path / "the dätä \U0001f642"
    with EmbeddedBroker(folder) as first:
        create_topics(_settings(first))
        _send(first, "aq.readings.v1", [b"kept"])
        pid = first.pid
        assert running_bootstrap(folder) == first.bootstrap
        with pytest.raises(BrokerError, match="another embedded broker runs on"):
            EmbeddedBroker(folder).start()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    with EmbeddedBroker(folder) as second:
        assert _values(second, "aq.readings.v1") == [b"kept"]


def test_the_largest_record_passes_and_topics_are_not_made_by_accident(
    broker: EmbeddedBroker, kafka_settings: object, topic_prefix: str
) -> None:
    assert callable(kafka_settings)
    create_topics(kafka_settings(partitions=1))
    largest = bytes(12 * 1024 * 1024 - 1024)
    _send(broker, f"{topic_prefix}aq.frames.v1", [largest], max_request_size=MAX_RECORD_BYTES)
    with KafkaConsumer(bootstrap_servers=broker.bootstrap) as consumer:
        consumer.topics()
        assert f"{topic_prefix}nobody.made.this" not in consumer.topics()
    assert _values(broker, f"{topic_prefix}aq.frames.v1") == [largest]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} is taken"):
            EmbeddedBroker(tmp_path / "kafka", port=port).start()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BrokerError, match="cannot use"):
        EmbeddedBroker(file / "kafka").start()
    with pytest.raises(BrokerError, match="comma"):
        EmbeddedBroker(tmp_path / "a,b").start()
    monkeypatch.setattr(module, "_LEAST_FREE", 1 << 62)
    with pytest.raises(BrokerError, match="MiB free on the disk"):
        EmbeddedBroker(tmp_path / "kafka").start()


@pytest.mark.slow
def test_a_broken_store_is_reported_in_kafkas_words(tmp_path: Path) -> None:
    running = EmbeddedBroker(tmp_path / "kafka")
    running.start()
    running.stop()
    (tmp_path / "kafka" / "log" / "meta.properties").write_text(
        "version=1\ncluster.id=someone-else\nnode.id=7\n"
    )
    with pytest.raises(BrokerError, match=r"(?s)ended at its start.*Stored node id 7"):
        running.start()
    assert not running.running
