"""`skyfuse query`: every format says the same, and an imputed value never looks measured."""

import csv
import io
import json
import re
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from cli.errors import QueryError
from cli.query import SCHEMA, query, row, to_csv, to_json, to_parquet, to_table
from cli.shared.times import moment
from schemas.estimate import Estimate, SensorDrift
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from sinks.retention import Retention
from sinks.store import Store
from tests.samples import T0, estimate, estimates, imputed, index, measured

APP = typer.Typer()
APP.command()(query)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    with Store(tmp_path / "store.sqlite") as store:
        yield store


def run(*arguments):
    result = CliRunner().invoke(APP, arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout_bytes


def screen(*rows):
    console = Console(file=io.StringIO(), width=220, record=True)
    console.print(to_table(rows))
    return console.export_text(styles=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(estimates(), max_size=4))
def test_all_formats_carry_the_same_rows(batch):
    rows = [row(one) for one in batch]
    assert [Estimate.model_validate_json(json.dumps(one)) for one in json.loads(to_json(batch))] == batch
    table = pq.read_table(io.BytesIO(to_parquet(batch)))
    assert table.schema == SCHEMA
    assert table.to_pylist() == rows
    read = list(csv.DictReader(io.StringIO(to_csv(batch).decode(), newline="")))
    assert [list(line) for line in read] == [SCHEMA.names] * len(batch)
    for line, wanted in zip(read, rows, strict=True):
        for name, value in wanted.items():
            if value is None:
                assert line[name] == ""
            elif isinstance(value, datetime):
                assert datetime.fromisoformat(line[name]) == value
            else:
                assert type(value)(line[name]) == value


def test_a_table_tells_measured_from_imputed():
    text = screen(
        estimate(
            pollutants={
                "pm25": measured(12.0),
                "pm10": imputed(34.2, 20.1, 50.4),
                "no2": measured(5.0, kind="corrected"),
            },
            indices=(index(52, status="indicative"),),
        )
    )  # fmt: skip
    assert "~34.2 (20 to 50)" in text
    assert "5.0*" in text
    assert "moderate (indicative)" in text
    assert "48;2;255;255;0" in text  # moderate is yellow, under black
    assert "48;2;0;228;0" in screen(estimate(indices=(index(12),)))
    assert "-" in screen(estimate(indices=(index(None),)))


def test_a_standard_of_a_newer_release_is_shown_without_colour():
    assert " 52 " in screen(estimate(indices=(index(52, standard="mars-2099"),)))


def test_the_command_filters_and_writes(store, tmp_path):
    store.write([estimate(name, end=T0 + 60 * n) for name in ("a", "b") for n in range(1, 6)])
    assert len(json.loads(run("a", "--format", "json"))) == 5
    assert len(json.loads(run("--format", "json", "--limit", "3"))) == 3
    since = ["--since", "2026-01-01T00:02:00Z", "--until", "2026-01-01T05:34:00+05:30"]
    assert [one["window"]["end"] for one in json.loads(run("a", "--format", "json", *since))] == [
        "2026-01-01T00:02:00Z",
        "2026-01-01T00:03:00Z",
    ]
    out = tmp_path / "out.parquet"
    run("--format", "parquet", "--output", str(out))
    assert pq.read_table(out).num_rows == 10
    assert b"pm25_kind" in run("--format", "csv").splitlines()[0]
    assert "2026-01-01 00:05:00Z" in run("b").decode()


WIDE = {name: imputed(1000.5 + n, 10.0, 20_000.0) for n, name in enumerate(POLLUTANTS)}


@pytest.mark.parametrize("columns", ["50", "60", "80", "120", None])
def test_no_number_and_no_name_is_cut(store, columns):
    """Columns and intervals go first; a pipe, which has no width, gets all of them."""
    store.write([estimate(name, T0 + 60, 1, WIDE, (index(155),)) for name in ("harbour-north", "a")])
    result = CliRunner(env={} if columns is None else {"COLUMNS": columns}).invoke(APP, [])
    assert "…" not in result.output
    assert (columns is None) == ("(10 to 20000)" in result.output)
    [row] = [line for line in result.output.splitlines() if line.startswith("harbour-north")]
    assert {"155", "00:01:00Z"} <= {word.removeprefix("2026-01-01 ") for word in row.split()}
    told = " ".join(result.output.split()).partition("a wider terminal shows")[2]
    for n, name in enumerate(POLLUTANTS):
        assert (f"~{1000.5 + n:.1f}" in row) == (name.upper().replace("PM25", "PM2.5") not in told)
    if columns is not None:
        assert all(len(line) <= int(columns) for line in result.output.splitlines())


def test_a_long_name_is_folded_before_a_pollutant_is_left_out(store):
    store.write([estimate("a-station-with-a-name-as-long-as-that")])
    lines = CliRunner(env={"COLUMNS": "50"}).invoke(APP, []).output.splitlines()
    assert any(line.startswith("a-station-with-a-nam") and "12.0" in line for line in lines)
    assert any(line.startswith("e-as-long-as-that") for line in lines)


def test_a_station_s_own_clock_stands_beside_utc(store):
    store.write([estimate("milan"), estimate("roof")])
    store.write_stations([Station(station="milan", timezone="Europe/Rome")])
    lines = run().decode().splitlines()
    assert "local" in lines[0]
    assert any(re.search(r"2026-01-01 00:01:00Z +01:01 CET ", line) for line in lines if "milan" in line)
    assert not any("CET" in line for line in lines if "roof" in line)
    assert "local" not in run("roof").decode().splitlines()[0]


def test_a_period_whose_windows_have_left_is_answered_by_hours_and_days(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    day = 86_400
    kept = Retention(windows=2 * day * 1000, hours=4 * day * 1000)
    with Store(tmp_path / "store.sqlite", retention=kept) as store:
        for back in (6, 3, 0):
            end = T0 - back * day
            made = [
                estimate("a", end + 60, pollutants={"pm25": measured(10.0)}, indices=(index(40),)),
                estimate("a", end + 120, pollutants={"pm25": imputed(30.0, 10, 50)}, indices=(index(80),)),
                estimate("a", end + 180, pollutants={"pm25": measured(20.0)}, indices=(index(None),)),
            ]
            store.write(made)
            store.tidy(windows=10)
        store.write([estimate("a", T0 - 3 * day + 60, 7)])

    def told(*arguments):
        result = CliRunner().invoke(APP, arguments)
        assert result.exit_code == 0, result.output or result.exception
        return result.stdout, result.stderr

    out, err = told("a", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [one["period"] for one in rows] == ["day", "hour", "window", "window", "window"]
    assert "windows up to 2025-12-29T01:00:00Z are kept no more" in err
    assert "in their place: 1 hour and 1 day" in err
    assert "of 1 of these windows a newer revision came" in err
    hour = rows[1]
    assert (hour["start"], hour["end"]) == ("2025-12-29T00:00:00Z", "2025-12-29T01:00:00Z")
    wanted = {
        "pm25": "20.0", "pm25_min": "10.0", "pm25_max": "30.0", "pm25_kind": "imputed", "aqi": "60",
        "aqi_min": "40", "aqi_max": "80", "windows": "3", "missed": "1", "standard": "us-epa-2024",
        "revision": "3", "o3": "", "status": "",
    }  # fmt: skip
    assert {name: hour[name] for name in wanted} == wanted
    assert float(hour["pm25_imputed_share"]) == pytest.approx(1 / 3)
    assert rows[0]["end"] == "2025-12-27T00:00:00Z"
    # A part of an old hour is answered by the hour.
    out, err = told("a", "--since", "2025-12-29T00:10:00Z", "--until", "2025-12-29T00:20:00Z")
    assert "hour to 2025-12-29 01:00Z" in out
    assert "~20.0" in out
    assert "60 (40 to 80)" in out
    assert err.endswith(
        "in their place: 1 hour; of 1 of these windows a newer revision came when they had left\n"
    )
    (hour,) = json.loads(told("--format", "json", "--until", "2025-12-30T00:00:00Z", "--limit", "1")[0])
    assert (hour["period"], hour["pollutants"]["pm25"]["imputed"]) == ("hour", 1)
    assert hour["indices"][0] | {"standard": ""} == {
        "standard": "", "leading": True, "mean": 60.0, "min": 40, "max": 80, "last": 80, "windows": 2,
        "valid": 2, "imputed_share": 0.0,
    }  # fmt: skip
    # What is all there as windows is told as before.
    assert told("a", "--since", "2026-01-01T00:00:00Z")[1] == ""
    with Store(tmp_path / "store.sqlite", retention=kept) as store:
        store.write([estimate("b", T0 + 4 * day)])
        store.tidy(windows=10)
        assert {one.station for one in store.read()} == {"b"}
    assert "hour to" in told("a")[0]  # a station that is known by its hours alone


def test_an_unknown_station_is_told_which_there_are(store):
    store.write([estimate("milan")])
    result = CliRunner().invoke(APP, ["turin"])
    assert isinstance(result.exception, QueryError)
    assert "milan" in str(result.exception)


def test_a_time_without_windows_is_told_when_the_newest_ended(store):
    store.write([estimate("a", end=T0 + 60)])
    later = CliRunner().invoke(APP, ["a", "--format", "csv", "--since", "2027-01-01T00:00:00Z"])
    assert later.exit_code == 0
    assert "no window ended then; the newest ended at 2026-01-01T00:01:00Z" in later.stderr
    backwards = ["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"]
    assert "is not before --until" in str(CliRunner().invoke(APP, backwards).exception)


def test_times_may_be_ages():
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert moment("6h", now) == datetime(2026, 1, 1, 18, tzinfo=UTC)
    with pytest.raises(QueryError, match="append Z"):
        moment("2026-01-01T00:00:00", now)


LEFT = SensorDrift(
    kind="slide", since=datetime(2025, 12, 3, tzinfo=UTC), share=-0.18, reason="pm25 slides since 3 December"
)


def test_a_sensor_that_left_its_neighbours_is_said_in_every_format(store):
    """By the newest window: who is back is not accused any more."""
    store.write([estimate("a", end=T0 + 60, drift={}), estimate("a", end=T0 + 120, drift={"pm25": LEFT})])
    store.write([estimate("b", end=T0 + 60, drift={"pm25": LEFT}), estimate("b", end=T0 + 120, drift={})])
    assert run("a").decode().splitlines()[-1] == "a: pm25 slides since 3 December"
    assert "slides" not in run("b").decode()
    rows = list(csv.DictReader(io.StringIO(run("a", "--format", "csv").decode())))
    assert [one["pm25_drift"] for one in rows] == ["", "slide"]
    assert {one["no2_drift"] for one in rows} == {""}
    assert json.loads(run("a", "--format", "json", "--limit", "1"))[0]["drift"]["pm25"]["kind"] == "slide"


def test_why_says_that_a_sensor_left_its_neighbours(store):
    store.write([estimate("a", end=T0 + 60, drift={"pm25": LEFT}), estimate("a", end=T0 + 120, drift={})])
    store.write([estimate("b", drift={"pm25": LEFT})])
    told = run("--why").decode()
    assert told.count("slides since 3 December") == 1
    assert "slides since 3 December" in told.partition("b, window to")[2]
