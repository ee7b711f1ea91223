"""The network's judge: who is silent is not heard, and what is said is beside what was read."""

import csv
import gzip
import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from backfill.hourly import read_folder
from cli.main import app
from cli.shared.evaluating import outcome_table
from datasets.errors import LayoutError
from datasets.hourly import StationHistory
from model.evaluation.region import RIVALS, Outcome, evaluate_region
from model.evaluation.region_hours import RegionHours, read_region
from network.cell import Estimates
from network.members import Members, Position, Variable
from schemas.arrays import Float64
from schemas.base import format_time, from_ms
from schemas.parameters import Pollutant
from schemas.station import Station
from tests.network.cities import city, end, members

AIRBOX = Path(__file__).parents[4] / "shared" / "data" / "airbox"
BEIJING = Path(__file__).parents[4] / "shared" / "data" / "beijing"


def hours_of(of: Members, values: np.ndarray) -> RegionHours:
    return RegionHours(of, np.array([end(hour) for hour in range(len(values))]), values)


def by_kind(outcomes: list[Outcome]) -> Mapping[tuple[str, int, str], Outcome]:
    return {(one.silence, one.hours, one.pollutant): one for one in outcomes}


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    of = members(4, ("pm25", "pm10"))
    return evaluate_region(hours_of(of, city(of, 500)), outages=(6, 24), new_places=(0, 24))


@pytest.mark.parametrize(("stations", "kind"), [(3, "one pollutant everywhere"), (8, "whole station")])
def test_who_is_silent_for_an_hour_is_so_at_all_hours_of_the_day(stations: int, kind: str) -> None:
    """Or its air would never be heard at some of them."""
    of = members(stations, ("pm25", "pm10"))
    values = city(of, 700)
    # The hour of the day can be read from all that is heard: the hundredths of each value.
    values = np.floor(values) + (np.arange(len(values)) % 24)[:, None] / 100
    silent: set[tuple[int, int]] = set()

    def seen(_: Members, said: Estimates, heard: Float64) -> Estimates:
        hour = round(float(np.nanmin(heard % 1.0)) * 100)
        silent.update((variable, hour) for variable in np.flatnonzero(np.isnan(heard)).tolist())
        return said

    evaluate_region(hours_of(of, values), outages=(1,), new_places=(), silences=[kind], possible=seen)
    assert silent == {(variable, hour) for variable in range(len(of)) for hour in range(24)}


def test_every_kind_of_outage_is_scored_and_the_network_is_best(outcomes: list[Outcome]) -> None:
    found = by_kind(outcomes)
    assert {(kind, hours) for kind, hours, _ in found} == {
        *(
            (kind, hours)
            for kind in (
                "one sensor", "both PM of a station", "whole station", "one pollutant everywhere",
                "half of all at random",
            )
            for hours in (6, 24)
        ),
        ("new place", 0),
        ("new place", 24),
    }  # fmt: skip
    for outcome in outcomes:
        assert outcome.values > 0
        assert outcome.refused == 0
        if outcome.silence != "new place" and outcome.hours == 24:
            rmse = {name: skill[0] for name, skill in outcome.skills.items()}
            assert rmse["network"] < rmse["last value"]
            assert rmse["network"] < rmse["hour-of-day mean"]
    sensor = found["one sensor", 24, "pm25"]
    assert sensor.skills["network"][0] < sensor.skills["neighbours' mean"][0]
    assert sensor.skills["network"][0] < sensor.skills["inverse distance"][0]


def test_the_truth_of_an_outage_reaches_nobody() -> None:
    """Other readings in the silent hours: what is said and what rivals say stays, the errors alone change."""
    of = members(3, ("pm25", "pm10"))
    air = city(of, 200)
    squares = []
    for more in (0.0, 1000.0, 2000.0):
        changed = air.copy()
        changed[150:, 0] += more  # the first one's turn
        [found] = evaluate_region(
            hours_of(of, changed), outages=(50,), new_places=(), silences=["one sensor"], start=150
        )
        assert set(found.skills) == {"network", *RIVALS}
        squares.append(np.array([found.skills[name][0] ** 2 for name in sorted(found.skills)]))
    # Squared errors of what stays go with the square of what the truth is changed by.
    np.testing.assert_allclose(squares[2] - 2 * squares[1] + squares[0], 2 * 1000.0**2, rtol=1e-9)


