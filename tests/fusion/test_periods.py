"""A reading stands for its period: whatever the cadence, a station's air is complete, and measured."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.base import to_ms
from schemas.estimate import Estimate, PollutantEstimate
from schemas.station import Sensor, Station
from tests.fusion.town import DAY, HOUR, MINUTE, RULES, SECOND, Town, reading, value

HOURS_LATER = DAY + 26 * HOUR


def spoken(
    station: str, every: int, offset: int, until: int, level: float = 20.0
) -> Iterator[dict[str, Any]]:
    """PM2.5 around `level`: a sensor that showed the same number for a day would be stuck."""
    for number, at in enumerate(range(DAY + offset, until, every)):
        yield reading(station, at, value("pm25", level + 0.1 * (number % 5 - 2)))


def by_start(estimates: list[Estimate]) -> dict[int, PollutantEstimate | None]:
    """PM2.5 by the beginning of the window, ms."""
    return {to_ms(one.window.start): one.pollutants.get("pm25") for one in estimates}


@pytest.mark.parametrize(
    ("every", "offset"), [(61, 5), (120, 47), (145, 5), (300, 13), (660, 47), (900, 899), (3600, 5)]
)
def test_a_complete_series_is_complete_whatever_its_cadence(every: int, offset: int) -> None:
    town = Town()
    town.hear(spoken("s", every * SECOND, offset * SECOND, HOURS_LATER))
    town.until(HOURS_LATER)
    last = town.of("s")[-1]
    block = last.indices[0]
    assert block.status == "valid", block.reason
    assert block.index == block.nowcast == 71
    assert last.pollutants["pm25"].kind == "measured"
    # Once the cadence is known (two readings), every window has its measured value.
    known = DAY + (every + offset) * SECOND
    windows = {start: pm25 for start, pm25 in by_start(town.of("s")).items() if start >= known}
    assert len(windows) >= (DAY + 25 * HOUR - known) // MINUTE
    assert {None if pm25 is None else pm25.kind for pm25 in windows.values()} == {"measured"}


@pytest.mark.parametrize(("every", "jitter"), [(300, 4), (900, 20), (1800, 60), (3600, 200)])
def test_beside_others_nothing_is_imputed_from_the_second_reading_on(every: int, jitter: int) -> None:
    """Before that nobody knows whether another one comes: what is imputed until then says so."""
    dice = np.random.default_rng(every)
    slow = [
        reading(
            "s",
            DAY + (number * every + int(dice.integers(0, jitter))) * SECOND,
            value("pm25", 20.0 + number % 3),
        )
        for number in range(6)
    ]
    second, last = slow[1]["observed_at"], slow[-1]["observed_at"]
    beside = [reading("s", at, value("pm10", 90.0 + at // MINUTE % 5)) for at in range(DAY, last, MINUTE)]
    town = Town()
    town.hear(together(slow, beside))
    town.until(last + MINUTE)
    found = by_start(town.of("s"))
    assert len(found) >= (last - DAY) // MINUTE
    for start, pm25 in found.items():
        if pm25 is not None and start + MINUTE > second:
            assert (pm25.kind, 20.0 <= pm25.value <= 22.0) == ("measured", True), start - DAY
        elif pm25 is not None and start > slow[0]["observed_at"]:
            assert pm25.kind == "imputed"
            assert pm25.lo is not None


def test_the_mean_of_an_hour_is_that_of_covered_time_not_of_messages() -> None:
    """30 minutes at 10, spoken every minute; 30 at 50, spoken every five: the hour is 30."""
    town = Town()
    town.hear(spoken("s", MINUTE, 0, DAY + 90 * MINUTE, 10.0))
    more: dict[str, Any] = {"period": 300, "stamp": "begins"}
    slow = [reading("s", DAY + at * MINUTE, value("pm25", 50.0), **more) for at in range(90, 125, 5)]
    town.hear(slow)
    town.until(DAY + 140 * MINUTE)
    found = by_start(town.of("s"))
    values = [found[start] for start in range(DAY + HOUR, DAY + 2 * HOUR, MINUTE)]
    assert [round(pm25.value) for pm25 in values if pm25] == [10] * 30 + [50] * 30


def test_an_outage_is_not_covered_by_the_reading_before_it() -> None:
    town = Town()
    town.hear(spoken("s", 5 * MINUTE, 0, DAY + HOUR))
    town.hear([reading("s", DAY + 3 * HOUR, value("pm25", 20.0))])
    town.until(DAY + 3 * HOUR + MINUTE)
    found = by_start(town.of("s"))
    measured = [start for start, pm25 in found.items() if pm25 is not None and pm25.kind == "measured"]
    last_before = max(start for start in measured if start < DAY + 3 * HOUR)
    assert last_before < DAY + 55 * MINUTE + 6 * MINUTE


@pytest.mark.parametrize("stamp", ["begins", "ends"])
@pytest.mark.parametrize("declared", ["message", "station"])
def test_a_declared_hour_counts_where_it_was(stamp: str, declared: str) -> None:
    """Hourly means 10, 20, 30 … of a portal: hour k of the day has 10 k, whichever end its stamp names."""
    stations = {}
    more: dict[str, Any] = {"period": 3600, "stamp": stamp}
    if declared == "station":
        sensor = Sensor(sensor="main", parameters=("pm25",), period=3600, stamp=stamp)  # type: ignore[arg-type]
        stations["s"] = Station(station="s", sensors=(sensor,))
        more = {}
    town = Town(stations)
    messages = []
    for hour in range(1, 6):
        end = DAY + hour * HOUR
        at = end if stamp == "ends" else end - HOUR
        messages.append(reading("s", at, value("pm25", 10.0 * hour), **more) | {"arrival": end + 30 * SECOND})
    town.hear(messages)
    town.until(DAY + 5 * HOUR + 10 * SECOND)
    for one in town.of("s"):
        start = to_ms(one.window.start)
        if start < DAY + 5 * HOUR:
            hour = (start - DAY) // HOUR + 1
            assert one.pollutants["pm25"].value == 10.0 * hour, start - DAY
            assert one.pollutants["pm25"].kind == "measured"
    assert len(town.of("s")) >= 5 * 60


def test_an_hour_that_ended_counts_right_beside_minutely_neighbours_too() -> None:
    """Its windows were final before its mean came: they stay, but the averages have the mean."""
    town = Town()
    everybody: list[dict[str, Any]] = [*spoken("n", MINUTE, 0, DAY + 26 * HOUR)]
    everybody += [
        reading("s", DAY + hour * HOUR, value("pm25", 30.0 if hour % 2 else 10.0), period=3600)
        for hour in range(1, 27)
    ]
    everybody.sort(key=lambda message: message["observed_at"])
    town.hear(everybody)
    town.until(DAY + 26 * HOUR + 10 * SECOND)
    at_the_end = town.estimates["s", DAY + 26 * HOUR]
    assert at_the_end.indices[0].status == "valid"
    assert at_the_end.indices[0].index == 71  # of 20.0, the mean over the day


def test_a_minutely_sensor_is_not_an_input_of_two_windows() -> None:
    town = Town()
    town.hear(spoken("s", MINUTE, 5 * SECOND, DAY + HOUR))
    assert all(one.inputs.readings == 1 for one in town.of("s"))


@given(
    every=st.sampled_from([61, 145, 300, 900]),
    jitter=st.lists(st.integers(-8, 8), min_size=30, max_size=30),
    dice=st.integers(0, 2**32 - 1),
)
@settings(max_examples=10, deadline=None)
def test_shuffled_within_lateness_or_cut_anywhere_the_windows_are_the_same(
    every: int, jitter: list[int], dice: int
) -> None:
    """Repeats and late arrivals change nothing in the end but what the cadence was at the time."""
    more: dict[str, Any] = {"period": every}
    messages = [
        reading("s", DAY + (number * every + wander) * SECOND, value("pm25", 10.0 + number), **more)
        for number, wander in enumerate(jitter, 1)
    ]
    rules = replace(RULES, lateness=48 * HOUR, hold=48 * HOUR)
    straight, shuffled = Town(rules=rules), Town(rules=rules)
    straight.hear(messages)
    order = np.random.default_rng(dice).permutation(len(messages)).tolist()
    shuffled.hear([messages[place] | {"arrival": DAY + 24 * HOUR} for place in [*order, *order[:5]]])
    for town in (straight, shuffled):
        town.until(DAY + 30 * HOUR)
        assert not town.late
    # Behind the last mean the next one is waited for: as long as the cadence was.
    last = max(message["observed_at"] for message in messages)
    found = [
        [(one.window, one.pollutants["pm25"].value) for one in town.of("s") if to_ms(one.window.start) < last]
        for town in (straight, shuffled)
    ]
    assert found[0] == found[1]


def hourly(hours: int, level: Callable[[int], float], **more: Any) -> list[dict[str, Any]]:
    """Means of the hours that end at `hours` o'clock and before, known half a minute later."""
    return [
        reading("s", DAY + hour * HOUR, value("pm25", level(hour)), period=3600)
        | {"arrival": DAY + hour * HOUR + 30 * SECOND}
        | more
        for hour in range(1, hours + 1)
    ]


