"""What may lead an index: what was measured before what was imputed, and an interval of what it names."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aqi import standards
from aqi.history import History
from aqi.index import IndexResult, assess
from aqi.slots import Mean
from aqi.units import convert
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS

T0 = 1_700_000_000_000 // HOUR_MS * HOUR_MS
MINUTE_MS = 60_000
RANK = {"insufficient": 0, "indicative": 1, "valid": 2}
EDITIONS = (
    "cn-hj633-2012", "cn-hj633-2026", "eaqi-2025", "in-naqi-2014", "uk-daqi", "us-epa-2012", "us-epa-2024",
)  # fmt: skip
US, INDIA, EAQI, DAQI = (standards.load(id) for id in ("us-epa-2024", "in-naqi-2014", "eaqi-2025", "uk-daqi"))
#: Of these every standard here has one table at most.
ONE_TABLE = ("pm25", "pm10", "no2", "co")


def guess(value: float, low: float, high: float) -> Mean:
    """An hour imputed from afar: between `low` and `high`."""
    return Mean(value, 0, 3600, value - low, high - value)


def of_hours(count: int, means: dict[str, Mean], history: History | None = None) -> History:
    history = History.empty(48) if history is None else history
    for hour in range(count):
        history = history.with_hour(T0 - (count - 1 - hour) * HOUR_MS, means)
    return history


def index(standard: Any, parameter: str, averaging: str, value: float) -> int:
    found = standard.measure(parameter, averaging).index(value)
    assert found is not None
    return int(found)


# --- what nobody measured ----------------------------------------------------------------------------------


@pytest.mark.parametrize("standard", EDITIONS)
@pytest.mark.parametrize("hours", [1, 3, 9, 24])
@pytest.mark.parametrize("parameter", POLLUTANTS)
def test_beside_a_measured_pollutant_none_leads_that_nobody_measured(
    standard: str, hours: int, parameter: str
) -> None:
    """Whatever the network makes of it: a station with CO alone has the index of CO, or none."""
    loaded = standards.load(standard)
    smoke: dict[str, Mean] = {name: guess(400.0, 300.0, 900.0) for name in POLLUTANTS}
    measured = {parameter: Mean(8.0, 3600)}
    result = assess(loaded, of_hours(hours, {**smoke, **measured}), T0)
    alone = assess(loaded, of_hours(hours, measured), T0)
    assert (result.index, result.status, result.dominant) == (alone.index, alone.status, alone.dominant)
    assert (result.lo, result.hi, result.imputed_share) == (None, None, 0.0)
    assert (result.nowcast is None) == (alone.nowcast is None)
    if result.nowcast is not None and alone.nowcast is not None:
        assert (result.nowcast.index, result.nowcast.lo) == (alone.nowcast.index, None)
    # They are shown, and said not to count.
    others = {s.parameter for s in result.subindices} - {parameter}
    assert others
    assert "(never measured here)" in result.reason
    assert all(name in result.reason for name in others)


@pytest.mark.parametrize(("standard", "gas"), [(EAQI, "co"), (DAQI, "co"), (DAQI, "so2")])
def test_a_standard_without_a_table_for_what_is_measured_gives_no_index(standard: Any, gas: str) -> None:
    means = {gas: Mean(30.0, 3600), "pm25": guess(60.0, 30.0, 90.0)}
    result = assess(standard, of_hours(24, means), T0)
    assert (result.index, result.category, result.status) == (None, None, "insufficient")
    assert (result.lo, result.hi) == (None, None)
    assert f"nothing that {standard.id} has a table for was measured here" in result.reason
    assert [s.parameter for s in result.subindices] == ["pm25"]


def test_a_camera_alone_has_the_index_of_what_it_sees() -> None:
    means = {"pm25": guess(60.0, 30.0, 90.0), "no2": guess(20.0, 10.0, 30.0)}
    result = assess(US, of_hours(24, means), T0)
    assert (result.index, result.status, result.dominant) == (154, "indicative", ("pm25",))
    assert (result.lo, result.hi) == (index(US, "pm25", "24h", 30.0), index(US, "pm25", "24h", 90.0))
    assert (result.imputed_share, result.nowcast.index if result.nowcast else None) == (1.0, 154)
    begun = assess(US, of_hours(2, means), T0)
    assert (begun.index, begun.status) == (154, "insufficient")


def test_once_a_sensor_speaks_beside_the_camera_it_leads() -> None:
    history = of_hours(24, {"pm25": guess(60.0, 30.0, 90.0)})
    history = history.with_window(T0 + MINUTE_MS, MINUTE_MS, {"no2": Mean(20.0, 60)})
    result = assess(US, history, T0 + MINUTE_MS)
    assert (result.dominant, result.status, result.lo) == (("no2",), "insufficient", None)
    assert "pm25 154 (never measured here)" in result.reason


def test_a_sensor_that_was_once_there_leads_unless_the_whole_interval_of_the_rest_lies_above() -> None:
    """A day after the last reading all is imputed; one of them from the station's own past."""
    for high, leads in ((300.0, "no2"), (60.0, "pm25")):
        means = {"no2": guess(50.0, 40.0, high), "pm25": guess(30.0, 20.0, 40.0)}
        result = assess(US, of_hours(24, means, History.empty(48).having_measured(["no2"])), T0)
        above = index(US, "pm25", "24h", 20.0) > index(US, "no2", "1h", high / 1.8804)
        assert above == (leads == "pm25")
        assert result.dominant == (leads,)


