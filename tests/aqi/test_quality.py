"""Quality control: each test by hand, the state's laws, and equality with ioos_qc on the real series."""

import csv
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ioos_qc import qartod

import aqi.flags
from aqi import quality
from aqi.comparisons import ChannelRule, Neighbour, channels, neighbours
from aqi.errors import QualityError
from aqi.flags import (
    CHANNELS,
    FAIL,
    FLAT_LINE,
    GAP,
    GOOD,
    GROSS_RANGE,
    MISSING,
    NEIGHBOURS,
    NOT_EVALUATED,
    RATE_OF_CHANGE,
    SPIKE,
    STUCK,
    SUSPECT,
    TESTS,
    TIME,
    Verdict,
    combine,
)
from aqi.limits import Limits, limits_from
from aqi.quality import FRESH, SensorState
from aqi.quality_defaults import defaults
from schemas.parameters import POLLUTANTS
from schemas.state import pack, unpack
from tests.aqi import series

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
NAN = float("nan")
PM25 = defaults().limits["pm25"]


def judge(limits: Limits, values: list[float | None], step_ms: int = HOUR_MS) -> list[Verdict]:
    return quality.judge(limits, FRESH, [(k * step_ms, value) for k, value in enumerate(values)])[0]


def flags(limits: Limits, values: list[float | None], step_ms: int = HOUR_MS) -> list[int]:
    return [verdict.flag for verdict in judge(limits, values, step_ms)]


