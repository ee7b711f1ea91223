"""Files as inputs of windows: accepted as the workers accept them, refused with file and line."""

import csv
from pathlib import Path

import pytest

from backfill.files import (
    BEYOND_THE_LOG,
    FileInputs,
    WantedWindows,
    WorkersKnowledge,
    late_from,
    source_of_file,
)
from datasets.errors import SourceError
from datasets.layouts import Files
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from schemas.base import format_time, from_ms
from schemas.features import Features
from schemas.times import HOUR_MS
from settings.sections import KafkaSettings, Settings
from streams.accept import Keys
from streams.bands import BandBook
from streams.stations import StationBook
from tests.harness import NOON, picture

KEYS = Keys(1)
HOUR = -(-NOON // HOUR_MS) * HOUR_MS
READING = ("station", "time", "parameter", "value", "unit")


@pytest.fixture(scope="module")
def bundle():
    return Bundle.load(DEFAULT_BUNDLE)


def at(seconds):
    return format_time(from_ms(NOON + seconds * 1000))


def table(file, *rows):
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    return file


def read(root, bundle, *, wanted=lambda _: True, final=HOUR, layout="layout", strays_too=False):
    history = FileInputs(Settings(kafka=KafkaSettings(partitions=1)), KEYS)
    book = StationBook("aq.stations.v1", KEYS)
    bands = BandBook("aq.camera-bands.v1", KEYS)
    try:
        history.read(
            Files(root, layout),
            WorkersKnowledge(bundle, lambda _: book, lambda _: bands),
            WantedWindows(wanted, {0: final}, strays_too),
        )
    except SourceError:
        history.__exit__()
        raise
    return history


def where(history):
    return [problem.where.rpartition("/")[2] for problem in history.problems]


def test_readings_by_window_and_refusals_by_line(tmp_path, bundle):
    rows = [
        ("a", at(70), "pm25", 12.5, "ug/m3"),
        ("a", at(5), "no2", 20, "ppb"),
        ("a", at(6), "pm25", -40, "ug/m3"),
        ("a", "yesterday", "pm25", 4, "ug/m3"),
        ("a b", at(7), "pm25", 4, "ug/m3"),
        ("a", at(8), "pm25", "", "ug/m3"),
        ("b", at(9), "pm25", 4),
    ]
    with read(table(tmp_path / "r.csv", READING, *rows), bundle) as history:
        assert history.windows(0, HOUR) == {("a", NOON + 60_000), ("a", NOON + 120_000)}
        assert sorted(where(history)) == ["r.csv:4", "r.csv:5", "r.csv:6", "r.csv:8"]
        first, second = history.inputs(0, {("a", HOUR)})
        assert (first.item.payload.parameter, first.item.payload.value) == ("no2", 20.0)
        assert (second.source, second.item.time, second.where) == (
            "readings", NOON + 70_000, f"{tmp_path / 'r.csv'}:2",
        )  # fmt: skip
        assert BEYOND_THE_LOG < first.item.offset < second.item.offset
        assert list(history.inputs(0, {("a", HOUR - HOUR_MS)})) == []


def test_a_reading_is_kept_with_the_scalings_that_its_sensor_sends_besides(tmp_path, bundle):
    rows = [
        ("a", at(60 * n + 5), "pm25", 50 + n, "ug/m3", channel)
        for n, channel in enumerate(("cf_1", "atm", "cf_1", "atm"))
    ]
    with read(table(tmp_path / "r.csv", (*READING, "channel"), *rows), bundle) as history:
        found = [one.item.payload.scalings for one in history.inputs(0, {("a", HOUR)})]
    assert found == [(), *[("cf_1", "atm")] * 3]


def test_only_final_windows_that_were_asked_for(tmp_path, bundle):
    rows = [("a", at(second), "pm25", 10, "ug/m3") for second in (0, 60, 120)]
    file = table(tmp_path / "r.csv", READING, *rows)
    with read(file, bundle, final=NOON + 120_000) as history:
        assert history.windows(0, HOUR) == {("a", NOON + 60_000), ("a", NOON + 120_000)}
        assert history.open == {("a", NOON + 180_000)}
    with read(file, bundle, wanted=lambda end: end < NOON + 120_000) as history:
        assert history.windows(0, HOUR) == {("a", NOON + 60_000)}
        assert not history.open


def test_frames_go_through_the_vision_stage(tmp_path, bundle):
    (tmp_path / "good.jpg").write_bytes(picture(1, 1))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    file = table(
        tmp_path / "frames.csv", ("station", "time", "path"),
        ("a", at(1), "broken.jpg"), ("a", at(2), "good.jpg"), ("a", at(3), "missing.jpg"),
    )  # fmt: skip
    with read(file, bundle) as history:
        (one,) = history.inputs(0, {("a", HOUR)})
        assert (one.source, one.item.time) == ("features", NOON + 2_000)
        features = Features.model_validate_json(one.value)
        assert features.bundle == bundle.id
        assert features.quality.usable
        assert len(features.embeddings["frame"]) == 4 * 128
        assert where(history) == ["frames.csv:4", "frames.csv:2"]


def test_what_is_no_history_is_said(tmp_path, bundle):
    with pytest.raises(SourceError, match="is no folder and no file"):
        read(tmp_path / "nowhere", bundle)
    with pytest.raises(SourceError, match="unknown format"):
        read(tmp_path, bundle, layout="other")
    with pytest.raises(SourceError, match=r"column\(s\) unit missing"):
        read(table(tmp_path / "r.csv", READING[:4]), bundle)


@pytest.mark.parametrize("source", ["readings", "features"])
def test_the_header_of_what_came_from_a_file(source):
    name, value = late_from(source)
    assert name == "x-late-from"
    assert source_of_file(value.decode()) == source
    assert source_of_file(f"aq.{source}.v1/0/7") is None


def test_the_temporary_file_goes_away(tmp_path, bundle, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = table(tmp_path / "r.csv", READING)
    with read(file, bundle):
        assert len(list(Path(tmp_path).iterdir())) > 1
    assert list(Path(tmp_path).iterdir()) == [file]


def test_a_few_rows_of_a_wrong_clock_are_named_and_have_to_be_asked_for(tmp_path, bundle):
    regular = [("a", at(60 * minute), "pm25", 12.5, "ug/m3") for minute in range(-30, 0)]
    old = [("a", "2007-04-12T10:00:00Z", "pm25", 9, "ug/m3"), ("a", "2010-01-01T00:10:00Z", "no2", 9, "ppb")]
    # Of another station half of what there is: a season's gap, not a wrong clock.
    other = [("b", time, "pm25", 9, "ug/m3") for time in ("2023-01-01T00:00:10Z", at(-100))]
    file = table(tmp_path / "r.csv", READING, *old, *regular, *other)
    with read(file, bundle) as history:
        assert where(history) == ["r.csv:2", "r.csv:3"]
        assert "2007-04-12T10:00:00Z lies more than a year before the other rows of a" in str(
            history.problems[0]
        )
        assert "--since 2007-04-12T10:00:00Z" in str(history.problems[0])
        assert len(history.windows(0, HOUR)) == 30 + 2
    with read(file, bundle, strays_too=True) as history:
        assert not history.problems
        assert len(history.windows(0, HOUR)) == 32 + 2
