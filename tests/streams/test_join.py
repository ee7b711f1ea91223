"""The join against a batch oracle, under every interleaving, disorder, lateness and crash there may be."""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import CommitMetadataError
from streams.join import BEGINNING, Amend, Close, Expire, Item, Join, Output, Rules, Settled, WindowView

A, B = "features", "readings"
SOURCES = (A, B)


def rules(**changes: int | None) -> Rules:
    plain = {"size": 10, "grace": 2, "lateness": 15, "hold": 15, "idle_timeout": None} | changes
    return Rules(disorder={A: 3, B: 3}, **plain)  # type: ignore[arg-type]


Log = list[Item | int]  # an int is a punctuation


@st.composite
def logs(draw: st.DrawFn, late: bool = True) -> dict[str, Log]:
    """Two logs; each item's time wanders around a clock that only moves forward, repeats included."""
    made: dict[str, Log] = {}
    for source in SOURCES:
        log: Log = []
        clock = 0
        for offset in range(draw(st.integers(0, 40))):
            kind = draw(st.integers(0, 20))
            clock += draw(st.integers(0, 7))
            if kind == 0:
                log.append(clock - 3)
                continue
            behind = draw(st.integers(0, 60 if late and kind < 6 else 3))
            earlier = [
                entry for entry in log if isinstance(entry, Item) and (late or clock - entry.time <= 3)
            ]
            if kind == 1 and earlier:
                log.append(draw(st.sampled_from(earlier))._replace(offset=offset))
                continue
            time = max(0, clock - behind)
            station = draw(st.sampled_from("xyz"))
            since = until = 0
            if draw(st.integers(0, 3)) == 0:
                # One that began before its own window finds windows closed, and revises them.
                since = max(0, time - draw(st.integers(0, 40))) if late else time
                until = time + draw(st.integers(1, 40))
            log.append(Item(station, time, time, (source, offset), None, offset, offset, since, until))
        log.append(clock + 10_000)
        made[source] = log
    return made


def oracle(made: dict[str, Log], how: Rules) -> tuple[dict[tuple[str, int], set[object]], set[object]]:
    """The final windows and the late inputs, in a few lines of batch code."""
    windows: dict[tuple[str, int], set[object]] = defaultdict(set)
    late: set[object] = set()
    for source, log in made.items():
        watermark = BEGINNING
        for entry in log:
            if isinstance(entry, int):
                watermark = max(watermark, entry)
                continue
            start = entry.time // how.size * how.size
            if start + how.size + how.grace + how.lateness <= watermark:
                late.add((source, entry.offset))
            else:
                windows[entry.station, start].add(entry.identity)
                for other in range(entry.since // how.size * how.size, entry.until, how.size):
                    if other + how.size + how.grace + how.lateness > watermark:
                        windows[entry.station, other].add(entry.identity)
            watermark = max(watermark, entry.seen - how.disorder[source])
    return dict(windows), late


@dataclass
class World:
    """What the outside sees: topics that only grow, and committed offsets."""

    made: dict[str, Log]
    how: Rules
    estimates: dict[tuple[str, int], WindowView] = field(default_factory=dict)
    finals: dict[tuple[str, int], list[WindowView]] = field(default_factory=lambda: defaultdict(list))
    late: list[tuple[str, int]] = field(default_factory=list)
    committed: dict[str, Settled] = field(default_factory=dict)

    def start(self) -> None:
        restored = {
            name: Settled.parse(settled.offset, settled.metadata())
            for name, settled in self.committed.items()
        }
        self.join = Join(self.how, restored)
        self.at = {name: restored[name].offset if name in restored else 0 for name in SOURCES}

    def step(self, source: str, count: int) -> Output:
        log, start = self.made[source], self.at[source]
        output = Output()
        for offset in range(start, min(start + count, len(log))):
            entry = log[offset]
            if isinstance(entry, int):
                more = self.join.punctuate(source, entry, offset + 1, 0)
            else:
                more = self.join.feed(source, [entry], offset + 1, 0)
            output.steps += more.steps
            output.late += more.late
            self.at[source] = offset + 1
        return output

    def publish(self, output: Output) -> None:
        for step in output.steps:
            view = step.view
            key = (view.station, view.start)
            if isinstance(step, Expire):
                self.finals[key].append(view)
            elif key not in self.estimates or view.revision >= self.estimates[key].revision:
                self.estimates[key] = view
        self.late += [(source, item.offset) for source, item in output.late]

    def finish(self) -> None:
        while any(self.at[name] < len(self.made[name]) for name in SOURCES):
            for name in SOURCES:
                self.publish(self.step(name, 5))


def content(view: WindowView) -> set[object]:
    return {item.identity for side in view.inputs.values() for item in side}


def check(world: World) -> None:
    windows, late = oracle(world.made, world.how)
    assert {key: content(view) for key, view in world.estimates.items()} == windows
    assert set(world.late) == late
    assert set(world.finals) == set(windows)
    for key, views in world.finals.items():
        assert all(content(view) == windows[key] for view in views)
        assert views[-1].revision == len(windows[key])


steps = st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(1, 12)), max_size=40)


