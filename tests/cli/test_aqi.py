"""`skyfuse aqi`: what people type, what programs read, what is refused and how."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from aqi import standards
from cli.aqi import aqi_command, explain

app = typer.Typer()
app.command()(aqi_command)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_a_narrow_terminal_cuts_no_number() -> None:
    asked = ["pm25=35.9", "o3_1h=0.162ppm"]
    told = CliRunner(env={"COLUMNS": "50", "NO_COLOR": "1"}).invoke(app, asked).stdout
    assert "…" not in told
    assert "o3         1h         0.162 ppm      147" in told
    assert "category" not in told
    assert "category" in CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(app, asked).stdout


def as_json(*arguments: str) -> dict[str, Any]:
    code, out, _ = run("--json", *arguments)
    assert code == 0
    loaded: dict[str, Any] = json.loads(out)
    return loaded


def test_the_example_of_the_manual() -> None:
    found = as_json("--standard", "us-epa-2024", "pm25=35.9", "o3_1h=0.162ppm", "co=8.4ppm")
    assert found["index"] == 147
    assert found["category"] == "Unhealthy for Sensitive Groups"
    assert found["dominant"] == ["o3"]
    assert found["status"] == "valid"
    assert [(s["parameter"], s["averaging"], s["index"]) for s in found["subindices"]] == [
        ("pm25", "24h", 102),
        ("o3", "1h", 147),
        ("co", "8h", 90),
    ]
    assert "EPA-454/B-24-002" in found["source"]


def test_a_table_for_people() -> None:
    code, out, err = run("pm25=400", "no2=30ppb")
    assert (code, err) == (0, "")
    for part in (
        "US EPA Air Quality Index: 649, Hazardous",
        "valid",
        "24h",
        "400 ug/m3 (above the table)",
        "Table 6",
    ):
        assert part in out


def test_people_are_told_why_there_is_no_index_or_no_valid_one() -> None:
    code, out, _ = run("o3_1h=0.1ppm")
    assert code == 0
    assert "no index (insufficient)" in out
    assert "o3_1h is indexed from 0.125 ppm on only" in out
    assert (
        "validity: in-naqi-2014 is not met: 1 of at least 3 pollutants"
        in run("-s", "in-naqi-2014", "pm25=45")[1]
    )


@pytest.mark.parametrize(
    ("arguments", "index", "status"),
    [
        (("-s", "in-naqi-2014", "pm25=45"), 75, "indicative"),
        (("-s", "in-naqi-2014", "pm25=45", "no2=10", "co=0.5mg/m3"), 75, "valid"),
        (("-s", "in-naqi-2014", "pm25=45µg/m³", "no2=10 ug/m3", "co=500ug/m3"), 75, "valid"),
        (("-s", "cn", "--date", "2026-02-28", "pm25=75"), 100, "valid"),
        (("-s", "cn", "--date", "2026-03-02", "pm25=75"), 114, "valid"),
        (("-s", "eaqi-2025", "no2=9ppb", "pm10=1"), 2, "indicative"),
        (("-s", "eaqi-2025", "--site", "traffic", "no2=9ppb", "pm10=1"), 2, "valid"),
        (("-s", "uk-daqi", "so2=100ppb"), 3, "valid"),
        (("o3=78.53333ppb",), 126, "valid"),
        (("o3_1h=0.1ppm",), None, "insufficient"),
        (("pm25=-3",), 0, "valid"),
        (("no2=-0.4ppb", "pm25=-1e-3mg/m3"), 0, "valid"),
        (("-s", "uk-daqi", "so2=-2"), 1, "valid"),
        (("-s", "cn-hj633-2026", "pm25_1h=-1"), 1, "valid"),
    ],
)
def test_units_averagings_editions(arguments: tuple[str, ...], index: int | None, status: str) -> None:
    found = as_json(*arguments)
    assert (found["index"], found["status"]) == (index, status)
    assert bool(found["reason"]) == (status != "valid")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pm25",), "'pm25' is no concentration: write parameter"),
        (("pm25=abc",), "is no concentration"),
        (("pm25=",), "is no concentration"),
        (("pm25=-300",), "'pm25=-300' is no concentration: give a number from -15 ug/m3"),
        (("so2=-9ppb",), "give a number from -7.64 ppb"),
        (("-s", "in-naqi-2014", "nh3=-1"), "give a number from 0 ug/m3"),
        (("pm25=1e400",), "'pm25=1e400' is no concentration: give a number"),
        (("pm25=-1e400",), "is no concentration"),
        (("no2=1e308ppm",), "is no concentration"),
        (("pm25=" + "9" * 400,), "9999...' is no concentration"),
        (("pm25=nan",), "is no concentration"),
        (("pm25=inf",), "is no concentration"),
        (("pm25=12ppb",), "pm25 has no mixing ratio"),
        (("co=12grains",), "unit 'grains' of co is not known"),
        (("pm1=3",), "no table for pm1; it has pm25_24h"),
        (("pm25_1h=3",), "no table for pm25_1h"),
        (("pm25=3", "pm25_24h=4"), "pm25_24h is given twice"),
        (("-s", "mars", "pm25=3"), "no standard 'mars': there are"),
        (("-s", "cn", "pm25=3"), "stands for several editions"),
        (("-s", "cn", "--date", "yesterday", "pm25=3"), "is no day"),
        (("--site", "traffic", "pm25=3"), "knows no kind of station 'traffic'"),
    ],
)
def test_bad_input_says_what_and_how_to_mend_and_exits_2(arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("skyfuse aqi: ")
    assert err.count("\n") == 1
    assert len(err) < 250
    assert message in err


def test_no_concentration_at_all() -> None:
    assert run()[0] == 2
    with pytest.raises(Exception, match="no concentrations given"):
        explain(standards.load("us-epa-2024"), [])


def test_as_a_process() -> None:
    code = "import typer, cli.aqi as c; a = typer.Typer(); a.command()(c.aqi_command); a()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--json", "pm25=35.9"],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["index"] == 102