# --- what was imputed beside what is complete ---------------------------------------------------------------


@pytest.mark.parametrize(("low", "leads"), [(60.0, "pm25"), (150.0, "pm10")])
def test_an_imputed_mean_displaces_a_complete_measured_one_only_as_a_whole(low: float, leads: str) -> None:
    """PM10 was measured here too, until 14 hours ago."""
    history = of_hours(24, {"pm25": Mean(30.0, 3600), "pm10": guess(200.0, low, 300.0)})
    for back in range(14, 24):
        history = history.with_hour(
            T0 - back * HOUR_MS, {"pm25": Mean(30.0, 3600), "pm10": Mean(200.0, 3600)}
        )
    result = assess(US, history, T0)
    (pm10,) = (s for s in result.subindices if s.parameter == "pm10")
    assert pm10.lo is not None
    assert pm10.hi is not None
    assert (pm10.lo > 90) == (leads == "pm10")
    assert result.dominant == (leads,)
    if leads == "pm25":
        assert (result.index, result.status, result.lo, result.hi) == (90, "valid", None, None)
        assert f"not counted: pm10 {pm10.index} (" in result.reason
    else:
        assert (result.index, result.status) == (pm10.index, "indicative")
        assert (result.lo, result.hi) == (pm10.lo, pm10.hi)


#: Per pollutant: how many of the newest hours were measured, how many before them imputed; concentration,
#: reach of its interval below and above, and whether the station measured it long ago.
airs = st.dictionaries(
    st.sampled_from(ONE_TABLE),
    st.tuples(
        st.sampled_from([0, 0, 1, 5, 20, 24]), st.sampled_from([0, 3, 12, 24]), st.integers(0, 300),
        st.integers(0, 100), st.integers(0, 200), st.booleans(),
    ),
    min_size=1,
)  # fmt: skip


def history_of(air: Any) -> History:
    history = History.empty(48).having_measured([name for name, row in air.items() if row[-1]])
    for back in range(23, -1, -1):
        means = {}
        for name, (measured, imputed, value, below, above, _) in air.items():
            if back < measured:
                means[name] = Mean(value, 3600)
            elif back < measured + imputed:
                means[name] = Mean(value, 0, 3600, min(below, value), above)
        history = history.with_hour(T0 - back * HOUR_MS, means)
    return history


@example({"pm25": (1, 12, 30, 10, 10, False), "pm10": (0, 24, 300, 10, 10, False)}, "us-epa-2024")
@example({"pm25": (24, 0, 30, 0, 0, False), "pm10": (5, 12, 300, 10, 10, False)}, "us-epa-2024")
@example({"pm25": (24, 0, 30, 0, 0, False), "pm10": (5, 12, 300, 100, 10, False)}, "uk-daqi")
@example({"co": (20, 3, 300, 10, 10, True), "pm25": (0, 24, 90, 10, 50, False)}, "eaqi-2025")
@given(airs, st.sampled_from(EDITIONS))
def test_the_rule_as_it_is_written(air: Any, standard: str) -> None:
    """The oracle: each pollutant assessed alone, then docs/aqi.md word by word."""
    loaded = standards.load(standard)
    result = assess(loaded, history_of(air), T0)
    alone = {
        name: found.subindices[0]
        for name, row in air.items()
        if (found := assess(loaded, history_of({name: row}), T0)).subindices
    }
    ends = {
        name: (sub.index, sub.index) if sub.lo is None or sub.hi is None else (sub.lo, sub.hi)
        for name, sub in alone.items()
    }
    lately = [name for name, row in air.items() if row[0]]
    own = {name for name in alone if air[name][0] or air[name][-1]}
    if lately:
        counting = own
    elif own:
        most = max(ends[name][1] for name in own)
        counting = own | {name for name in alone if ends[name][0] > most}
    else:
        counting = set(alone)
    valid = {name for name in counting if alone[name].status == "valid"}
    top = max((alone[name].index for name in valid), default=-1)
    if valid:
        counting = {
            name for name in counting if name in valid or not alone[name].imputed_share or ends[name][0] > top
        }
    expected = max((alone[name].index for name in counting), default=None)
    assert result.index == expected
    if expected is None:
        return
    lacking = loaded.requires(None).lacking(sorted(valid))
    if valid and not lacking and top == expected:
        counting = valid
        assert result.status == "valid"
    else:
        assert result.status != "valid"
    shares = [alone[name].imputed_share for name in counting]
    assert result.imputed_share == pytest.approx(np.mean(shares))
    if any(shares):
        assert result.lo == max(ends[name][0] for name in counting)
        assert result.hi == max(ends[name][1] for name in counting)
        assert result.lo <= expected <= result.hi
    else:
        assert (result.lo, result.hi) == (None, None)
    assert set(result.dominant) <= counting


