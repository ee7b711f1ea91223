"""Alerts against small oracles: dwell, hysteresis, order, revisions, crashes."""

import json
import random
from itertools import pairwise
from statistics import median_high
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.evidence import Evidence, weigh
from alerting.machine import Entry, RuleProgress, hear, miss, observe
from alerting.rules import AlertRules, Rule, default, parse
from alerting.stored import ALERTS
from alerting.watch import Watch
from schemas.alert import Alert
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate, MissingPollutant, SensorDrift, Window
from tests.samples import T0, estimate, imputed, index, measured

MINUTE = 60_000
FAST = settings(max_examples=60, deadline=None)


def stored(states):
    return {station: ALERTS.decode(ALERTS.encode(state)) for station, state in states.items()}


def rule(open_after=0, clear_after=0, steps=((100, 90),), max_gap=5 * MINUTE, **more):
    severities = ("info", "minor", "moderate", "severe", "extreme")
    fields = {
        "id": "r", "what": "concentration", "parameter": "pm25", "open_after": f"{open_after // 1000}s",
        "clear_after": f"{clear_after // 1000}s", "max_gap": f"{max_gap // 1000}s",
        "steps": [
            {"severity": severities[n], "enter": enter, "leave": leave}
            for n, (enter, leave) in enumerate(steps)
        ],
    }  # fmt: skip
    return Rule.model_validate_json(json.dumps(fields | more))


def silence(windows=(3,), clear_after=0):
    severities = ("minor", "moderate", "severe")
    return Rule.model_validate_json(
        json.dumps(
            {
                "id": "quiet", "what": "silence", "clear_after": f"{clear_after // 1000}s",
                "steps": [{"severity": severities[n], "enter": count} for n, count in enumerate(windows)],
            }
        )
    )  # fmt: skip


def run(one, series, size=0):
    """Entries of all episodes that `one` makes of (end, evidence) pairs, in order."""
    progress, closed = RuleProgress.fresh(one), []
    for end, evidence in series:
        progress, episode = observe(one, progress, end, evidence, size)
        closed += [episode] if episode else []
    return closed + ([progress.episode] if progress.episode else [])


def oracle(one, series, size=0):
    """(event, end, level) by looking back over the whole series at every window."""
    told, level = [], -1
    apart = [after[0] - before[0] for before, after in pairwise(series)]
    for position, (end, _) in enumerate(series):
        stretch = [series[position]]
        for place in reversed(range(position)):
            usual = median_high(apart[max(0, place - 5) : place]) if place else 0
            if apart[place] > max(one.max_gap, 2 * usual, 2 * size):
                break
            stretch.append(series[place])

        def held(test, dwell, stretch=stretch, end=end):
            since = None
            for moment, evidence in stretch:
                if not test(evidence):
                    break
                since = moment
            return since is not None and (end - since >= dwell or size > dwell)

        up = [
            k for k, step in enumerate(one.steps) if held(lambda e, s=step: e.low >= s.enter, one.open_after)
        ]
        down = [
            k for k, step in enumerate(one.steps) if held(lambda e, s=step: e.high < s.leave, one.clear_after)
        ]
        if up and up[-1] > level:
            told.append(("update" if level >= 0 else "open", end, up[-1]))
            level = up[-1]
        elif level >= 0 and level in down:
            kept = [k for k in range(level) if k not in down]
            told.append(("update", end, kept[-1]) if kept else ("clear", end, level))
            level = kept[-1] if kept else -1
    return told


values = st.integers(70, 230).map(float)


@st.composite
def evidence(draw):
    value = draw(values)
    if draw(st.booleans()):
        return Evidence.exact(value)
    return Evidence(value - draw(st.integers(0, 40)), value, value + draw(st.integers(0, 40)))


