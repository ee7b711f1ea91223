"""How far the interval of a mean over imputed hours reaches, beside the matrix of correlations."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqi import standards
from aqi.history import History
from aqi.index import assess
from aqi.reach import of_mean
from aqi.slots import Mean
from schemas.times import HOUR_MS, QUARTER_MS

T0 = 1_700_000_000_000 // HOUR_MS * HOUR_MS
US = standards.load("us-epa-2024")
DAQI = standards.load("uk-daqi")

#: Per hour: weight, reach (0: measured), persistence.
hours = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.just(0.0), st.floats(0, 500)), st.floats(0, 1)),
    min_size=1,
    max_size=24,
)


def by_matrix(weights: Any, reach: Any, persistence: Any) -> float:
    """JCGM 100:2008, equation 16, term by term."""
    count = range(len(weights))
    parts = [weight * far for weight, far in zip(weights, reach, strict=True)]
    rho = [
        [1.0 if i == j else (persistence[i] * persistence[j]) ** (abs(i - j) / 2) for j in count]
        for i in count
    ]
    return math.sqrt(sum(parts[i] * parts[j] * rho[i][j] for i in count for j in count))


def reach_of(rows: Any) -> float:
    weights, reach, persistence = (np.array(column)[:, None] for column in zip(*rows, strict=True))
    (found,) = of_mean(weights, reach, persistence).tolist()
    return float(found)


@given(hours)
def test_it_is_the_sum_over_the_matrix_of_correlations(rows: Any) -> None:
    assert reach_of(rows) == pytest.approx(by_matrix(*zip(*rows, strict=True)), rel=1e-9, abs=1e-9)


@given(hours)
def test_it_lies_between_independent_and_equal_errors(rows: Any) -> None:
    parts = [weight * far for weight, far, _ in rows]
    found = reach_of(rows)
    assert found <= sum(parts) * (1 + 1e-12)
    assert found >= math.sqrt(sum(part * part for part in parts)) * (1 - 1e-12) - 1e-150
    assert reach_of([(weight, far, 1.0) for weight, far, _ in rows]) == pytest.approx(sum(parts), rel=1e-12)
    assert reach_of([(weight, far, 0.0) for weight, far, _ in rows]) == pytest.approx(
        math.sqrt(sum(part * part for part in parts)), rel=1e-9, abs=1e-9
    )


@given(hours, st.integers(0, 23), st.floats(0, 100), st.floats(0, 1))
def test_more_of_anything_never_narrows_it(rows: Any, which: int, further: float, longer: float) -> None:
    weight, far, lasts = rows[which % len(rows)]
    for changed in ((weight, far + further, lasts), (weight, far, lasts + longer * (1 - lasts))):
        wider = [*rows]
        wider[which % len(rows)] = changed
        assert reach_of(wider) >= reach_of(rows) * (1 - 1e-12)


@given(hours)
def test_either_direction_of_time_gives_the_same(rows: Any) -> None:
    assert reach_of(rows[::-1]) == pytest.approx(reach_of(rows), rel=1e-9, abs=1e-12)


@given(st.lists(hours.map(lambda rows: (rows * 24)[:24]), min_size=1, max_size=9))
def test_no_bit_depends_on_the_company(stations: Any) -> None:
    together = np.array(stations).transpose(2, 1, 0)
    assert of_mean(*together).tolist() == [reach_of(rows) for rows in stations]


imputed = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(50, 400),
        st.integers(0, 50),
        st.integers(0, 300),
        st.sampled_from([0.5, 0.875, 1.0]),
    ),
    min_size=24,
    max_size=24,
)


@given(imputed)
def test_the_index_of_a_day_and_its_nowcast_use_it(given_hours: Any) -> None:
    """The oracle makes means and ends of plain sums; measured hours stand between imputed ones."""
    history = History.empty(48)
    for number, (measured, value, below, above, lasts) in enumerate(given_hours):
        mean = Mean(value, 3600) if measured else Mean(value, 0, 3600, below, above, lasts)
        history = history.with_hour(T0 + (number + 1) * HOUR_MS, {"pm25": mean})
    result = assess(US, history, T0 + 24 * HOUR_MS)
    newest = given_hours[::-1]
    values = [value for _, value, *_ in newest]
    ratio = max(min(values[:12]) / max(values[:12]), 0.5)
    read = [measured for measured, *_ in newest]
    # A valid day is made of what was measured alone.
    day = [measured / sum(read) for measured in read] if sum(read) >= 18 else [1 / 24] * 24
    cast = [ratio**back for back in range(12)]
    for said, weights, name in (
        (result, day, "24h"),
        (result.nowcast, [weight / sum(cast) for weight in cast], "24h"),
    ):
        assert said is not None
        assert said.index is not None
        count = len(weights)
        middle = sum(weight * value for weight, value in zip(weights, values[:count], strict=True))
        lasting = [lasts for *_, lasts in newest[:count]]
        ends: list[int] = []
        for sign, side in ((-1, 2), (1, 3)):
            reach = [0.0 if row[0] else float(row[side]) for row in newest[:count]]
            end = US.measure("pm25", name).index(middle + sign * by_matrix(weights, reach, lasting))
            assert end is not None
            ends.append(end)
        if said.lo is None or said.hi is None:
            assert all(row[0] or not weight for row, weight in zip(newest[:count], weights, strict=True))
            continue
        # The oracle's sums round differently: an index may fall on the other side of a step.
        assert abs(said.lo - ends[0]) <= 1
        assert abs(said.hi - ends[1]) <= 1


def test_a_day_of_passing_errors_is_narrower_than_one_of_lasting_ones() -> None:
    widths = []
    for lasts in (0.0, math.exp(-1 / 7), 1.0):
        history = History.empty(48)
        for number in range(24):
            mean = Mean(40.0, 0, 3600, 20.0, 30.0, lasts)
            history = history.with_hour(T0 + (number + 1) * HOUR_MS, {"pm25": mean})
        result = assess(US, history, T0 + 24 * HOUR_MS)
        assert result.lo is not None
        assert result.hi is not None
        widths.append((result.lo, result.hi))
    at = US.measure("pm25", "24h").index
    # Equal hours: independent errors shrink with the root of 24, lasting ones not at all.
    assert widths[0] == (at(40 - 20 / 24**0.5), at(40 + 30 / 24**0.5))
    assert widths[2] == (at(20.0), at(70.0))
    assert widths[2][0] < widths[1][0] < widths[0][0]
    assert widths[0][1] < widths[1][1] < widths[2][1]


def test_quarter_hours_are_wholly_correlated() -> None:
    history = History.empty(48)
    for quarter in (1, 2):
        part = Mean(250.0, 0, 300, 100.0, 200.0, 0.0)
        history = history.with_window(T0 + quarter * QUARTER_MS, 300_000, {"so2": part})
    result = assess(DAQI, history, T0 + 2 * QUARTER_MS + 60_000)
    at = DAQI.measure("so2", "15min").index
    assert (result.lo, result.hi) == (at(150.0), at(450.0))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0, 1)), min_size=1, max_size=20))
def test_an_hour_keeps_the_mean_persistence_of_its_imputed_seconds(parts: Any) -> None:
    history = History.empty(26)
    for minute, (measured, filled, lasts) in enumerate(parts):
        share = Mean(9.0, measured // 2, filled // 2, 1.0, 2.0, lasts)
        history = history.with_window(T0 + (minute + 1) * 60_000, 60_000, {"pm25": share})
    seconds = sum(filled // 2 for _, filled, _ in parts)
    found = history.hour(T0 + HOUR_MS).get("pm25", Mean(0.0, 0)).persistence
    expected = sum(filled // 2 * lasts for _, filled, lasts in parts) / seconds if seconds else 1.0
    assert found == pytest.approx(expected, abs=1e-5)
    assert History.from_state(history.to_state()) == history
