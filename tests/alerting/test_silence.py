"""Silence by a station's own rhythm: stations that speak every k minutes, in bursts, at random, or once."""

import functools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting import station as station_module
from alerting.rhythm import ASSUMED_MS, KNOWN, LONGEST_MS, RECURS, REMEMBERED, SHARE, Rhythm
from alerting.rules import AlertRules, default
from alerting.station import UNHEARD_MS, UNKNOWN_UNHEARD_MS, StationAlerts
from alerting.stored import read
from alerting.watch import Watch
from schemas.base import from_ms, to_ms
from schemas.estimate import Window
from tests.alerting.test_machine import MINUTE, minutes, rule, silence, stored
from tests.samples import T0, estimate, measured

HOUR = 60
DAY = 24 * HOUR
FAST = settings(max_examples=40, deadline=None)
SILENCE = AlertRules(rule=tuple(rule for rule in default().rule if rule.id == "silence"))
#: As `agents.builders` makes it of the default window settings.
HORIZON = 665_000


def at(event, since=False):
    """Minutes since T0 of an event."""
    return (to_ms(event.since if since else event.at) - T0 * 1000) // MINUTE


@functools.cache
def said(station, minute):
    return minutes((minute, 10), station=station)


def told(times, until=None, neighbour=1, watch=None):
    """(event, minute, severity) at station `s`, whose windows end at `times`, beside a neighbour."""
    watch = watch or Watch(SILENCE, HORIZON)
    times = set(times)
    events = []
    for minute in range(1, (until or max(times)) + 1):
        if minute % neighbour == 0:
            events += watch.feed(said("nbr", minute))
        if minute in times:
            events += watch.feed(said("s", minute))
    return [(one.event, at(one), one.severity) for one in events if one.station == "s"]


def spoken(k, outage=(), until=DAY, offset=0):
    return [n for n in range(k + offset, until + 1, k) if not (outage and outage[0] <= n < outage[1])]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 11, 12, 13, 15, 20, 30, 45, 60, 90, 120, 180])
def test_a_station_that_speaks_as_it_always_does_is_not_silent(k):
    assert told(spoken(k, offset=7, until=DAY), neighbour=2) == []


def test_a_station_that_is_rarer_than_the_patience_with_a_new_one_is_told_of_once():
    assert [event for event, _, _ in told(spoken(360, until=3 * DAY), neighbour=10)] == ["open", "clear"]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 11, 12, 15, 20, 30])
