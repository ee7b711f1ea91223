"""Replayed through the broker, every (site, window) of the real folder equals the offline evaluation."""

import csv
import shutil
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from fusion.bounds import Interval, bounded
from model.bundle.bundle import Bundle
from model.evaluation.evaluate import evaluate
from schemas.estimate import Estimate
from schemas.parameters import Pollutant
from settings.sections import RetentionSettings, Settings
from settings.values import FOREVER
from sources.replay.feed import feed
from streams.admin import create_topics
from tests.harness import REPLAY, fleet, stored, until

pytestmark = [pytest.mark.broker, pytest.mark.realdata, pytest.mark.slow]

SOURCE = Path(__file__).parents[2] / ".." / "shared" / "data" / "india-nepal"
FRAMES = 5


def part_of(source: Path, target: Path) -> Path:
    """All groups of the folder, with a few frames each."""
    (target / "images").mkdir(parents=True)
    count: dict[tuple[str, ...], int] = defaultdict(int)
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = []
    for row in rows:
        group = tuple(row[name] for name in ("Location", "Year", "Month", "Day", "Hour"))
        count[group] += 1
        if count[group] <= FRAMES:
            kept.append(row)
            shutil.copy(source / "images" / row["Filename"], target / "images")
    with (target / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    return target


def minutes(settings: Settings) -> dict[tuple[str, int], Estimate]:
    """What is stored, by station and the minute in which the window begins."""
    return {(station, end // 60 - 1): estimate for (station, end), estimate in stored(settings).items()}


def test_a_replay_equals_the_offline_evaluation(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    if not SOURCE.is_dir():
        pytest.skip("no ../shared/data")
    folder = part_of(SOURCE, tmp_path / "folder")
    offline = {
        (row["station"], int(datetime.fromisoformat(row["time"]).timestamp()) // 60): row
        for row in evaluate(Bundle.load(), folder).predictions
    }
    # Its days lie months apart: all windows are kept, as a replay keeps them.
    kept = RetentionSettings(windows=FOREVER, hours=FOREVER)
    settings = kafka_settings(partitions=4, window=REPLAY, retention=kept)
    create_topics(settings)
    assert feed(settings, folder, "india-nepal").whole
    with fleet(settings, tmp_path) as workers:
        until("one estimate a group", lambda: workers.check() and set(offline) <= set(minutes(settings)), 240)
    found = minutes(settings)
    # Between two readings of a station there are windows that the first one still stands for.
    assert {station for station, _ in found} == {station for station, _ in offline}
    for key, row in offline.items():
        model = found[key].model
        assert model is not None
        assert model.aqi == pytest.approx(row["aqi"], rel=1e-5)
        assert model.lo == pytest.approx(row["aqi_lo"], rel=1e-5, abs=1e-5)
        assert model.hi == pytest.approx(row["aqi_hi"], rel=1e-5)
        # The gases are withheld; particles are told as they can be beside what was measured.
        alone: dict[Pollutant, Interval] = {
            name: Interval(row["sensors"][name], row["sensors"][name], row["sensors"][name])
            for name in ("pm25", "pm10")
        }
        measured: dict[str, float] = {
            name: one.value for name, one in found[key].pollutants.items() if one.kind != "imputed"
        }
        assert model.sensors == {
            name: pytest.approx(one.value, rel=1e-5) for name, one in bounded(alone, measured).items()
        }
        assert sum(frame.usable for frame in found[key].inputs.frames) == row["frames"]
