"""Late or invalidated data: what follows for the windows after them, and for the running worker."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backfill.healing import AmendmentsOnLog, Healing
from backfill.windows import Backfill, Key
from fusion.amending import latest_time, left_out
from fusion.assessor import Assessor
from fusion.stored import read
from model.bundle.bundle import DEFAULT_BUNDLE, Bundle
from model.bundle.runtime import Head
from schemas.amendment import Amendment, Unheard, Withheld
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.reading import Quantity
from schemas.station import Station
from streams.join import Item, Join, Output, Rules, Settled

NOON = 1_750_248_000_000  # on the hour
HOUR = 3_600_000
SIZE, LATENESS = 900_000, 1_200_000
RULES = Rules(SIZE, 5_000, LATENESS, {"features": 0, "readings": 0}, hold=LATENESS)
#: An example takes seconds.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
STATION = Station(station="a", standards=("us-epa-2024", "in-naqi-2014"))


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(Bundle.load(DEFAULT_BUNDLE))


def reading(at: int, name: str, value: float, offset: int, sensor: str = "main") -> Item:
    found = Quantity(name, value, "ug/m3", sensor, "value")
    return Item("a", at, at, (sensor, name, "value", at), (value, "ug/m3"), found, offset)


def log(seed: int, hours: int) -> list[Item]:
    """A value of two pollutants in each window, in order."""
    dice = random.Random(seed)
    items: list[Item] = []
    for at in range(NOON, NOON + hours * HOUR, SIZE):
        for name in ("o3", "pm25"):
            moment = at + 400_000 + dice.randrange(100_000)
            items.append(reading(moment, name, round(dice.uniform(20, 60), 2), len(items)))
    return sorted(items, key=lambda item: item.time)


@dataclass
class Worker:
    """A fusion worker, and what it and others publish: the highest revision of each window."""

    head: Head
    published: dict[int, Estimate] = field(default_factory=dict)
    #: Of these, what it published itself.
    own: dict[int, Estimate] = field(default_factory=dict)
    committed: dict[str, Settled] = field(default_factory=dict)
    snapshots: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.join = Join(RULES, self.committed)
        self.assessor = Assessor(
            self.head,
            size_ms=SIZE,
            lateness_ms=LATENESS,
            snapshots={name: (at, read(name, data)) for name, (at, data) in self.snapshots.items()},
        )

    def commit(self) -> None:
        self.committed = self.join.settled()
        done = self.committed["readings"].done
        self.snapshots = {
            name: (at, self.assessor.dump(name, at)) for name, at in self.assessor.horizons(done).items()
        }

    def take(self, output: Output) -> None:
        assert not output.late
        told = self.assessor.run(output.steps, self.join.done, {"a": STATION}.get)
        self.own |= {to_ms(estimate.window.end): estimate for estimate in told.estimates}
        self.publish(told.estimates)

    def publish(self, estimates: Iterable[Estimate]) -> None:
        for estimate in estimates:
            end = to_ms(estimate.window.end)
            if end not in self.published or estimate.revision >= self.published[end].revision:
                self.published[end] = estimate

    def feed(self, entries: Iterable[Item | Amendment], start: int = 0) -> None:
        """Entries of the readings' log from offset `start` on; the features' is silent but in step."""
        for offset, entry in enumerate(entries, start):
            if isinstance(entry, Amendment):
                item = Item("a", latest_time(entry), 0, (), None, entry, offset)
                self.take(self.join.amend("readings", item, offset + 1, 0))
                continue
            self.take(self.join.feed("readings", [entry._replace(offset=offset)], offset + 1, 0))
            self.take(self.join.punctuate("features", entry.time, 0, 0))

    def finish(self, at: int) -> None:
        for source in RULES.disorder:
            self.take(self.join.punctuate(source, at, 0, 0))


def end_of(item: Item) -> int:
    return (item.time // SIZE + 1) * SIZE


def backfilled(
    worker: Worker, in_time: Sequence[Item], late: Sequence[Item], withheld: Sequence[Withheld] = ()
) -> Amendment:
    """What `skyfuse backfill` does: publishes, and gives what the worker is told."""
    annotated = {
        end_of(item) for item in (*in_time, *late)
        if any(to_ms(one.since) <= item.time < to_ms(one.until) for one in withheld)
    }  # fmt: skip
    wanted: set[Key] = {
        ("a", end) for end in {end_of(item) for item in late} | annotated if end <= worker.join.done
    }
    work = Backfill(wanted, SIZE, {"a": [left_out(one) for one in withheld]})
    for item in in_time:
        work.add("readings", item, late=False)
    for item in late:
        work.add("readings", item, late=True)
    for estimate in worker.own.values():
        work.add_estimate(estimate, backfilled=False)
    for estimate in worker.published.values():
        work.add_estimate(estimate, backfilled=True)
    outcomes = work.decide(-inf)
    assert {outcome.verdict for outcome in outcomes} <= {"rewrite", "counted"}
    worker.publish(work.remake(outcomes, worker.head, LATENESS, {"a": STATION}.get, {}))
    healing = Healing(
        "a", STATION, sorted(end for _, end in wanted), SIZE, LATENESS, worker.join.done, -inf,
        work.unmeasured("a"),
    )  # fmt: skip
    in_order = [worker.published[end] for end in sorted(worker.published)]
    healed = list(healing.heal(in_order))
    assert all(one.revision > worker.published[to_ms(one.window.end)].revision for one in healed)
    worker.publish(healed)
    return healing.amendment()


def essence(estimate: Estimate) -> object:
    """What a reader sees: values, kinds and indices (which flags, depends on what QC had seen)."""
    values = {name: (one.kind, one.value) for name, one in estimate.pollutants.items()}
    return values, estimate.indices


@given(seed=st.integers(0, 2**30), share=st.sampled_from([0.1, 0.5]), cut=st.integers(9, 12))
@settings(max_examples=5, deadline=None, phases=NO_SHRINKING)
def test_after_a_backfill_all_is_as_if_nothing_had_come_late(
    head: Head, seed: int, share: float, cut: int
) -> None:
    dice = random.Random(seed)
    whole = log(seed, 16)
    stop = next(place for place, item in enumerate(whole) if item.time > NOON + cut * HOUR)
    held = {place for place in range(stop - 14) if dice.random() < share}
    late = [item for place, item in enumerate(whole) if place in held]
    in_time = [item for place, item in enumerate(whole) if place not in held]
    before, after = in_time[: stop - len(held)], in_time[stop - len(held) :]

    undisturbed, mended, crashed = Worker(head), Worker(head), Worker(head)
    undisturbed.feed(whole)
    for worker in (mended, crashed):
        worker.feed(before)
        worker.commit()
        dice.shuffle(late)
        amendment = backfilled(worker, before, late)
        done = worker.join.done
        for end, estimate in worker.published.items():
            if end <= done:
                assert essence(estimate) == essence(undisturbed.published[end])
        # Again, it finds nothing to do: what it would tell was told.
        told = AmendmentsOnLog()
        told.add(amendment)
        kept = dict(worker.published)
        assert told.missing_of(backfilled(worker, before, late)) is None
        assert worker.published == kept
        entries: list[Item | Amendment] = [*before, amendment, *after]
        worker.feed(entries[len(before) : len(before) + 9], len(before))
        if worker is crashed:
            worker.start()
            place = worker.committed["readings"].offset
        else:
            place = len(before) + 9
        worker.feed(entries[place:], place)
        # It was told at `done`; windows that end an allowed lateness later count it by themselves.
        assert {
            end: essence(one) for end, one in worker.published.items() if end > done + LATENESS + SIZE
        } == {end: essence(one) for end, one in undisturbed.published.items() if end > done + LATENESS + SIZE}
        worker.finish(NOON + 17 * HOUR)
        assert worker.join.settled()["readings"].offset == len(entries)
    assert mended.published == crashed.published
    # Windows that were not final then are mended by the next run.
    backfilled(mended, in_time, late)
    undisturbed.finish(NOON + 17 * HOUR)
    assert {end: essence(one) for end, one in mended.published.items()} == {
        end: essence(one) for end, one in undisturbed.published.items()
    }


def test_what_is_invalidated_leaves_windows_averages_and_memory_and_comes_back(head: Head) -> None:
    whole = [
        reading(item.time, "pm25", 400.0 + item.offset, item.offset)
        if item.payload.parameter == "pm25" and item.time > NOON + 5 * HOUR else item
        for item in log(5, 12)
    ]  # fmt: skip
    stop = next(place for place, item in enumerate(whole) if item.time > NOON + 8 * HOUR)
    span = Withheld(
        id="a/1",
        sensor="main",
        parameter="pm25",
        since=from_ms(NOON + 5 * HOUR),
        until=from_ms(NOON + 20 * HOUR),
    )
    without = [item for item in whole if item.payload.parameter != "pm25" or item.time < NOON + 5 * HOUR]
    clean, worker = Worker(head), Worker(head)
    clean.feed(without)
    worker.feed(whole[:stop])
    first = dict(worker.published)
    amendment = backfilled(worker, whole[:stop], [], [span])
    done = worker.join.done
    assert amendment.unheard["pm25"] == Unheard(since=span.since, until=span.until)
    assert amendment.heard["pm25"].at == span.since
    for end, estimate in worker.published.items():
        if NOON + 5 * HOUR < end <= done:
            assert estimate.inputs.withheld == {"a/1": 1}
            now = estimate.pollutants.get("pm25")
            assert now is None or (now.kind == "imputed" and now.value < 200)
            assert (estimate.revision, estimate.amended) == (first[end].revision + 1, 1)
            assert first[end].pollutants["pm25"].value > 400
        elif end <= NOON + 5 * HOUR:
            assert estimate == first[end]
    told = amendment.model_copy(update={"withhold": (span,)})
    entries: list[Item | Amendment] = [*whole[:stop], told, *whole[stop:]]
    worker.feed(entries[stop:], stop)
    for end, estimate in worker.published.items():
        if end > done + LATENESS + SIZE:
            assert estimate.inputs.withheld == {"a/1": 1}
            mine, theirs = (one.pollutants.get("pm25") for one in (estimate, clean.published[end]))
            assert mine is not None
            assert theirs is not None
            assert (mine.kind, mine.method) == (theirs.kind, theirs.method)
            assert 15 < mine.value < 70
    worker.finish(NOON + 13 * HOUR)
    backfilled(worker, whole, [], [span])
    assert {end for end, one in worker.published.items() if one.inputs.withheld} == {
        end for end in worker.published if end > NOON + 5 * HOUR
    }
    # Taken back: all as before, in higher revisions.
    undisturbed = Worker(head)
    undisturbed.feed(whole)
    undisturbed.finish(NOON + 13 * HOUR)
    annotated = {end_of(item) for item in whole if item.time >= NOON + 5 * HOUR}
    work = Backfill({("a", end) for end in annotated}, SIZE, {"a": ()})
    for item in whole:
        work.add("readings", item, late=False)
    for estimate in worker.own.values():
        work.add_estimate(estimate, backfilled=False)
    for estimate in worker.published.values():
        work.add_estimate(estimate, backfilled=True)
    outcomes = work.decide(-inf)
    assert {outcome.verdict for outcome in outcomes} == {"rewrite"}
    back = {to_ms(e.window.end): e for e in work.remake(outcomes, head, LATENESS, {"a": STATION}.get, {})}
    for end, estimate in back.items():
        assert essence(estimate) == essence(undisturbed.published[end])
        assert estimate.revision > worker.published[end].revision
        assert not estimate.inputs.withheld


def test_a_window_of_which_everything_is_withheld_is_told_without_it(head: Head) -> None:
    items = [item for item in log(7, 6) if item.payload.parameter == "pm25"]
    span = Withheld(id="a/1", since=from_ms(NOON + 3 * HOUR), until=from_ms(NOON + 5 * HOUR))
    place = next(at for at, item in enumerate(items) if item.time > NOON + 3 * HOUR - 1000)
    worker = Worker(head)
    worker.feed([*items[:place], Amendment(station="a", withhold=(span,)), *items[place:]])
    worker.finish(NOON + 7 * HOUR)
    for end, estimate in worker.published.items():
        gone = NOON + 3 * HOUR < end <= NOON + 5 * HOUR
        assert estimate.inputs.withheld == ({"a/1": 1} if gone else {})
        assert (estimate.sides == "none") == gone
        pm25 = estimate.pollutants.get("pm25")
        assert gone == (pm25 is None or pm25.kind == "imputed")
    assert len(worker.published) == 6 * 4


def test_the_mean_of_an_hour_takes_the_place_of_its_windows_when_healed(head: Head) -> None:
    """As it does in the worker: windows of an hour that a declared mean is of."""
    found = Quantity("pm25", 50.0, "ug/m3", "main", "value")
    items = []
    for number in range(30):
        end = NOON + (number + 1) * HOUR
        value = found._replace(value=20.0 + number * 37 % 80)
        items.append(
            Item(
                "a", end - 1, end - 1, ("main", "pm25", "value", end), value[1:3], value, number,
                end - HOUR, end + HOUR + HOUR // 10,
            )
        )  # fmt: skip
    # Another sensor moves time on: what an hour's windows show is final before its mean is known.
    items += [item for item in log(7, 30) if item.payload.parameter == "o3"]
    worker = Worker(head)
    items.sort(key=lambda item: item.time)
    worker.feed(items)
    worker.finish(NOON + 33 * HOUR)
    touched = [end for end in sorted(worker.published) if end % HOUR == 0][:1]
    healing = Healing("a", STATION, touched, SIZE, LATENESS, worker.join.done, -inf)
    # Nothing has changed, so there is nothing to heal: what was published is what is made of it.
    assert list(healing.heal(worker.published[end] for end in sorted(worker.published))) == []


@pytest.mark.parametrize("touched", ["a window of the first hour", "the window in which the mean ends"])
def test_a_mean_over_parts_of_two_hours_counts_in_both_when_healed(head: Head, touched: str) -> None:
    """Means from half past to half past; what the windows show is final before they are known."""
    half = HOUR // 2
    items = []
    for number in range(12):
        end = NOON + (number + 1) * HOUR + half
        found = Quantity("pm25", 20.0 + number * 37 % 80, "ug/m3", "main", "value")
        items.append(
            Item(
                "a", end - 1, end - 1, ("main", "pm25", "value", end), (found.value, "ug/m3"), found, number,
                end - HOUR, end, HOUR,
            )
        )  # fmt: skip
    items += [item for item in log(7, 14) if item.payload.parameter == "o3"]
    worker = Worker(head)
    items.sort(key=lambda item: item.time)
    worker.feed(items)
    worker.finish(NOON + 15 * HOUR)
    in_order = [worker.published[end] for end in sorted(worker.published)]
    place = NOON + 5 * HOUR - SIZE if touched.startswith("a window") else NOON + 5 * HOUR + half
    healing = Healing("a", STATION, [place], SIZE, LATENESS, worker.join.done, -inf)
    for _ in healing.heal(in_order):
        pass
    known = worker.assessor._air["a"].latest()[1].history
    told = {to_ms(one.end): one.means for one in healing.amendment().hours}
    hours = [NOON + 5 * HOUR] if touched.startswith("a window") else [NOON + 5 * HOUR, NOON + 6 * HOUR]
    assert sorted(told) == hours
    for at in hours:
        # Nothing has changed: what is told is what the worker knows, but for imputed values as published.
        for name, mean in known.hour(at).items():
            assert told[at][name].value == pytest.approx(mean.value, rel=0.02), (at, name)  # type: ignore[index]
            assert told[at][name].measured_s == mean.measured_s  # type: ignore[index]
        assert known.hour(at)["pm25"].measured_s == 3600
    # Until the mean that ends in the hour after it is final, an hour is not told.
    early = Healing("a", STATION, [place], SIZE, LATENESS, NOON + 5 * HOUR + half, -inf)
    for _ in early.heal(in_order):
        pass
    assert early.amendment().hours == ()
    assert early.in_progress == 1
