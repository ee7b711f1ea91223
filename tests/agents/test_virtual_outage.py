"""A sensor falls silent in the running pipeline: real frames and readings, real broker, workers, bundle.

What the workers say in its place is set beside the withheld readings, and beside what `skyfuse evaluate
--online` says of the same folder and the same outage.
"""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image

from backfill.hourly import read_folder
from model.bundle.bundle import Bundle
from model.evaluation.histories import read_layout, read_milan
from model.evaluation.online import PlayedRun, score
from model.evaluation.played_hours import hours_of
from schemas.estimate import Estimate
from settings.sections import Settings
from sources.replay.feed import feed
from streams import topics
from streams.admin import create_topics
from tests.harness import REPLAY, fleet, following, until

pytestmark = [pytest.mark.broker, pytest.mark.realdata, pytest.mark.slow]

MILAN = Path(__file__).parents[2] / ".." / "shared" / "data" / "milan-webcam"
ROME = ZoneInfo("Europe/Rome")
HOUR = 3_600_000
#: Hourly readings stand for every window of their hour: months of minutes would be two hundred thousand.
WINDOW = REPLAY.model_copy(update={"size": timedelta(minutes=15)})
SIZE = 900_000


def _ms(*moment: int) -> int:
    return round(datetime(*moment, tzinfo=ROME).timestamp() * 1000)  # type: ignore[arg-type, misc]


#: 42 hours with a day, a night and a day; the replay goes on for a week after it.
SILENT = (_ms(2025, 3, 6), _ms(2025, 3, 7, 18))
LAST = _ms(2025, 3, 13)
#: ug/m3 between the stream and the offline evaluation, root mean square over the outage's frames.
APART = 0.05


def _covered(source: Path, target: Path) -> None:
    """The picture with a hand before the lens."""
    with Image.open(source) as picture:
        width, height = picture.size
    noise = np.random.default_rng(len(source.stem)).normal(30, 1.0, (height, width, 3))
    noise[0] = int(source.stem[-7:-5]) * 5 + int(source.stem[-4:-2])  # no two are the same
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(target)


def _grey(source: Path, target: Path) -> None:
    with Image.open(source) as picture:
        picture.convert("L").convert("RGB").save(target, quality=92)


#: Stations, with what is wrong with their frames while the sensor is silent.
STATIONS: dict[str, Callable[[Path, Path], None] | None] = {
    "seeing": None,
    "covered": _covered,
    "grey": _grey,
}