@given(logs(), steps)
@settings(max_examples=100)
def test_any_interleaving_gives_the_oracles_windows_and_late_items(
    made: dict[str, Log], plan: list[tuple[str, int]]
) -> None:
    world = World(made, rules())
    world.start()
    for source, count in plan:
        world.publish(world.step(source, count))
    world.finish()
    check(world)
    assert len(world.late) == len(set(world.late))
    assert world.join.open_windows == world.join.buffered == 0


@given(logs(), steps, st.sampled_from([0, 2]))
def test_without_lateness_a_window_is_published_and_final_at_once(
    made: dict[str, Log], plan: list[tuple[str, int]], grace: int
) -> None:
    world = World(made, rules(grace=grace, lateness=0, hold=0))
    world.start()
    for source, count in plan:
        world.publish(world.step(source, count))
    world.finish()
    check(world)


@given(logs(late=False), steps)
def test_within_the_disorder_bound_nothing_is_late_and_each_window_is_published_once(
    made: dict[str, Log], plan: list[tuple[str, int]]
) -> None:
    world = World(made, rules(grace=0))
    world.start()
    published: list[tuple[str, int]] = []
    for source, count in [*plan, *[(name, 100) for name in SOURCES]]:
        output = world.step(source, count)
        published += [
            (step.view.station, step.view.start) for step in output.steps if isinstance(step, Close)
        ]
        world.publish(output)
    check(world)
    assert not world.late
    assert len(published) == len(set(published))


@given(
    logs(),
    st.lists(
        st.tuples(
            st.sampled_from(SOURCES), st.integers(1, 12), st.sampled_from(["", "commit", "crash", "torn"])
        ),
        max_size=40,
    ),
    st.sampled_from([0, 15, 40]),
)
@settings(max_examples=200)
def test_a_crash_anywhere_changes_nothing(
    made: dict[str, Log], plan: list[tuple[str, int, str]], hold: int
) -> None:
    """`torn`: the outputs were produced, the worker died before it committed; `crash`: before it produced."""
    world = World(made, rules(hold=hold))
    world.start()
    for source, count, fate in plan:
        output = world.step(source, count)
        if fate != "crash":
            world.publish(output)
        if fate == "commit":
            world.committed = world.join.settled()
        elif fate:
            world.start()
    world.finish()
    check(world)


@given(logs(), steps)
def test_settled_offsets_only_grow_and_end_at_the_end(
    made: dict[str, Log], plan: list[tuple[str, int]]
) -> None:
    world = World(made, rules(hold=0))
    world.start()
    last = dict.fromkeys(SOURCES, 0)
    for source, count in [*plan, *[(name, 100) for name in SOURCES]]:
        world.publish(world.step(source, count))
        settled = world.join.settled()
        for name in SOURCES:
            assert last[name] <= settled[name].offset <= world.at[name]
            last[name] = settled[name].offset
    assert last == {name: len(made[name]) for name in SOURCES}


