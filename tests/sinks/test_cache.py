"""The latest-state cache on a real server: keeps what is newest, and is passed over while it is away."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infra.stack.cache import EmbeddedCache
from schemas.base import from_ms
from schemas.estimate import Estimate, Inputs, Window
from sinks.cache import LatestCache

START = from_ms(1_750_248_000_000)


def estimate(station: str, minute: int, revision: int) -> Estimate:
    start = START + timedelta(minutes=minute)
    return Estimate(
        station=station,
        window=Window(start=start, end=start + timedelta(minutes=1)),
        revision=revision,
        sides="sensors",
        pollutants={},
        indices=(),
        inputs=Inputs(readings=revision),
        bundle="test",
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedCache]:
    with EmbeddedCache(tmp_path / "cache") as running:
        yield running


def test_the_latest_window_and_its_highest_revision_stay(server: EmbeddedCache) -> None:
    cache = LatestCache(server.url)
    cache.write([estimate("a", 1, 3), estimate("b", 5, 1), estimate("a", 2, 1)])
    cache.write([estimate("a", 2, 4), estimate("a", 2, 2), estimate("a", 1, 9), estimate("b", 4, 7)])
    found = {one.station: one for one in cache.read()}
    assert found == {"a": estimate("a", 2, 4), "b": estimate("b", 5, 1)}
    cache.close()


def test_a_cache_that_is_away_is_passed_over_and_noted_once(
    server: EmbeddedCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache = LatestCache(server.url)
    cache.write([estimate("a", 1, 1)])
    server.stop()
    cache.write([estimate("a", 2, 1)])
    cache.write([estimate("a", 3, 1)])
    assert [
        record.message.split(" and ")[0] for record in caplog.records if record.name == "sinks.cache"
    ] == ["the latest-state cache is away"]
    cache.close()
