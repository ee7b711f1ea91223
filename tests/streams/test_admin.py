"""Topics are created from the one table, and differences are told in words."""

from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaTimeoutError

from settings.sections import KafkaSettings, Settings
from streams.admin import admin_client, check_topics, create_topics
from streams.errors import TopicError
from streams.topics import READINGS, STATIONS, TOPICS

pytestmark = pytest.mark.broker
Make = Callable[..., Settings]


def test_created_once_and_then_in_order(kafka_settings: Make, topic_prefix: str) -> None:
    settings = kafka_settings(partitions=3)
    missing = check_topics(settings)
    assert len(missing) == len(TOPICS)
    assert all("does not exist" in problem for problem in missing)
    assert create_topics(settings) == [topic_prefix + topic.name for topic in TOPICS]
    assert create_topics(settings) == []
    assert check_topics(settings) == []


def test_each_difference_is_a_sentence_with_its_remedy(kafka_settings: Make, topic_prefix: str) -> None:
    settings = kafka_settings(partitions=2)
    readings = {"message.timestamp.type": "CreateTime", "max.message.bytes": "1000000"}
    stations = STATIONS.config() | {"cleanup.policy": "delete", "max.message.bytes": "9000000"}
    with admin_client(settings.kafka) as client:
        client.create_topics(
            [
                NewTopic(topic_prefix + READINGS.name, 1, 1, topic_configs=readings),
                NewTopic(topic_prefix + STATIONS.name, 2, 1, topic_configs=stations),
            ]
        )
    create_topics(settings)
    found = "\n".join(check_topics(settings))
    assert f"{topic_prefix}{READINGS.name} has 1 partitions, not 2" in found
    assert "message.timestamp.type is CreateTime, should be LogAppendTime" in found
    assert f"{topic_prefix}{STATIONS.name}: cleanup.policy is delete, should be compact" in found
    assert f"{READINGS.name}: max.message.bytes is 1000000" in found
    # More than asked for is no fault.
    assert f"{STATIONS.name}: max.message.bytes" not in found


def test_a_broker_that_is_too_busy_is_not_said_to_lack_rights(
    kafka_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise KafkaTimeoutError("Topics not ready after 60000ms")

    monkeypatch.setattr(KafkaAdminClient, "wait_for_topics", never)
    with pytest.raises(TopicError, match=r"too busy.*Start again") as told:
        create_topics(kafka_settings(partitions=1))
    assert "CREATE" not in str(told.value)


def test_no_broker_is_said_so() -> None:
    with pytest.raises(TopicError, match=r"set kafka\.bootstrap"):
        check_topics(Settings())
    nobody = Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:9"))
    with pytest.raises(TopicError, match="no Kafka broker answers"), admin_client(nobody.kafka, 500):
        pass


@pytest.mark.broker
def test_more_copies_than_brokers_is_one_sentence(kafka_settings: Callable[..., Settings]) -> None:
    settings = kafka_settings()
    kafka = settings.kafka.model_copy(update={"replication": 3, "prefix": settings.kafka.prefix + "three."})
    with pytest.raises(TopicError, match=r"^kafka.replication is 3, and [0-9.:]+ has 1 broker: ") as caught:
        create_topics(settings.model_copy(update={"kafka": kafka}))
    assert len(str(caught.value)) < 120
