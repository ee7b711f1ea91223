"""Made years: of what they are made, how faithful they are, and that they can be read again."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from forecast.errors import ForecastError
from forecast.folder import read_panel
from forecast.panel import CHANNELS, Panel
from forecast.synthesis.bootstrap import bootstrapped
from forecast.synthesis.fidelity import fidelity
from forecast.synthesis.gaussian import normal_score, share_below_score, simulated
from forecast.synthesis.sifting import SiftLevel, sifted
from forecast.synthesis.vault import days_of, hours_of, ordered_days, vaulted
from forecast.synthesis.writing import write_panel

LATE = 1_900_000_000_000


def city(days: int = 90, seed: int = 0) -> Panel:
    """Two stations that go together, with a rhythm, days that last, and gaps."""
    random = np.random.default_rng(seed)
    hours = days * 24
    state, common = np.zeros(hours), random.standard_normal(hours)
    for hour in range(1, hours):
        state[hour] = 0.97 * state[hour - 1] + 0.25 * common[hour]
    day = np.sin(np.arange(hours) * 2 * np.pi / 24)
    values = np.full((2, hours, len(CHANNELS)), np.nan, np.float32)
    for row in range(2):
        own = 0.1 * random.standard_normal(hours)
        values[row, :, 0] = np.exp(3.5 + 0.6 * state + 0.3 * day + own)
        values[row, :, CHANNELS.index("temperature")] = 10 + 5 * day + own
    values[1, 100:130] = np.nan
    return Panel(("north", "south"), 24 * 18_000, (0.0, 0.0), values)


def test_pieces_keep_the_hour_of_the_day_and_what_was_measured_together() -> None:
    panel = city()
    made = bootstrapped(panel, 1000, 1)
    rows = {
        tuple(np.nan_to_num(panel.values[:, hour, 0], nan=-1).tolist()): hour for hour in range(panel.hours)
    }
    came = [rows[tuple(np.nan_to_num(made.values[:, hour, 0], nan=-1).tolist())] for hour in range(1000)]
    known = np.asarray(np.isfinite(made.values[:, :, 0]).all(0))
    assert all(hour % 24 == source % 24 for hour, source in enumerate(came) if known[hour])
    joints = (np.diff(came) != 1)[known[1:] & known[:-1]].sum()
    assert 3 <= joints <= 1000 // 24
    assert (bootstrapped(panel, 1000, 2).values[0, :, 0] != made.values[0, :, 0]).any()


@pytest.mark.parametrize("make", [bootstrapped, simulated])
def test_made_years_are_faithful_and_the_same_for_a_seed(make) -> None:
    panel = city()
    made = make(panel, 2160, 3)
    np.testing.assert_array_equal(made.values, make(panel, 2160, 3).values)
    one = fidelity(panel, made).pollutants[0]
    assert one.pollutant == "pm25"
    assert one.distance < 0.15
    assert one.mean[1] == pytest.approx(one.mean[0], rel=0.2)
    assert one.autocorrelation[1][1] == pytest.approx(one.autocorrelation[1][0], abs=0.05)
    assert one.together is not None
    assert one.together[1] == pytest.approx(one.together[0], abs=0.05)
    assert one.learned[1][1] < 1.3 * one.learned[1][0]
    assert np.isnan(made.values[1]).sum() >= np.isnan(made.values[0]).sum()
    assert np.isnan(made.values[..., 1]).all()


def test_a_report_sees_what_is_not_faithful() -> None:
    panel = city()
    random = np.random.default_rng(0)
    shuffled = panel.values.copy()
    for row in range(2):
        shuffled[row] = shuffled[row, random.permutation(panel.hours)]
    one = fidelity(panel, replace(panel, values=shuffled)).pollutants[0]
    assert one.distance < 0.01
    assert one.autocorrelation[1][1] < 0.2 < one.autocorrelation[1][0]
    assert one.together is not None
    assert one.together[1] < 0.2 < one.together[0]
    assert one.learned[1][1] > 1.5 * one.learned[1][0]
    higher = fidelity(panel, replace(panel, values=panel.values * 2)).pollutants[0]
    assert higher.distance > 0.2
    assert higher.exceedances[1] > higher.exceedances[0]


def test_copies_are_called_so_and_strangers_are_not() -> None:
    panel = city()
    copied = fidelity(panel, bootstrapped(panel, 2160, 0)).privacy
    strange = fidelity(panel, simulated(panel, 2160, 0)).privacy
    assert copied is not None
    assert strange is not None
    assert copied.copies > 0.3
    assert strange.copies == 0
    assert strange.close < copied.close
    hidden = fidelity(panel, sifted(bootstrapped(panel, 2160, 0), SiftLevel.heavy, 0)).privacy
    assert hidden is not None
    assert hidden.copies == 0


def test_a_sieve_takes_more_the_harder_it_is_and_leaves_gaps_be() -> None:
    panel = city()
    assert sifted(panel, SiftLevel.none, 0) is panel
    changed = []
    for level in (SiftLevel.light, SiftLevel.medium, SiftLevel.heavy):
        found = sifted(panel, level, 0)
        assert found.stations == ("s01", "s02")
        assert np.isnan(found.values[np.isnan(panel.values)]).all()
        changed.append(np.nanmean(np.abs(np.log(found.values[..., 0] / panel.values[..., 0]))))
    assert 0 < changed[0] < changed[1] < changed[2]


def test_days_are_cut_and_put_together_again() -> None:
    panel = city(30)
    series = panel.values.shape[0] * panel.values.shape[2]
    days, seasons = days_of(panel)
    assert days.shape == (30, 24 * series)
    assert set(seasons.tolist()) <= set(range(6))
    flat = panel.values.transpose(1, 0, 2).reshape(-1, series)
    back = hours_of(days, series)
    known = np.isfinite(flat)
    np.testing.assert_allclose(back[known], flat[known], rtol=1e-6)


def test_made_days_stand_in_their_season_and_begin_where_the_one_before_ended() -> None:
    random = np.random.default_rng(3)
    made = random.normal(50, 20, (60, 24))
    made[:, 0], made[:, -1] = random.permutation(60), random.permutation(60)
    of_season = np.arange(60) % 2
    wanted = np.array([0] * 10 + [1] * 10)
    order = ordered_days(made, of_season, wanted, 1, random)
    assert len(set(order.tolist())) == 20, "no day comes twice"
    assert of_season[order].tolist() == wanted.tolist()
    steps = np.abs(made[order][1:, 0] - made[order][:-1, -1])
    assert steps.mean() < 0.6 * np.abs(made[:20, 0] - made[20:40, -1]).mean()


def test_without_the_extra_it_says_what_to_install_and_under_which_licence(tmp_path: Path) -> None:
    if find_spec("sdv") is not None:
        made = vaulted(city(60), 24 * 40, 0)
        assert made.values.shape[1] == 24 * 40
        assert np.nanmax(made.values[..., 0]) <= np.nanmax(city(60).values[..., 0]) * 1.001
        return
    write_panel(city(40), tmp_path / "measured")
    arguments = ["synthesize", str(tmp_path / "measured"), "--output", str(tmp_path / "made")]
    result = CliRunner().invoke(app, [*arguments, "--with", "sdv", "--days", "30"])
    assert isinstance(result.exception, ForecastError)
    assert "Business Source License" in str(result.exception)


def test_scores_come_back() -> None:
    shares = np.linspace(0.001, 0.999, 50)
    np.testing.assert_allclose(share_below_score(normal_score(shares)), shares, atol=1e-5)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    panel = city(10)
    wind = panel.values.copy()
    for name, value in (("wind_east", 3.0), ("wind_north", -4.0), ("wind_speed", 5.0)):
        wind[..., CHANNELS.index(name)] = value
    panel = replace(panel, values=wind, offsets=(8.0, -3.0))
    write_panel(panel, tmp_path)
    found, problems = read_panel(tmp_path, LATE)
    assert problems == []
    assert (found.stations, found.begins, found.offsets) == (panel.stations, panel.begins, panel.offsets)
    np.testing.assert_allclose(found.values, panel.values, rtol=1e-5)


def test_the_command_makes_a_folder_and_says_how_faithful_it_is(tmp_path: Path) -> None:
    write_panel(city(40), tmp_path / "measured")
    made = tmp_path / "made"
    arguments = ["synthesize", str(tmp_path / "measured"), "--output", str(made), "--days", "30"]
    result = CliRunner().invoke(app, [*arguments, "--with", "bootstrap", "--sift", "light"])
    assert result.exit_code == 0, result.output
    assert "PM2.5" in result.stdout
    report = json.loads((made / "fidelity.json").read_text())
    assert report["pollutants"][0]["pollutant"] == "pm25"
    panel, problems = read_panel(made, LATE)
    assert (panel.stations, panel.hours, problems) == (("s01", "s02"), 720, [])
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code != 0
    assert "not empty" in str(again.exception)