def test_gross_range_and_missing() -> None:
    limits = Limits(fail_span=(-5, 1000), suspect_span=(0, 500))
    values = [10.0, 600.0, -1.0, -5.0, -5.1, 1000.1, -999.0, 65535.0, None, NAN, 500.0]
    assert flags(limits, values) == [1, 3, 3, 3, 4, 4, 4, 4, 9, 9, 1]
    assert [v.tests for v in judge(limits, values)] == [0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_without_any_limit_nothing_is_evaluated() -> None:
    assert flags(Limits(), [1.0, 2.0]) == [NOT_EVALUATED, NOT_EVALUATED]
    assert flags(Limits(spike=5.0), [1.0, 2.0, 1.0, 1.0]) == [2, 1, 1, 2]
    assert flags(Limits(rate=1.0), [1.0, 2.0]) == [2, 1]


def test_a_spike_is_known_one_reading_later_and_its_neighbours_are_not_blamed() -> None:
    limits = Limits(fail_span=(-5, 5000), spike=50.0, spike_fail=500.0)
    assert [v.tests for v in judge(limits, [20.0, 22.0, 120.0, 21.0, 20.0])] == [0, 0, SPIKE, 0, 0]
    assert flags(limits, [20.0, 22.0, 120.0, 21.0, 20.0]) == [1, 1, SUSPECT, 1, 1]
    assert flags(limits, [20.0, 900.0, 20.0]) == [1, FAIL, 1]
    assert flags(limits, [120.0, 20.0, 120.0]) == [1, SUSPECT, 1]  # a dip
    assert flags(limits, [20.0, 120.0, 220.0, 120.0]) == [1, 1, SUSPECT, 1]
    assert flags(limits, [20.0, 120.0, 125.0, 20.0]) == [1, 1, 1, 1]  # two readings are no spike
    first = quality.step(limits, FRESH, 0, 20.0)
    second = quality.step(limits, first.state, 1000, 120.0)
    third = quality.step(limits, second.state, 2000, 20.0)
    assert (second.flag, second.revised, third.revised) == (GOOD, None, Verdict(SUSPECT, SPIKE))


def test_rate_of_change_counts_time_and_has_a_floor() -> None:
    limits = Limits(rate=0.1, rate_floor=5.0)
    assert [v.tests for v in judge(limits, [0.0, 361.0, 0.5, 300.0])] == [0, 2, 2, 0]
    # In one second 0.1 is exceeded by any change: the floor keeps noise out.
    assert [v.tests for v in judge(limits, [10.0, 14.9, 10.0, 15.1], 1000)] == [0, 0, 0, RATE_OF_CHANGE]


def test_stuck_is_exactly_the_same_and_flat_nearly_so() -> None:
    stuck = Limits(stuck_above=5.0, stuck_suspect_s=3 * 3600, stuck_fail_s=5 * 3600)
    assert flags(stuck, [33.0] * 7) == [1, 1, 1, 3, 3, 4, 4]
    assert flags(stuck, [33.0, 33.0, 33.1, 33.0, 33.0, 33.0]) == [1] * 6
    assert flags(stuck, [3.0] * 9) == [1] * 9  # at the detection limit
    assert flags(stuck, [0.0] * 9) == [1, 1, 1] + [3] * 6  # zero is suspect, never thrown away
    assert flags(stuck, [33.0, None, 33.0, None, 33.0, 33.0]) == [1, 9, 1, 9, 3, 4]  # loses packets too
    flat = Limits(flat_tolerance=0.5, flat_suspect_s=3 * 3600, flat_fail_s=5 * 3600)
    assert flags(flat, [33.0, 33.4, 33.1, 33.2, 33.3, 33.0, 33.4]) == [1, 1, 1, 3, 3, 4, 4]
    assert flags(flat, [33.0, 33.5, 33.1, 33.2, 33.3, 33.0, 33.4]) == [1, 1, 1, 1, 3, 3, 3]
    assert [v.tests for v in judge(flat, [33.0] * 4)] == [0, 0, 0, FLAT_LINE]
    assert [v.tests for v in judge(stuck, [33.0] * 4)] == [0, 0, 0, STUCK]


def test_a_gap_is_marked_and_ends_every_comparison() -> None:
    limits = Limits(
        rate=0.001, spike=1.0, flat_tolerance=1.0, flat_suspect_s=7200, stuck_suspect_s=7200, gap_s=5000
    )
    _, state = quality.judge(limits, FRESH, [(0, 10.0), (HOUR_MS, 10.0), (2 * HOUR_MS, 10.0)])
    after = quality.step(limits, state, 6 * HOUR_MS, 90.0)
    assert (after.flag, after.tests, after.revised) == (GOOD, GAP, None)
    again = quality.step(limits, after.state, 7 * HOUR_MS, 90.0)
    assert (again.flag, again.tests) == (GOOD, 0)


def test_time_that_does_not_advance_is_ahead_or_stale() -> None:
    limits = Limits(fail_span=(0, 100), future_s=60, stale_s=3600)
    first = quality.step(limits, FRESH, HOUR_MS, 10.0, received_ms=HOUR_MS)
    assert (first.flag, first.tests) == (GOOD, 0)
    old = quality.step(limits, first.state, HOUR_MS, 10.0)
    assert (old.flag, old.tests, old.state) == (SUSPECT, TIME, first.state)
    assert quality.step(limits, first.state, HOUR_MS, None).flag == MISSING
    assert quality.step(limits, first.state, HOUR_MS, 101.0)[:2] == (FAIL, TIME | GROSS_RANGE)
    future = quality.step(limits, first.state, 2 * HOUR_MS, 10.0, received_ms=2 * HOUR_MS - 60_001)
    assert (future.flag, future.tests, future.state) == (FAIL, TIME, first.state)
    edge = quality.step(limits, first.state, 2 * HOUR_MS, 10.0, received_ms=2 * HOUR_MS - 60_000)
    assert edge.flag == GOOD
    stale = quality.step(limits, first.state, 2 * HOUR_MS, 10.0, received_ms=3 * HOUR_MS + 1)
    assert (stale.flag, stale.tests, stale.state.t_ms) == (SUSPECT, TIME, 2 * HOUR_MS)


def test_an_error_code_is_no_neighbour() -> None:
    limits = Limits(fail_span=(0, 1000), rate=0.001, spike=10.0)
    assert flags(limits, [20.0, -999.0, 20.0, 20.0, 20.0]) == [1, 4, 1, 1, 1]


def test_a_late_reading_between_does_not_take_the_spike_of_another() -> None:
    limits = Limits(fail_span=(0, 1000), spike=10.0)
    verdicts, _ = quality.judge(limits, FRESH, [(1, 20.0), (2, 90.0), (2, 20.0), (3, 20.0)])
    assert [v.tests for v in verdicts] == [0, SPIKE, TIME, 0]


readings = st.lists(
    st.tuples(
        st.integers(1, 5 * HOUR_MS), st.none() | st.floats(-1500, 7000) | st.sampled_from([20.0, 20.05, NAN])
    ),
    max_size=60,
)


@given(readings, st.integers(0, 60))
def test_state_survives_storage_at_any_point(gaps: Any, cut: int) -> None:
    times = np.cumsum([gap for gap, _ in gaps]).tolist()
    sequence = [(int(t), value) for t, (_, value) in zip(times, gaps, strict=True)]
    whole, end = quality.judge(PM25, FRESH, sequence)
    head, state = quality.judge(PM25, FRESH, sequence[:cut])
    restored = unpack(SensorState, pack(state))
    assert restored == state
    tail, end_again = quality.judge(PM25, restored, sequence[cut:])
    assert end_again == end
    # Only the last reading before the cut may differ: its spike was not known yet.
    split = head + tail
    assert [v for k, v in enumerate(split) if k != cut - 1] == [
        v for k, v in enumerate(whole) if k != cut - 1
    ]
    assert all(v.flag in (1, 2, 3, 4, 9) for v in whole)


@settings(max_examples=20)
@given(st.lists(st.floats(10, 10.4), min_size=200, max_size=200))
def test_memory_is_bounded(values: list[float]) -> None:
    state = FRESH
    for k, value in enumerate(sorted(values)):
        state = quality.step(Limits(flat_tolerance=1.0, flat_suspect_s=10**7), state, k * 1000, value).state
        assert len(state.lows) <= 64
        assert len(state.highs) <= 64


def test_channels_disagree_when_both_limits_are_passed() -> None:
    rule = ChannelRule(absolute=5.0, relative=0.61)
    assert channels(10.0, 14.0, rule) == Verdict(GOOD, 0)
    assert channels(3.0, 9.0, rule) == Verdict(FAIL, CHANNELS)
    assert channels(100.0, 140.0, rule) == Verdict(GOOD, 0)  # 40 apart, but 33 %
    assert channels(100.0, 1.0, rule) == Verdict(FAIL, CHANNELS)
    assert channels(100.0, None, rule) == Verdict(NOT_EVALUATED, 0)
    assert channels(NAN, 1.0, rule) == Verdict(NOT_EVALUATED, 0)


def test_neighbours() -> None:
    rule = defaults().neighbours
    clean = [Neighbour(5.0, 600, v) for v in (20.0, 22.0, 24.0)]
    assert neighbours(51.9, clean, rule) == Verdict(GOOD, 0)
    assert neighbours(52.1, clean, rule) == Verdict(SUSPECT, NEIGHBOURS)
    assert neighbours(300.0, clean[:2], rule) == Verdict(NOT_EVALUATED, 0)
    assert neighbours(300.0, [*clean[:2], Neighbour(10.1, 600, 24.0)], rule).flag == NOT_EVALUATED
    assert neighbours(300.0, [*clean[:2], Neighbour(1.0, 7201, 24.0)], rule).flag == NOT_EVALUATED
    assert neighbours(300.0, [*clean[:2], Neighbour(1.0, 600, NAN)], rule).flag == NOT_EVALUATED
    assert neighbours(None, clean, rule) == Verdict(MISSING, 0)
    dirty = [Neighbour(5.0, 600, v) for v in (200.0, 260.0, 320.0)]  # mean 260, spread 60
    assert neighbours(379.0, dirty, rule).flag == GOOD
    assert neighbours(381.0, dirty, rule).flag == SUSPECT
    same = [Neighbour(5.0, 600, 100.0)] * 3
    assert neighbours(101.0, same, rule).flag == GOOD


@given(st.lists(st.sampled_from([1, 2, 3, 4, 9]), min_size=1, max_size=6))
def test_combining_is_qartod_precedence(given_flags: list[int]) -> None:
    expected = qartod.qartod_compare([np.array([flag]) for flag in given_flags])[0]
    assert combine(*(Verdict(flag, 1 << k) for k, flag in enumerate(given_flags))).flag == expected
    assert combine(Verdict(1, 2), Verdict(3, 4)) == Verdict(3, 6)


def test_names_of_tests() -> None:
    assert aqi.flags.tests_in(GROSS_RANGE | SPIKE) == ("gross_range", "spike")
    bits = list(TESTS.values())
    assert bits == [1 << place for place in range(14)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"spikes": 1}, "no such limit: spikes; there are fail_span"),
        ({"fail_span": [5, 1]}, "must be .lowest, highest."),
        ({"fail_span": [0, 1], "suspect_span": [0, 2]}, "must lie within"),
        ({"flat_tolerance": 1.0}, "flat_tolerance needs"),
        ({"flat_tolerance": 0.0, "flat_fail_s": 60}, "must be above zero"),
        ({"fail_span": [1]}, "mine"),
    ],
)
def test_bad_limits_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(QualityError, match=message) as refused:
        limits_from(table, "mine")
    assert str(refused.value).startswith("mine")


