"""Frames and readings through real workers and a real broker."""

from collections.abc import Callable
from pathlib import Path

import pytest

from settings.sections import Settings
from streams import topics
from tests.harness import REPLAY, city, expected_windows, fleet, read_all, send, stored, until

pytestmark = pytest.mark.broker


def test_every_window_with_data_becomes_one_estimate(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = kafka_settings(partitions=2, window=REPLAY)
    records = city(seed=1, stations=5, minutes=6, partitions=2)
    wanted = expected_windows(records)
    with fleet(settings, tmp_path) as workers:
        send(settings, records)
        until("the estimates of all windows", lambda: workers.check() and set(stored(settings)) >= wanted, 90)
    found = stored(settings)
    assert set(found) == wanted
    assert {e.sides for e in found.values()} >= {"both", "sensors"}
    for estimate in found.values():
        for name, pollutant in estimate.pollutants.items():
            assert (pollutant.kind == "imputed") == (pollutant.n == 0), name
            if pollutant.kind == "imputed":
                assert pollutant.lo is not None
                assert pollutant.hi is not None
                assert pollutant.lo <= pollutant.value <= pollutant.hi
    assert not read_all(settings, topics.DEAD_LETTERS)
    assert not read_all(settings, topics.LATE)
