"""The assessed index: averaging, completeness, validity in words, and never a bare number."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqi import standards
from aqi.errors import StandardError
from aqi.history import History
from aqi.index import IndexResult, assess, assess_many, index_of
from aqi.slots import Mean
from aqi.subindex import subindices
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS, QUARTER_MS

T0 = 1_700_000_000_000 // HOUR_MS * HOUR_MS
MINUTE_MS = 60_000
EDITIONS = (
    "cn-hj633-2012",
    "cn-hj633-2026",
    "eaqi-2025",
    "in-naqi-2014",
    "uk-daqi",
    "us-epa-2012",
    "us-epa-2024",
)
US, INDIA, CHINA, EAQI, DAQI = (
    standards.load(id) for id in ("us-epa-2024", "in-naqi-2014", "cn-hj633-2026", "eaqi-2025", "uk-daqi")
)
ALL: dict[str, float] = dict.fromkeys(POLLUTANTS, 20.0)
RANK = {"insufficient": 0, "indicative": 1, "valid": 2}


def hours(count: int, values: dict[str, float], *, imputed_s: int = 0, seconds: int = 3600) -> History:
    """`count` hours of constant air, the last one ending at T0."""
    history = History.empty(48)
    for hour in range(count):
        means = {p: Mean(v, seconds - imputed_s, imputed_s) for p, v in values.items()}
        history = history.with_hour(T0 - (count - 1 - hour) * HOUR_MS, means)
    return history


def sub(result: IndexResult, parameter: str) -> Any:
    return {s.parameter: s for s in result.subindices}[parameter]


@pytest.mark.parametrize("standard", EDITIONS)
def test_a_station_with_one_minute_of_data_has_a_result_and_it_is_not_valid(standard: str) -> None:
    loaded = standards.load(standard)
    history = History.empty(48).with_window(
        T0 + MINUTE_MS, MINUTE_MS, {p: Mean(20.0, 60) for p in POLLUTANTS}
    )
    result = assess(loaded, history, T0 + MINUTE_MS)
    assert result.index is not None
    assert result.category is not None
    assert result.status == "insufficient"
    assert result.reason


@pytest.mark.parametrize("standard", EDITIONS)
def test_no_data_is_said_in_words(standard: str) -> None:
    result = assess(standards.load(standard), History.empty(48), T0)
    assert (result.index, result.category, result.dominant, result.subindices) == (None, None, (), ())
    assert result.status == "insufficient"
    assert "no data" in result.reason


@pytest.mark.parametrize("standard", EDITIONS)
def test_a_full_day_is_valid_and_explains_itself(standard: str) -> None:
    history = hours(25, ALL)
    for quarter in range(1, 4):
        history = history.with_window(
            T0 + quarter * QUARTER_MS, QUARTER_MS, {p: Mean(20.0, 900) for p in ALL}
        )
    loaded = standards.load(standard)
    result = assess(loaded, history, T0 + 3 * QUARTER_MS)
    assert (result.status, result.reason, result.imputed_share) == ("valid", "", 0.0)
    indexed = {m.parameter for m in loaded.measures.values()}
    assert {s.parameter for s in result.subindices} == indexed & set(POLLUTANTS)
    assert result.index == max(s.index for s in result.subindices)
    assert result.category == loaded.category(result.index)
    plain = json.loads(json.dumps(result.to_plain()))
    assert result.category is not None
    assert (plain["category"], plain["category_key"]) == (result.category.name, result.category.key)
    assert {
        "index",
        "category",
        "dominant",
        "status",
        "reason",
        "subindices",
        "imputed_share",
    } <= plain.keys()


def test_averages_are_of_whole_hours_and_the_hour_in_progress_waits() -> None:
    history = hours(24, {"pm25": 10.0}).with_hour(T0, {"pm25": Mean(34.0, 3600)})
    for minute in range(1, 31):
        history = history.with_window(T0 + minute * MINUTE_MS, MINUTE_MS, {"pm25": Mean(999.0, 60)})
    pm25 = sub(assess(US, history, T0 + 30 * MINUTE_MS), "pm25")
    assert pm25.value == pytest.approx((23 * 10 + 34) / 24)
    assert (pm25.averaging, pm25.periods, pm25.periods_needed, pm25.end_ms) == ("24h", 24, 18, T0)


@pytest.mark.parametrize(
    ("count", "status"),
    [(24, "valid"), (18, "valid"), (17, "indicative"), (7, "indicative"), (6, "insufficient")],
)
def test_completeness_of_24_hours_at_epa(count: int, status: str) -> None:
    result = assess(US, hours(count, {"pm25": 20.0}), T0)
    assert result.status == status
    assert result.index == 71
    if status != "valid":
        assert f"pm25_24h: {count} of 24 hours, 18 needed" in result.reason


@pytest.mark.parametrize(
    ("standard", "needed"), [("in-naqi-2014", 16), ("cn-hj633-2026", 20), ("uk-daqi", 18)]
)
def test_each_standard_has_its_own_completeness(standard: str, needed: int) -> None:
    loaded = standards.load(standard)
    report = "daily" if standard.startswith("cn") else None
    for count, status in ((needed, "valid"), (needed - 1, "indicative")):
        result = assess(loaded, hours(count, ALL), T0, report=report)
        assert sub(result, "pm10").status == status


def test_an_hour_counts_from_three_quarters_of_it() -> None:
    assert assess(US, hours(1, {"no2": 50.0}, seconds=2700), T0).status == "valid"
    assert assess(US, hours(1, {"no2": 50.0}, seconds=2699), T0).status == "indicative"
    assert assess(US, hours(1, {"no2": 50.0}, seconds=1349), T0).status == "insufficient"


def test_a_last_hour_still_arriving_leaves_the_one_before() -> None:
    history = hours(3, {"no2": 40.0}).with_window(T0 + MINUTE_MS, MINUTE_MS, {"no2": Mean(300.0, 60)})
    late = sub(assess(US, history, T0 + HOUR_MS + 5 * MINUTE_MS), "no2")
    assert (late.status, late.end_ms, late.value) == ("valid", T0, pytest.approx(40.0 / 1.8804, rel=1e-3))
    gone = assess(US, history, T0 + 3 * HOUR_MS)
    assert gone.index is None


def test_imputed_hours_never_make_a_valid_index() -> None:
    history = hours(24, ALL, imputed_s=3600)
    result = assess(US, history, T0)
    assert (result.status, result.imputed_share) == ("indicative", 1.0)
    assert "pm25_24h: complete only with imputed values (100% of its input)" in result.reason
    assert result.nowcast is not None
    assert result.nowcast.status == "indicative"
    mixed = history
    for back in range(18):
        mixed = mixed.with_hour(T0 - back * HOUR_MS, {"pm25": Mean(30.0, 2700, 900)})
    pm25 = sub(assess(US, mixed, T0), "pm25")
    # 18 hours are measured for three quarters: enough. The six imputed ones are left out, the imputed
    # quarters of the others are told.
    assert (pm25.status, pm25.value, pm25.imputed_share) == ("valid", 30.0, 0.25)


def with_three_hours_of_ozone(value: float) -> IndexResult:
    history = hours(24, {"pm25": 20.0})
    for back in range(3):
        history = history.with_hour(T0 - back * HOUR_MS, {"pm25": Mean(20.0, 3600), "o3": Mean(value, 3600)})
    return assess(US, history, T0)


def test_an_incomplete_pollutant_below_the_index_is_named_and_not_counted() -> None:
    result = with_three_hours_of_ozone(60.0)
    assert (result.index, result.status, result.dominant) == (71, "valid", ("pm25",))
    assert "not counted: o3" in result.reason


def test_an_incomplete_pollutant_above_the_index_is_not_hidden() -> None:
    result = with_three_hours_of_ozone(200.0)
    assert (result.status, result.dominant) == ("indicative", ("o3",))
    assert result.index == sub(result, "o3").index > 71


def test_epa_ozone_takes_the_larger_of_8_and_1_hours_and_ignores_low_1_hour_values() -> None:
    ppb = 1.9620
    quiet = assess(US, hours(8, {"o3": 60 * ppb}), T0)
    assert (sub(quiet, "o3").averaging, sub(quiet, "o3").index) == ("8h", 67)
    peak = hours(8, {"o3": 60 * ppb}).with_hour(T0, {"o3": Mean(180 * ppb, 3600)})
    assert (sub(assess(US, peak, T0), "o3").averaging, sub(assess(US, peak, T0), "o3").index) == ("1h", 170)


def test_epa_sulphur_dioxide_needs_24_hours_above_200() -> None:
    ppb = 2.6185
    hour = assess(US, hours(1, {"so2": 400 * ppb}), T0)
    assert (sub(hour, "so2").averaging, sub(hour, "so2").index, sub(hour, "so2").beyond) == ("1h", 200, True)
    day = assess(US, hours(24, {"so2": 400 * ppb}), T0)
    assert (sub(day, "so2").averaging, sub(day, "so2").index) == ("24h", 232)


def test_india_needs_three_pollutants_one_of_them_particles() -> None:
    two = assess(INDIA, hours(24, {"pm25": 45.0, "no2": 10.0}), T0)
    assert (two.index, two.status) == (75, "indicative")
    assert "2 of at least 3 pollutants" in two.reason
    gases = assess(INDIA, hours(24, {"so2": 10.0, "no2": 10.0, "co": 500.0}), T0)
    assert (gases.status, "none of pm25 or pm10" in gases.reason) == ("indicative", True)
    three = assess(INDIA, hours(24, {"pm25": 45.0, "no2": 10.0, "co": 500.0}), T0)
    assert (three.index, three.status, three.reason) == (75, "valid", "")


def test_india_reads_ozone_above_208_from_one_hour() -> None:
    result = assess(INDIA, hours(24, {"pm25": 45.0, "no2": 10.0, "o3": 250.0}), T0)
    assert (sub(result, "o3").averaging, sub(result, "o3").index) == ("1h", 309)


def test_china_reports_hourly_and_daily_and_names_no_pollutant_in_clean_air() -> None:
    history = hours(24, {**ALL, "pm25": 70.0}).with_hour(T0, {p: Mean(20.0, 3600) for p in ALL})
    hourly, daily = assess(CHINA, history, T0), assess(CHINA, history, T0, report="daily")
    assert (hourly.report, hourly.index, hourly.dominant) == ("hourly", 29, ())
    assert (daily.report, daily.index, daily.dominant) == ("daily", 108, ("pm25",))
    with pytest.raises(StandardError, match="no report 'weekly': it has hourly, daily"):
        assess(CHINA, history, T0, report="weekly")


def test_eaqi_asks_less_of_a_traffic_station() -> None:
    history = hours(1, {"no2": 30.0, "pm10": 10.0})
    assert assess(EAQI, history, T0).status == "indicative"
    assert "no o3" in assess(EAQI, history, T0).reason
    assert assess(EAQI, history, T0, site="traffic").status == "valid"


def test_daqi_sulphur_dioxide_needs_quarter_hours() -> None:
    hourly = assess(DAQI, hours(24, {"so2": 500.0}), T0)
    assert hourly.index is None
    history = History.empty(48)
    for minute in range(1, 16):
        history = history.with_window(T0 + minute * MINUTE_MS, MINUTE_MS, {"so2": Mean(500.0, 60)})
    live = assess(DAQI, history, T0 + QUARTER_MS)
    assert (sub(live, "so2").averaging, sub(live, "so2").index, sub(live, "so2").status) == (
        "15min",
        6,
        "valid",
    )


def test_ties_name_every_dominant_pollutant() -> None:
    assert index_of(US, {("pm25", "24h"): 9.0, ("pm10", "24h"): 54.0, ("no2", "1h"): 1.0}).dominant == (
        "pm25",
        "pm10",
    )


def test_mass_is_re_expressed_at_the_temperature_of_the_standard() -> None:
    """40 ug/m3 of NO2 at 20 Cel is 20.9 ppb; the same number at 25 Cel is 21.3 ppb."""
    cold, warm = History.empty(48, 20.0), History.empty(48, 25.0)
    hour = {"no2": Mean(40.0, 3600)}
    assert sub(assess(US, cold.with_hour(T0, hour), T0), "no2").value == pytest.approx(20.915, abs=1e-3)
    assert sub(assess(US, warm.with_hour(T0, hour), T0), "no2").value == pytest.approx(21.271, abs=2e-3)
    assert sub(assess(DAQI, cold.with_hour(T0, hour), T0), "no2").value == 40.0


def test_index_of_given_means() -> None:
    result = index_of(US, {("pm25", "24h"): 35.9, ("o3", "1h"): 0.162, ("co", "8h"): 8.4})
    assert (result.index, result.dominant, result.status) == (147, ("o3",), "valid")
    assert [s.index for s in result.subindices] == [102, 147, 90]
    low = index_of(US, {("o3", "1h"): 0.1})
    assert (low.index, low.reason) == (None, "o3_1h is indexed from 0.125 ppm on only")
    assert "o3_1h is indexed from" in index_of(US, {("o3", "1h"): 0.1, ("co", "8h"): 1.0}).reason
    for bad in (-100.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="is no concentration"):
            index_of(US, {("pm25", "24h"): bad})
    noise = index_of(US, {("pm25", "24h"): -1.5, ("no2", "1h"): -0.4})
    assert (noise.index, noise.status, noise.dominant) == (0, "valid", ("pm25", "no2"))
    assert [s.value for s in noise.subindices] == [-1.5, -0.4]
    assert index_of(US, {("pm25", "24h"): -15.0}).index == 0, "the lowest that quality control lets pass"
    assert {(s.periods, s.periods_needed, s.end_ms, s.imputed_share) for s in result.subindices} == {
        (1, 1, 0, 0)
    }
    with pytest.raises(StandardError, match="no table for pm25 over 1h"):
        index_of(US, {("pm25", "1h"): 1.0})


def test_subindices_of_an_array() -> None:
    found = subindices(US, "pm25", "24h", [[9.0, 9.1], [np.nan, 500.0]])
    assert found.shape == (2, 2)
    assert found[0].tolist() == [50, 51]
    assert np.isnan(found[1, 0])


hour_values = st.dictionaries(
    st.sampled_from(POLLUTANTS),
    st.tuples(st.floats(0, 900), st.sampled_from([60, 1800, 2700, 3600]), st.booleans()),
    max_size=6,
)
stations = st.dictionaries(st.integers(0, 26), hour_values, max_size=27)


def station(by_hour: Any) -> History:
    history = History.empty(30)
    for back in sorted(by_hour, reverse=True):
        means = {p: Mean(v, 0 if imp else s, s if imp else 0) for p, (v, s, imp) in by_hour[back].items()}
        history = history.with_hour(T0 - back * HOUR_MS, means)
    return history


#: Whole numbers, so that a mean of ends and the end of a mean are the same number.
guesses = st.dictionaries(
    st.sampled_from(POLLUTANTS),
    st.tuples(
        st.integers(0, 900),
        st.sampled_from([1800, 3600]),
        st.booleans(),
        st.integers(0, 300),
        st.integers(0, 300),
    ),
    max_size=6,
)


def guessed(by_hour: Any, end: int) -> History:
    """A history with intervals (`end` 0), or with every imputed hour at its lower (-1) or upper (1) end."""
    history = History.empty(30)
    for back in sorted(by_hour, reverse=True):
        means = {}
        for name, (value, seconds, imputed, below, above) in by_hour[back].items():
            low = min(below, value)
            if not imputed:
                means[name] = Mean(value, seconds)
            elif end == 0:
                means[name] = Mean(value, 0, seconds, low, above)
            else:
                means[name] = Mean(value + (above if end > 0 else -low), 0, seconds)
        history = history.with_hour(T0 - back * HOUR_MS, means)
    return history


hour_guesses = st.dictionaries(st.integers(0, 26), guesses, max_size=27).map(lambda one: guessed(one, 0))


def test_ozone_regressed_from_imputed_hours_has_ends_on_both_sides() -> None:
    history = History.empty(340)
    for hour in range(340):
        mean = Mean(80 + 50 * math.sin(hour * math.pi / 12), 0, 3600, 10.0, 25.0)
        history = history.with_hour(T0 - (339 - hour) * HOUR_MS, {"o3": mean})
    cast = assess(US, history, T0 + 5 * MINUTE_MS).nowcast
    assert cast is not None
    assert cast.subindices[0].averaging == "nowcast-regression"
    assert cast.index is not None
    # All hours moved alike: the regression moves with them.
    value = cast.subindices[0].value
    ends = [US.measure("o3", "8h").index(value + moved / 1.9632 / 1000) for moved in (-10.0, 25.0)]
    assert [cast.lo, cast.hi] == ends


@given(
    st.lists(st.one_of(stations.map(station), hour_guesses), min_size=1, max_size=5),
    st.sampled_from(EDITIONS),
    st.integers(0, 59),
)
def test_a_station_has_the_same_result_alone_and_in_any_company(
    histories: list[History], standard: str, minute: int
) -> None:
    loaded = standards.load(standard)
    ats = [T0 + minute * MINUTE_MS + k * QUARTER_MS for k in range(len(histories))]
    together = assess_many(loaded, histories, ats)
    alone = [assess(loaded, history, at) for history, at in zip(histories, ats, strict=True)]
    assert [repr(r) for r in together] == [repr(r) for r in alone]


@given(stations, st.sampled_from(EDITIONS))
def test_sub_indices_follow_the_plain_definition_when_hours_are_complete(by_hour: Any, standard: str) -> None:
    """The oracle: collect the whole measured hours in the window, count, average, look up."""
    loaded = standards.load(standard)
    result = assess(loaded, station(by_hour), T0)
    found = {(s.parameter, s.averaging): s for s in result.subindices if s.status == "valid"}
    for measure in loaded.reports[loaded.default_report]:
        if measure.parameter not in POLLUTANTS or measure.averaging == "15min":
            continue
        length = {"1h": 1, "8h": 8, "24h": 24}[measure.averaging]
        for start in (0, 1):
            values = [
                by_hour[back][measure.parameter][0]
                for back in range(start, start + length)
                if measure.parameter in by_hour.get(back, {})
                and by_hour[back][measure.parameter][1] >= 2700
                and not by_hour[back][measure.parameter][2]
            ]
            if len(values) >= measure.slots_needed:
                break
        mine = found.get((measure.parameter, measure.averaging))
        if len(values) < measure.slots_needed:
            assert mine is None
        elif mine is not None:
            factor = mine.value / (sum(values) / len(values)) if sum(values) else 1.0
            assert mine.value == pytest.approx(factor * sum(values) / len(values))
            assert mine.periods == len(values)
            assert mine.index == measure.index(mine.value)
        else:  # the pollutant's other table is higher, or the value is too low for this one
            other = [s for s in result.subindices if s.parameter == measure.parameter]
            assert not other or other[0].averaging != measure.averaging


def _own(hour: dict[str, tuple[float, int, bool]]) -> bool:
    """Whether anything of the hour was measured."""
    return any(seconds and not imputed for _, seconds, imputed in hour.values())


@given(stations, st.integers(0, 26), hour_values, st.sampled_from(EDITIONS), st.booleans())
def test_completeness_is_monotone(by_hour: Any, back: int, extra: Any, standard: str, fresh: bool) -> None:
    """Measuring more never lowers a status: a new hour, more seconds or real data in an old one."""
    loaded, before = standards.load(standard), by_hour
    hour = dict(before.get(back, {}))
    for parameter, (value, seconds, _) in extra.items():
        if parameter not in hour:
            hour[parameter] = (value, seconds, False)
        elif fresh:
            hour[parameter] = (value, 3600, False)
    first = assess(loaded, station(before), T0)
    second = assess(loaded, station({**before, back: hour}), T0)
    lately = [hour for back, hour in before.items() if back < 25]
    if _own(hour) and not any(_own(one) for one in lately):
        return  # what is imputed where nothing is measured lately gives way to the first thing that is
    # The index as a whole may lose in status only by learning of an incomplete pollutant above the others.
    unhidden = any(s.index == second.index and s.status != "valid" for s in second.subindices)
    assert RANK[second.status] >= RANK[first.status] or unhidden
    worst_before = {s.parameter: RANK[s.status] for s in first.subindices}
    worst_after = {s.parameter: RANK[s.status] for s in second.subindices}
    for parameter, rank in worst_before.items():
        # EPA's 8-hour ozone, incomplete, is not hidden by the hour either.
        stands_above = sub(second, parameter).index > sub(first, parameter).index
        assert worst_after.get(parameter, 0) >= rank or stands_above
    assert (second.index is None) <= (first.index is None)


@given(stations, st.sampled_from(EDITIONS), st.sampled_from(POLLUTANTS), st.floats(0, 500))
def test_dirtier_air_never_lowers_the_index(by_hour: Any, standard: str, parameter: str, more: float) -> None:
    loaded = standards.load(standard)
    dirtier = {
        back: {p: (v + more if p == parameter else v, s, imp) for p, (v, s, imp) in hour.items()}
        for back, hour in by_hour.items()
    }
    first, second = assess(loaded, station(by_hour), T0), assess(loaded, station(dirtier), T0)
    if first.index is not None:
        assert second.index is not None
        assert second.index >= first.index


@given(st.dictionaries(st.integers(0, 26), guesses, max_size=27), st.sampled_from(EDITIONS))
def test_the_ends_of_an_index_are_the_indices_of_the_ends(by_hour: Any, standard: str) -> None:
    """The oracle: the same hours with nothing but their lower, or their upper, ends. All are imputed: what
    counts beside what was measured is asked in test_lead.py."""
    by_hour = {
        back: {name: guess for name, guess in hour.items() if guess[2]} for back, hour in by_hour.items()
    }
    loaded = standards.load(standard)
    result = assess(loaded, guessed(by_hour, 0), T0)
    low, high = (assess(loaded, guessed(by_hour, end), T0).index for end in (-1, 1))
    if not result.subindices:
        assert (result.lo, result.hi, result.index) == (None, None, None)
        return
    assert result.index is not None
    assert low is not None
    assert high is not None
    assert result.lo == min(low, result.index)
    assert result.hi == max(high, result.index)


@given(st.dictionaries(st.integers(0, 13), guesses, max_size=14))
def test_the_ends_of_a_nowcast_are_weighted_like_its_values(by_hour: Any) -> None:
    # (Of one pollutant, so that it counts and leads.)
    name = min((name for hour in by_hour.values() for name in hour), default="pm25")
    by_hour = {back: {name: hour[name]} for back, hour in by_hour.items() if name in hour}
    cast = assess(US, guessed(by_hour, 0), T0).nowcast
    if cast is None:
        return
    assert cast.index is not None
    guess = any(sub.imputed_share for sub in cast.subindices)
    assert (cast.lo is not None) == (cast.hi is not None) == guess
    if not guess:
        return
    ends = {-1: [], 1: []}  # type: dict[int, list[int]]
    for name in {sub.parameter for sub in cast.subindices}:
        hours = {
            back: by_hour[back][name]
            for back in range(12)
            if name in by_hour.get(back, {}) and by_hour[back][name][1] >= 2700
        }
        measure = US.measure(name, US.nowcast[name].averaging)
        for end, found in ends.items():
            moved = {
                back: value + end * (0 if not imputed else above if end > 0 else min(below, value))
                for back, (value, _, imputed, below, above) in hours.items()
            }
            if name == "o3":
                value = max(0.85 * moved[min(moved)] * 24.45 / 48.0 + 4.5, 0.0) / 1000
            else:
                levels = [value for value, *_ in hours.values()]
                weight = max(min(levels) / max(levels), 0.5) if max(levels) else 1.0
                value = sum(weight**back * one for back, one in moved.items()) / sum(
                    weight**back for back in moved
                )
            found.append(measure.index(value) or 0)
    # The oracle's sums round differently: an index may fall on the other side of a step.
    assert abs(cast.lo - min(max(ends[-1]), cast.index)) <= 1  # type: ignore[operator]
    assert abs(cast.hi - max(*ends[1], cast.index)) <= 1  # type: ignore[operator]


def test_a_measured_pollutant_has_no_interval_from_what_nobody_measured() -> None:
    history = hours(24, {"pm25": 30.0})
    for back in range(24):
        known = Mean(30.0, 3600) if back else Mean(30.0, 0, 3600, 20.0, 200.0)
        guess = Mean(60.0, 0, 3600, 59.0, 300.0)
        history = history.with_hour(T0 - back * HOUR_MS, {"pm25": known, "pm10": guess})
    result = assess(US, history, T0)
    # The one imputed hour is not among the 23 measured ones that make a valid mean.
    assert (result.index, result.lo, result.hi, result.status) == (90, None, None, "valid")
    assert result.to_plain()["lo"] is None
    assert "not counted: pm10 53 (never measured here)" in result.reason


def test_nothing_to_assess() -> None:
    assert assess_many(US, [], []) == []


@pytest.mark.parametrize("horizon", [26, 48, 340])
def test_ozone_nowcast_uses_the_regression_once_two_weeks_are_known(horizon: int) -> None:
    """As in the stream: 48 hours of everything, and of ozone what the regression needs."""
    history, methods = History.empty(horizon), []
    for hour in range(340):
        value = 80 + 50 * math.sin(hour * math.pi / 12)
        history = history.with_hour(T0 - (339 - hour) * HOUR_MS, {"o3": Mean(value, 3600)})
        if hour >= 324:
            cast = assess(US, history, T0 - (339 - hour) * HOUR_MS + 5 * MINUTE_MS).nowcast
            assert cast is not None
            methods.append(cast.subindices[0].averaging)
    # Two weeks, of which EPA lets seven hours in a row be missing.
    assert methods == ["nowcast-surrogate"] * 4 + ["nowcast-regression"] * 12
    assert cast is not None
    centred = sum(80 + 50 * math.sin(h * math.pi / 12) for h in range(335, 343)) / 8
    assert cast.subindices[0].value == pytest.approx(centred / 1962, rel=1e-3)
    late = history.with_window(T0 + MINUTE_MS, MINUTE_MS, {})
    for back, expected in ((1, "nowcast-regression"), (2, "nowcast-regression")):
        late = late.with_hour(T0 - (back - 1) * HOUR_MS, {})
        held = assess(US, late, T0 + 5 * MINUTE_MS).nowcast
        assert held is not None
        assert held.subindices[0].averaging == expected
    missing = late.with_hour(T0 - 2 * HOUR_MS, {})
    silent = assess(US, missing, T0)
    assert silent.nowcast is None
    assert silent.nowcast_reason == "no NowCast of o3: none of the newest 3 hours is complete"
