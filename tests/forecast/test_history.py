"""The store's own history as hours: what was measured, as the stream counts it, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from forecast.errors import ForecastError
from forecast.history import stored_hours, stored_panel
from forecast.panel import CHANNELS
from schemas.arrays import Float32
from schemas.base import from_ms
from schemas.estimate import Inputs
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from schemas.times import DAY_MS, HOUR_MS
from sinks.retention import Retention
from sinks.store import Store
from tests.forecast.small import small_bundle
from tests.forecast.test_outlook import BEGINS, air, window
from tests.samples import imputed, measured

P = len(POLLUTANTS)


def kept(path: Path, values: Float32) -> Store:
    """A store of two windows an hour of each station."""
    found = Store(path, clock=lambda: 1e10)
    for row in range(len(values)):
        found.write(
            [
                window(f"s{row}", hour, values[row, hour], minutes)
                for hour in range(values.shape[1])
                for minutes in ((0, 15), (15, 60))
            ]
        )
    return found


def test_windows_are_the_hours_that_they_were_made_of(tmp_path: Path) -> None:
    values = air(2, 250)
    values[1, 30:200] = np.nan
    with kept(tmp_path / "s.sqlite", values) as store:
        store.write_stations([Station(station="s1", latitude=40.0, longitude=116.3)])
        panel = stored_panel(store)
        some = stored_hours(store, "s0", BEGINS + 20, BEGINS + 23)
    assert (panel.stations, panel.begins, panel.offsets) == (("s0", "s1"), BEGINS, (0.0, 8.0))
    np.testing.assert_allclose(panel.values[..., :P], values[..., :P], rtol=1e-6)
    assert np.isnan(panel.values[..., P:]).all()
    assert panel.regions == (0, 1)
    assert list(some) == [BEGINS + 20, BEGINS + 21, BEGINS + 22]
    np.testing.assert_allclose(list(some.values()), values[0, 20:23], rtol=1e-6)


def test_what_was_imputed_is_none_a_period_counts_where_it_began_and_sensors_tell_the_weather(
    tmp_path: Path,
) -> None:
    begins = from_ms((BEGINS + 1) * HOUR_MS)
    first, second = (window("s0", hour, np.array([np.nan])) for hour in (1, 2))
    of_before = measured(30.0, since=begins, covered_s=3600)
    sky = Inputs.model_validate({"readings": 1, "humidity": 50.0, "weather": {"temperature": 20.0}})
    with Store(tmp_path / "s.sqlite", clock=lambda: 1e10) as store:
        store.write(
            [
                first.model_copy(update={"pollutants": {"pm10": imputed(9.0, 1.0, 20.0)}, "inputs": sky}),
                second.model_copy(update={"pollutants": {"pm25": of_before}}),
            ]
        )
        [(hour, values)] = stored_hours(store, "s0").items()
    known = {name: value for name, value in zip(CHANNELS, values.tolist(), strict=True) if value == value}
    assert hour == BEGINS + 1
    assert known == {"pm25": 30.0, "temperature": 20.0, "dewpoint": pytest.approx(9.3, abs=0.1)}


def test_of_windows_that_have_left_hours_count_that_were_measured(tmp_path: Path) -> None:
    values = air(1, 100)
    values[0, :, :2] = 25.0
    with kept(tmp_path / "s.sqlite", values) as store:
        half = window("s0", 2, values[0, 2], (15, 60), revision=2)
        guess = {**half.pollutants, "pm25": imputed(99.0, 1.0, 300.0)}
        store.write([half.model_copy(update={"pollutants": guess})])
    kept_for = Retention(DAY_MS, 365 * DAY_MS)
    with Store(tmp_path / "s.sqlite", retention=kept_for, clock=lambda: 1e10) as store:
        store.tidy(windows=500)
        assert len(store.read("s0")) == 48
        found = stored_panel(store).values[0, :, :P]
    assert np.isnan(found[2, 0])
    want = values[0, :, :P].copy()
    want[2, 0] = np.nan
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_a_store_of_nothing_is_said_to_be_one(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store, pytest.raises(ForecastError, match="nothing can be learned"):
        stored_panel(store)


def test_a_bundle_is_judged_by_the_stores_own_history(tmp_path: Path) -> None:
    with kept(tmp_path / "own.sqlite", air(2, 600)):
        pass
    asked = ["forecast", "evaluate", "--store", str(tmp_path / "own.sqlite"), "--every", "7", "--json"]
    found = CliRunner().invoke(app, [*asked, "--bundle", str(small_bundle())])
    assert found.exit_code == 0, found.output
    scores = json.loads(found.stdout)["scores"]
    assert {"persistence", "published"} <= {one["model"] for one in scores}
    both = CliRunner().invoke(app, [*asked, str(tmp_path)])
    assert both.exit_code == 2
