"""For how long a reading stands: what is learned, what is declared, and what of it is settled."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reading import Observation, Quantity
from schemas.station import Sensor, Station
from streams.cadence import (
    GAPS,
    LONGEST_GAP_MS,
    MAX_WINDOWS,
    SCALING_KEPT_MS,
    SHORTEST_GAP_MS,
    Cadence,
    Cadences,
    CadencesState,
    Periods,
    Standing,
    by_station,
    dump_cadences,
    read_cadences,
)

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
    assert known.after(longest + 1) == Cadence(longest + 1, (MINUTE, MINUTE))


def test_readings_of_one_burst_say_nothing_of_the_cadence() -> None:
    known = after(0, MINUTE, 2 * MINUTE)
    within = 2 * MINUTE + SHORTEST_GAP_MS
    assert known.after(within - 1) == Cadence(within - 1, (MINUTE, MINUTE))
    assert known.after(within).gaps == (MINUTE, MINUTE, SHORTEST_GAP_MS)


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
    wanted = Standing(end - 1, end - 900 * SECOND, end, 900 * SECOND)
    assert one(of, told, end + 5 * SECOND) == wanted


def test_what_a_message_declares_comes_before_the_stations_record() -> None:
    sensor = Sensor(sensor="main", parameters=("pm25",), period=900, stamp="begins")
    of = periods(Station(station="s", sensors=(sensor,)))
    assert one(of, seen(NOON, 300), NOON) == Standing(NOON - 1, NOON - 300 * SECOND, NOON, 300 * SECOND)


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
        assert one(periods(), seen(NOON + wander, 60)) == Standing(middle, period=MINUTE)
    assert one(periods(), seen(NOON, 61)).until == NOON


def test_a_reading_is_an_input_of_so_many_windows_before_and_after_its_own_at_most() -> None:
    of = Periods(SECOND, Cadences(), lambda _: None)
    standing = one(of, seen(NOON, 3600), NOON)
    longest = MAX_WINDOWS * SECOND
    assert standing == Standing(NOON - 1, NOON - 1 - longest, NOON, HOUR)
    hourly = Cadences({"s": {SERIES[1:]: Cadence(NOON - HOUR, (HOUR, HOUR))}})
    learned = one(Periods(SECOND, hourly, lambda _: None), seen(NOON))
    assert learned == Standing(NOON, NOON, NOON + longest, HOUR)


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
    periods = [cadences.heard(SERIES, MINUTE * place, offset=place) for place in range(4)]
    assert periods == [0, MINUTE, MINUTE, MINUTE]
    assert cadences.settled("s") == {}
    assert cadences.settled_at(0) == set(), "offset 0 is not settled by that"
    assert cadences.settled_at(2) == {"s"}
    assert cadences.settled("s") == {SERIES[1:]: Cadence(MINUTE, (MINUTE,))}
    assert cadences.settled_at(2) == set()
    assert cadences.settled_at(4) == {"s"}
    assert cadences.settled("s") == {SERIES[1:]: Cadence(3 * MINUTE, (MINUTE, MINUTE, MINUTE))}


def test_a_station_that_has_left_begins_anew_when_it_is_back() -> None:
    minutely = after(0, MINUTE, 2 * MINUTE)
    cadences = Cadences({"s": {SERIES[1:]: minutely}, "t": {SERIES[1:]: minutely}})
    cadences.forget("s")
    cadences.forget("nobody")
    assert cadences.heard(SERIES, 3 * MINUTE, 0) == 0
    assert cadences.heard(("t", *SERIES[1:]), 3 * MINUTE, 1) == MINUTE
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