def test_rivals_know_no_more_of_a_new_place_than_its_own_data() -> None:
    """A ridge wants a hundred hours, whatever was read there before anybody heard it."""
    of = members(3, ("pm25", "pm10"))
    data = hours_of(of, city(of, 330))
    found = evaluate_region(data, outages=(), new_places=(0, 24, 120), silences=["new place"], start=300)
    assert {one.hours for one in found if "ridge, own others" in one.skills} == {120}
    assert {one.hours for one in found if "last value" in one.skills} == {24, 120}


@pytest.mark.parametrize(("length", "first"), [(90, 120), (91, 209)])
def test_an_outage_that_fits_only_once_is_at_the_end(length: int, first: int) -> None:
    """More is learned before it, and what is called a week is none of two days."""
    of = members(3, ("pm25",))
    values = 10.0 + np.repeat(np.arange(300.0)[:, None], len(of), axis=1)  # each tells its hour
    hours: list[int] = []

    def seen(_: Members, said: Estimates, heard: Float64) -> Estimates:
        hours.append(int(np.nanmin(heard)) - 10)
        return said

    evaluate_region(
        hours_of(of, values), outages=(length,), new_places=(), silences=["one sensor"],
        possible=seen,
    )  # fmt: skip
    assert hours == list(range(first, 300))


def new_places(stations: int, values: Float64 | None = None) -> list[tuple[list[int], Float64]]:
    """Of each hour that is scored in "new place": who is not heard, and what is said of all."""
    of = members(stations, ("pm25",))
    seen: list[tuple[list[int], Float64]] = []

    def kept(_: Members, said: Estimates, heard: Float64) -> Estimates:
        seen.append((np.flatnonzero(np.isnan(heard)).tolist(), said.value))
        return said

    evaluate_region(
        hours_of(of, city(of, 60) if values is None else values),
        outages=(), new_places=(0,), silences=["new place"], start=50, possible=kept,
    )  # fmt: skip
    return seen


def test_nothing_is_heard_of_a_new_place() -> None:
    air = city(members(3, ("pm25",)), 60)
    changed = air.copy()
    changed[:, 0] += 1000.0
    base, other = new_places(3, air), new_places(3, changed)
    whose = [silent == [0] for silent, _ in base]
    assert sum(whose) == 10
    for is_first, (_, one), (_, two) in zip(whose, base, other, strict=True):
        assert (one[0] == two[0]) == is_first


@pytest.mark.parametrize(
    ("stations", "turns"),
    [(2, [[0], [1]]), (8, [[0], [2], [4], [6]]), (13, [[0, 10], [2, 12], [5], [7]])],
)
def test_places_take_turns_at_being_new(stations: int, turns: list[list[int]]) -> None:
    """A row of one station is that station's."""
    silent = [who for who, _ in new_places(stations)]
    assert silent == [who for who in turns for _ in range(10)]


def test_what_is_said_is_made_possible_first() -> None:
    """Of the estimates the judge scores those that the stream would publish."""
    of = members(3, ("pm25",))
    [found] = evaluate_region(
        hours_of(of, city(of, 60)), outages=(6,), new_places=(), silences=["one sensor"], start=40,
        possible=lambda _, said, heard: said._replace(value=np.where(np.isnan(heard), 5000.0, said.value)),
    )  # fmt: skip
    assert found.skills["network"][0] > 4000.0
    assert found.ahead["last value"] == 0.5  # of one week