def test_defaults_cover_every_pollutant_and_keep_extreme_air() -> None:
    limits = defaults().limits
    assert tuple(limits) == POLLUTANTS
    extremes = {"pm25": 1486.0, "pm10": 3500.0, "no2": 900.0, "so2": 3000.0, "co": 70000.0, "o3": 700.0}
    for parameter, value in extremes.items():
        verdict = quality.step(limits[parameter], FRESH, 1, value)
        assert verdict.flag == SUSPECT, parameter
    # Delhi in November: two days above 900 and rising, minute by minute. Nothing of it may become missing.
    delhi = [900 + 80 * math.sin(k / 200) + k % 7 for k in range(2880)]
    assert FAIL not in flags(PM25, list(delhi), MINUTE_MS)


@pytest.mark.realdata
@pytest.mark.skipif(not (series.ROOT / "india-nepal").exists(), reason="../shared/data is not here")
def test_portal_numbers_of_india_nepal_are_not_thrown_away() -> None:
    columns = {"pm25": "PM2.5", "pm10": "PM10", "no2": "NO2", "so2": "SO2", "co": "CO", "o3": "O3"}
    with (series.ROOT / "india-nepal" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for parameter, name in columns.items():
        values = {float(row[name]) for row in rows if row[name] not in ("", "NA")}
        for value in values:
            assert quality.step(defaults().limits[parameter], FRESH, 1, value).flag != FAIL


#: Limits of the comparison, tight enough that every test objects often on every series.
COMPARED = {
    "pm25": (40.0, 0.01, 3.0, 300.0),
    "pm10": (60.0, 0.02, 3.0, 500.0),
    "no2": (15.0, 0.005, 1.0, 100.0),
    "so2": (8.0, 0.002, 1.0, 60.0),
    "co": (400.0, 0.1, 150.0, 3000.0),
    "o3": (20.0, 0.006, 2.5, 120.0),
}


def compare_with_ioos(path: Any) -> dict[str, int]:
    """Differences per test between the stream and ioos_qc's batch; every reading is compared."""
    objections = dict.fromkeys(("gross_range", "spike", "rate_of_change", "flat_line"), 0)
    for parameter, values in series.station(path).items():
        spike, rate, flat, high = COMPARED[parameter]
        # Before a sensor's first reading there is nothing in a stream; in an array there may be missing rows,
        # and ioos_qc calls a first reading flat when its whole window is missing.
        values = values[np.flatnonzero(~np.isnan(values))[0] :]
        times = np.arange(len(values)).astype("datetime64[h]").astype("datetime64[ns]")
        theirs = {
            "gross_range": qartod.gross_range_test(values, (0, 2 * high), (1.0, high)),
            "spike": qartod.spike_test(values, spike, 3 * spike, method="differential"),
            "rate_of_change": qartod.rate_of_change_test(values, times, rate, 3 * rate),
            "flat_line": qartod.flat_line_test(values, times, 3 * 3600, 6 * 3600, flat),
        }
        ours = {
            "gross_range": Limits(fail_span=(0, 2 * high), suspect_span=(1.0, high)),
            "spike": Limits(spike=spike, spike_fail=3 * spike),
            "rate_of_change": Limits(rate=rate),
            "flat_line": Limits(flat_tolerance=flat, flat_suspect_s=3 * 3600, flat_fail_s=6 * 3600),
        }
        given_values = [None if value != value else value for value in values.tolist()]
        for name, limits in ours.items():
            found = np.array(flags(limits, given_values))
            expected = np.asarray(theirs[name])
            if name == "rate_of_change":
                # ioos_qc calls a reading after a missing one good and has a fail level; here it is not
                # evaluated, and a fast change is suspect at most.
                expected = np.where(expected == FAIL, SUSPECT, expected)
                found = np.where(found == NOT_EVALUATED, GOOD, found)
            different = np.flatnonzero(found != expected)
            assert not len(different), (path.name, parameter, name, different[:5])
            objections[name] += int(np.isin(found, (SUSPECT, FAIL)).sum())
    return objections


@pytest.mark.realdata
@pytest.mark.skipif(not series.files(), reason="../shared/data is not here")
def test_equal_to_ioos_qc_on_a_real_station() -> None:
    path = next(path for path in series.files() if path.name.startswith("DL040"))
    assert all(count > 100 for count in compare_with_ioos(path).values())


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not series.files(), reason="../shared/data is not here")
@pytest.mark.parametrize("path", series.files(), ids=lambda path: path.name.split(".")[0])
def test_equal_to_ioos_qc_on_every_real_station(path: Any) -> None:
    assert sum(compare_with_ioos(path).values()) > 0


@given(
    st.lists(st.integers(1, 8), min_size=2, max_size=40),
    st.integers(2, 6),
)
def test_gap_equals_ioos_qc(hours_between: list[int], fail_hours: int) -> None:
    times = np.cumsum(hours_between)
    expected = qartod.time_gap_test(
        times.astype("datetime64[h]").astype("datetime64[ns]"), fail_span=fail_hours
    )
    verdicts, _ = quality.judge(
        Limits(fail_span=(0, 10), gap_s=fail_hours * 3600), FRESH, [(int(t) * HOUR_MS, 1.0) for t in times]
    )
    # The first reading has no gap before it; ioos_qc gives it the flag of the second.
    assert [bool(v.tests & GAP) for v in verdicts][1:] == (np.asarray(expected) == 4).tolist()[1:]