class Life:
    """A worker whose state is what its stations' amendments last said of each subject, as of windows."""

    def __init__(self, made: dict[str, Log], how: Rules) -> None:
        self.made, self.how = made, how
        self.committed: dict[str, Settled] = {}
        self.snapshots: list[tuple[int, dict[str, int]]] = [(2 * BEGINNING, {})]
        self.read: dict[tuple[str, int], dict[str, int]] = {}
        self.start()

    def start(self) -> None:
        self.join = Join(self.how, self.committed)
        self.at = {name: self.committed[name].offset if name in self.committed else 0 for name in SOURCES}
        done = max((kept.done for kept in self.committed.values()), default=BEGINNING)
        self.versions = [next(one for one in reversed(self.snapshots) if one[0] <= done - self.how.hold)]

    def step(self, source: str, count: int) -> None:
        log, start = self.made[source], self.at[source]
        for offset in range(start, min(start + count, len(log))):
            entry = log[offset]
            if isinstance(entry, int):
                output = self.join.punctuate(source, entry, offset + 1, 0)
            elif entry.mark == "amendment":
                output = self.join.amend(source, entry, offset + 1, 0)
            else:
                output = self.join.feed(source, [entry], offset + 1, 0)
            self.at[source] = offset + 1
            for step in output.steps:
                view, newest = step.view, self.versions[-1][1]
                if isinstance(step, Amend):
                    (change,) = view.inputs[B]
                    self.versions.append((view.end, {**newest, change.station: change.offset}))
                elif isinstance(step, Expire):
                    self.versions.append((view.end, newest))
                else:
                    self.read[view.station, view.end] = self.as_of(view.end - self.how.lateness)

    def as_of(self, horizon: int) -> dict[str, int]:
        return next(state for end, state in reversed(self.versions) if end <= horizon)

    def commit(self) -> None:
        self.committed = self.join.settled()
        horizon = self.committed[B].done - self.how.hold
        self.snapshots.append((horizon, self.as_of(horizon)))


@given(
    logs(),
    st.sets(st.integers(0, 39), max_size=6),
    st.lists(
        st.tuples(st.sampled_from(SOURCES), st.integers(1, 12), st.sampled_from(["", "commit", "crash"])),
        max_size=40,
    ),
)
@settings(max_examples=200)
def test_an_amendment_is_read_by_the_same_windows_whatever_the_interleaving_and_the_crashes(
    made: dict[str, Log], places: set[int], plan: list[tuple[str, int, str]]
) -> None:
    log = made[B]
    for place in sorted(places):
        if place < len(log) - 1:
            about = place * 2 if place % 3 else 0
            log[place] = Item("xyz"[place % 3], about, BEGINNING, (place,), "amendment", None, place)
    straight, crashing = Life(made, rules()), Life(made, rules())
    for name in SOURCES:
        straight.step(name, 100)
    for source, count, fate in plan:
        crashing.step(source, count)
        if fate == "commit":
            crashing.commit()
        elif fate == "crash":
            crashing.start()
    for name in SOURCES:
        crashing.step(name, 100)
    assert crashing.read == straight.read
    assert crashing.versions[-1][1] == straight.versions[-1][1]
    amended = {entry.station for entry in log if isinstance(entry, Item) and entry.mark == "amendment"}
    assert straight.versions[-1][1].keys() == amended
    for life in (straight, crashing):
        life.commit()
        assert life.committed[B].offset == len(log)
        assert life.join.buffered == 0


def test_an_amendment_acts_before_the_first_window_that_may_read_it_and_after_what_it_speaks_of() -> None:
    how = rules()
    join = Join(how)
    join.feed(A, [item(500, 0)], 1, now=0)
    join.feed(B, [item(100, 0)], 1, now=0)
    # The watermark is 97: windows that end at 80 or before are final (80 + grace + lateness <= 97).
    join.amend(B, Item("x", 0, BEGINNING, (1,), "amendment", None, 1), 2, 0)
    join.amend(B, Item("x", 105, BEGINNING, (2,), "amendment", None, 2), 3, 0)
    assert join.settled()[B].offset == 0
    steps = join.feed(B, [item(200, 3)], 4, now=0).steps
    assert [(type(step), step.view.end) for step in steps] == [
        (Amend, 90), (Close, 110), (Expire, 110), (Amend, 110),
    ]  # fmt: skip
    assert join.buffered == 2


def test_an_amendment_comes_before_a_window_that_closes_at_the_same_moment() -> None:
    join = Join(rules(lateness=20))
    join.feed(A, [item(500, 0)], 1, now=0)
    join.amend(B, Item("x", 5, BEGINNING, (0,), "amendment", None, 0), 1, 0)
    # It stands behind 10; the estimate of 30 reads the state as of 10.
    steps = join.feed(B, [item(25, 1), item(35, 2)], 3, now=0).steps
    assert [(type(step), step.view.end) for step in steps] == [(Amend, 10), (Close, 30)]


