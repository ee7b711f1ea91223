"""Fixtures for tests against real servers: one of each for the session, each test's data its own."""

import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck

from infra.stack.broker import EmbeddedBroker
from settings.sections import KafkaSettings, Settings
from streams.admin import admin_client
from tests.engines import FaultProxy, Influx1, Victoria, influxdb, victoria_metrics

_numbers = itertools.count()

# Property tests are judged by their laws, not by how busy the machine is.
hypothesis.settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The session's Apache Kafka; tests keep apart by `topic_prefix`. Mark such tests `broker`."""
    with EmbeddedBroker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def topic_prefix(broker: EmbeddedBroker) -> Iterator[str]:
    """A prefix for topics and groups that no other test has; its topics are deleted afterwards."""
    prefix = f"t{uuid.uuid4().hex[:10]}."
    yield prefix
    with admin_client(KafkaSettings(bootstrap=broker.bootstrap)) as client:
        own = [name for name in client.list_topics() if name.startswith(prefix)]
        if own:
            client.delete_topics(own)


@pytest.fixture
def kafka_settings(broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path) -> Callable[..., Settings]:
    """Settings for this test's broker and prefix; keyword arguments replace sections."""

    def make(*, partitions: int = 4, **sections: object) -> Settings:
        kafka = KafkaSettings(bootstrap=broker.bootstrap, prefix=topic_prefix, partitions=partitions)
        return Settings(**({"data_dir": tmp_path / "data", "kafka": kafka} | sections))  # type: ignore[arg-type]

    return make


@pytest.fixture
def restartable_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A running Apache Kafka of this test's own, to be killed and started again (`kill()`, `start()`)."""
    with EmbeddedBroker(tmp_path / "kafka") as running:
        yield running


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx1]:
    with influxdb(tmp_path_factory.mktemp("influxdb")) as engine:
        yield engine


@pytest.fixture
def influx(influx_server: Influx1) -> Influx1:
    """Debian's InfluxDB with an empty database of this test's own."""
    own = Influx1(influx_server.url, f"t{next(_numbers)}", influx_server.process)
    own.create_database(own.database)
    return own


@pytest.fixture(scope="session")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    with victoria_metrics(tmp_path_factory.mktemp("victoria")) as engine:
        yield engine


@pytest.fixture
def proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Makes fault proxies that end with the test."""
    made: list[FaultProxy] = []

    def make(upstream: str, *, influx1: bool = False) -> FaultProxy:
        made.append(FaultProxy(upstream, influx1=influx1))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Influx1, str] | None]:
    """A real InfluxDB (Debian's 1.6, spoken to in version 2's way through a proxy) where it is installed."""
    if shutil.which("influxd") is None:
        yield None
        return
    (tmp_path / "influx").mkdir()
    with influxdb(tmp_path / "influx") as influx:
        proxy = FaultProxy(influx.url, influx1=True)
        try:
            yield influx, proxy.url
        finally:
            proxy.close()
