"""Create and check the topics of `streams.topics` with kafka-python's admin client."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

from settings.sections import KafkaSettings, Settings
from streams.credentials import for_kafka_python
from streams.errors import NoBrokerError, TopicError
from streams.header_names import read_any_name
from streams.topics import TOPICS, Topic

_TIMEOUT_MS: Final = 15_000
#: A broker that has much else to do takes its time until each topic has a leader.
_LEADERS_MS: Final = 60_000
_DIAL_S: Final = 5.0
#: Seconds between two tries to find a broker that is waited for, and between two lines about it.
_AGAIN_S: Final = 1.0
_SAID_EVERY_S: Final = 60.0

read_any_name()


def client_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """Connection arguments for kafka-python's clients. Raises TopicError where no broker is named."""
    if kafka.bootstrap is None:
        raise TopicError(
            "no broker to talk to: set kafka.bootstrap (SKYFUSE_KAFKA__BOOTSTRAP=host:port), "
            "or run `skyfuse up`, which starts one"
        )
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap.split(","),
        # The default of half a minute between tries is long for a broker that is just restarting.
        "reconnect_backoff_max_ms": 2_000,
    }
    return arguments | for_kafka_python(kafka)


@contextmanager
def admin_client(kafka: KafkaSettings, timeout_ms: int = _TIMEOUT_MS) -> Iterator[Any]:
    """A KafkaAdminClient, closed at the end. Raises TopicError where the broker does not answer."""
    arguments = client_arguments(kafka)
    dial(kafka, timeout_ms / 1000)
    try:
        client = KafkaAdminClient(**arguments, bootstrap_timeout_ms=timeout_ms, request_timeout_ms=timeout_ms)
    except (KafkaError, OSError) as error:
        raise TopicError(f"no Kafka broker answers at {kafka.bootstrap}: {error}") from error
    try:
        yield client
    finally:
        client.close()


def dial(kafka: KafkaSettings, timeout: float = _DIAL_S) -> None:
    """Return when one of the bootstrap addresses takes a connection within `timeout` seconds.

    Raises NoBrokerError where none does. kafka-python, refused, tries on until its time is up, says no more
    than that, and leaks the sockets.
    """
    if kafka.bootstrap is None:
        return  # `client_arguments` says what to set
    refusals = []
    for address in kafka.bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout).close()
            return
        except OSError as error:
            refusals.append(f"{address}: {error}")
    raise NoBrokerError(
        f"no Kafka broker answers ({'; '.join(refusals)}). "
        "Is it running, and is kafka.bootstrap its host:port?"
    )


def wait_for_broker(kafka: KafkaSettings, say: Callable[[str], None]) -> None:
    """Return when a broker answers, however long that takes; `say` what is waited for, once a minute.

    Where everything starts at once, as compose and Kubernetes do it, the broker may be the last to be there.
    """
    began, said = time.monotonic(), float("-inf")
    while True:
        try:
            dial(kafka)
            return
        except NoBrokerError as error:
            now = time.monotonic()
            if now - said >= _SAID_EVERY_S:
                said = now
                say(f"skyfuse: waiting for the broker, for {now - began:.0f} s so far: {error}")
        time.sleep(_AGAIN_S)


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and wait until each has a leader; the names of those created.

    Existing topics are left as they are (`check_topics` judges them). Raises TopicError.
    """
    kafka = settings.kafka
    with admin_client(kafka) as client:
        try:
            present = set(client.list_topics())
            missing = [topic for topic in TOPICS if kafka.names.of(topic) not in present]
            brokers = len(client.describe_cluster()["brokers"]) if missing else kafka.replication
            if brokers < kafka.replication:  # Kafka says so too, after a while and at length
                raise TopicError(
                    f"kafka.replication is {kafka.replication}, and {kafka.bootstrap} has"
                    f" {brokers} broker{'' if brokers == 1 else 's'}: set it to {brokers},"
                    " or add brokers"
                )
            created = []
            for topic in missing:
                name = kafka.names.of(topic)
                try:
                    client.create_topics(
                        [NewTopic(name, kafka.partitions, kafka.replication, topic_configs=topic.config())]
                    )
                except TopicAlreadyExistsError:  # another worker was faster
                    continue
                created.append(name)
            client.wait_for_topics([kafka.names.of(topic) for topic in TOPICS], timeout_ms=_LEADERS_MS)
        except KafkaTimeoutError as error:
            raise TopicError(
                f"{kafka.bootstrap} is too busy to make the topics ready: {error}. Start again"
            ) from error
        except KafkaError as error:
            raise TopicError(
                f"cannot create the topics at {kafka.bootstrap}: {error}. "
                "The account needs CREATE and DESCRIBE, "
                f"and the cluster at least {kafka.replication} broker(s) (kafka.replication)"
            ) from error
    return created


def check_topics(settings: Settings) -> list[str]:
    """What is wrong with the topics, one sentence each; empty when all is right. Raises TopicError."""
    kafka = settings.kafka
    with admin_client(kafka) as client:
        try:
            present = set(client.list_topics())
            known = [topic for topic in TOPICS if kafka.names.of(topic) in present]
            names = [kafka.names.of(topic) for topic in known]
            partitions = {
                found["name"]: len(found["partitions"]) for found in client.describe_topics(names) if names
            }
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
            configs = client.describe_configs(resources, config_filter="all")["topic"] if names else {}
        except KafkaError as error:
            raise TopicError(f"cannot describe the topics at {kafka.bootstrap}: {error}") from error
    problems = [
        f"{kafka.names.of(topic)} does not exist: run `skyfuse topics`"
        for topic in TOPICS
        if topic not in known
    ]
    for topic, name in zip(known, names, strict=True):
        if partitions[name] != kafka.partitions:
            problems.append(
                f"{name} has {partitions[name]} partitions, not {kafka.partitions}: joined topics "
                "need the same number; set kafka.partitions, or add partitions to an empty topic"
            )
        problems += _differences(topic, name, {key: entry["value"] for key, entry in configs[name].items()})
    return problems


def taking_part(kafka: KafkaSettings, groups: Sequence[str]) -> dict[str, int]:
    """How many workers take part in each consumer group now. Raises TopicError."""
    with admin_client(kafka) as client:
        try:
            found = client.describe_groups(list(groups))
        except KafkaError as error:
            raise TopicError(f"cannot describe the consumer groups at {kafka.bootstrap}: {error}") from error
    return {name: len(found.get(name, {}).get("members", ())) for name in groups}


def _differences(topic: Topic, name: str, found: dict[str, str | None]) -> list[str]:
    problems = []
    for key, wanted in topic.config().items():
        have = found.get(key)
        # More room or longer retention than asked for is the operator's choice.
        if key == "max.message.bytes" and have is not None and int(have) >= int(wanted):
            continue
        if key == "retention.ms" and have is not None and (have == "-1" or int(have) >= int(wanted) > 0):
            continue
        if have != wanted:
            problems.append(
                f"{name}: {key} is {have}, should be {wanted}: mend it with "
                f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config {key}={wanted}"
            )
    return problems