def test_an_amendment_is_settled_with_the_watermark_before_it() -> None:
    """By which a successor finds its place again."""
    join = Join(rules())
    join.punctuate(B, 100, 7, now=0)
    join.amend(B, Item("x", 5, BEGINNING, (7,), "amendment", None, 7), 8, 0)
    join.punctuate(B, 120, 9, now=0)
    assert join.settled()[B][:3] == (7, 100, 9)


def test_an_amendment_is_read_again_until_the_state_that_holds_it_is_settled() -> None:
    join = Join(rules(hold=100))
    join.feed(A, [item(500, 0)], 1, now=0)
    join.amend(B, Item("x", 5, BEGINNING, (0,), "amendment", None, 0), 1, 0)
    assert [type(step) for step in join.feed(B, [item(60, 1)], 2, now=0).steps] == [Amend]
    assert join.settled()[B].offset == 0
    join.feed(B, [item(200, 2)], 3, now=0)
    assert join.settled()[B].offset > 0


def item(time: int, offset: int, station: str = "x", mark: object = None, seen: int | None = None) -> Item:
    return Item(station, time, time if seen is None else seen, (offset,), mark, offset, offset)


def test_a_silent_source_holds_the_watermark_until_it_is_idle() -> None:
    join = Join(rules(idle_timeout=100))
    assert not join.feed(B, [item(5, 0), item(40, 1)], 2, now=0).steps
    assert not join.tick(99).steps
    closed = join.feed(B, [item(41, 2)], 3, now=100).steps
    assert [(type(step), step.view.start) for step in closed] == [(Close, 0), (Expire, 0)]


def test_when_everything_is_silent_the_last_windows_close_by_processing_time() -> None:
    join = Join(rules(idle_timeout=100))
    join.feed(A, [item(5, 0)], 1, now=0)
    join.feed(B, [item(6, 0)], 1, now=0)
    assert not join.tick(99).steps
    assert [type(step) for step in join.tick(100).steps] == [Close, Expire]


def test_silence_makes_nothing_late_that_begins_where_the_data_ended() -> None:
    join = Join(rules(idle_timeout=100))
    join.feed(A, [item(5, 0)], 1, now=0)
    join.feed(B, [item(6, 0)], 1, now=0)
    assert [type(step) for step in join.tick(1_000_000).steps] == [Close, Expire]
    assert not join.tick(2_000_000).steps
    assert join.done == 10
    output = join.feed(B, [item(9, 1), item(10, 2)], 3, now=2_000_000)
    assert [late.time for _, late in output.late] == [9], "its window is final; the next one is not"


def test_a_clock_that_runs_ahead_does_not_move_the_watermark_past_the_brokers_time() -> None:
    join = Join(rules())
    join.feed(B, [item(1_000_000, 0, seen=20)], 1, now=0)
    assert join.source_watermark(B) == 17


def test_a_repeat_changes_nothing_and_a_contradiction_is_reported() -> None:
    join = Join(rules())
    join.feed(B, [item(5, 0, mark=1.0)], 1, now=0)
    again = item(5, 0, mark=1.0)._replace(offset=1)
    other = item(5, 0, mark=2.0)._replace(offset=2)
    assert join.feed(B, [again, other], 3, now=0).conflicts == [(B, other)]
    assert join.buffered == 1


def test_a_late_input_within_the_allowed_lateness_makes_a_revision() -> None:
    join = Join(rules())
    join.feed(A, [item(30, 0)], 1, now=0)
    first = join.feed(B, [item(5, 0), item(20, 1)], 2, now=0).steps
    assert [(type(step), step.view.revision) for step in first] == [(Close, 1)]
    second = join.feed(B, [item(6, 2)], 3, now=0).steps
    assert [(type(step), step.view.revision) for step in second] == [(Close, 2)]


def test_a_leading_source_is_named_so_that_it_can_be_paused() -> None:
    join = Join(rules())
    join.feed(A, [item(5, 0)], 1, now=0)
    join.feed(B, [item(5, 0), item(500, 1)], 2, now=0)
    assert join.leading(100, now=0) == [B]
    assert join.leading(1000, now=0) == []


