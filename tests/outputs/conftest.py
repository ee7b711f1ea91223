"""Engines for the tests of everything downstream of the estimates: one server each, one database a test."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.outputs.engines import FaultProxy, Influx1, Victoria, influxdb, victoria_metrics

_numbers = itertools.count()


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