# --- NowCast ------------------------------------------------------------------------------------------------


def with_gap(hours: int, particles: str, gas: Mean) -> History:
    """A day of smoke; then particles are missing for some hours, and ozone goes on."""
    history = of_hours(24, {particles: Mean(150.0, 3600), "o3": gas})
    for back in range(hours):
        history = history.with_hour(T0 - back * HOUR_MS, {"o3": gas})
    return history


@pytest.mark.parametrize("particles", ["pm25", "pm10"])
@pytest.mark.parametrize("hours", [2, 3, 5, 11])
@pytest.mark.parametrize("ozone", [10.0, 200.0, 300.0])
def test_no_nowcast_while_particles_are_missing(particles: str, hours: int, ozone: float) -> None:
    """Not that of ozone, clean or dirty: the smoke may be as thick as it was."""
    gone = assess(US, with_gap(hours, particles, Mean(ozone, 3600)), T0)
    assert gone.nowcast is None
    assert gone.nowcast_reason == (
        f"no NowCast of {particles}: fewer than 2 of the newest 3 hours are complete"
    )
    assert gone.index is not None
    there = assess(US, with_gap(hours - 2 if hours == 3 else 0, particles, Mean(ozone, 3600)), T0)
    assert there.nowcast is not None
    assert there.nowcast_reason == ""


def test_no_nowcast_beside_the_first_minutes_of_smoke() -> None:
    history = of_hours(24, {"o3": Mean(12.0, 3600)})
    history = history.with_window(T0 + MINUTE_MS, MINUTE_MS, {"pm25": Mean(804.0, 60), "o3": Mean(12.0, 60)})
    result = assess(US, history, T0 + MINUTE_MS)
    assert (result.dominant, result.nowcast) == (("pm25",), None)
    assert "no NowCast of pm25" in result.nowcast_reason


def test_an_imputed_nowcast_of_particles_is_not_displaced_by_cleaner_ozone() -> None:
    """They were measured three hours ago; the interval of what is imputed since reaches down to nothing."""
    ozone = Mean(216.0, 3600)
    history = of_hours(24, {"pm25": Mean(150.0, 3600), "o3": ozone})
    for back in range(3):
        history = history.with_hour(T0 - back * HOUR_MS, {"pm25": guess(120.0, 0.0, 300.0), "o3": ozone})
    cast = assess(US, history, T0).nowcast
    assert cast is not None
    assert (cast.dominant, cast.status) == (("pm25",), "indicative")
    pm25, o3 = cast.subindices
    assert pm25.lo is not None
    assert pm25.lo < o3.index < pm25.index  # displaced, were it any index but of the last hours
    assert cast.lo is not None
    assert cast.hi is not None
    assert cast.index is not None
    assert cast.lo < cast.index < cast.hi


def test_no_nowcast_of_clean_particles_while_the_leading_ozone_is_missing() -> None:
    history = of_hours(24, {"pm25": Mean(5.0, 3600), "o3": Mean(200.0, 3600)})
    history = of_hours(2, {"pm25": Mean(5.0, 3600)}, history)
    there = assess(US, history, T0)
    assert (there.dominant, there.nowcast is None) == (("o3",), False)
    gone = assess(US, of_hours(3, {"pm25": Mean(5.0, 3600)}, history), T0)
    assert (gone.dominant, gone.status, gone.nowcast) == (("o3",), "valid", None)
    assert gone.nowcast_reason == "no NowCast of o3: none of the newest 3 hours is complete"