def test_nobody_leads_a_source_that_is_idle() -> None:
    """A city without cameras: were its readings paused for their lead, they would stay so."""
    join = Join(rules(idle_timeout=20))
    assert join.leading(100, now=0) == []
    join.feed(B, [item(500, 0)], 1, now=10)
    assert join.leading(100, now=19) == [B]  # nothing was heard of the other one, and it may come yet
    assert join.leading(100, now=20) == []
    join.punctuate(A, 30, 1, now=40)
    assert join.leading(100, now=41) == [B]
    assert join.leading(100, now=60) == []  # both are


def test_metadata_of_another_tool_or_version() -> None:
    assert Settled.parse(7, "") == Settled(7, BEGINNING, 7, BEGINNING)
    with pytest.raises(CommitMetadataError, match="version 2"):
        Settled.parse(7, '{"v": 2}')
    with pytest.raises(CommitMetadataError, match="unreadable"):
        Settled.parse(7, "not json")


def test_rules_are_checked() -> None:
    with pytest.raises(ValueError, match="window size"):
        rules(size=0)


def test_an_item_lends_itself_to_the_windows_of_its_period() -> None:
    join = Join(rules())
    hourly = item(35, 0)._replace(since=35, until=61)
    join.feed(A, [item(5, 0), item(90, 1)], 2, now=0)
    steps = join.feed(B, [hourly, item(58, 1), item(150, 2, station="y")], 3, now=0).steps
    closed = [
        (step.view.station, step.view.start, step.view.revision) for step in steps if isinstance(step, Close)
    ]
    assert closed == [("x", 0, 1), ("x", 30, 1), ("x", 40, 1), ("x", 50, 2), ("x", 60, 1)]
    assert join.buffered == 2  # what was in final windows is not held any more


def test_an_item_is_counted_in_each_window_that_holds_it() -> None:
    """Each of them takes memory: a source of hourly readings is paused by its windows, not by its records."""
    join = Join(rules())
    join.feed(B, [item(35, 0)._replace(since=35, until=91), item(58, 1)], 2, now=0)
    assert join.open_windows == 7
    assert join.buffered == 8
    join.punctuate(A, 1000, 1, now=0)
    join.punctuate(B, 1000, 3, now=0)
    assert join.open_windows == join.buffered == 0


def test_a_period_that_ends_with_its_stamp_revises_the_windows_before_and_leaves_final_ones() -> None:
    join = Join(rules())
    join.feed(A, [item(1000, 0)], 1, now=0)
    join.feed(B, [item(22, 0), item(46, 1, station="y")], 2, now=0)  # windows that end at 26 are final
    revised = join.feed(B, [item(44, 2)._replace(since=10, until=45)], 3, now=0).steps
    assert [(step.view.start, step.view.revision) for step in revised] == [(20, 2)]
    rest = [step.view for step in join.punctuate(B, 500, 4, now=0).steps if isinstance(step, Close)]
    assert [(view.station, view.start) for view in rest] == [("x", 30), ("x", 40), ("y", 40)]


def test_a_period_makes_no_window_anew_that_was_final_without_its_source() -> None:
    """The source was idle, so that windows became final that its own log says nothing of."""
    join = Join(rules(idle_timeout=100))
    join.feed(A, [item(100, 0)], 1, now=0)
    steps = join.feed(A, [item(150, 1)], 2, now=150).steps
    assert [(type(step), step.view.start) for step in steps] == [(Close, 100), (Expire, 100)]
    assert join.done == 130
    join.feed(B, [item(131, 0)._replace(since=95, until=142)], 1, now=150)
    join.punctuate(A, 500, 3, now=150)
    rest = join.punctuate(B, 500, 2, now=150).steps
    assert [step.view.start for step in rest if isinstance(step, Close)] == [130, 140, 150]


