"""For how long a reading stands: what is learned, what is declared, and what of it is settled."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reading import Observation, Quantity
from schemas.station import Sensor, Station
from streams.cadence import GAPS, LONGEST_GAP_MS, Cadence, Rest
from streams.cadences import (
    SCALING_KEPT_MS,
    Cadences,
    CadencesState,
    Circumstances,
    by_station,
    dump_cadences,
    read_cadences,
)
from streams.join import DECLARED, RUNNING
from streams.standing import Periods, Standing

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
NOON = 1_750_248_000_000
SERIES = ("s", "main", "pm25", "value")


def after(*times: int) -> Cadence:
    cadence = Cadence(times[0])
    for time in times[1:]:
        cadence = cadence.after(time)
    return cadence


def test_a_period_is_the_lower_median_of_the_last_five_gaps() -> None:
    def minutes(*gaps: float) -> Cadence:
        return after(*(round(MINUTE * sum(gaps[:place])) for place in range(len(gaps) + 1)))

    assert minutes().period_ms == 0
    assert minutes(1).period_ms == MINUTE, "one gap counts until there is another"
    assert minutes(66).period_ms == HOUR
    assert minutes(66.1).period_ms == 0, "an outage, as far as anybody knows"
    assert minutes(1, 3).period_ms == MINUTE, "of two the smaller"
    assert minutes(1, 3, 2).period_ms == 2 * MINUTE
    assert minutes(1, 3, 2, 10).period_ms == 2 * MINUTE, "of four the second"
    five = minutes(1, 1, 10, 20, 30)
    assert five.period_ms == 10 * MINUTE
    assert len(five.gaps) == GAPS
    assert minutes(1, 1, 10, 20, 30, 40).gaps == tuple(MINUTE * gap for gap in (1, 10, 20, 30, 40))


def test_repeats_stragglers_and_outages_say_nothing_of_the_cadence() -> None:
    known = after(0, MINUTE, 2 * MINUTE)
    assert known.after(2 * MINUTE) is known
    assert known.after(MINUTE + 500) is known
    longest = 2 * MINUTE + LONGEST_GAP_MS
    assert known.after(longest).gaps == (MINUTE, MINUTE, LONGEST_GAP_MS)
    assert known.after(longest + 1).gaps == (MINUTE, MINUTE)
    assert known.after(longest + 1).period_ms == MINUTE


def turns(*lengths: tuple[int, float, float]) -> Cadence:
    """After turns of (readings, seconds between them, seconds from a turn's beginning to the next one's)."""
    at, times = 0.0, []
    for count, between, cycle in lengths:
        times += [NOON + round(1000 * (at + between * place)) for place in range(count)]
        at += cycle
    return after(*times)


@pytest.mark.parametrize(
    ("count", "between", "cycle"),
    [
        (2, 10, 600), (3, 10, 600), (3, 40, 600), (5, 60, 900), (10, 60, 900), (30, 10, 900), (15, 60, 1800),
        (3, 10, 3600), (2, 60, 300),
    ],
)  # fmt: skip
def test_of_a_device_with_a_duty_cycle_the_period_is_its_rest(
    count: int, between: float, cycle: float
) -> None:
    turn = (count, between, cycle)
    rest = round(1000 * (cycle - between * (count - 1)))
    assert turns(turn, turn, turn).period_ms == between * 1000, "it may have failed twice"
    for number in range(4, 12):
        assert turns(*[turn] * number).period_ms == rest
    if cycle < 3600:
        early, late = ((count, between, cycle * part) for part in (0.9, 1.1))
        known = turns(turn, early, late, turn, turn, early, turn).period_ms
        assert 0.75 * rest <= known <= 1.25 * rest, "its clock wanders"
        assert turns(turn, turn, turn, turn, (count, between, 86_400), turn).period_ms == rest, "a day away"
    lasts = round(2 * cycle / between)
    assert turns(*[turn] * 5, (lasts, between, 0)).period_ms == between * 1000, "it has given that up"


@pytest.mark.parametrize("between", [1, 10, 20, 30, 60])
@pytest.mark.parametrize(
    "outages",
    [
        [(4000, 3000), (4000, 3000)],
        [(600, 3000), (600, 3000), (600, 3000), (600, 3000)],  # regular, but heard too seldom
        [(2400, 1200), (2400, 1200), (2400, 1200), (2400, 1200)],
        [(600, 600), (3000, 600), (900, 600), (7000, 600), (300, 600)],
        [(600, 300), (600, 900), (600, 1500), (600, 400), (600, 1200)],
    ],
)
def test_outages_of_a_fast_sensor_are_no_cadence(between: int, outages: list[tuple[int, int]]) -> None:
    """`outages`: how many seconds it speaks, and how many it does not."""
    for number in range(1, len(outages) + 1):
        lengths = [(speaks // between, between, speaks + silent) for speaks, silent in outages[:number]]
        assert turns(*lengths, (2, between, 0)).period_ms == between * 1000
    assert turns(*[(600 // between, between, 86_400)] * 6).period_ms == between * 1000


@given(
    between=st.sampled_from([10_000, 60_000, 145_000, 600_000]),
    every=st.integers(5, 12),
    wander=st.lists(st.floats(-0.1, 0.1), min_size=60, max_size=60),
)
def test_single_readings_that_are_lost_at_equal_distances_are_no_rests(
    between: int, every: int, wander: list[float]
) -> None:
    """A modem swallows every tenth message: what is missing is missing, the one before is true no longer."""
    cadence = Cadence(NOON)
    for place, part in enumerate(wander, 1):
        if place % every:
            cadence = cadence.after(NOON + round((place + part) * between))
            assert cadence.period_ms <= 1.2 * between or place < every + 3
    assert not cadence.rests


def test_a_rest_is_known_with_its_cycle() -> None:
    known = turns((3, 40, 600), (3, 40, 600), (1, 40, 0))
    assert known.rests == (Rest(520_000, 600_000), Rest(520_000, 600_000))
    assert known.woke == known.last_ms == NOON + 1_200_000
    assert known.until == known.last_ms + 44_000
    assert len(turns(*[(3, 40, 600)] * 9).rests) == GAPS


def test_what_an_earlier_version_stored_goes_on() -> None:
    slow = Cadence(10_000_000, (600_000,) * 5)
    assert slow.period_ms == 600_000
    assert slow.after(10_600_000).period_ms == 600_000
    fast = Cadence(10_000_000, (3_000_000, 3_000_000))  # outages of one that speaks every ten seconds
    for place in range(1, 4):
        fast = fast.after(10_000_000 + place * 10_000)
    assert fast.period_ms == 10_000


def test_a_learned_period_is_an_hour_at_most() -> None:
    assert after(0, 2 * HOUR, 4 * HOUR).period_ms == HOUR


def seen(time: int, period_s: int = 0, stamp: Any = "ends", parameter: str = "pm25") -> Observation:
    return Observation("s", time, [Quantity(parameter, 1.0, "ug/m3", "main", "value")], period_s, stamp)


def periods(station: Station | None = None, known: Cadence | None = None, humidity_ms: int = 0) -> Periods:
    cadences = Cadences({} if known is None else {"s": {SERIES[1:]: known}})
    return Periods(MINUTE, cadences, lambda _: station, lambda _: humidity_ms)


def one(of: Periods, observation: Observation, arrival: int | None = None) -> Standing:
    [standing] = of.of(observation, observation.time_ms if arrival is None else arrival, 7)
    return standing


def test_a_learned_period_begins_with_the_stamp_and_the_next_may_be_a_tenth_late() -> None:
    known = Cadence(NOON, (300 * SECOND, 300 * SECOND))
    now = NOON + 300 * SECOND
    assert one(periods(known=known), seen(now)) == Standing(now, now, now + 330 * SECOND, 300 * SECOND)
    assert one(periods(), seen(now)) == Standing(now), "nothing is known yet"
    minutely = Cadence(NOON, (MINUTE, MINUTE))
    own = Standing(NOON + MINUTE, period=MINUTE)
    assert one(periods(known=minutely), seen(NOON + MINUTE)) == own, "its own window only"


@pytest.mark.parametrize(("second", "lent"), [(53, False), (54, True), (59, True)])
def test_one_near_the_end_of_its_window_stands_for_the_next_if_its_successor_may_miss_it(
    second: int, lent: bool
) -> None:
    minutely = Cadence(NOON - 6 * SECOND + second * SECOND - MINUTE, (MINUTE, MINUTE, MINUTE))
    at = NOON + second * SECOND
    assert one(periods(known=minutely), seen(at)) == (
        Standing(at, at, NOON + 2 * MINUTE, MINUTE) if lent else Standing(at, period=MINUTE)
    )


@pytest.mark.parametrize(("stamp", "lag"), [("ends", 0), ("begins", 900 * SECOND)])
@pytest.mark.parametrize("declared", ["message", "station"])
def test_a_declared_period_ends_where_its_stamp_says(stamp: Any, lag: int, declared: str) -> None:
    sensor = Sensor(sensor="main", parameters=("pm25",), period=900, stamp=stamp)
    of = periods(Station(station="s", sensors=(sensor,)) if declared == "station" else None)
    told = seen(NOON, 900, stamp) if declared == "message" else seen(NOON)
    end = NOON + lag
    # Its own window is the last one that it covers; of what comes after it says nothing.
    wanted = Standing(end - 1, end - 900 * SECOND, end, 900 * SECOND, basis=DECLARED)
    assert one(of, told, end + 5 * SECOND) == wanted


def test_what_a_message_declares_comes_before_the_stations_record() -> None:
    sensor = Sensor(sensor="main", parameters=("pm25",), period=900, stamp="begins")
    of = periods(Station(station="s", sensors=(sensor,)))
    assert one(of, seen(NOON, 300), NOON) == Standing(
        NOON - 1, NOON - 300 * SECOND, NOON, 300 * SECOND, basis=DECLARED
    )


def test_a_mean_that_comes_before_its_period_is_over_has_no_later_time() -> None:
    """Its own window may not lie ahead of what the broker has seen."""
    of = periods()
    early = seen(NOON, 3600, "begins")
    assert one(of, early, NOON + 10 * SECOND).time == NOON + 10 * SECOND - 1
    assert one(of, early, NOON - 10 * SECOND).time == NOON, "and never before its stamp"
    assert one(of, early, NOON + 2 * HOUR).time == NOON + HOUR - 1


def test_a_declared_period_of_a_window_lies_in_that_of_its_middle() -> None:
    for wander in (-2 * SECOND, 0, 2 * SECOND):
        middle = NOON - 30 * SECOND + wander
        assert one(periods(), seen(NOON + wander, 60)) == Standing(middle, period=MINUTE, basis=DECLARED)
    assert one(periods(), seen(NOON, 61)).until == NOON


def test_an_hour_is_an_hour_in_windows_of_a_second_too() -> None:
    of = Periods(SECOND, Cadences(), lambda _: None)
    assert one(of, seen(NOON, 3600), NOON) == Standing(NOON - 1, NOON - HOUR, NOON, HOUR, basis=DECLARED)
    hourly = Cadences({"s": {SERIES[1:]: Cadence(NOON - HOUR, (HOUR, HOUR))}})
    learned = one(Periods(SECOND, hourly, lambda _: None), seen(NOON))
    assert learned == Standing(NOON, NOON, NOON + HOUR + HOUR // 10, HOUR)


@pytest.mark.parametrize("stamp", ["ends", "begins"])
@pytest.mark.parametrize(("mean", "every"), [(5, 145), (30, 300), (60, 120)])
def test_of_a_mean_shorter_than_the_cadence_the_next_one_is_waited_for(
    mean: int, every: int, stamp: Any
) -> None:
    known = Cadence(NOON - every * SECOND, (every * SECOND,) * 5)
    middle = NOON + mean * SECOND // 2 * (1 if stamp == "begins" else -1)
    until = middle + every * 1100
    assert one(periods(known=known), seen(NOON, mean, stamp)) == Standing(
        middle, middle, until, every * SECOND
    )


def test_a_mean_of_many_windows_waits_for_the_next_one_too() -> None:
    known = Cadence(NOON - 15 * MINUTE, (15 * MINUTE,) * 5)
    assert one(periods(known=known), seen(NOON, 300)) == Standing(
        NOON - 1, NOON - 5 * MINUTE, NOON + 15 * 66 * SECOND, 5 * MINUTE, basis=DECLARED
    )
    late = Cadence(NOON - 320 * SECOND, (320 * SECOND,) * 5)
    assert one(periods(known=late), seen(NOON, 300)).until == NOON, "a tenth later is as declared"


@given(
    st.sampled_from([(3600, 600), (3600, 60), (3600, 1800), (1800, 300), (900, 60), (60, 10), (60, 30)]),
    st.integers(0, 3599),
    st.lists(st.integers(-25, 25), min_size=40, max_size=40),
    # Three at equal distances would look as a device that rests now and then, and count as one.
    st.sets(st.integers(3, 39), max_size=2),
)
def test_of_running_means_one_is_that_of_each_period(
    kind: tuple[int, int], shift: int, wander: list[int], lost: set[int]
) -> None:
    """Whatever their stamps, with or without losses: the first that does not end before the period does."""
    mean, every = kind[0] * SECOND, kind[1] * SECOND
    of = periods(known=Cadence(NOON + shift * SECOND - every, (every,) * 5))
    whole: list[int] = []
    ends: list[int] = []
    for place, percent in enumerate(wander):
        if place in lost:
            continue
        at = NOON + shift * SECOND + place * every + every * percent // 100
        standing = one(of, seen(at, kind[0]))
        ends.append(at)
        if standing.basis == DECLARED:
            whole.append(at)
        else:
            assert standing.basis == RUNNING
            assert standing.until == (at if mean > MINUTE else 0)
    for period_end in range((ends[1] // mean + 1) * mean, ends[-1] - every // 2, mean):
        assert min(at for at in ends if at >= period_end - mean // 20) in whole
    assert len(whole) <= (ends[-1] - ends[0]) // mean + 2


def test_a_running_mean_says_what_came_since_the_one_before_and_one_that_may_be_lost() -> None:
    known = Cadence(NOON, (10 * MINUTE,) * 5)
    at = NOON + 10 * MINUTE
    assert one(periods(known=known), seen(at, 3600)) == Standing(
        at - 1, at - 20 * MINUTE, at, HOUR, basis=RUNNING
    )


def test_a_reading_that_ends_a_longer_stand_says_until_when() -> None:
    of = periods(known=Cadence(NOON - HOUR, (HOUR, HOUR, MINUTE, MINUTE), until=NOON + 6 * MINUTE))
    at = NOON - 59 * MINUTE
    assert one(of, seen(at)) == Standing(at, at, period=MINUTE, supersedes=NOON + 6 * MINUTE)
    assert one(of, seen(at + MINUTE)) == Standing(at + MINUTE, period=MINUTE), "it is ended once"


def test_a_straggler_stands_until_what_came_after_it() -> None:
    of = periods(known=Cadence(NOON, (15 * MINUTE,) * 5))
    at = NOON - 5 * MINUTE
    assert one(of, seen(at)) == Standing(at, at, NOON, 15 * MINUTE)
    assert one(of, seen(NOON)) == Standing(NOON, NOON, NOON + 990 * SECOND, 15 * MINUTE), "a repeat"


def test_humidity_serves_as_long_as_a_correction_may_take_it() -> None:
    of = periods(Station(station="s"), humidity_ms=900 * SECOND)
    assert one(of, seen(NOON, parameter="relativehumidity")).until == NOON + 900 * SECOND
    assert one(of, seen(NOON, 60, parameter="relativehumidity")).until == NOON + 900 * SECOND
    assert one(of, seen(NOON, parameter="pm25")).until == 0
    unknown = periods(None, humidity_ms=900 * SECOND)
    assert one(unknown, seen(NOON, parameter="relativehumidity")).until == 0


# -- what is settled ---------------------------------------------------------------------------------------


def test_what_is_settled_trails_what_is_known_reading_by_reading() -> None:
    cadences = Cadences()
    periods = [cadences.heard(SERIES, MINUTE * place, offset=place).period for place in range(4)]
    assert periods == [0, MINUTE, MINUTE, MINUTE]
    assert cadences.settled("s") == {}
    assert cadences.settled_at(0) == set(), "offset 0 is not settled by that"
    assert cadences.settled_at(2) == {"s"}
    assert cadences.settled("s") == {SERIES[1:]: after(0, MINUTE)}
    assert cadences.settled_at(2) == set()
    assert cadences.settled_at(4) == {"s"}
    assert cadences.settled("s") == {SERIES[1:]: after(0, MINUTE, 2 * MINUTE, 3 * MINUTE)}


def test_a_station_that_has_left_begins_anew_when_it_is_back() -> None:
    minutely = after(0, MINUTE, 2 * MINUTE)
    cadences = Cadences({"s": {SERIES[1:]: minutely}, "t": {SERIES[1:]: minutely}})
    cadences.forget("s")
    cadences.forget("nobody")
    assert cadences.heard(SERIES, 3 * MINUTE, 0) == Circumstances(0)
    assert cadences.heard(("t", *SERIES[1:]), 3 * MINUTE, 1) == Circumstances(MINUTE, 2 * MINUTE)
    assert cadences.settled("s") == {}


def test_scalings_that_a_sensor_sends_in_turns_are_known_in_the_order_of_their_first_reading() -> None:
    def of(channel: str, time: int, offset: int, known: Cadences) -> tuple[str, ...]:
        series = ("s", "main", "pm25", channel)
        known.heard(series, time, offset)
        return known.scalings(series, time)

    known = Cadences()
    assert of("zeta", 0, 0, known) == ()
    assert of("atm_a", MINUTE, 1, known) == of("atm_b", MINUTE, 2, known) == ("zeta", "atm")
    known.heard(("s", "main", "pm10", "own"), MINUTE, 3)
    assert of("zeta", 2 * MINUTE, 4, known) == ("zeta", "atm")
    known.settled_at(5)
    state = read_cadences("s|cadence", dump_cadences(known.settled("s")))
    again = Cadences({"s": dict(state.series)})
    away = MINUTE + SCALING_KEPT_MS
    for one in (known, again):
        assert of("zeta", away, 5, one) == ("zeta", "atm")
        assert of("zeta", away + 1, 6, one) == (), "atm has not been heard for a day"
    known.settled_at(7)
    known.forget_before(away)
    assert of("atm_a", away + 2, 7, known) == ("zeta", "atm")
    known.forget(["s"])
    assert of("zeta", away + 3, 8, known) == ()


def test_what_is_stored_is_read_again() -> None:
    series = {SERIES[1:]: after(0, 100, 250), ("b", "no2", "value"): Cadence(7)}
    state = read_cadences("s|cadence", dump_cadences(series))
    assert isinstance(state, CadencesState)
    assert by_station({"s|cadence": (9, state)}) == {"s": series}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 400)), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5),
)
def test_a_successor_that_reads_again_from_the_settled_offset_learns_the_same(
    log: list[tuple[str, int]], deaths: list[tuple[int, int]]
) -> None:
    """Each life reads up to a place, settles an earlier one, and dies; what was stored is left."""
    entries = [
        ((name, "main", "pm25", "value"), MINUTE * place + SECOND * wander)
        for place, (name, wander) in enumerate(log)
    ]
    straight = Cadences()
    wanted = [straight.heard(series, time, offset) for offset, (series, time) in enumerate(entries)]
    stored: dict[str, bytes] = {}
    start = 0
    for read, settled in [*sorted(deaths), (len(entries), len(entries))]:
        restored = {name: dict(read_cadences(name, data).series) for name, data in stored.items()}
        cadences = Cadences(restored)
        end = max(start, min(read, len(entries)))
        got = [cadences.heard(*entries[offset], offset) for offset in range(start, end)]
        assert got == wanted[start:end]
        start = max(start, min(settled, end))
        for name in cadences.settled_at(start):
            stored[name] = dump_cadences(cadences.settled(name))