@st.composite
def rules(draw):
    dwell = st.sampled_from([0, MINUTE, 3 * MINUTE, 210_000])
    steps = draw(
        st.sampled_from(
            [((100, 90),), ((100, 100),), ((100, 90), (150, 140)), ((100, 80), (120, 80), (200, 150))]
        )
    )
    return rule(draw(dwell), draw(dwell), steps, draw(st.sampled_from([MINUTE, 2 * MINUTE, 10 * MINUTE])))


@st.composite
def series(draw):
    """Windows, some of them missing or without evidence."""
    ends = sorted(draw(st.sets(st.integers(1, 30), max_size=25)))
    return [(n * MINUTE, draw(evidence())) for n in ends]


@FAST
@given(rules(), series(), st.sampled_from([0, MINUTE, 2 * MINUTE, 4 * MINUTE]))
def test_the_machine_equals_the_oracle(one, windows, size):
    entries = [entry for episode in run(one, windows, size) for entry in episode.entries]
    assert [(entry.event, entry.at, entry.level) for entry in entries] == oracle(one, windows, size)


@FAST
@given(rules(), series())
def test_nothing_opens_or_clears_before_its_dwell(one, windows):
    for episode in run(one, windows):
        for before, entry in pairwise((None, *episode.entries)):
            between = [e for end, e in windows if entry.since <= end <= entry.at]
            if before is None or entry.level > before.level:
                assert entry.at - entry.since >= one.open_after
                assert all(e.low >= one.steps[entry.level].enter for e in between)
            else:
                assert entry.at - entry.since >= one.clear_after
                left = one.steps[before.level if entry.event == "clear" else entry.level + 1]
                assert all(e.high < left.leave for e in between)


@FAST
@given(rules(), st.data())
def test_inside_the_hysteresis_nothing_is_told(one, data):
    """At any step: numbers not below its `leave` and not at the next `enter`, as values or as intervals."""
    level = data.draw(st.integers(-1, len(one.steps) - 1))
    low = one.steps[level].leave if level >= 0 else -100.0
    high = one.steps[level + 1].enter if level + 1 < len(one.steps) else 1_000.0
    # Long enough for every dwell, and without a gap.
    start = [] if level < 0 else [(n * MINUTE, Evidence.exact(one.steps[level].enter)) for n in range(1, 8)]
    told = [entry for episode in run(one, start) for entry in episode.entries]
    assert (told[-1].level if told else -1) == level
    inside = []
    for n in range(data.draw(st.integers(0, 30))):
        # The lower end does not reach the next step; the upper end is not below this one's `leave`.
        bottom = data.draw(st.floats(low - 50, high, exclude_max=True))
        top = data.draw(st.floats(max(bottom, low), high + 200))
        exact = data.draw(st.floats(low, high, exclude_max=True))
        evidence_ = data.draw(
            st.sampled_from([Evidence.exact(exact), Evidence(bottom, (bottom + top) / 2, top)])
        )
        inside.append(((8 + n) * MINUTE, evidence_))
    assert [entry for episode in run(one, start + inside) for entry in episode.entries] == told