def test_the_position_is_that_after_the_last_record() -> None:
    join = Join(rules(hold=0))
    join.feed(A, [], 1, now=0)
    join.feed(B, [item(5, 0), item(6, 1)], 2, now=0)
    assert join.settled()[B] == Settled(0, BEGINNING, 2, BEGINNING)
    # Nothing is held any more: a successor reads the next record, which is not there yet.
    join.punctuate(A, 500, 1, now=0)
    join.feed(B, [item(400, 2)], 3, now=0)
    assert join.settled()[B].position == 3
    join.punctuate(B, 500, 4, now=0)
    assert (join.settled()[A].offset, join.settled()[B].offset, join.settled()[B].position) == (1, 4, 4)
    join.feed(B, [], 7, now=0)
    assert (join.settled()[B].offset, join.settled()[B].position) == (7, 7)
    join.amend(B, item(0, 7), 8, now=0)
    # It is held until the window that it stands behind is final; what comes after it was not read yet.
    assert (join.settled()[B].offset, join.settled()[B].position) == (7, 8)
    for source in (A, B):
        join.punctuate(source, 1000, join.settled()[source].position, now=0)
    assert (join.settled()[B].offset, join.settled()[B].position) == (8, 8)


def test_what_was_final_for_one_source_was_final_for_all() -> None:
    restored = {A: Settled(0, 500, 1, 480), B: Settled(0, BEGINNING, 2, 300)}
    output = Join(rules(hold=0), restored).feed(B, [item(350, 2), item(481, 3)], 4, now=0)
    assert [late.offset for _, late in output.late] == [2]


def test_a_window_has_a_length_and_nothing_lasts_less_than_nothing() -> None:
    assert Rules(size=1, grace=0, lateness=0, disorder={A: 0}).hold == 0
    for wrong in ({"size": 0}, {"grace": -1}, {"lateness": -1}, {"disorder": {A: -1}}, {"hold": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            Rules(**({"size": 1, "grace": 0, "lateness": 0, "disorder": {A: 0}} | wrong))  # type: ignore[arg-type]


def test_the_first_record_that_an_earlier_life_did_not_read_is_new() -> None:
    """At the position itself. A repeat of what was read before it is silent, and what is new is late."""
    restored = {A: Settled(0, 500, 1, 480), B: Settled(0, BEGINNING, 2, 480)}
    join = Join(rules(hold=1000), restored)
    output = join.feed(B, [item(5, 0), item(6, 1), item(7, 2)], 3, now=0)
    assert [late.offset for _, late in output.late] == [2]


def test_a_period_of_a_new_record_leaves_what_an_earlier_life_delivered() -> None:
    restored = {A: Settled(0, 500, 1, 480), B: Settled(0, BEGINNING, 2, 480)}
    join = Join(rules(hold=1000), restored)
    lent = [item(485, place, seen=0)._replace(since=450, until=495) for place in range(3)]
    steps = join.feed(B, lent, 3, now=0).steps
    join.punctuate(A, 2000, 2, now=0)
    steps += join.punctuate(B, 2000, 4, now=0).steps
    # Two were read before, and are inputs of the windows of their period again; the third is new.
    assert [(step.view.start, step.view.revision) for step in steps if isinstance(step, Expire)] == [
        (450, 2), (460, 2), (470, 2), (480, 3), (490, 3),
    ]  # fmt: skip
    assert [step.view.start for step in steps if isinstance(step, Close)] == [480, 490]


def test_a_contradiction_is_no_input() -> None:
    join = Join(rules())
    join.feed(A, [item(5, 0)], 1, now=0)
    join.feed(B, [item(5, 0, mark=1.0), item(5, 0, mark=2.0)], 2, now=0)
    join.punctuate(A, 500, 2, now=0)
    assert {step.view.revision for step in join.punctuate(B, 500, 3, now=0).steps} == {2}


def test_a_repeat_of_what_was_final_is_an_input_of_its_periods_windows_once() -> None:
    restored = {A: Settled(0, 500, 1, 480), B: Settled(0, BEGINNING, 2, 480)}
    join = Join(rules(hold=0), restored)
    lent = item(465, 0, seen=0)._replace(since=465, until=495)
    assert not join.feed(B, [lent, lent._replace(offset=1)], 2, now=0).late
    join.punctuate(A, 2000, 2, now=0)
    steps = join.punctuate(B, 2000, 3, now=0).steps
    assert [(step.view.start, step.view.revision) for step in steps if isinstance(step, Close)] == [
        (480, 1),
        (490, 1),
    ]
