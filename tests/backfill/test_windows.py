"""Late data: counted as if they had come in time, or left alone with a reason."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backfill.run import HOURS_A_PASS, passes
from backfill.windows import Backfill, Source, WindowOutcome, ends_of, hour
from camera.haze import HAZE_SIZE
from camera.sight import CAMERA_SIZE
from fusion.assessor import Assessor
from fusion.stored import SENSORS, SensorsState
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from model.bundle.runtime import Head
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.features import Features, Quality
from schemas.reading import Quantity
from schemas.station import Station
from streams.join import Expire, Item, Join, Output, Rules

NOON = 1_750_248_000_000  # on the hour
SIZE, LATENESS, DISORDER = 60_000, 120_000, 10_000
RULES = Rules(SIZE, 5_000, LATENESS, {"features": DISORDER, "readings": DISORDER}, hold=LATENESS)
STATIONS = {name: Station(station=name, standards=("us-epa-2024", "in-naqi-2014")) for name in ("a", "b")}


@dataclass(frozen=True)
class Sent:
    source: Source
    item: Item
    late: bool


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(Bundle.load(DEFAULT_BUNDLE))


def log(seed: int, minutes: int, late_share: float) -> list[Sent]:
    """Readings and features of two stations in order of time, each with its offset on its own log."""
    dice = random.Random(seed)
    offsets = {"features": 0, "readings": 0}
    sent = []
    for second in range(0, minutes * 60, 20):
        for station in STATIONS:
            at = NOON + second * 1000 + dice.randrange(10_000)
            source: Source = "features" if dice.random() < 0.3 else "readings"
            offsets[source] += 1
            late = dice.random() < late_share
            if source == "readings":
                name = dice.choice(["pm25", "pm10", "no2", "o3"])
                value = Quantity(name, round(dice.uniform(5, 80), 1), "ug/m3", "main", "value")
                item = Item(station, at, at, ("main", name, "value", at), value[1:3], value, offsets[source])
            else:
                item = picture(station, at, dice, offsets[source])
            sent.append(Sent(source, item, late))
    return sent


def picture(station: str, at: int, dice: random.Random, offset: int) -> Item:
    numbers = np.random.default_rng(dice.randrange(2**30))
    features = Features(
        station=station, camera="main", captured_at=from_ms(at), frame_id="f", sha256=f"{at:064x}",
        bundle="b", encoder=Bundle.load().encoder, quality=Quality(usable=dice.random() < 0.8),
        embeddings={"frame": numbers.normal(size=128).astype("<f4").tobytes()},
        haze=numbers.uniform(size=HAZE_SIZE).astype("<f4").tobytes(),
    )  # fmt: skip
    return Item(station, at, at, ("main", at), features.sha256, features, offset)


def work_through(head: Head, sent: Sequence[Sent]) -> list[Estimate]:
    """What the worker publishes of these, the newest revision of each window."""
    join = Join(RULES)
    assessor = Assessor(head, size_ms=SIZE, lateness_ms=LATENESS, snapshots={})
    newest: dict[tuple[str, object], Estimate] = {}

    def take(output: Output) -> None:
        assert not output.late
        for estimate in assessor.run(output.steps, join.done, STATIONS.get).estimates:
            newest[estimate.station, estimate.window.end] = estimate

    for one in sent:
        take(join.feed(one.source, [one.item], one.item.offset + 1, 0))
    for source in RULES.disorder:
        take(join.punctuate(source, NOON + 36_000_000, 10_000, 0))
    return list(newest.values())


def end_of(item: Item) -> int:
    return (item.time // SIZE + 1) * SIZE


@given(seed=st.integers(0, 2**30), late_share=st.sampled_from([0.05, 0.3, 0.9]), order=st.randoms())
@example(seed=14107, late_share=0.9, order=random.Random(0))
@example(seed=4631, late_share=0.3, order=random.Random(0))
@settings(max_examples=12, deadline=None)
def test_late_data_count_as_if_they_had_come_in_time(
    head: Head, seed: int, late_share: float, order: random.Random
) -> None:
    sent = log(seed, 12, late_share)
    as_if = {(e.station, e.window.end): e for e in work_through(head, sent)}
    published = work_through(head, [one for one in sent if not one.late])
    wanted = {(one.item.station, end_of(one.item)) for one in sent if one.late}

    work = Backfill(wanted, SIZE)
    feeds = [("late", one) for one in sent if one.late] + [("log", one) for one in sent]
    order.shuffle(feeds)
    for _, one in feeds:
        work.add(one.source, one.item, late=one.late)
    for estimate in published:
        work.add_estimate(estimate, backfilled=False)
    outcomes = work.decide(-inf)
    assert [outcome.key for outcome in outcomes] == sorted(wanted)
    assert {outcome.verdict for outcome in outcomes} <= {"rewrite"}
    made = work.remake(outcomes, head, LATENESS, STATIONS.get, {})

    assert {(e.station, to_ms(e.window.end)) for e in made} == wanted
    # What was published of a silent sensor stays, though with the late ones nothing would have been known
    # of it (what it was held at is suspect beside them), or the model would have said it.
    before = {(e.station, e.window.end): e.pollutants for e in published}
    kept = {
        (e.station, e.window.end): {
            name
            for name, one in e.pollutants.items()
            if name not in (worker := as_if[e.station, e.window.end].pollutants)
            or (one.method == "last" and worker[name].method == "head")
        }
        for e in made
    }
    # The worker's averages have what final windows held of a silent sensor, though the model may have been
    # asked for it while it was not known to be silent; rebuilt ones what was published.
    heard: dict[str, set[str]] = {}
    silent = set()
    for (station, end), estimate in sorted(as_if.items(), key=lambda one: one[0]):
        known = heard.setdefault(station, set())
        measured = {name for name, one in estimate.pollutants.items() if one.kind == "measured"}
        if known - measured:
            silent.add((station, end))
        known |= measured
    held = silent | {key for key, names in kept.items() if names}
    for estimate in made:
        key = estimate.station, estimate.window.end
        same = as_if[key]
        if any(station == estimate.station and end <= estimate.window.end for station, end in held):
            estimate, same = (one.model_copy(update={"indices": ()}) for one in (estimate, same))
        for name in kept[key]:
            assert estimate.pollutants[name] == before[key][name]
            assert estimate.pollutants[name].method == "last"
        estimate, same = (
            one.model_copy(
                update={"pollutants": {n: p for n, p in one.pollutants.items() if n not in kept[key]}}
            )
            for one in (estimate, same)
        )
        assert estimate.model_dump_json() == same.model_dump_json()

    again = Backfill(wanted, SIZE)
    for _, one in feeds:
        again.add(one.source, one.item, late=one.late)
    for estimate in published:
        again.add_estimate(estimate, backfilled=False)
    for estimate in made:
        again.add_estimate(estimate, backfilled=True)
    assert {outcome.verdict for outcome in again.decide(-inf)} <= {"counted"}


def test_each_window_is_made_once_also_across_hours(head: Head) -> None:
    sent = log(3, 150, 1.0)
    wanted = {(one.item.station, end_of(one.item)) for one in sent}
    work = Backfill(wanted, SIZE)
    for one in sent:
        work.add(one.source, one.item, late=True)
    made = work.remake(work.decide(-inf), head, LATENESS, STATIONS.get, {})
    assert [(e.station, to_ms(e.window.end)) for e in made] == sorted(wanted)
    # The averages of the last one have those before it in them, which were just made.
    assert "pm25_24h: 2 of 24 hours" in made[-1].indices[0].reason


def test_what_stays_imputed_keeps_what_the_virtual_sensor_of_that_time_said(head: Head) -> None:
    dice, numbers = random.Random(5), np.random.default_rng(5)
    sent: list[Sent] = []
    for minute in range(200):
        at = NOON + minute * SIZE + 1000
        seen = picture("a", at, dice, 2 * minute)
        vector = numbers.normal(size=CAMERA_SIZE).astype("<f4").tobytes()
        seen.payload.embeddings["camera"] = vector
        sent.append(Sent("features", seen, False))
        if minute < 130:
            value = Quantity("pm25", 20.0 + 5 * dice.random(), "ug/m3", "main", "value")
            identity = ("main", "pm25", "value", at)
            sent.append(Sent("readings", Item("a", at, at, identity, value[1:3], value, 2 * minute), False))
    end = NOON + 180 * SIZE
    value = Quantity("no2", 31.0, "ug/m3", "main", "value")
    identity = ("main", "no2", "value", end - 500)
    late = Sent("readings", Item("a", end - 500, end - 500, identity, value[1:3], value, 900), True)
    published = {e.window.end: e for e in work_through(head, sent)}
    place = sent.index(next(one for one in sent if one.item.time > late.item.time))
    as_if = {e.window.end: e for e in work_through(head, [*sent[:place], late, *sent[place:]])}
    before, wanted = published[from_ms(end)], as_if[from_ms(end)]
    assert before.pollutants["pm25"].method != "head"
    assert wanted.pollutants["no2"].kind == "measured"

    def made(
        checkpoints: dict[str, list[tuple[int, SensorsState]]], *, published_before: bool = True
    ) -> Estimate:
        work = Backfill([("a", end)], SIZE)
        for one in [*sent, late]:
            work.add(one.source, one.item, late=one.late)
        for estimate in published.values():
            if published_before or estimate.window.end != from_ms(end):
                work.add_estimate(estimate, backfilled=False)
        [estimate] = work.remake(work.decide(-inf), head, LATENESS, STATIONS.get, checkpoints)
        return estimate

    without = made({})
    assert without.pollutants["pm25"] == before.pollutants["pm25"]
    assert without.pollutants["no2"] == wanted.pollutants["no2"]
    assert without.revision == before.revision + 1

    def checkpoint(reached: int) -> tuple[int, SensorsState]:
        """What a worker that got so far had in its checkpoint."""
        assessor = Assessor(head, size_ms=SIZE, lateness_ms=LATENESS, snapshots={})
        join = Join(RULES)
        for one in sent:
            if one.item.time < reached:
                output = join.feed(one.source, [one.item], one.item.offset + 1, 0)
                assessor.run(output.steps, join.done, STATIONS.get)
        for source in RULES.disorder:
            output = join.punctuate(source, reached, 10_000, 0)
            assessor.run(output.steps, join.done, STATIONS.get)
        horizons = assessor.horizons(join.done)
        at = horizons["a|sensors"]
        return at, SENSORS.decode(assessor.dump("a|sensors", at))

    of_the_time, newer = checkpoint(end), checkpoint(NOON + 200 * SIZE)
    assert of_the_time[0] <= end - LATENESS < newer[0]
    assert made({}, published_before=False).pollutants["pm25"].method == "head"
    ours = made({"a": [newer, of_the_time]}, published_before=False).pollutants
    assert ours.keys() == wanted.pollutants.keys()
    for name, theirs in wanted.pollutants.items():
        # The last value measured comes from an estimate, with six decimals.
        assert (ours[name].kind, ours[name].method) == (theirs.kind, theirs.method)
        assert ours[name].value == pytest.approx(theirs.value, abs=1e-5)
    assert made({"a": [newer]}) == without


INPUTS = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.booleans(), st.integers(1, 4)), min_size=1, max_size=14
)


@given(inputs=INPUTS)
def test_the_verdict_is_that_of_the_sets(inputs: list[tuple[int, bool, bool, int]]) -> None:
    """Each input: identity, whether it came late, whether retention has dropped it, and its value."""
    key = ("a", NOON + SIZE)
    work = Backfill([key], SIZE)
    for offset, (identity, late, gone, value) in enumerate(inputs):
        at = NOON + identity
        item = Item("a", at, at, ("main", "pm25", "value", at), (value, "ug/m3"), None, offset)
        if late:
            work.add("readings", item, late=True)
        elif not gone:
            work.add("readings", item, late=False)
    in_time = {identity for identity, late, _, _ in inputs if not late}
    kept = {identity for identity, late, gone, _ in inputs if not late and not gone}
    all_known = kept | {identity for identity, late, _, _ in inputs if late}
    if in_time:
        work.add_estimate(estimate_of("a", key[1], len(in_time)), backfilled=False)
    [outcome] = work.decide(-inf)
    if len(kept) < len(in_time):
        expected = "impossible"
    elif len(all_known) > len(in_time):
        expected = "rewrite"
    else:
        expected = "counted"
    assert (outcome.verdict, outcome.before, outcome.after) == (expected, len(in_time), len(all_known))
    assert bool(outcome.reason) == (expected == "impossible")


def estimate_of(station: str, end: int, revision: int) -> Estimate:
    return Estimate.model_validate_json(
        f'{{"station":"{station}","window":{{"start":{end - SIZE},"end":{end}}},"revision":{revision},'
        '"sides":"none","pollutants":{},"indices":[],"inputs":{"readings":0},"bundle":"b"}'
    )


def outcome_of(work: Backfill, complete_since: float) -> WindowOutcome:
    [outcome] = work.decide(complete_since)
    return outcome


def test_without_an_estimate_it_must_be_known_that_there_was_none() -> None:
    key = ("a", NOON + SIZE)
    work = Backfill([key], SIZE)
    work.add("readings", Item("a", NOON, NOON, ("x", NOON), 1, None, 3), late=True)
    assert outcome_of(work, -inf).verdict == "rewrite"
    assert outcome_of(work, NOON + SIZE).verdict == "rewrite"
    gone = outcome_of(work, NOON + SIZE + 1)
    assert gone.verdict == "impossible"
    assert "2025-06-18T12:01:00.001Z" in gone.reason
    assert outcome_of(work, inf).verdict == "impossible"


def test_what_backfill_itself_published_may_not_shrink() -> None:
    key = ("a", NOON + SIZE)
    work = Backfill([key], SIZE)
    for number in range(3):
        item = Item("a", NOON, NOON, ("x", number), 1, None, number)
        work.add("readings", item, late=number == 2)
    work.add_estimate(estimate_of("a", key[1], 2), backfilled=False)
    work.add_estimate(estimate_of("a", key[1], 4), backfilled=True)
    shrunk = outcome_of(work, -inf)
    assert (shrunk.verdict, shrunk.before, shrunk.after) == ("impossible", 4, 3)


@pytest.mark.parametrize(
    ("end", "wanted"), [(NOON, NOON), (NOON + 1, NOON + 3_600_000), (NOON + 3_600_000, NOON + 3_600_000)]
)
def test_the_hour_of_a_window(end: int, wanted: int) -> None:
    assert hour(end) == wanted


@given(minutes=st.sets(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9000)), max_size=400))
def test_passes_cut_the_windows_into_bounded_parts(minutes: set[tuple[str, int]]) -> None:
    windows = sorted((station, NOON + minute * SIZE) for station, minute in minutes)
    parts = list(passes(windows))
    assert [key for part in parts for key in part] == windows
    hours = [{(station, hour(end)) for station, end in part} for part in parts]
    assert all(0 < len(part) <= HOURS_A_PASS for part in hours)
    # An hour is never cut: its windows share what quality control knows.
    assert sum(map(len, hours)) == len({at for part in hours for at in part})


@given(
    time=st.integers(0, 4 * SIZE), before=st.integers(0, 3 * SIZE), after=st.integers(1, 3 * SIZE),
    stands=st.booleans(),
)  # fmt: skip
def test_an_item_is_one_of_the_windows_that_the_join_puts_it_into(
    time: int, before: int, after: int, stands: bool
) -> None:
    at = NOON + time
    item = Item("a", at, at, ("x", at), 1, None, 0)
    if stands:
        item = item._replace(since=at - before, until=at + after)
    join = Join(Rules(SIZE, 0, 0, {"readings": 0}))
    steps = join.feed("readings", [item], 1, 0).steps
    steps += join.punctuate("readings", at + 100 * SIZE, 1, 0).steps
    assert ends_of(item, SIZE) == [step.view.end for step in steps if isinstance(step, Expire)]


def test_a_late_reading_is_counted_in_every_window_it_stands_for(head: Head) -> None:
    """A sensor that speaks every five minutes; one reading came late, the window after it has another."""
    value = Quantity("pm25", 20.0, "ug/m3", "main", "value")
    items = []
    for number, at in enumerate(range(NOON + 1_000, NOON + 1_800_000, 300_000)):
        identity = ("main", "pm25", "value", at)
        found = value._replace(value=20.0 + number)
        items.append(Item("a", at, at, identity, found[1:3], found, number, at, at + 330_000))
    late = items[3]
    published = work_through(head, [Sent("readings", one, False) for one in items if one is not late])
    as_if = {e.window.end: e for e in work_through(head, [Sent("readings", one, False) for one in items])}
    work = Backfill({("a", end) for end in ends_of(late, SIZE)}, SIZE)
    for one in items:
        work.add("readings", one, late=one is late)
    for estimate in published:
        work.add_estimate(estimate, backfilled=False)
    outcomes = work.decide(-inf)
    made = work.remake(outcomes, head, LATENESS, STATIONS.get, {})
    assert [outcome.verdict for outcome in outcomes] == ["rewrite"] * 6
    for estimate in made:
        wanted = as_if[estimate.window.end]
        assert (estimate.revision, estimate.inputs) == (wanted.revision, wanted.inputs)
        assert estimate.pollutants["pm25"].value == wanted.pollutants["pm25"].value
    assert [estimate.pollutants["pm25"].value for estimate in made[:5]] == [23.0] * 5