def test_escalation_and_the_way_down():
    one = rule(2 * MINUTE, MINUTE, ((100, 90), (150, 140)))
    numbers = [100, 160, 160, 160, 145, 120, 120, 80, 80]
    (episode,) = run(one, [(n * MINUTE, Evidence.exact(float(v))) for n, v in enumerate(numbers, 1)])
    assert [(e.event, e.at // MINUTE, e.since // MINUTE, e.level) for e in episode.entries] == [
        ("open", 3, 1, 0),
        ("update", 4, 2, 1),
        ("update", 7, 6, 0),
        ("clear", 9, 8, 0),
    ]


def test_an_interval_opens_by_its_lower_end_and_clears_by_its_upper_end():
    one = rule()
    wide = Evidence(80.0, 120.0, 160.0)
    assert run(one, [(MINUTE, wide)]) == []
    (episode,) = run(one, [(MINUTE, Evidence(100, 120, 160)), (2 * MINUTE, Evidence(10, 50, 95))])
    assert episode.active
    (episode,) = run(one, [(MINUTE, Evidence(100, 120, 160)), (2 * MINUTE, Evidence(10, 50, 89))])
    assert not episode.active


# --- silence ------------------------------------------------------------------------------------------------


@FAST
@given(st.sets(st.integers(1, 40), min_size=1), st.integers(0, 60), st.sampled_from([0, MINUTE, 3 * MINUTE]))
def test_silence_equals_its_oracle(present, watermark, clear_after):
    one = silence((3, 8), clear_after)
    progress = RuleProgress.fresh(one)
    told: list[Entry] = []
    for n in sorted(present):
        progress, episode = hear(one, progress, n * MINUTE, MINUTE)
        told += episode.entries if episode else ()
    progress = miss(one, progress, watermark * MINUTE)
    told += progress.episode.entries if progress.episode else ()

    wanted, level = [], -1
    resumed: int | None = None
    last: int | None = None
    for n in range(min(present), max(max(present), watermark) + 1):
        # At minute n, the windows after `last` up to n - 1 are known to be missing.
        missing = 0 if last is None else n - 1 - last
        for k, count in enumerate((3, 8)):
            if k > level and missing >= count:
                assert last is not None
                wanted.append(("update" if level >= 0 else "open", last + count, k))
                level, resumed = k, None
        if missing >= 3:
            resumed = None
        if n in present:
            resumed, last = (n if resumed is None else resumed), n
            if level >= 0 and (n - resumed) * MINUTE >= clear_after:
                wanted.append(("clear", n, level))
                level = -1
    assert [(e.event, e.at // MINUTE, e.level) for e in told] == wanted


# --- arrival order, revisions, crashes ----------------------------------------------------------------------

RULES = AlertRules(
    rule=(
        rule(2 * MINUTE, 2 * MINUTE, ((100, 90), (150, 140))),
        rule(id="guessed", what="imputed_share", parameter=None, steps=((1, 0.5),)),
        silence((3, 6), MINUTE),
    ),
    links={"series": "/s/{station}?{rule}&{at}"},
)
HORIZON = 60 * MINUTE


@st.composite
def logs(draw, horizon_minutes=60):
    """Estimates as they may lie in a log: out of order and revised, none later than the horizon."""
    events: list[tuple[int, int, Estimate]] = []
    for station in ("a", "b"):
        for n in draw(st.sets(st.integers(1, 25), max_size=14)):
            revisions = draw(st.integers(1, 3))
            arrival = n
            for revision in range(1, revisions + 1):
                arrival += draw(st.integers(0, horizon_minutes // 4))
                kind = measured if draw(st.booleans()) else lambda v: imputed(v, v - 20, v + 20)
                one = estimate(station, T0 + 60 * n, revision, {"pm25": kind(draw(values))}, indices=())
                events.append((arrival, len(events), one))
    return [one for _, _, one in sorted(events, key=lambda event: event[:2])]


def view(events):
    """What a consumer that keeps the newest event per alert holds: active alerts and those that ended."""
    newest: dict[str, Alert] = {}
    for event in events:
        newest[event.id] = event
    return {
        id: (event.event in ("open", "update"), event.severity, event.at, event.since, event.values)
        for id, event in newest.items()
        if event.event != "retract"
    }


@FAST
@given(logs())
def test_whatever_the_order_of_arrival_the_world_ends_up_knowing_the_same(log):
    """Of the air. Silence depends on when windows came, and imputed values count where once was a sensor."""
    rules = AlertRules(rule=RULES.rule[:2], links=RULES.links)
    known = [estimate(station, T0, 1, indices=()) for station in "ab"]
    last = {(one.station, one.window.end): one for one in sorted(log, key=lambda one: one.revision)}
    ordered = sorted(last.values(), key=lambda one: (one.window.end, one.station))
    assert view(Watch(rules, HORIZON).feed(known + log)) == view(Watch(rules, HORIZON).feed(known + ordered))


def truth(one, log):
    """What the oracle makes of the newest revisions in `log`: per alert, its last entry."""
    found = {}
    for station in ("a", "b"):
        newest: dict[int, Estimate] = {}
        for estimate_ in log:
            end = to_ms(estimate_.window.end)
            if estimate_.station == station and (
                end not in newest or estimate_.revision > newest[end].revision
            ):
                newest[end] = estimate_
        weighed = [(end, weigh(one, newest[end])) for end in sorted(newest)]
        entries = oracle(one, [(end, e) for end, e in weighed if isinstance(e, Evidence)], MINUTE)
        opened = 0
        for event, at, level in entries:
            opened = at if event == "open" else opened
            id = f"{station}/{one.id}/{format_time(from_ms(opened))}"
            found[id] = (event != "clear", one.steps[level].severity, at)
    return found


@FAST
@given(logs(), st.data())
def test_after_every_record_the_world_knows_what_the_oracle_makes_of_the_newest_revisions(log, data):
    """So a late revision has updated, cleared or retracted whatever it changed, at once."""
    one = data.draw(rules()).model_copy(
        update={"rests_on": data.draw(st.sampled_from(("any", "lower_bound")))}
    )
    watch, events = Watch(AlertRules(rule=(one,)), HORIZON), []
    for position, estimate_ in enumerate(log, 1):
        events += watch.feed([estimate_])
        known = {id: (active, severity, at) for id, (active, severity, at, *_) in view(events).items()}
        wanted = truth(one, log[:position])
        assert {id: (active, severity, to_ms(at)) for id, (active, severity, at) in known.items()} == wanted


@FAST
@given(logs(), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=12))
def test_what_is_told_again_or_older_than_what_is_known_changes_nothing(log, again):
    repeated = list(log)
    for position, back in again:
        if log:
            at = position % len(repeated)
            repeated.insert(at + 1, repeated[max(0, at - back)])
    assert Watch(RULES, HORIZON).feed(repeated) == Watch(RULES, HORIZON).feed(log)


@FAST
@given(logs(horizon_minutes=16), st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=60))
def test_killed_at_random_and_restarted_from_its_checkpoints_it_tells_the_same_events(log, cuts):
    horizon = 10 * MINUTE
    undisturbed = Watch(RULES, horizon).feed(log)
    told, settled, position = [], 0, 0
    saved: dict[str, Any] = {}
    watch = Watch(RULES, horizon)
    for count, killed in cuts:
        told += watch.feed(log[position : position + count])
        position = min(position + count, len(log))
        if killed:  # after telling, before the checkpoint was saved
            watch, position = Watch(RULES, horizon, stored(saved)), settled
        else:
            saved |= watch.changes()
            settled = position
    told += watch.feed(log[position:])
    unique: dict[tuple[str, int], Alert] = {}
    for event in told:
        assert unique.setdefault((event.id, event.sequence), event) == event
    assert unique == {(event.id, event.sequence): event for event in undisturbed}


@FAST
@given(logs(horizon_minutes=16))
def test_events_of_an_alert_follow_each_other(log):
    sequences: dict[str, int] = {}
    for event in Watch(RULES, 10 * MINUTE).feed(log):
        assert event.sequence == sequences.get(event.id, -1) + 1
        assert event.supersedes == (f"{event.id}/{event.sequence - 1}" if event.sequence else None)
        assert event.id.startswith(f"{event.station}/{event.rule}/")
        assert event.since <= event.at or event.event in ("clear", "retract")
        sequences[event.id] = event.sequence


@FAST
@given(logs(horizon_minutes=16))
def test_state_survives_storage(log):
    watch = Watch(RULES, 10 * MINUTE)
    watch.feed(log)
    assert stored(watch.states()) == watch.states()


def minutes(*numbers, station="s", revision=1):
    return [estimate(station, T0 + 60 * n, revision, {"pm25": measured(float(v))}) for n, v in numbers]


def test_late_data_withdraw_an_alert_that_would_not_have_opened():
    watch = Watch(AlertRules(rule=(rule(2 * MINUTE),)), HORIZON)
    (opened,) = watch.feed(minutes((1, 120), (2, 120), (3, 120)))
    assert (opened.event, opened.reason) == (
        "open",
        "pm25 is 120 ug/m3, at or above 100 ug/m3 since 2026-01-01T00:01:00Z (2 min)",
    )
    (withdrawn,) = watch.feed(minutes((2, 50), revision=2))
    assert (withdrawn.event, withdrawn.id, withdrawn.sequence) == ("retract", opened.id, 1)
    assert withdrawn.supersedes == f"{opened.id}/0"
    (again,) = watch.feed(minutes((2, 130), revision=3))
    assert (again.event, again.id, again.sequence) == ("open", opened.id, 2)


def test_late_data_mend_the_numbers_of_an_open_alert():
    watch = Watch(AlertRules(rule=(rule(),)), HORIZON)
    (opened,) = watch.feed(minutes((1, 120)))
    (mended,) = watch.feed(minutes((1, 125), revision=2))
    assert (mended.event, mended.id, mended.values["value"]) == ("update", opened.id, 125)
    assert mended.reason.startswith("after late data: pm25 is 125 ug/m3")


def test_a_silent_station_is_told_by_the_others():
    watch = Watch(AlertRules(rule=(silence((3,)),)), HORIZON)
    assert watch.feed(minutes(*((n, 1) for n in range(-6, 2)), station="quiet")) == []
    assert watch.feed(minutes((1, 1), (2, 1), (3, 1), (4, 1), station="busy")) == []
    (told,) = watch.feed(minutes((5, 1), station="busy"))
    assert (told.event, told.station, told.severity) == ("open", "quiet", "minor")
    assert told.reason == "no data for 3 windows, since 2026-01-01T00:01:00Z (3 min)"
    (cleared,) = watch.feed(minutes((6, 1), station="quiet"))
    assert (cleared.event, cleared.id) == ("clear", told.id)


def test_a_changed_rule_ends_its_alerts_and_starts_anew():
    watch = Watch(AlertRules(rule=(rule(),)), HORIZON)
    (opened,) = watch.feed(minutes((1, 120)))
    watch.rules = AlertRules(rule=(rule(steps=((110, 90),)),))
    ended, anew = watch.feed(minutes((2, 120)))
    assert (ended.event, ended.id, ended.sequence) == ("clear", opened.id, 1)
    assert (anew.event, anew.at) == ("open", estimate(end=T0 + 120).window.end)
    watch.rules = AlertRules()
    (removed,) = watch.feed(minutes((3, 120)))
    assert (removed.event, removed.id) == ("clear", anew.id)
    assert watch.feed(minutes((4, 120))) == []


def test_a_removed_rule_ends_its_alerts_at_silent_stations_too():
    kept = silence((3,))
    watch = Watch(AlertRules(rule=(rule(), kept)), HORIZON)
    assert watch.feed(minutes(*((n, 1) for n in range(-6, 1)), station="quiet")) == []
    (opened,) = watch.feed(minutes((1, 120), station="quiet"))
    assert watch.feed(minutes((2, 1), station="busy")) == []
    watch.rules = AlertRules(rule=(kept,))
    saved = stored(watch.changes())
    (ended,) = watch.feed(minutes((3, 1), station="busy"))
    assert (ended.event, ended.id, ended.sequence) == ("clear", opened.id, 1)
    assert ended.reason == "withdrawn: the rule r was changed or removed"
    assert watch.feed(minutes((4, 1), station="busy")) == []
    # A successor, which begins with the new rules, says the same.
    assert Watch(watch.rules, HORIZON, saved).feed(minutes((3, 1), station="busy")) == [ended]
    # The silence that began before is told as ever.
    (silent,) = watch.feed(minutes((5, 1), station="busy"))
    assert (silent.station, silent.rule, silent.event) == ("quiet", "quiet", "open")


def test_states_stay_small():
    """What is final is folded away: a state does not grow with time."""
    watch = Watch(AlertRules(rule=(rule(), silence())), 10 * MINUTE)
    sizes = []
    for n in range(1, 2000):
        watch.feed(minutes((n, 120 if n % 7 < 3 else 50)))
        sizes.append(len(ALERTS.encode(watch.states()["s"])))
    assert max(sizes[100:]) < 3_000


def test_membership_and_links_of_an_index_alert():
    rules = parse(
        """
        [links]
        page = "https://air.example/{station}?rule={rule}&at={at}"
        [[rule]]
        id = "us"
        what = "index"
        standard = "us-epa-2024"
        steps = [{ severity = "minor", enter = 101, leave = 96 }]
        """,
        "rules.toml",
    )
    (event,) = Watch(rules, HORIZON).feed([estimate(indices=(index(102),))])
    assert event.membership == pytest.approx({"moderate": 0.35, "unhealthy_sensitive": 0.65})
    assert event.links == {"page": "https://air.example/s1?rule=us&at=2026-01-01T00:01:00Z"}
    assert to_ms(event.at) == (T0 + 60) * 1000


# --- what comes every hour, or too early --------------------------------------------------------------------


def hours(values, station="s"):
    made = []
    for n, value in values:
        end = T0 + 3600 * n
        window = Window(start=from_ms((end - 3600) * 1000), end=from_ms(end * 1000))
        made.append(estimate(station, end, pollutants={"pm25": measured(value)}, indices=(), window=window))
    return made


@pytest.mark.parametrize("windows", [hours, lambda values: minutes(*((60 * n, v) for n, v in values))])
def test_six_weeks_of_hourly_smoke_alert_by_the_default_rules(windows):
    """As monitors beside a wildfire have it: up to 1,675 ug/m3, values missing here and there."""
    dice = random.Random(2015)
    values, smoke = [], 0.0
    for n in range(1, 1000):
        smoke = max(0.0, smoke * 0.9 + dice.choice((0, 0, 0, 0, 160 * dice.random() ** 2)))
        if dice.random() < 0.95:
            values.append((n, min(1675.0, 8 + smoke)))
    rules = AlertRules(rule=tuple(one for one in default().rule if one.id == "pm25-episode"))
    events = Watch(rules, 5_000_000).feed(windows(values))
    newest = {event.id: event for event in events}
    assert len(newest) > 5
    for event in newest.values():
        assert event.event == "clear" or event is list(newest.values())[-1]
    # Every stretch of smoke of three hours in a row is told of, within its second hour.
    smoky = {n: value >= 75 for n, value in values}
    times = [(to_ms(e.at) // 1000 - T0) / 3600 for e in events if e.event == "open"]

    def open_at(n):
        until = [e.event for e in events if to_ms(e.at) <= (T0 + 3600 * n) * 1000]
        return until.count("open") > until.count("clear")

    assert times
    for n in smoky:
        if all(smoky.get(n + more) for more in range(3)):
            assert open_at(n + 2)
        if all(value < 60 for m, value in values if n <= m <= n + 4) and n + 4 in smoky:
            assert not open_at(n + 4)


def test_windows_next_to_each_other_are_one_stretch_from_the_first_on():
    two_hours = AlertRules(rule=(rule(2 * 60 * MINUTE),))
    (opened,) = Watch(two_hours, HORIZON).feed(hours([(1, 120), (2, 120), (3, 120), (4, 120)]))
    assert (to_ms(opened.at) - to_ms(opened.since), to_ms(opened.at)) == (
        120 * MINUTE, (T0 + 3 * 3600) * 1000,
    )  # fmt: skip


def test_constant_air_in_the_first_hours_opens_nothing_while_history_is_too_short():
    """The index of a station that has just begun goes 168, 74, 139 while its hours fill up."""
    rules = AlertRules(rule=tuple(one for one in default().rule if one.id == "us-aqi"))
    watch, events = Watch(rules, HORIZON), []
    for n in range(1, 24 * 60):
        value = (168, 74, 139)[n // 40 % 3]
        block = index(value, status="insufficient") if n < 18 * 60 else index(139, status="indicative")
        events += watch.feed([estimate("s", T0 + 60 * n, indices=(block,))])
    assert [event.event for event in events] == ["open"]


def test_an_alert_of_a_station_with_one_pollutant_ends_with_its_air():
    """What rests on nothing imputed has no interval, whatever the head says of pollutants nobody measures."""
    guesses = {name: imputed(90, 10, 400) for name in ("pm10", "no2", "o3", "so2", "co")}
    watch, events = Watch(default(), HORIZON), []
    for n in range(1, 24 * 60):
        value = 160.0 if 300 <= n < 600 else 9.0
        number = 210 if 300 <= n < 600 else 50
        events += watch.feed(
            [estimate("s", T0 + 60 * n, pollutants={"pm25": measured(value)} | guesses,
                      indices=(index(number),))]
        )  # fmt: skip
    assert [(event.rule, event.event) for event in events] == [
        ("us-aqi", "open"), ("pm25-episode", "open"), ("us-aqi", "clear"), ("pm25-episode", "clear"),
    ]  # fmt: skip


def test_a_sensor_that_is_missed_is_told_of_and_one_that_never_was_is_not():
    rules = AlertRules(rule=tuple(one for one in default().rule if one.id == "mostly-imputed"))
    watch, events = Watch(rules, HORIZON), []
    guess = imputed(9, 1, 20)
    for n in range(1, 400):
        pm25 = guess if 100 <= n < 200 else measured(9.0)
        for station, own in (("one", {"pm25": pm25}), ("camera", {"pm25": guess})):
            events += watch.feed(
                [estimate(station, T0 + 60 * n, pollutants=own | {"no2": guess}, indices=())]
            )
    assert [(e.station, e.event, (to_ms(e.at) // 1000 - T0) // 60) for e in events] == [
        ("one", "open", 130), ("one", "clear", 230),
    ]  # fmt: skip


def test_a_sensor_that_leaves_its_neighbours_is_told_of_and_that_it_is_back():
    """By the default rule: who slides below 10 % is not yet told of, who is half off is worse."""
    rules = AlertRules(rule=tuple(one for one in default().rule if one.id == "drift"))
    watch, events = Watch(rules, HORIZON), []
    day = 24 * 60
    shares = {0: None, 1: -0.08, 2: -0.18, 3: -0.55, 4: None}
    for n in range(1, 5 * day, 10):
        share = shares[n // day]
        since = from_ms(T0 * 1000)
        left = (
            {}
            if share is None
            else {"pm25": SensorDrift(kind="slide", since=since, share=share, reason="pm25 slides")}
        )
        end = T0 + 60 * n
        events += watch.feed(
            [estimate("watched", end, indices=(), drift=left), estimate("alone", end, indices=())]
        )
    assert {event.station for event in events} == {"watched"}
    days = [(to_ms(event.at) // 1000 - T0) // 60 // day for event in events]
    assert [(event.event, event.severity, on) for event, on in zip(events, days, strict=True)] == [
        ("open", "info", 2), ("update", "minor", 3), ("clear", "minor", 4),
    ]  # fmt: skip


# --- rules that go, and come back ---------------------------------------------------------------------------


@FAST
@given(
    st.lists(st.tuples(st.integers(60, 140), st.sampled_from(["", "", "none", "same", "other"])), max_size=40)
)
def test_whatever_becomes_of_a_rule_its_sequences_go_on_and_its_evidence_is_its_own(steps):
    same, other = rule(), rule(steps=((2, 1),), what="flagged", parameter=None, tests=["stuck"])
    rules = {"none": AlertRules(), "same": AlertRules(rule=(same,)), "other": AlertRules(rule=(other,))}
    watch, events, now = Watch(rules["same"], HORIZON), [], "same"
    for n, (value, change) in enumerate(steps, 1):
        now = change or now
        watch.rules = rules[now]
        told = watch.feed(minutes((n, value)))
        # The other rule never has two pollutants that fail: whatever it says, it does not open.
        assert now == "same" or all(event.event in ("clear", "retract") for event in told)
        events += told
        state = watch.states()["s"]
        newest = {event.id: event for event in events}
        assert state.active() == sum(event.event in ("open", "update") for event in newest.values())
    sequences: dict[str, int] = {}
    for event in events:
        assert event.sequence == sequences.get(event.id, -1) + 1
        sequences[event.id] = event.sequence
        assert stored({"s": state}) == {"s": state}


def test_a_rule_that_is_put_back_goes_on_with_the_numbers_of_its_alert():
    watch = Watch(AlertRules(rule=(rule(),)), HORIZON)
    (opened,) = watch.feed(minutes((1, 120)))
    watch.rules = AlertRules()
    (ended,) = watch.feed(minutes((2, 120)))
    watch.rules = AlertRules(rule=(rule(),))
    again = watch.feed(minutes((1, 125), revision=2)) + watch.feed(minutes((3, 120)))
    assert [(one.event, one.sequence) for one in (opened, ended)] == [("open", 0), ("clear", 1)]
    # A revision of the very window that opened it opens it again: the third thing that is told of it.
    assert (again[0].event, again[0].id, again[0].sequence) == ("open", opened.id, 2)


def test_a_silent_station_is_silent_by_a_changed_rule_too():
    watch = Watch(AlertRules(rule=(silence((3,)),)), HORIZON)
    watch.feed(minutes(*((n, 1) for n in range(1, 9)), station="quiet"))
    (opened,) = watch.feed(minutes((60, 1), station="busy"))
    watch.rules = AlertRules(rule=(silence((5, 100)),))
    ended, anew = watch.feed(minutes((61, 1), station="busy"))
    assert (ended.event, ended.id, anew.event) == ("clear", opened.id, "open")
    told = [one for one in watch.feed(minutes((400, 1), station="busy")) if one.station == "quiet"]
    assert [one.event for one in told] == ["update"]
    assert told[0].severity == "moderate"


def test_what_a_station_measures_is_what_it_measured_in_the_last_month_well_or_badly():
    rules = AlertRules(rule=(rule(id="guessed", what="imputed_share", parameter=None, steps=((0.1, 0.1),)),))
    guess, day = imputed(9, 1, 20), 24 * 60

    def shares(*windows):
        watch = Watch(rules, HORIZON)
        for n, pollutants, missing in windows:
            watch.feed([estimate("s", T0 + 60 * n, 1, pollutants, (), missing=missing)])
        found = watch.states()["s"].windows[-1].evidence["guessed"]
        return found if isinstance(found, str) else found.value

    both, imputed_one = {"pm25": measured(9), "no2": measured(9)}, {"pm25": guess, "no2": measured(9)}
    assert shares((1, both, {}), (29 * day, imputed_one, {})) == 0.5
    assert shares((1, both, {}), (31 * day, imputed_one, {})) == 0.0
    refused = {"pm25": MissingPollutant(raw=999.0, qc=4, n=3)}
    assert shares((1, {"no2": measured(9)}, refused), (2, imputed_one, {})) == 0.5
    assert shares((1, {"no2": measured(9)}, {}), (2, imputed_one, {})) == 0.0