def test_who_did_better_says_in_how_many_draws_of_weeks(outcomes: list[Outcome]) -> None:
    """At the values that both tell: a rival that tells few is not ahead by those that it leaves out."""
    day = by_kind(outcomes)["one sensor", 24, "pm25"]
    assert set(day.ahead) == set(day.skills) - {"network"}
    assert day.ahead["last value"] < 0.05
    of = members(3, ("pm25",))
    air = city(of, 1200)

    turns = itertools.count()
    [spoiled] = evaluate_region(
        hours_of(of, air), outages=(6,), new_places=(), silences=["one sensor"],
        possible=lambda _, said, __: said._replace(value=said.value + 500.0 * (next(turns) % 5 == 0)),
    )  # fmt: skip
    assert spoiled.ahead["last value"] == 1.0 - 0.5**6  # as much as six weeks can say


def write_layout(folder: Path, data: RegionHours) -> None:
    """As the plain layout has it: a mean is stamped where its hour begins."""
    with (folder / "readings.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["station", "time", "parameter", "value", "unit"])
        for time, row in zip(data.times.tolist(), data.values, strict=True):
            for (station, pollutant), value in zip(data.members.variables, row.tolist(), strict=True):
                if not np.isnan(value):
                    rows.writerow(
                        [station, format_time(from_ms(time - 3_600_000)), pollutant, f"{value:.3f}", "ug/m3"]
                    )
    with (folder / "stations.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["station", "latitude", "longitude"])
        placed = {v.station: p for v, p in zip(data.members.variables, data.members.places, strict=True)}
        for station, place in placed.items():
            if place is not None:
                rows.writerow([station, place.latitude, place.longitude])


def test_the_command_reads_a_folder_and_says_it_in_a_table_and_in_json(tmp_path: Path) -> None:
    of = members(3, ("pm25", "o3"))
    data = hours_of(of, city(of, 130))
    write_layout(tmp_path, data)
    read, problems = read_region(tmp_path, read_folder)
    assert read.members == of
    assert read.times.tolist() == data.times.tolist()
    said = CliRunner().invoke(app, ["evaluate", "--network", str(tmp_path), "--outage", "6", "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["stations"] == 3
    assert {one["silence"] for one in found["outcomes"]} >= {"one sensor", "whole station", "new place"}
    shown = CliRunner().invoke(app, ["evaluate", "--network", str(tmp_path), "--outage", "6"])
    assert "whole station" in shown.stdout
    assert "PM2.5" in shown.stdout
    assert problems == []


def test_a_pollutant_whose_turn_does_not_come_is_named(tmp_path: Path) -> None:
    of = members(2)
    write_layout(tmp_path, hours_of(of, city(of, 120)))
    arguments = ["evaluate", "--network", str(tmp_path), "--outage", "40", "--outage", "40"]
    shown = CliRunner().invoke(app, arguments).stdout
    assert "not scored: one pollutant everywhere, 40 h: NO2;" in shown
    assert shown.count("one pollutant everywhere") == 2  # the table's, and this


def test_hours_of_a_wrong_clock_are_left_out_and_named(tmp_path: Path) -> None:
    """Ten years between them were replayed hour by hour."""
    of = members(3, ("pm25", "o3"))
    data = hours_of(of, city(of, 30))
    ten_years, wrong = 10 * 365 * 24 * 3_600_000, of.variables[0].station
    histories = {
        station: StationHistory(Station(station=station), means={
            variable.pollutant: {
                int(end) - ten_years * (station == wrong): float(value)
                for end, value in zip(data.times, data.values[:, column], strict=True)
                if np.isfinite(value)
            }
            for column, variable in enumerate(of.variables) if variable.station == station
        })
        for station in of.stations
    }  # fmt: skip
    read, problems = read_region(tmp_path, lambda _: (histories, []))
    assert wrong not in read.members.stations
    assert len(read.times) == 30
    assert [line.partition(":")[0] for line in problems] == [wrong, wrong]
    assert all("a clock that was wrong?" in line for line in problems)


def test_who_cannot_be_scored_is_named_and_why_nobody_can(tmp_path: Path) -> None:
    seen = StationHistory(Station(station="seen"), frames=[(0, "a", tmp_path)])
    means = {"pm25": {3_600_000 * hour: 5.0 for hour in range(9)}}
    heard = StationHistory(Station(station="heard"), means=means)
    _, problems = read_region(tmp_path, lambda _: ({"seen": seen, "heard": heard}, []))
    assert problems == ["seen: it has frames, but no readings to score the network by; left out"]
    with pytest.raises(LayoutError, match="the first thing left out: readings, row 2: no zone"):
        read_region(tmp_path, lambda _: ({"seen": seen}, ["readings, row 2: no zone"]))


@pytest.mark.parametrize("arguments", [["--network", "x", "default"], ["--outage", "3"], ["default"]])
def test_wrong_use_is_said(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["evaluate", *arguments]).exit_code == 2


def test_a_witness_alone_that_did_better_is_marked() -> None:
    skills = {
        "network": (5.0, 0.9), "last value": (4.9, 0.91), "hour-of-day mean": (4.9, 0.91),
        "ridge, own others": (5.1, 0.89),
    }  # fmt: skip
    ahead = {"last value": 0.96, "hour-of-day mean": 0.94, "ridge, own others": 0.96}
    found = Outcome("one sensor", 1, "pm25", 100, skills, 0.9, 0.88, 0, ahead)
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        console.print(outcome_table("one sensor", [found], len(RIVALS)))
    assert shown.get().splitlines()[1].split() == [
        "PM2.5", "1", "h", "100", "5.0/0.90", "*4.9/0.91", "~4.9/0.91", "-", "-", "5.1/0.89",
        "90", "%", "88", "%",
    ]  # fmt: skip


def beijing(first: str, last: str) -> RegionHours:
    """Eight stations between two days; the hours are local: the network asks only for the hour of the day."""
    begin, stop = (
        int((np.datetime64(day) - np.datetime64("2013-03-01")).astype(int)) * 24 for day in (first, last)
    )
    columns: dict[str, Pollutant] = {
        "PM2.5": "pm25",
        "PM10": "pm10",
        "NO2": "no2",
        "SO2": "so2",
        "CO": "co",
        "O3": "o3",
    }
    variables, series = [], []
    for file in sorted(BEIJING.glob("*.csv.gz")):
        with gzip.open(file, "rt") as stream:
            rows = list(csv.DictReader(stream))[begin:stop]
        for column, name in columns.items():
            variables.append(Variable(file.name.split("_")[2], name))
            series.append([float("nan") if row[column] == "NA" else float(row[column]) for row in rows])
    return hours_of(Members(tuple(variables), (None,) * len(variables)), np.array(series).T)


def airbox(stations: int | None = None) -> RegionHours:
    """The boxes of Taiwan, from their first hour."""
    with (AIRBOX / "stations.csv").open() as stream:
        places = {
            row["station"]: Position(float(row["latitude"]), float(row["longitude"]))
            for row in list(csv.DictReader(stream))[:stations]
        }
    columns = {name: number for number, name in enumerate(places)}
    values = np.full((576, len(places)), np.nan)
    with gzip.open(AIRBOX / "pm25.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            if row["station"] in columns and row["pm25"]:
                values[int(row["hour"]), columns[row["station"]]] = float(row["pm25"])
    return hours_of(Members(tuple(Variable(name, "pm25") for name in places), tuple(places.values())), values)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not BEIJING.is_dir(), reason="no data of Beijing")
def test_a_day_without_a_sensor_or_a_station_in_beijing() -> None:
    found = by_kind(
        evaluate_region(
            beijing("2014-12-01", "2015-12-01"), outages=(24,), new_places=(),
            silences=["one sensor", "whole station"],
        )
    )  # fmt: skip
    rmse, r2 = found["one sensor", 24, "pm25"].skills["network"]
    assert r2 >= 0.95
    assert found["whole station", 24, "pm25"].skills["network"][1] >= 0.9
    for outcome in found.values():
        assert 0.86 <= outcome.coverage <= 0.94
    assert rmse < 0.3 * found["one sensor", 24, "pm25"].skills["last value"][0]
