"""The network stage behind the broker: what it says is what the offline judge says of the same hours, and
killed workers leave the series as if nothing had happened.
"""

import csv
import io
import json
import math
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from backfill.hourly import read_folder
from cli import doctor
from cli.main import app
from fusion.together.witnesses import possible_in_region
from infra.connect import environment
from infra.stack.broker import EmbeddedBroker
from model.evaluation.region_hours import read_region
from network import region as network
from network.members import Variable
from schemas.base import format_time, from_ms
from schemas.parameters import Pollutant
from schemas.station import Station
from schemas.times import HOUR_MS
from settings.sections import KafkaSettings, NetworkSettings, Settings, WindowSettings
from streams import topics
from tests.harness import Sent, fleet, frame, picture, punctuations, reading, send, stored, until

pytestmark = [pytest.mark.broker]

PARTITIONS = 2
START = 1_750_240_800_000
HOURS = 48
RULES = WindowSettings(
    size=timedelta(hours=1),
    grace=timedelta(seconds=5),
    allowed_lateness=timedelta(minutes=30),
    disorder=timedelta(seconds=10),
    idle_timeout=None,
)
TOWN = ("st-0", "st-1", "st-2", "st-3")
#: One without a place, and one in a region of its own: what is silent there has no neighbours.
LONE = ("roof", "island")
#: Two that measure PM2.5, and a camera between them that no sensor of its own teaches.
VALLEY = ("east", "west", "camera")
STATIONS = (*TOWN, *LONE, *VALLEY)
#: What regions are called beside that of all others that have a place.
REGIONS = {"island": "far", "east": "valley", "west": "valley", "camera": "valley"}
#: From then on one station is silent.
SILENT_FROM = 30
#: Hours that a sensor was heard until nothing of the station's own past is beside what the region says.
GROWN = 24


class Reading(NamedTuple):
    """What a station measured, and whether anybody hears of it."""

    at: int
    station: str
    values: dict[Pollutant, float]
    hidden: frozenset[Pollutant]


def silent_alone(hour: int) -> set[Pollutant]:
    """What nobody hears of lone stations in an hour."""
    if 26 <= hour < 34:
        return {"pm25"}
    return {"pm25", "pm10"} if 38 <= hour < 46 else set()