def _write(root: Path) -> dict[int, float]:
    """The folder, with the readings of the outage left out; returns those, by hour end."""
    data = read_milan(MILAN)
    first = min(at for at, _ in data.frames)
    withheld = {end: v for end, v in data.readings["pm25"].items() if SILENT[0] < end <= SILENT[1]}
    known = {
        end: value
        for end, value in data.readings["pm25"].items()
        if first - 10 * 24 * HOUR < end <= LAST and end not in withheld
    }
    (root / "images").mkdir(parents=True)
    with (root / "readings.csv").open("w") as file:
        file.write("station,time,parameter,value,unit\n")
        file.writelines(
            f"{station},{end - HOUR + 30_000},pm25,{value},ug/m3\n"
            for station in STATIONS
            for end, value in known.items()
        )
    with (root / "frames.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("station", "time", "path"))
        for station, spoil in STATIONS.items():
            for at, path in data.frames:
                used = root / "images" / path.name
                if not used.exists():
                    shutil.copyfile(path.resolve(), used)
                if spoil is not None and SILENT[0] <= at < SILENT[1]:
                    used = root / "images" / f"{station}-{path.name}"
                    spoil(path, used)
                if at < LAST:
                    rows.writerow((station, at, used.relative_to(root)))
    assert data.position is not None
    assert data.far_band is not None
    band = {"top": data.far_band.top, "bottom": data.far_band.bottom}
    records = [
        {
            "station": station, "latitude": data.position[0], "longitude": data.position[1],
            "timezone": "Europe/Rome", "cameras": [{"camera": "main", "far_band": band}],
        }
        for station in STATIONS
    ]  # fmt: skip
    (root / "stations.json").write_text(json.dumps(records))
    return withheld


def _offline(folder: Path, withheld: dict[int, float]) -> dict[int, float]:
    """What `evaluate --online` says of each hour of the outage that has a usable frame."""
    found, _ = read_layout(folder, read_folder)
    (data,) = (one for one in found if one.station == "seeing")
    hours, _, _ = hours_of(data, Bundle.load())
    whole = [hour._replace(measured=withheld.get(hour.end_ms, hour.measured)) for hour in hours]
    said: dict[int, float] = {}
    for hour in whole:
        if hour.end_ms in withheld and hour.sight is not None:
            length = (hour.end_ms - SILENT[0]) // HOUR
            outcomes, _ = score(PlayedRun(whole, [hour]), ROME, [length])
            ((end, _, value, _, _),) = outcomes[1].series
            said[end] = value
    return said


def _rmse(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def test_the_camera_stands_in_for_a_silent_sensor(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    if not MILAN.is_dir():
        pytest.skip("no ../shared/data")
    folder = tmp_path / "folder"
    withheld = _write(folder)
    settings = kafka_settings(partitions=2, window=WINDOW)
    create_topics(settings)
    assert feed(settings, folder).whole
    expected: set[tuple[str, int]] = set()
    for table in ("readings.csv", "frames.csv"):
        with (folder / table).open() as file:
            expected |= {
                (row["station"], (int(row["time"]) // SIZE + 1) * SIZE) for row in csv.DictReader(file)
            }

    # Each is read once, and they are waited for as long as more of them come.
    estimates: dict[tuple[str, int], Estimate] = {}
    with (
        fleet(settings, tmp_path, ("vision", "fusion")) as workers,
        following(settings, topics.ESTIMATES) as news,
    ):
        while not estimates.keys() >= expected:
            for record in until("more estimates", lambda: workers.check() and news(), 300):
                if record.value is None:
                    continue
                one = Estimate.model_validate_json(record.value)
                key = one.station, round(one.window.end.timestamp() * 1000)
                if key not in estimates or estimates[key].revision <= one.revision:
                    estimates[key] = one

    silent: dict[str, dict[int, Estimate]] = {station: {} for station in STATIONS}
    for (station, end), estimate in sorted(estimates.items()):
        pm25 = estimate.pollutants["pm25"]
        hour = -(-end // HOUR) * HOUR
        standing = 0 < estimate.inputs.standing == estimate.inputs.readings
        if standing:
            # The last reading stands until the next one is due; what the camera says is of later.
            assert pm25.kind == "measured"
            assert end <= SILENT[0] + HOUR or end > SILENT[1] or hour not in withheld
        elif SILENT[0] < end <= SILENT[1]:
            silent[station][hour] = estimate
            assert pm25.kind == "imputed"
            assert pm25.lo is not None
            assert pm25.hi is not None
            assert pm25.lo <= pm25.value <= pm25.hi
            assert sum(pm25.weights.values()) == pytest.approx(1.0, abs=1e-5)
        elif (station, end) in expected and not estimate.inputs.readings:
            assert pm25.kind == "imputed"  # a frame in an hour whose reading was never there
        else:
            assert pm25.kind == "measured"

    # By day the camera carries it, and is nearer to the withheld readings than the last one before.
    looks = {
        hour: estimate
        for hour, estimate in silent["seeing"].items()
        if any(frame.usable for frame in estimate.inputs.frames)
    }
    nights = [estimate for hour, estimate in silent["seeing"].items() if hour not in looks]
    assert len(looks) >= 10
    assert len(nights) >= 3
    last = _last_before(folder, SILENT[0])
    assert _rmse([looks[hour].pollutants["pm25"].value - withheld[hour] for hour in looks]) < 0.8 * _rmse(
        [last - withheld[hour] for hour in looks]
    )
    held = [
        (one.pollutants["pm25"].lo or 0) <= withheld[hour] <= (one.pollutants["pm25"].hi or 0)
        for hour, one in looks.items()
    ]
    assert np.mean(held) >= 0.75
    later = [one for hour, one in looks.items() if hour > SILENT[0] + 24 * HOUR]
    assert later
    assert all(one.pollutants["pm25"].method == "camera" for one in later)
    for one in nights:
        assert all("night" in frame.reasons for frame in one.inputs.frames)

    # A frame that fails the gate says nothing, whatever is on it: history alone carries the estimate.
    for station, reason in (("covered", "blocked"), ("grey", "greyscale")):
        assert silent[station].keys() == silent["seeing"].keys()
        for hour, estimate in silent[station].items():
            assert not any(frame.usable for frame in estimate.inputs.frames)
            assert estimate.pollutants["pm25"].method == "last"
            assert estimate.pollutants["pm25"].weights["camera"] == 0.0
            if hour in looks:
                assert all(reason in frame.reasons for frame in estimate.inputs.frames)
    assert {hour: one.pollutants["pm25"].value for hour, one in silent["covered"].items()} == {
        hour: one.pollutants["pm25"].value for hour, one in silent["grey"].items()
    }

    offline = _offline(folder, withheld)
    assert offline.keys() == looks.keys()
    apart = [looks[hour].pollutants["pm25"].value - offline[hour] for hour in looks]
    assert _rmse(apart) < APART, apart


def _last_before(folder: Path, moment: int) -> float:
    with (folder / "readings.csv").open() as file:
        rows = [(int(row["time"]), float(row["value"])) for row in csv.DictReader(file)]
    return max((at, value) for at, value in rows if at < moment)[1]