def test_a_gas_without_a_nowcast_may_lead_and_says_so() -> None:
    result = assess(US, of_hours(24, {"no2": Mean(250.0, 3600), "pm25": Mean(5.0, 3600)}), T0)
    assert (result.dominant, result.nowcast) == (("no2",), None)
    assert result.nowcast_reason == ("no NowCast: no2 leads the index, and us-epa-2024 has no NowCast of it")
    assert assess(DAQI, of_hours(24, {"no2": Mean(250.0, 3600)}), T0).nowcast_reason == ""


# --- the first hours ----------------------------------------------------------------------------------------


@example({"pm25": 0, "o3": 0, "so2": 88}, "uk-daqi", 0, 5, 4)
@given(
    st.dictionaries(st.sampled_from(POLLUTANTS), st.integers(0, 700), min_size=1),
    st.sampled_from(EDITIONS),
    st.integers(0, 59),
    st.sampled_from([1, 5, 15, 60]),
    st.sampled_from([1, 2, 3, 4, 12]),
)
def test_constant_air_has_one_index_from_its_first_window_on(
    air: dict[str, int], standard: str, offset: int, minutes: int, every: int
) -> None:
    """Windows of some minutes, from anywhere in an hour, each or every few of them with data (no more than an
    hour apart), for 30 hours."""
    loaded = standards.load(standard)
    tables = [m for m in loaded.reports[loaded.default_report] if m.parameter in air]
    every = min(every, 60 // minutes)
    # Quarter hours without data have no mean, and longer windows make none.
    quarterly = minutes * every <= 15
    tables = [m for m in tables if quarterly or m.averaging != "15min"]
    width, start = minutes * MINUTE_MS, T0 + offset // minutes * minutes * MINUTE_MS
    history, said = History.empty(48), []
    for number in range(30 * 60 // minutes):
        end = start + (number + 1) * width
        if number % every == 0:
            means = {name: Mean(float(value), 60 * minutes) for name, value in air.items()}
            history = history.with_window(end, width, means)
        # Every window of the first hours, then some of each hour.
        if number * minutes < 100 or number % (60 // minutes) in (0, 1):
            result = assess(loaded, history, end)
            short = any(sub.averaging == "15min" for sub in result.subindices)
            if result.index is not None and (quarterly or not short):
                said.append(result)
    expected = {
        m.key: m.index(
            convert(m.parameter, air[m.parameter], "ug/m3", m.unit, 25.0, loaded.reference_celsius)
        )
        for m in tables
    }
    spoken = {key: found for key, found in expected.items() if found is not None}
    highest = max(spoken.values(), default=None)
    # EPA's 24-hour SO2 adds to the 1-hour one when it is complete, never before.
    early = max((found for key, found in spoken.items() if key != "so2_24h"), default=None)
    numbers = [one.index for one in said]
    changes = [number for at, number in enumerate(numbers) if at == 0 or number != numbers[at - 1]]
    assert changes in ([], [highest], [early], [early, highest])
    ranks = [RANK[one.status] for one in said]
    if minutes < 60 and ranks:
        assert ranks[0] < RANK["valid"]
    if every == 1 and len(changes) == 1:
        assert ranks == sorted(ranks)


@pytest.mark.parametrize(("parameter", "low", "noise"), [("pm25", 1.0, 2.0), ("no2", 0.75, 1.9)])
def test_noise_about_zero_is_averaged_as_it_is(parameter: str, low: float, noise: float) -> None:
    dice = np.random.default_rng(4)
    values = (low + noise * dice.standard_normal(26 * 60)).tolist()
    history = History.empty(48)
    for number, value in enumerate(values):
        mean = {parameter: Mean(value, 60), "pm10": Mean(49.0, 0, 60, 40.0, 130.0)}
        history = history.with_window(T0 + (number + 1) * MINUTE_MS, MINUTE_MS, mean)
    result = assess(US, history, T0 + 26 * HOUR_MS)
    sub = next(s for s in result.subindices if s.parameter == parameter)
    scale = 1.0 if parameter == "pm25" else 1.8804
    minutes = 24 * 60 if parameter == "pm25" else 60
    assert sub.value * scale == pytest.approx(np.mean(values[-minutes:]), abs=1e-3)
    assert (result.status, result.dominant) == ("valid", (parameter,))
    assert result.index == index(US, *(("pm25", "24h") if parameter == "pm25" else ("no2", "1h")), sub.value)
    assert result.index <= 6


def test_air_that_is_negative_on_average_is_clean() -> None:
    result: IndexResult = assess(US, of_hours(24, {"pm25": Mean(-0.4, 3600), "o3": Mean(-1.0, 3600)}), T0)
    assert (result.index, result.status) == (0, "valid")
    assert result.subindices[0].value == pytest.approx(-0.4)
    assert result.nowcast is not None
    assert result.nowcast.index is not None
    assert 0 <= result.nowcast.index < 5
