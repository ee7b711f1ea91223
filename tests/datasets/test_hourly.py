"""Plain folders as training groups, and the scale that is learned from them."""

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backfill.hourly import read_folder
from datasets.errors import LayoutError
from datasets.groups import Group, Site
from datasets.hourly import hourly, hours
from model.bundle.bundle import Bundle
from model.bundle.targets import calculate
from model.evaluation.evaluate import evaluate
from model.evaluation.truth import with_true_concentrations

HOUR = 3_600_000
SECOND = "2025-06-01T09"
START = int(datetime(2025, 6, 1, 8, tzinfo=UTC).timestamp() * 1000)


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def write_city(root: Path, hours: int = 6, seed: int = 0) -> None:
    """Two stations; the harbour has a camera, the hill none. Values in mixed units."""
    rng = np.random.default_rng(seed)
    readings, frames = ["station,time,parameter,value,unit,sensor"], ["station,time,path"]
    for hour in range(hours):
        end = START + (hour + 1) * HOUR
        for station, factor in (("harbour", 1.0), ("hill", 0.5)):
            pm = factor * (10 + 20 * hour)
            readings += [
                f"{station},{moment(end - HOUR // 2)},pm25,{pm},ug/m3,a",
                f"{station},{moment(end - 1000)},pm25,{pm + 2},ug/m3,b",
                f"{station},{moment(end - HOUR)},no2,{10 + hour},ppb,a",
            ]
        for number in range(2):
            blocks = rng.integers(0, 256, (14, 14, 3)).repeat(16, axis=0).repeat(16, axis=1)
            grain = rng.normal(0, 3, (224, 224, 1))
            picture = np.round(blocks * (1 - hour / 10) + 21 * hour + grain).clip(0, 255)
            name = f"{hour}-{number}.jpg"
            Image.fromarray(picture.astype(np.uint8)).save(root / name, quality=95)
            frames.append(f"harbour,{moment(end - HOUR + 60_000 * (number + 1))},{name}")
    (root / "readings.csv").write_text("\n".join(readings) + "\n")
    (root / "frames.csv").write_text("\n".join(frames) + "\n")
    record = {"station": "harbour", "latitude": 12.0, "longitude": -6.0, "timezone": "Africa/Bamako"}
    (root / "stations.json").write_text(json.dumps([record]))


def test_a_group_is_an_hour_of_a_station_with_its_means_in_micrograms(tmp_path: Path) -> None:
    write_city(tmp_path, hours=2)
    histories, problems = read_folder(tmp_path)
    assert problems == []
    groups = list(hours(histories))
    assert [(group.site.station, group.time.timestamp() * 1000) for group in groups] == [
        ("harbour", START), ("hill", START), ("harbour", START + HOUR), ("hill", START + HOUR),
    ]  # fmt: skip
    first, hill = groups[:2]
    assert first.readings[0] == 11.0
    assert first.readings[2] == pytest.approx(10 * 46.005 / 24.465, rel=1e-4)
    assert math.isnan(first.readings[1])
    assert [path.name for path in first.frames] == ["0-0.jpg", "0-1.jpg"]
    assert first.taken(1) == START + 120_000
    assert first.position == (12.0, -6.0)
    assert (hill.frames, hill.position, hill.site.longitude) == ((), None, None)


def test_true_concentrations_replace_readings_and_aqi_of_their_hour_only() -> None:
    site = Site("mumbai", "Mumbai", 19.2, 72.9, "UTC")
    at = datetime.fromtimestamp(START / 1000, UTC)
    stated = Group(site, at, (), (100.0, math.nan, math.nan, math.nan, math.nan, math.nan), 250.0)
    other = stated._replace(time=datetime.fromtimestamp((START + HOUR) / 1000, UTC))
    true = (9.0, 20.0, math.nan, math.nan, math.nan, math.nan)
    changed, count = with_true_concentrations(
        [stated, other], {("mumbai", START + HOUR): true}, "us-epa-2024"
    )
    assert count == 1
    assert changed[0].readings[:2] == (9.0, 20.0)
    assert changed[0].aqi == 50  # 9.0 ug/m3 of PM2.5 end "good" since 2024
    assert (changed[1].readings[0], changed[1].aqi) == (100.0, 250.0)


def test_hourly_has_what_the_groups_have(tmp_path: Path) -> None:
    write_city(tmp_path, hours=2)
    histories, _ = read_folder(tmp_path)
    found = hourly(histories)
    for group in hours(histories):
        end = int(group.time.timestamp() * 1000) + HOUR
        assert np.array_equal(found[group.site.station, end], group.readings, equal_nan=True)