def truth() -> list[Reading]:
    """Five a hour of four stations of a town, of which one never measures CO and another falls silent, and of
    two that are alone, where PM2.5 falls silent, is heard again, and later is silent with PM10. A valley."""
    dice = random.Random(1)
    found = []
    for minute in range(0, HOURS * 60, 12):
        shared = 40 + 15 * math.sin(minute / 200) + 8 * math.sin(minute / 61)
        for number, name in enumerate(STATIONS[:-1]):
            level = shared * (1 + 0.1 * number) + dice.uniform(-2, 2)
            values: dict[Pollutant, float] = {
                "pm25": round(level, 2), "co": round(15 * level + 100 + dice.uniform(-30, 30), 1)
            }  # fmt: skip
            hidden: set[Pollutant] = {"co"} if name == "st-1" else set()
            if name == "st-2" and minute >= SILENT_FROM * 60:
                hidden |= {"pm25", "co"}
            if name in LONE:
                values["pm10"] = round(1.4 * level + dice.uniform(0, 8), 2)
                hidden |= silent_alone(minute // 60)
            found.append(Reading(START + minute * 60_000, name, values, frozenset(hidden)))
    return found


def seen(hour: int) -> Sent:
    """What the camera sees in an hour: the same blocks behind a haze (a thicker one is taken for a card)."""
    shared = 40 + 15 * math.sin((hour * 60 + 30) / 200) + 8 * math.sin((hour * 60 + 30) / 61)
    clear = math.exp(-shared / 90)
    with Image.open(io.BytesIO(picture(5, hour))) as image:
        hazy = clear * np.asarray(image, dtype=np.float64) + (1.0 - clear) * np.array((205.0, 210.0, 215.0))
    buffer = io.BytesIO()
    Image.fromarray(hazy.astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return frame("camera", START + hour * HOUR_MS + HOUR_MS // 2, buffer.getvalue())


def placed(name: str) -> Station:
    number = STATIONS.index(name)
    there = name != "roof"
    return Station(
        station=name,
        latitude=70.0 + 0.02 * number if there else None,  # in June the sun never sets there
        longitude=9.0 if there else None,
        region=REGIONS.get(name, ""),
    )


def records() -> list[Sent]:
    """What is heard of it; some comes late."""
    dice = random.Random(2)
    sent: list[tuple[int, Sent]] = []
    for one in truth():
        heard = {str(name): value for name, value in one.values.items() if name not in one.hidden}
        if heard:
            late = 1_500_000 if dice.random() < 0.05 else 0
            sent.append((one.at + late, reading(one.station, one.at, heard)))
    for hour in range(HOURS):
        at = START + hour * HOUR_MS
        sent += [(at, one) for one in punctuations(at, PARTITIONS) if one.topic == topics.FRAMES]
        sent.append((at + HOUR_MS // 2, seen(hour)))
    sent.sort(key=lambda pair: pair[0])
    return [
        *(Sent(topics.STATIONS, name.encode(), placed(name).model_dump_json().encode()) for name in STATIONS),
        *punctuations(START, PARTITIONS),
        *(record for _, record in sent),
        *punctuations(START + HOURS * HOUR_MS + 2 * HOUR_MS, PARTITIONS),
    ]


def said_offline(
    folder: Path, stations: tuple[str, ...], silent: Callable[[Variable, int], bool]
) -> dict[tuple[str, int, Pollutant], tuple[float, float, float]]:
    """What `skyfuse evaluate --network` has a region say of what is `silent` in an hour, by its end (s)."""
    folder.mkdir()
    with (folder / "readings.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["station", "time", "parameter", "value", "unit"])
        for one in truth():
            if one.station in stations:
                for name, value in one.values.items():
                    rows.writerow([one.station, format_time(from_ms(one.at)), name, value, "ug/m3"])
    with (folder / "stations.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["station", "latitude", "longitude"])
        rows.writerows([name, placed(name).latitude, placed(name).longitude] for name in stations)
    data, problems = read_region(folder, read_folder)
    assert problems == []
    assert len(data.values) == HOURS
    region = network.fresh(data.members)
    found: dict[tuple[str, int, Pollutant], tuple[float, float, float]] = {}
    for hour, (end, row) in enumerate(zip(data.times.tolist(), data.values, strict=True)):
        row = np.where([silent(one, hour) for one in data.members.variables], np.nan, row)
        said = possible_in_region(data.members, network.estimate(region, end, row), row)
        for index in np.flatnonzero(np.isnan(row)):
            station, name = data.members.variables[index]
            found[station, end // 1000, name] = tuple(float(part[index]) for part in said[:3])  # type: ignore[assignment]
        region = network.learned_with_silence(region, end, row)
    return found


def silent_in_town(one: Variable, hour: int) -> bool:
    return one == ("st-1", "co") or (hour >= SILENT_FROM and one.station == "st-2")


def settings_of(broker: EmbeddedBroker, folder: Path, name: str) -> Settings:
    return Settings(
        data_dir=folder / name,
        kafka=KafkaSettings(bootstrap=broker.bootstrap, prefix=f"{name}.", partitions=PARTITIONS),
        window=RULES,
        network=NetworkSettings(enabled=True),
    )


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_it_says_what_the_judge_says_and_kills_change_nothing(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    log = records()
    roles = ("vision", "fusion", "network", "sink")
    last = START // 1000 + HOURS * 3600
    for name in ("calm", "storm"):
        (tmp_path / f"{name}-logs").mkdir()
    calm = settings_of(broker, tmp_path, f"net-calm-{kills}")
    with fleet(calm, tmp_path / "calm-logs", roles) as workers:
        send(calm, log)
        until(
            "the undisturbed run",
            lambda: workers.check() and {(one, last) for one in STATIONS} <= set(stored(calm)),
            150,
        )
        until("it to be still", _still(calm), 90)
        takes_part = {one.what: one for one in doctor.broker(calm)}["network stage"]
        assert (takes_part.state, takes_part.found) == ("ok", "on, 1 worker")
        off = calm.model_copy(update={"network": NetworkSettings(enabled=False)})
        assert {one.what: one.state for one in doctor.broker(off)}["network stage"] == "bad"
    undisturbed = stored(calm)
    assert {key for key in undisturbed if key[0] == "st-2"} == {
        ("st-2", START // 1000 + number * 3600) for number in range(1, HOURS + 1)
    }
    offline = said_offline(tmp_path / "town", TOWN, silent_in_town)
    for lone in LONE:
        offline |= said_offline(
            tmp_path / lone, (lone,), lambda one, hour: one.pollutant in silent_alone(hour)
        )
    compared = 0
    for (station, end, name), expected in offline.items():
        found = undisturbed[station, end].pollutants[name]
        if end > START // 1000 + GROWN * 3600:
            assert (found.kind, found.method) == ("imputed", "network")
            assert [found.value, found.lo, found.hi] == pytest.approx(expected, rel=1e-6)
            compared += 1
    alone = sum(len(silent_alone(hour)) for hour in range(HOURS))
    assert compared == 2 * (HOURS - SILENT_FROM) + HOURS - GROWN + alone * len(LONE)
    told = listening_to(calm, monkeypatch)
    assert set(told["st-1", "co"]) == {"st-0", "st-3"}, "who is silent tells nothing"

    storm = settings_of(broker, tmp_path, f"net-storm-{kills}")
    size = -(-len(log) // kills)
    with fleet(storm, tmp_path / "storm-logs", roles) as workers:
        for number, victim in enumerate(islice(cycle(("network", "fusion", "network", "sink")), kills)):
            before = len(stored(storm))
            send(storm, log[number * size : (number + 1) * size])
            until("some progress", lambda: len(stored(storm)) > before or number == 0, 90)  # noqa: B023
            workers.kill(victim)
            workers.revive()

        def finished() -> bool:
            workers.revive()
            return stored(storm) == undisturbed

        try:
            until("the disturbed run to equal the undisturbed one", finished, 150)
        except AssertionError:
            found_now = stored(storm)
            differing = sorted(key for key in undisturbed if found_now.get(key) != undisturbed[key])
            for key in differing[:2]:
                print(
                    undisturbed[key].model_dump_json(),
                    key in found_now and found_now[key].model_dump_json(),
                    sep="\n",
                )
            raise AssertionError(f"{len(differing)} differ: {differing[:5]}") from None
    silent = undisturbed["st-2", last]
    assert silent.unheard
    never = undisturbed["st-1", last].pollutants["co"]
    assert never.weights["neighbours"] > 0.3
    for lone in LONE:
        carried = undisturbed[lone, START // 1000 + 40 * 3600].pollutants["pm25"].weights
        assert set(carried) == {"own", "past"}, "nobody else is there"
    untaught, taught = (
        undisturbed["camera", START // 1000 + hour * 3600].pollutants["pm25"] for hour in (20, HOURS)
    )
    assert (dict(untaught.taught_by), untaught.weights["neighbours"]) == ({}, 1.0)
    assert set(taught.taught_by) == {"network"}
    assert taught.taught_by["network"] > 40
    assert taught.weights["camera"] > 0.0


def listening_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """What `skyfuse network show` says: by station and pollutant the stations that would tell of it."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    said = CliRunner().invoke(app, ["network", "show", "", "--json"])
    assert said.exit_code == 0, said.output
    return {
        (one["station"], one["pollutant"]): one["neighbours"] for one in json.loads(said.stdout)["sensors"]
    }


def _still(settings: Settings) -> Callable[[], bool]:
    seen: list[object] = []

    def same() -> bool:
        now = {key: one.revision for key, one in stored(settings).items()}
        if seen and seen[-1] == now:
            seen.append(now)
        else:
            seen[:] = [now]
        return len(seen) > 40

    return same