def test_after_an_outage_of_two_hours_the_alert_ends_when_the_station_speaks_again(k):
    times = spoken(k, (6 * HOUR, 8 * HOUR), until=12 * HOUR)
    last, back = max(n for n in times if n < 6 * HOUR), min(n for n in times if n >= 8 * HOUR)
    events = told(times)
    assert [event for event, _, _ in events][:1] + [event for event, _, _ in events][-1:] == ["open", "clear"]
    assert {event for event, _, _ in events} <= {"open", "update", "clear"}
    patience = 10 if k == 1 else max(10, 3 * k)
    assert events[0] == ("open", last + patience, "minor")
    # `clear_after` is three minutes; a station that is rarer is believed at once.
    assert events[-1][1] == back + (-(-3 // k) * k if k <= 3 else 0)


@pytest.mark.parametrize("k", [60, 120])
def test_an_hourly_station_is_silent_after_some_hours_and_not_after_one(k):
    hours = spoken(k, (24 * HOUR, 24 * HOUR + 1), until=3 * DAY)
    assert told(hours) == []  # a single value that is missing
    outage = spoken(k, (24 * HOUR, 36 * HOUR + 1), until=3 * DAY)
    last, back = max(n for n in outage if n < 24 * HOUR), min(n for n in outage if n > 24 * HOUR)
    assert told(outage) == [("open", last + 3 * k, "minor"), ("clear", back, "minor")]


def test_a_station_without_neighbours_is_judged_when_it_speaks():
    assert told(spoken(15), neighbour=10**9) == []
    events = told(spoken(15, (6 * HOUR, 8 * HOUR)), neighbour=10**9)
    assert [event for event, _, _ in events] == ["open", "clear"]


@FAST
@given(st.integers(0, 10**6), st.sampled_from([5, 12, 20, 40, 60]))
def test_an_irregular_station_is_not_silent(seed, longest):
    dice, minute, times = random.Random(seed), 0, []
    while minute < 100 * longest:
        minute += dice.randint(1, longest)
        times.append(minute)
    assert told(times, neighbour=5) == []


@pytest.mark.parametrize(("burst", "pause"), [(5, 40), (20, 60), (30, 30), (2, 120)])
def test_a_station_that_speaks_in_bursts_is_not_silent_in_its_pauses_once_they_are_known(burst, pause):
    times = [start + n for start in range(1, DAY, burst + pause) for n in range(burst)]
    events = told(times, neighbour=2)
    assert [one for one in events if one[1] > 4 * (burst + pause)] == []


@pytest.mark.parametrize("k", [5, 15, 60])
def test_windows_that_come_many_at_a_time_are_not_silent_in_between(k):
    """A reading whose stamp ends its period: its windows come when the period is over."""
    watch, events = Watch(SILENCE, 2 * 3_600_000), []
    for minute in range(1, 8 * HOUR):
        events += watch.feed(said("nbr", minute))
        if minute % k == 0:
            events += watch.feed(one for n in range(minute - k + 1, minute + 1) for one in said("s", n))
    assert [one for one in events if one.station == "s"] == []


def test_two_outages_in_a_day_are_both_told_of_a_station_that_speaks_every_minute():
    times = [n for n in range(1, DAY) if not 300 <= n < 330 and not 400 <= n < 430]
    assert told(times) == [
        ("open", 309, "minor"), ("clear", 333, "minor"), ("open", 409, "minor"), ("clear", 433, "minor"),
    ]  # fmt: skip


def test_a_station_whose_rhythm_changes_is_told_of_once():
    times = [*range(1, 6 * HOUR), *range(6 * HOUR, DAY, 60)]
    events = told(times)
    assert [event for event, _, _ in events] == ["open", "clear"]
    assert events[-1][1] <= 10 * HOUR
    # And the other way round: the patience of old is not kept for ever.
    times = [*range(60, DAY, 60), *range(DAY, DAY + 300), DAY + 400]
    assert told(times) == [("open", DAY + 309, "minor"), ("update", DAY + 359, "moderate")]


def hourly(n, station="s", value=10.0):
    end = T0 + 3600 * n
    window = Window(start=from_ms((end - 3600) * 1000), end=from_ms(end * 1000))
    return estimate(station, end, pollutants={"pm25": measured(value)}, indices=(), window=window)


def test_hourly_windows_count_hours():
    watch, events = Watch(SILENCE, 5_000_000), []
    for n in range(1, 100):
        events += watch.feed([hourly(n, "nbr")])
        if not 30 <= n < 50:
            events += watch.feed([hourly(n)])
    assert [(one.event, one.station, at(one) // 60) for one in events] == [
        ("open", "s", 39), ("clear", "s", 50),
    ]  # fmt: skip


# --- stations that are new, or never speak again ------------------------------------------------------------


@pytest.mark.parametrize("spoke", [1, 2])
def test_a_new_station_is_given_time_told_of_once_and_retired(spoke):
    events = told(spoken(1, until=spoke), until=2 * DAY)
    assert events == [
        ("open", spoke + 180, "minor"), ("update", spoke + 1080, "moderate"), ("clear", spoke + DAY, "info"),
    ]  # fmt: skip
    watch = Watch(SILENCE, HORIZON)
    told(spoken(1, until=spoke), until=2 * DAY, watch=watch)
    assert list(watch.states()) == ["nbr"]
    assert watch.changes()["s"] == StationAlerts("s")


def test_a_known_station_stays_silent_for_a_month_and_is_retired():
    watch = Watch(SILENCE, HORIZON)
    events = told(spoken(1, until=100), until=200, watch=watch)
    month = UNHEARD_MS // MINUTE
    for minute in (100 + month, 100 + month + 1):
        events += [
            (one.event, at(one), one.severity, one.reason)
            for one in watch.feed(minutes((minute, 1), station="nbr"))
            if one.station == "s"
        ]
    assert events == [
        ("open", 110, "minor"), ("update", 160, "moderate"),
        ("clear", 100 + month, "info", "retired: nothing has been heard of it since 2026-01-01T01:40:00Z"),
    ]  # fmt: skip
    # It may come back, as a new one.
    assert "s" not in watch.states()
    assert watch.feed(minutes((100 + month + 1, 1), station="s")) == []
    assert "s" in watch.states()


def test_a_station_that_is_taken_out_of_service_leaves_with_its_alerts():
    watch = Watch(default(), HORIZON)
    events = told(spoken(1, until=20), until=40, watch=watch)
    assert events == [("open", 30, "minor")]
    # What is told of it says when, not how far others have come.
    (cleared,) = watch.retire("s", (T0 + 41 * 60) * 1000)
    assert (cleared.event, cleared.reason, cleared.sequence, at(cleared)) == ("clear", "retired", 1, 41)
    assert watch.retire("s", (T0 + 41 * 60) * 1000) == []
    assert watch.retire("nobody", 0) == []
    # Windows that were on their way do not bring it back, its return does.
    assert watch.feed(minutes((42, 1), station="s")) == []
    restored = Watch(default(), HORIZON, stored(watch.changes()))
    for one in (watch, restored):
        assert one.feed(minutes((43, 1), station="s")) == []
        assert all(event.station == "nbr" for event in one.feed(minutes((200, 1), station="nbr")))
        assert "s" not in one.states()
        one.feed(minutes((201, 1), station="s"))
        assert "s" in one.states()


def test_a_station_that_was_heard_since_its_retirement_stays():
    watch = Watch(default(), HORIZON)
    told(spoken(1, until=200), watch=watch)
    assert watch.retire("s", (T0 + 60) * 1000) == []
    assert watch.states()["s"].windows


# --- the rhythm itself -------------------------------------------------------------------------------------


def waits(times):
    found = Rhythm()
    for time in times:
        found = found.after(time, time)
    return found


@FAST
@given(st.sampled_from([1, 80]).flatmap(lambda n: st.lists(st.integers(1, 200), min_size=n, max_size=150)))
def test_the_usual_wait_equals_its_oracle(gaps):
    ends = [1_000]
    for gap in gaps:
        ends.append(ends[-1] + gap)
    found = waits(ends)
    kept = gaps[-REMEMBERED:]
    assert [wait for wait, count in found.waits for _ in range(count)] == kept
    if len(kept) < 2 * KNOWN:
        assert found.usual() == max(ASSUMED_MS if len(kept) < KNOWN else 0, *kept)
        return
    fits = [
        wait
        for wait in kept
        if sum(other >= wait for other in kept) >= RECURS
        and sum(other for other in kept if other >= wait) >= SHARE * sum(kept)
    ]
    assert found.usual() == max(fits)


def test_a_wait_is_counted_from_what_was_heard_last_and_has_an_end():
    found = Rhythm().after(1_000, 5_000)
    assert (found.newest, found.waits) == (1_000, ())
    assert found.after(2_000, 9_000).waits == ((8_000, 1),)
    assert found.after(500, 9_000) is found
    assert found.after(2 * LONGEST_MS, 0).waits == ((LONGEST_MS, 1),)


# --- time that passes, and crashes --------------------------------------------------------------------------


def test_time_that_passes_tells_silence_where_all_are_quiet():
    watch = Watch(SILENCE, HORIZON)
    assert watch.feed(minutes(*((n, 1) for n in range(1, 21)), station="s")) == []
    assert watch.due() == (T0 + 30 * 60) * 1000
    assert watch.pass_time((T0 + 30 * 60) * 1000) == []
    (opened,) = watch.pass_time((T0 + 30 * 60) * 1000 + 1)
    assert (opened.event, at(opened), at(opened, since=True)) == ("open", 30, 20)
    assert watch.pass_time((T0 + 29 * 60) * 1000) == []
    # What was on its way all the time is taken, and takes the alert back.
    (withdrawn,) = watch.feed(minutes((21, 1), station="s"))
    assert (withdrawn.event, withdrawn.id, at(withdrawn)) == ("retract", opened.id, 30)


def test_silence_is_told_the_same_whether_others_show_the_time_or_it_passes():
    beside, alone = Watch(SILENCE, HORIZON), Watch(SILENCE, HORIZON)
    source = minutes(*((n, 1) for n in range(1, 21)), station="s")
    shown = beside.feed(source + minutes((100, 1), station="nbr"))
    alone.feed(source)
    assert alone.pass_time((T0 + 100 * 60) * 1000) == shown
    assert [one.event for one in shown] == ["open", "update"]


@FAST
@given(st.data())
def test_killed_at_random_while_time_passes_it_tells_the_same(data):
    steps = []
    for _ in range(data.draw(st.integers(1, 40))):
        gap = data.draw(st.sampled_from([1, 1, 1, 5, 15, 30]))
        steps.append((gap, data.draw(st.sampled_from(["a", "b", "time", "retire"]))))

    def play(killed):
        watch, passed, minute, events = Watch(SILENCE, HORIZON), 0, 0, []
        saved: dict[str, Any] = {}
        for gap, who in steps:
            minute += gap
            if who == "time":
                passed = (T0 + minute * 60) * 1000
                events += watch.pass_time(passed)
            elif who == "retire":
                events += watch.retire("a", (T0 + minute * 60) * 1000)
            else:
                events += watch.feed(minutes((minute, 1), station=who))
            saved |= watch.changes()
            if killed and data.draw(st.booleans()):
                watch = Watch(SILENCE, HORIZON, stored(saved))
                watch.pass_time(passed)
        return events

    assert play(True) == play(False)


# --- states of before there were cadences -------------------------------------------------------------------

OLD = json.loads(
    """{"version": 1, "station": "s", "folded": 0, "watermark": 1767226800000, "due": 1767227400000,
    "windows": [[1767226800000, 60000, 1, {}]],
    "rules": {"silence": {"digest": "DIGEST", "base": {"above": [null, null],
      "below": [1767225660000, 1767225660000], "last": 1767225660000, "size": 60000, "episode": null},
      "told": [[1767226260000, 0, [["open", 1767226260000, 1767225660000, 0, [10.0, 10.0, 10.0]]]]]}}}"""
)


def test_a_state_of_the_version_before_is_read_and_its_stuck_alert_ends():
    """A station that speaks every 19 minutes: its alert had opened and would never have cleared."""
    OLD["rules"]["silence"]["digest"] = SILENCE.rule[0].digest
    # As it was: nobody has changed the rule, so its alerts go on.
    assert SILENCE.rule[0].digest == "f31437114fd78c5f"
    watch = Watch(SILENCE, HORIZON, {"s": read("s", json.dumps(OLD).encode())})
    assert watch.states()["s"].active() == 1
    events = watch.feed(minutes(*((20 + 19 * n, 1) for n in range(1, 6)), station="s"))
    assert (events[-1].event, events[-1].id) == ("clear", "s/silence/2026-01-01T00:11:00Z")
    assert watch.states()["s"].active() == 0
    assert stored(watch.states()) == watch.states()


def test_a_silent_station_of_the_version_before_is_not_retired_for_want_of_a_cadence():
    OLD["rules"]["silence"]["digest"] = SILENCE.rule[0].digest
    old = OLD | {"windows": []}
    watch = Watch(SILENCE, HORIZON, {"s": read("s", json.dumps(old).encode())})
    days = (UNKNOWN_UNHEARD_MS + 3 * station_module.STRAGGLE_MS) // MINUTE
    events = watch.feed(minutes((days, 1), station="nbr"))
    assert [one.event for one in events] == ["update"]
    assert watch.states()["s"].active() == 1


def test_a_revision_says_nothing_new_of_when_its_window_was_heard():
    watch = Watch(SILENCE, DAY * MINUTE)
    told([*range(1, 21), *range(80, 600, 60)], until=600, watch=watch)
    # The station is an hourly one by now; that its minutes had stopped was right to tell all the same.
    assert watch.feed(minutes((20, 11), station="s", revision=2)) == []


def test_what_is_over_is_not_told_again_while_the_station_stays_silent():
    """The newest window is kept although it is final."""
    watch = Watch(AlertRules(rule=(rule(), *SILENCE.rule)), HORIZON)
    events = watch.feed(minutes(*((n, 120 if n == 7 else 50) for n in range(1, 9)), station="s"))
    for minute in (30, 90, 200):
        events += watch.feed(minutes((minute, 50), station="nbr"))
    events += watch.feed(minutes((210, 50), station="s"))
    assert [(one.rule, one.event) for one in events if one.station == "s"] == [
        ("r", "open"), ("r", "clear"), ("silence", "open"), ("silence", "update"), ("silence", "clear"),
    ]  # fmt: skip


def test_an_alert_ends_no_earlier_than_it_began_though_others_are_quiet_too():
    watch = Watch(SILENCE, HORIZON)
    watch.feed(minutes(*((n, 1) for n in range(1, 21)), station="s"))
    (opened,) = watch.pass_time((T0 + 31 * 60) * 1000)
    watch.rules = AlertRules()
    (ended,) = watch.feed(minutes((20, 1), station="nbr"))
    assert (ended.event, ended.id, ended.at) == ("clear", opened.id, opened.at)


def test_a_retired_station_does_not_go_on_being_silent():
    watch = Watch(AlertRules(rule=(silence((10, 1_000)),)), HORIZON)
    watch.feed(minutes((1, 1), station="s"))
    told_ = watch.feed(minutes((DAY * 20, 1), station="nbr"))
    assert [(one.event, one.severity) for one in told_] == [("open", "minor"), ("clear", "info")]
