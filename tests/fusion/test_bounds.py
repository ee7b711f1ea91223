"""What an imputed value keeps, whatever the head or a virtual sensor says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.bounds import Interval, bounded
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.reading import LIMITS

NUMBERS = st.floats(-1e3, 1e9) | st.floats(0, 500)
INTERVALS = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda three: Interval(*three))


@given(
    st.dictionaries(st.sampled_from(POLLUTANTS), INTERVALS),
    st.dictionaries(st.sampled_from(POLLUTANTS), st.floats(-20, 5000) | st.floats(0, 300)),
)
def test_what_is_imputed_could_be_true_beside_what_is_measured(
    imputed: dict[Pollutant, Interval], measured: dict[str, float]
) -> None:
    imputed = {name: interval for name, interval in imputed.items() if name not in measured}
    got = bounded(imputed, measured)
    assert got.keys() == imputed.keys()
    for name, (value, lo, hi) in got.items():
        assert 0.0 <= lo <= value <= hi <= LIMITS[name][1]
    fine, coarse = got.get("pm25"), got.get("pm10")
    if fine is not None and "pm10" in measured:
        assert fine.hi <= max(0.0, measured["pm10"])
    if coarse is not None and "pm25" in measured:
        assert coarse.lo >= measured["pm25"]
    if fine is not None and coarse is not None:
        assert fine.value <= coarse.value
        assert fine.lo <= coarse.lo
        assert fine.hi <= coarse.hi
    again = bounded(got, measured)
    assert all(again[name] == pytest.approx(got[name]) for name in got)


def test_what_is_in_order_stays_as_it_is() -> None:
    fine, coarse = Interval(20.0, 10.0, 40.0), Interval(50.0, 30.0, 90.0)
    assert bounded({"pm25": fine, "pm10": coarse}, {}) == {"pm25": fine, "pm10": coarse}
    assert bounded({"pm25": fine}, {"pm10": 55.0, "no2": 3.0}) == {"pm25": fine}


def test_a_measured_pm10_caps_pm25_and_leaves_it_unsure() -> None:
    value, lo, hi = bounded({"pm25": Interval(99.0, 49.0, 199.0)}, {"pm10": 24.0})["pm25"]
    assert (value, hi) == (24.0, 24.0)
    assert lo == pytest.approx(11.5)  # half of 1 + ug/m3 below, as before


def test_a_measured_pm25_lifts_pm10_and_leaves_it_unsure() -> None:
    value, lo, hi = bounded({"pm10": Interval(49.0, 24.0, 99.0)}, {"pm25": 199.0})["pm10"]
    assert (value, lo) == (199.0, 199.0)
    assert hi == pytest.approx(399.0)


def test_two_imputed_that_contradict_each_other_meet_where_the_surer_one_is() -> None:
    sure, vague = Interval(60.0, 50.0, 72.0), Interval(30.0, 5.0, 160.0)
    got = bounded({"pm25": sure, "pm10": vague}, {})
    assert got["pm25"].value == got["pm10"].value
    assert 55.0 < got["pm25"].value < 60.0
    even = bounded({"pm25": Interval(99.0, 49.0, 199.0), "pm10": Interval(24.0, 11.5, 49.0)}, {})
    assert even["pm10"].value == pytest.approx(math.sqrt(100.0 * 25.0) - 1.0)


def test_nothing_is_below_zero_or_beyond_what_a_measurement_may_be() -> None:
    got = bounded({"pm25": Interval(162_753.8, -3.0, 4.5e13), "o3": Interval(-1.0, -2.0, 3.0)}, {})
    assert got["pm25"] == (5000.0, 0.0, 5000.0)
    assert got["o3"] == (0.0, 0.0, 3.0)
