"""`skyfuse adapters`, on the golden payloads."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from sources.adapters import adapters
from tests.sources.adapters.golden import FOLDER

run = CliRunner()


def test_list_names_all() -> None:
    listed = run.invoke(app, ["adapters", "list"]).stdout.splitlines()
    assert [line.split()[0] for line in listed] == sorted(adapters())


@pytest.mark.parametrize("name", sorted(adapters()))
def test_show_tells_fields_and_facts(name: str) -> None:
    shown = run.invoke(app, ["adapters", "show", name])
    assert shown.exit_code == 0
    for what in ("versions", "correction", "times", "no value"):
        assert f"\n{what} " in shown.stdout
    assert all(f"  {key}: " in shown.stdout for key in adapters()[name].fields)


def test_try_shows_values_and_what_is_left_out() -> None:
    tried = run.invoke(app, ["adapters", "try", "airgradient", str(FOLDER / "airgradient" / "local.json")])
    assert tried.exit_code == 0
    assert "airgradient-ecda3b1eaaaf" in tried.stdout
    assert "pm25 = 7 ug/m3  [main, atm]" in tried.stdout
    assert "left out: rco2: CO2" in tried.stdout


def test_try_ends_with_1_where_something_is_refused() -> None:
    payload = FOLDER / "tasmota" / "no-zone.json"
    tried = run.invoke(app, ["adapters", "try", "tasmota", str(payload), "--station", "gate"])
    assert tried.exit_code == 1
    assert "[no_zone]" in tried.stderr
    zoned = ["--zone", "Europe/Rome", "--topic", "tele/gate/SENSOR"]
    tried = run.invoke(app, ["adapters", "try", "tasmota", str(payload), *zoned])
    assert tried.exit_code == 0
    assert "gate  2018-03-02T17:25:03Z (device)" in tried.stdout


@pytest.mark.parametrize(
    "arguments",
    [["show", "nobody"], ["try", "tasmota", "/nowhere"], ["try", "tasmota", __file__, "--zone", "Mars"]],
)
def test_wrong_use_is_2(arguments: list[str]) -> None:
    assert run.invoke(app, ["adapters", *arguments]).exit_code == 2