def together(*series: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        (one for part in series for one in part), key=lambda one: one.get("arrival", one["observed_at"])
    )


def test_a_declared_mean_that_does_not_come_is_not_made_up_of_the_one_before() -> None:
    town = Town()
    half = [one for one in hourly(27, lambda hour: 20.0 + hour % 3) if one["observed_at"] // HOUR % 2 == 0]
    town.hear(together(spoken("n", MINUTE, 0, DAY + 27 * HOUR), half))
    town.until(DAY + 27 * HOUR + 10 * SECOND)
    block = town.of("s")[-1].indices[0]
    assert (block.status, block.nowcast) != ("valid", block.index)
    assert "of 24 hours, 18 needed" in block.reason


@pytest.mark.parametrize(("period", "shift"), [(3600, 30 * MINUTE), (1800, 0), (3600, 5 * SECOND), (900, 0)])
def test_means_count_in_the_hours_they_are_of_whatever_ends_when(period: int, shift: int) -> None:
    """Beside a neighbour that speaks every minute, so that their windows are final before they come."""
    town = Town()
    step, risen = period * SECOND, DAY + 3 * HOUR + shift
    means = [
        reading("s", end, value("pm25", 100.0 if end - step >= risen else 10.0), period=period)
        | {"arrival": end + 30 * SECOND}
        for end in range(DAY + step + shift, DAY + 6 * HOUR + shift, step)
    ]
    town.hear(together(spoken("n", MINUTE, 0, DAY + 7 * HOUR), means))
    town.until(DAY + 7 * HOUR)
    history = town.assessor._air["s"].latest()[1].history
    share = shift / HOUR
    expected = {3: 10.0, 4: 100.0 * (1 - share) + 10.0 * share, 5: 100.0}
    for hour, level in expected.items():
        mean = history.hour(DAY + hour * HOUR)["pm25"]
        assert mean.value == pytest.approx(level, abs=3.0), hour
        assert mean.measured_s + mean.imputed_s >= 3500


@pytest.mark.parametrize("period", [900, 1800, 3600])
@pytest.mark.parametrize("stamp", ["begins", "ends"])
@pytest.mark.parametrize("beside", ["n", "s"], ids=["another station", "the station's own"])
@pytest.mark.parametrize("delay", [30, 400])
def test_of_periods_longer_than_the_lateness_nothing_is_lost_and_nothing_counts_twice(
    period: int, stamp: str, beside: str, delay: int
) -> None:
    """Beside what speaks every minute; an hour of it counts as one hour, of the means that were sent."""
    step = period * SECOND
    ends = range(DAY + step, DAY + 6 * HOUR + 1, step)
    level = {end: 20.0 + 7.0 * (number % 4) for number, end in enumerate(ends)}
    means = [
        reading(
            "s", end if stamp == "ends" else end - step, value("pm25", level[end]), period=period, stamp=stamp
        )
        | {"arrival": end + delay * SECOND}
        for end in ends
    ]
    minutely = [
        reading(beside, at, value("no2", 30.0 + at // MINUTE % 7))
        for at in range(DAY + 20 * SECOND, DAY + 7 * HOUR, MINUTE)
    ]
    town = Town()
    town.hear(together(minutely, means), poll=7)
    town.until(DAY + 8 * HOUR)
    assert not town.refused
    assert town.late == 0
    heard = [
        one for one in town.of("s") if "pm25" in one.pollutants and one.pollutants["pm25"].kind == "measured"
    ]
    assert len([one for one in heard if one.pollutants["pm25"].since is not None]) == len(means)
    assert sum(one.inputs.readings - one.inputs.standing for one in town.of("s")) == len(means) + (
        len(minutely) if beside == "s" else 0
    )
    history = town.assessor._air["s"].latest()[1].history
    for hour in range(1, 7):
        mean = history.hour(DAY + hour * HOUR)["pm25"]
        wanted = [level[end] for end in ends if DAY + (hour - 1) * HOUR < end <= DAY + hour * HOUR]
        assert mean.measured_s == 3600
        assert mean.imputed_s == 0
        assert mean.value == pytest.approx(sum(wanted) / len(wanted), abs=1e-3), hour


def test_a_mean_that_comes_when_its_last_window_is_final_is_late_and_is_said_to_be() -> None:
    """Not lost: `skyfuse backfill` counts it. A longer allowed lateness takes it in time."""
    late = [
        one | {"arrival": one["observed_at"] + 20 * MINUTE} for one in hourly(5, lambda hour: 20.0 + hour)
    ]
    for lateness, missed in ((10 * MINUTE, 5), (30 * MINUTE, 0)):
        town = Town(rules=replace(RULES, lateness=lateness, hold=lateness))
        town.hear(together(spoken("n", MINUTE, 0, DAY + 6 * HOUR), late))
        town.until(DAY + 7 * HOUR)
        assert (town.late, len(town.refused)) == (missed, 0)


@pytest.mark.parametrize("declared", [True, False])
def test_stamps_that_wander_about_the_edge_of_their_windows_leave_none_empty(declared: bool) -> None:
    wander = np.random.default_rng(4).integers(-2000, 2001, 26 * 60)
    more: dict[str, Any] = {"period": 60} if declared else {}
    town = Town()
    town.hear(
        reading(
            "s",
            DAY + minute * MINUTE + int(wander[minute]),
            value("pm25", 20.0 + minute % 3),
            **more,
        )
        for minute in range(1, 26 * 60)
    )
    town.until(HOURS_LATER)
    last = town.of("s")[-1]
    assert last.indices[0].status == "valid"
    found = [pm25 for start, pm25 in by_start(town.of("s")).items() if start >= DAY + 10 * MINUTE]
    assert len(found) >= 26 * 60 - 13
    assert {pm25.kind for pm25 in found if pm25} == {"measured"}


def test_a_burst_stands_until_the_next_one() -> None:
    town = Town()
    town.hear(
        reading("s", DAY + at * 10 * MINUTE + within * 10 * SECOND, value("pm25", 20.0 + within / 10))
        for at in range(26 * 6)
        for within in range(3)
    )
    town.until(HOURS_LATER)
    assert town.of("s")[-1].indices[0].status == "valid"


def test_windows_of_an_hour_count_covered_time() -> None:
    rules = replace(RULES, size=HOUR)
    few, mixed = Town(rules=rules), Town(rules=rules)
    few.hear(
        reading("s", DAY + hour * HOUR + minute * MINUTE, value("pm25", 20.0 + minute))
        for hour in range(26)
        for minute in range(5)
    )
    mixed.hear(
        reading("s", DAY + at * MINUTE, value("pm25", level), period=period)
        for first, last, every, level, period in ((1, 91, 1, 10.0, 60), (95, 200, 5, 50.0, 300))
        for at in range(first, last, every)
    )
    for town in (few, mixed):
        town.until(DAY + 30 * HOUR)
    assert few.of("s")[-1].indices[0].status != "valid"
    assert few.of("s")[-1].pollutants["pm25"].covered_s == 300
    second = by_start(mixed.of("s"))[DAY + HOUR]
    assert second is not None
    assert second.value == pytest.approx(30.0, abs=1.5)


def test_windows_that_only_stand_on_others_say_so() -> None:
    town = Town()
    town.hear(spoken("s", 15 * MINUTE, 0, DAY + 3 * HOUR))
    town.until(DAY + 3 * HOUR)
    heard = [one for one in town.of("s") if one.inputs.standing < one.inputs.readings]
    assert len(heard) == 12
    assert len(town.of("s")) > 120


def test_nothing_is_learned_from_what_only_stands() -> None:
    town = Town()
    town.hear(spoken("s", 15 * MINUTE, 0, DAY + 4 * HOUR + 31 * MINUTE))
    town.until(DAY + 4 * HOUR + 55 * MINUTE)
    heard = DAY + 4 * HOUR + 31 * MINUTE
    _, air = town.assessor._air["s"].latest()
    assert to_ms(town.of("s")[-1].window.end) > heard
    assert air.gathered is not None
    assert air.gathered.through == air.last["pm25"][1] == heard


def fast(*spans: tuple[int, int]) -> list[dict[str, Any]]:
    """A reading every ten seconds in those spans of minutes of the day."""
    return [
        reading("s", DAY + at * SECOND, value("pm25", 20.0 + 0.1 * (at // 10 % 5)))
        for first, last in spans
        for at in range(first * 60, last * 60, 10)
    ]


def measured_minutes(town: Town) -> set[int]:
    """Minutes of the day whose windows have a measured value."""
    return {
        (start - DAY) // MINUTE
        for start, pm25 in by_start(town.of("s")).items()
        if pm25 is not None and pm25.kind == "measured"
    }


def test_outages_of_a_fast_sensor_are_silence_each_of_them() -> None:
    spans = [(0, 20), (70, 90), (140, 160), (165, 170), (175, 180)]
    town = Town()
    town.hear(fast(*spans))
    town.until(DAY + 6 * HOUR)
    heard = {minute for first, last in spans for minute in range(first, last)}
    # What was said in the last seconds of a minute stands for the next one too.
    assert heard <= measured_minutes(town) <= heard | {last for _, last in spans}


@pytest.mark.parametrize("count", [4, 5, 8])
def test_an_hourly_sensor_that_turned_minutely_is_silent_when_it_is(count: int) -> None:
    town = Town()
    turned = DAY + 5 * HOUR
    town.hear(
        [
            *spoken("s", HOUR, 0, turned),
            *(
                reading("s", turned + at * MINUTE, value("pm25", 20.0 + 0.1 * (at % 5)))
                for at in range(count)
            ),
        ]
    )
    town.until(turned + 3 * HOUR)
    assert max(measured_minutes(town)) < 300 + count + 1
    assert set(range(60, 300 + count)) <= measured_minutes(town)
    last = to_ms(town.of("s")[-1].window.end)
    assert last <= turned + (count + 1) * MINUTE, "of what nobody has said anything there is no window"


@pytest.mark.parametrize(
    ("count", "between", "cycle"), [(3, 40, 600), (5, 60, 900), (10, 60, 900), (3, 10, 3600)]
)
def test_a_device_that_rests_between_its_turns_is_complete(count: int, between: int, cycle: int) -> None:
    town = Town()
    town.hear(
        reading("s", DAY + (begins + place * between) * SECOND, value("pm25", 20.0 + 0.1 * (place % 5)))
        for begins in range(0, 26 * 3600, cycle)
        for place in range(count)
    )
    town.until(HOURS_LATER)
    block = town.of("s")[-1].indices[0]
    assert block.status == "valid", block.reason
    assert block.index in (71, 72)
    after = (5 * cycle) // 60
    assert set(range(after, 26 * 60 - 1)) <= measured_minutes(town)


def test_a_sensor_that_speaks_a_minute_an_hour_does_not_cover_the_hour() -> None:
    town = Town(rules=replace(RULES, size=HOUR))
    town.hear(
        reading("s", DAY + hour * HOUR + place * 20 * SECOND, value("pm25", 20.0 + place))
        for hour in range(8)
        for place in range(4)
    )
    town.until(DAY + 9 * HOUR)
    assert [one.pollutants["pm25"].covered_s for one in town.of("s")] == [80] * 8


@pytest.mark.parametrize(("mean", "every"), [(5, 145), (30, 300), (300, 900)])
def test_an_honest_mean_shorter_than_the_cadence_is_as_complete_as_one_undeclared(
    mean: int, every: int
) -> None:
    town = Town()
    town.hear(one | {"period": mean} for one in spoken("s", every * SECOND, 5 * SECOND, HOURS_LATER))
    town.until(HOURS_LATER)
    assert town.of("s")[-1].indices[0].status == "valid"
    assert set(range(2 * every // 60 + 1, 26 * 60 - 1)) <= measured_minutes(town)


@pytest.mark.parametrize("size", [MINUTE, 15 * MINUTE, HOUR])
@pytest.mark.parametrize("mean", [60, 15])
def test_running_means_smear_no_hour(size: int, mean: int) -> None:
    """An hour of 150 in air of 5, told by means of the last hour, or quarter, every few minutes."""
    air = [150.0 if 300 <= minute < 360 else 5.0 + 0.1 * (minute // 15 % 5) for minute in range(600)]
    messages = [
        reading("s", DAY + end * MINUTE, value("pm25", sum(air[end - mean : end]) / mean), period=mean * 60)
        for end in range(60, 601, mean // 6 or 5)
    ]
    town = Town(rules=replace(RULES, size=size))
    town.hear(messages, poll=1)
    town.until(DAY + 11 * HOUR)
    history = town.assessor._air["s"].latest()[1].history
    for hour in range(2, 11):
        found = history.hour(DAY + hour * HOUR)["pm25"]
        assert found.measured_s == HOUR // SECOND
        exact = sum(air[hour * 60 - 60 : hour * 60]) / 60
        assert found.value == pytest.approx(exact, abs=0.5), hour
    # They are shown, one after the other, while the period goes on.
    assert set(range(60, 599)) <= measured_minutes(town) or size > MINUTE
    if mean == 60 and size == MINUTE:
        shown = by_start(town.of("s"))[DAY + 329 * MINUTE]
        assert shown is not None
        assert shown.value == pytest.approx(sum(air[270:330]) / 60, abs=1e-3)


def of_one_window(values: Iterable[tuple[float, float]], size: int, **odd: Any) -> float:
    """The mean of one window, of (seconds, value); a value above 400 comes with what is `odd`."""
    town = Town(rules=replace(RULES, size=size))
    town.hear(
        reading("s", DAY + round(at * SECOND), value("no2", level), **(odd if level > 400 else {}))
        for at, level in values
    )
    town.until(DAY + 3 * HOUR)
    return {to_ms(one.window.start): one.pollutants["no2"].value for one in town.of("s")}[DAY]


@pytest.mark.parametrize("size", [15 * MINUTE, HOUR])
@pytest.mark.parametrize("first", [20.0, 60.0, 200.0])
def test_the_first_readings_of_a_sensor_weigh_no_more_than_the_others(size: int, first: float) -> None:
    values = [first, first, *(10.0 + 0.1 * (at % 5) for at in range(size // MINUTE - 2))]
    assert of_one_window(enumerate_minutes(values), size) == pytest.approx(sum(values) / len(values))


def enumerate_minutes(values: Iterable[float]) -> list[tuple[float, float]]:
    return [(60 * place, level) for place, level in enumerate(values)]


def test_what_is_lost_early_moves_no_weight_to_what_came_before() -> None:
    """The air steps up half-way; messages are lost before the cadence is known, and after."""
    lost = {1, 2, 3, 30, 31}
    values = [
        (10 * place, (10.0 if place < 45 else 100.0) + 0.1 * (place % 5))
        for place in range(90)
        if place not in lost
    ]
    assert of_one_window(values, 15 * MINUTE) == pytest.approx(55.2, abs=3)


def test_one_that_declares_an_hour_among_minutely_ones_is_one_of_them() -> None:
    values = [10.0 + 0.1 * (at % 5) for at in range(60)]
    values[30] = 410.0
    mean = of_one_window(enumerate_minutes(values), HOUR, period=3600)
    assert 10.0 <= mean <= sum(values) / 60


@pytest.mark.parametrize("size", [1, 5])
def test_an_hour_is_counted_in_windows_of_seconds_too(size: int) -> None:
    town = Town(rules=replace(RULES, size=size * SECOND))
    town.hear(hourly(2, lambda hour: 20.0 + hour))
    town.until(DAY + 2 * HOUR)
    history = town.assessor._air["s"].latest()[1].history
    assert history.hour(DAY + HOUR)["pm25"].measured_s == 3600
