"""NowCast: EPA's worked example, its edges, and AirNow's own published series at Chennai."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqi import nowcast, standards
from aqi.history import History
from aqi.index import assess_many
from aqi.slots import Mean
from schemas.times import HOUR_MS

GAP = float("nan")
Series = npt.NDArray[np.float64]
CHENNAI = Path(__file__).resolve().parents[3] / "shared" / "data" / "nowcast-chennai" / "AirNow.csv"


def particles(*oldest_first: float) -> float:
    hours = [GAP] * (12 - len(oldest_first)) + list(oldest_first)
    return float(nowcast.particles([hours[::-1]]).value[0])


def test_epa_worked_example() -> None:
    found = particles(34.9, 43, 50, 64.9, 69.2, 66.2, 53.7, 48.6, 49.2, 35, GAP, 21)
    assert found == pytest.approx(28.4098, abs=5e-5)
    assert standards.load("us-epa-2024").measure("pm25", "24h").quanta(found) == 284


@pytest.mark.parametrize(
    ("oldest_first", "expected"),
    [
        ((10.0, 10.0, 10.0), 10.0),
        ((0.0, 0.0, 0.0), 0.0),  # max is zero: no division by it
        ((10.0, GAP, 10.0), 10.0),
        ((GAP, 10.0, 10.0), 10.0),
        ((10.0, 10.0, GAP), 10.0),  # the current hour may be missing
        ((10.0, GAP, GAP), GAP),
        ((GAP, GAP, 10.0), GAP),
        ((10.0, 10.0, GAP, GAP), GAP),  # old hours do not help
        ((100.0, 10.0), 40.0),  # weight 1/2: (10 + 50) / 1.5
        ((10.0, 8.0), 8.888888888888889),  # weight 0.8: (8 + 8) / 1.8
        ((-2.0, -1.0, -1.0), 0.0),  # AirNow publishes zero
    ],
)
def test_particles(oldest_first: tuple[float, ...], expected: float) -> None:
    assert particles(*oldest_first) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(0, 1000), min_size=12, max_size=12))
def test_particles_lie_between_the_extremes_and_equal_the_formula(newest_first: list[float]) -> None:
    found = float(nowcast.particles([newest_first]).value[0])
    low, high = min(newest_first), max(newest_first)
    weight = max(low / high, 0.5) if high else 1.0
    formula = sum(weight**i * c for i, c in enumerate(newest_first)) / sum(weight**i for i in range(12))
    assert found == pytest.approx(formula, rel=1e-12)
    assert low - 1e-9 <= found <= high + 1e-9


@pytest.mark.realdata
@pytest.mark.skipif(not CHENNAI.exists(), reason="../shared/data is not here")
def test_airnow_chennai_is_reproduced() -> None:
    """7,212 hours as AirNow published them in 2020, by the edition of then, through the hourly history.

    Every hour is either reproduced or in one of three explained classes; the classes are listed in full.
    """
    rows = {}
    with CHENNAI.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            when = datetime.strptime(row["Date (LT)"], "%Y-%m-%d %I:%M %p").replace(tzinfo=UTC)
            rows[int(when.timestamp() * 1000)] = row
    assert len(rows) == 7212
    standard = standards.load("us-epa-2012")
    history, histories = History.empty(26), []
    for end_ms, row in rows.items():
        if row["QC Name"] == "Valid":
            history = history.with_hour(end_ms, {"pm25": Mean(float(row["Raw Conc."]), 3600)})
        histories.append(history)
    results = assess_many(standard, histories, list(rows))
    reproduced, both_silent = 0, 0
    series_begins, repeats_last = [], []
    last_published = None
    for (end_ms, row), assessed in zip(rows.items(), results, strict=True):
        theirs, their_index = float(row["NowCast Conc."]), int(row["AQI"])
        result = assessed.nowcast
        hour = row["Date (LT)"]
        if result is None:
            if theirs == -999:
                both_silent += 1
            elif last_published is None:
                series_begins.append(hour)
            else:
                # The file's previous value, unchanged, though two of the newest three hours are missing.
                assert theirs == last_published
                repeats_last.append(hour)
        elif end_ms - next(iter(rows)) < 6 * HOUR_MS:
            series_begins.append(hour)
        else:
            ours = result.subindices[0]
            assert abs(ours.value - theirs) <= 0.1 + 1e-9, hour
            assert result.index == their_index, hour
            assert result.category is not None
            assert result.category.name.startswith(row["AQI Category"])
            assert result.status == "valid"
            reproduced += 1
        if theirs != -999:
            last_published = theirs
    # The file begins at 02:00, AirNow's NowCast of the first hours rests on hours before it.
    assert series_begins == [f"2020-01-01 {hour:02}:00 AM" for hour in range(2, 8)]
    # AirNow repeats its last NowCast for up to three hours; EPA's document has no such rule.
    assert repeats_last == [
        "2020-03-31 11:00 PM", "2020-04-01 12:00 AM", "2020-04-01 01:00 AM",
        "2020-07-19 04:00 AM", "2020-07-19 05:00 AM", "2020-07-19 06:00 AM",
        "2020-07-30 10:00 AM", "2020-07-30 11:00 AM", "2020-07-30 12:00 PM",
        "2020-07-31 01:00 AM", "2020-07-31 02:00 AM",
        "2020-07-31 09:00 AM", "2020-07-31 10:00 AM", "2020-07-31 11:00 AM",
    ]  # fmt: skip
    assert both_silent == 17
    assert reproduced == 7175


def sinusoid(hours: int) -> Series:
    t = np.arange(hours)
    series: Series = 40 + 20 * np.sin(2 * np.pi * t / 24) + 6 * np.cos(2 * np.pi * t / 7.3)
    return series


def centred(series: Series, hour: int) -> float:
    return float(series[hour - 4 : hour + 4].mean())


def test_ozone_regression_foresees_a_lawful_series() -> None:
    """A sum of sinusoids obeys a linear recurrence: the regression must find the mean half ahead."""
    full = sinusoid(400)
    cast = nowcast.ozone(full[:336])
    assert cast is not None
    assert (cast.method, cast.hours_back) == ("regression", 0)
    assert cast.value == pytest.approx(centred(full, 335), abs=1e-6)
    assert cast.value != pytest.approx(0.85 * full[335] + 4.5, abs=1.0)  # far from the surrogate


def test_ozone_regression_equals_partial_least_squares_with_all_components() -> None:
    """NIPALS PLS1 written out, all 96 components, against the least-squares solution used."""
    rng = np.random.default_rng(7)
    noise = np.zeros(336)
    for hour in range(1, 336):
        noise[hour] = 0.8 * noise[hour - 1] + rng.normal(0, 4)
    series = np.maximum(sinusoid(336) + noise, 0)
    predictors = np.lib.stride_tricks.sliding_window_view(series, 96)
    targets = [centred(series, hour) for hour in range(95, 333)]
    x = predictors[: len(targets)]
    x_mean, y_mean = x.mean(axis=0), np.mean(targets)
    e, f = x - x_mean, np.array(targets) - y_mean
    weights, loadings, inner = [], [], []
    for _ in range(96):
        w = e.T @ f
        if np.linalg.norm(w) < 1e-10:
            break
        w = w / np.linalg.norm(w)
        scores = e @ w
        squared = scores @ scores
        p, q = e.T @ scores / squared, float(f @ scores / squared)
        e, f = e - np.outer(scores, p), f - q * scores
        weights.append(w)
        loadings.append(p)
        inner.append(q)
    w_, p_, q_ = np.array(weights).T, np.array(loadings).T, np.array(inner)
    slopes = w_ @ np.linalg.solve(p_.T @ w_, q_)
    expected = float(y_mean + (predictors[-1] - x_mean) @ slopes)
    cast = nowcast.ozone(series)
    assert cast is not None
    assert cast.method == "regression"
    assert cast.value == pytest.approx(max(expected, 0), abs=1e-4)


def without(series: Series, start: int, count: int) -> Series:
    holed = series.copy()
    holed[start : start + count] = GAP
    return holed


@pytest.mark.parametrize(
    ("series", "method", "back"),
    [
        (sinusoid(336), "regression", 0),
        (sinusoid(335), "surrogate", 0),
        (without(sinusoid(336), 100, 7), "regression", 0),
        (without(sinusoid(336), 100, 8), "surrogate", 0),
        (without(sinusoid(336), 0, 7), "regression", 0),
        (without(sinusoid(337), 336, 1), "regression", 1),
        (without(sinusoid(338), 336, 2), "regression", 2),
        (without(sinusoid(24), 22, 2), "surrogate", 2),
    ],
)
def test_ozone_chooses_its_method(series: Series, method: str, back: int) -> None:
    cast = nowcast.ozone(series)
    assert cast is not None
    assert (cast.method, cast.hours_back) == (method, back)


def test_ozone_needs_252_hours_for_the_regression() -> None:
    series = sinusoid(336)
    holes = [hour for hour in range(336) if hour % 4 == 1][:84]
    series[holes] = GAP
    assert np.isfinite(series).sum() == 252
    cast = nowcast.ozone(series)
    assert cast is not None
    assert cast.method == "regression"
    series[10] = GAP
    cast = nowcast.ozone(series)
    assert cast is not None
    assert cast.method == "surrogate"


def test_ozone_needs_enough_targets_too() -> None:
    """Every third hour missing: 8-hour means lack three of eight, although 256 hours are there."""
    series = sinusoid(336)
    series[96::3] = GAP
    assert np.isfinite(series).sum() == 256
    series[-1] = 30.0
    cast = nowcast.ozone(series)
    assert cast is not None
    assert cast.method == "surrogate"


def test_ozone_edges() -> None:
    assert nowcast.ozone([50.0, GAP, GAP, GAP]) is None
    assert nowcast.ozone([]) is None
    surrogate = nowcast.ozone([40.0])
    assert surrogate is not None
    assert surrogate.value == pytest.approx(38.5)
    zero = nowcast.ozone(np.zeros(336))
    assert zero is not None
    assert zero.value == 0.0
    negative = nowcast.ozone([-50.0])
    assert negative is not None
    assert negative.value == 0.0