@pytest.mark.parametrize("declared", ["row", "station"])
def test_a_mean_that_is_stamped_with_its_end_is_of_the_hour_before(tmp_path: Path, declared: str) -> None:
    in_row = declared == "row"
    sensor = {"sensor": "main", "parameters": ["pm25"]} | ({} if in_row else {"period": 3600})
    (tmp_path / "stations.json").write_text(json.dumps([{"station": "a", "sensors": [sensor]}]))
    (tmp_path / "readings.csv").write_text(
        "station,time,parameter,value,unit" + (",period" if in_row else "") + "\n"
        f"a,{START + HOUR},pm25,12,ug/m3" + (",3600" if in_row else "") + "\n"
    )
    histories, problems = read_folder(tmp_path)
    assert not problems
    assert histories["a"].means == {"pm25": {START + HOUR: 12.0}}


def test_a_plain_folder_is_scored_on_the_declared_scale(tmp_path: Path) -> None:
    write_city(tmp_path)
    bundle = Bundle.load()
    report = evaluate(bundle, tmp_path, "layout", standard="in-naqi-2014", read=read_folder)
    assert report.summary["windows"] == 12
    assert report.summary["frames"] + report.summary["frames_refused"] == 12
    assert report.summary["target"].startswith("in-naqi-2014")
    # The scale's own calculator, shown every sensor, is the truth itself.
    assert report.summary["masks"]["all"]["aqi"]["calculator in-naqi-2014"]["rmse"] == 0
    [row] = [
        row
        for row in report.predictions
        if row["station"] == "hill" and row["time"].startswith("2025-06-01T09")
    ]
    value = np.array([[16.0, np.nan, 11 * 46.005 / 24.465, np.nan, np.nan, np.nan]], np.float32)
    assert row["aqi_true"] == calculate("in-naqi-2014", value)[0]
    assert evaluate(bundle, tmp_path, "layout", read=read_folder).summary["target"].startswith("us-epa-2024")


@pytest.mark.parametrize(
    ("sensor", "rows", "kept", "why"),
    [
        ({}, ["pm25,99999,ug/m3"], None, "outside the physical range"),
        ({}, ["no2,8500,ug/m3"], None, "failed quality control: gross_range"),
        ({}, ["pm10,6553.5,ug/m3"], None, "sign for no value"),
        ({"model": "SDS 011"}, ["pm25,999.9,ug/m3"], None, "sign for no value"),
        ({}, ["pm25,999.9,ug/m3"], 999.9, None),
        ({"fill_values": [123.4]}, ["pm25,0.1234,mg/m3"], None, "sign for no value"),  # in thousandths
        ({"fill_values": [0.1234]}, ["pm25,123.4,ug/m3"], 123.4, None),
        ({"fill_values": [0.1234]}, ["pm25,0.1234,mg/m3"], None, "sign for no value"),
        ({}, ["pm25,-4,ug/m3", "pm25,8,ug/m3"], 2.0, None),  # noise belongs into the mean
        ({}, ["pm25,-4,ug/m3"], 0.0, None),
    ],
)
def test_the_worker_s_own_rules_say_what_counts(
    tmp_path: Path, sensor: dict[str, object], rows: list[str], kept: float | None, why: str | None
) -> None:
    record = {"sensor": "main", "parameters": ["pm25", "pm10", "no2"]} | sensor
    (tmp_path / "stations.json").write_text(json.dumps([{"station": "a", "sensors": [record]}]))
    lines = [f"a,{START + 1000 * number},{row}" for number, row in enumerate(rows)]
    (tmp_path / "readings.csv").write_text("\n".join(["station,time,parameter,value,unit", *lines]) + "\n")
    histories, problems = read_folder(tmp_path)
    means = {} if kept is None else {rows[0].split(",")[0]: {START + HOUR: pytest.approx(kept)}}
    assert histories["a"].means == means
    assert [why in problem for problem in problems if why] == ([True] if why else [])


def test_a_sensor_that_stands_still_for_a_day_counts_no_more(tmp_path: Path) -> None:
    lines = [f"a,{START + HOUR * hour},pm25,{20 if hour else 21},ug/m3" for hour in range(30)]
    (tmp_path / "readings.csv").write_text("\n".join(["station,time,parameter,value,unit", *lines]) + "\n")
    histories, problems = read_folder(tmp_path)
    assert len(histories["a"].means["pm25"]) == 25  # the first, and a day of the one that stands
    assert len(problems) == 5
    assert all(re.search(r"failed quality control: .*stuck", problem) for problem in problems)


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="neither readings"):
        evaluate(Bundle.load(), tmp_path, "layout", read=read_folder)
