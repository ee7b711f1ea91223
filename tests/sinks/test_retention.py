"""What is over its time leaves; its hour and its day stay right, whatever is repeated, late or cut short."""

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.station import Station
from schemas.times import DAY_MS, HOUR_MS
from sinks.aggregates import Period, aggregate, periods_of
from sinks.retention import REVISED_FOR_MS, Retention
from sinks.store import Store
from sinks.tally import Counted, Tally
from streams.patience import Patience
from tests.samples import T0, estimate, estimates, imputed, index, measured

ROOT = Path(__file__).parents[2]
MS = T0 * 1000
ZONES = {"s1": "Asia/Kathmandu", "s2": "UTC"}
TABLES = ("estimate", "hourly", "daily", "late", "withdrawn")


@st.composite
def histories(draw):
    """Estimates of two stations over ten days, mostly in order, some late, some twice."""
    made = []
    for hour in sorted(draw(st.lists(st.integers(0, 240), min_size=1, max_size=14))):
        late = draw(st.sampled_from([0, 0, 0, 30, 80]))
        one = draw(estimates(windows=120))
        end = one.window.end.timestamp() + 3600 * max(0, hour - late)
        window = estimate(end=int(end)).window
        made.append(one.model_copy(update={"window": window}))
        if draw(st.booleans()):
            before = draw(st.sampled_from(made))
            revision = max(1, before.revision + draw(st.integers(-1, 2)))
            made.append(before.model_copy(update={"revision": revision}))
    return made


WINDOWS_MS = 30 * HOUR_MS
KEPT = Retention(windows=WINDOWS_MS)


class Oracle:
    """One dictionary of windows, and for how long each may change."""

    def __init__(self, sequence):
        self.windows: dict[tuple[str, int], Estimate] = {}
        self.until: dict[tuple[str, int], int] = {}
        self.seen: dict[tuple[str, int], int] = {}
        self.horizon = 0
        for one in sequence:
            end = to_ms(one.window.end)
            key = one.station, end
            self.horizon = max(self.horizon, end)
            if key in self.windows and not self.changes(key):
                self.seen[key] = max(self.seen[key], one.revision)
            elif key not in self.windows or one.revision >= self.windows[key].revision:
                if self.windows.get(key) == one:
                    continue
                if end <= self.cutoff():
                    self.until[key] = self.horizon + REVISED_FOR_MS
                self.windows[key], self.seen[key] = one, one.revision

    def cutoff(self):
        return (self.horizon - WINDOWS_MS) // HOUR_MS * HOUR_MS

    def changes(self, key):
        return key[1] > self.cutoff() or self.until.get(key, 0) > self.horizon


def fill(path, sequence, sizes=(), tidy=lambda _: True, again=lambda _: 0, kept=KEPT):
    """A store that got `sequence` in batches of `sizes`, some of it twice, as after a crash."""
    rest, sizes = list(sequence), list(sizes)
    store = Store(path, retention=kept)
    store.write_stations([Station(station=name, timezone=zone) for name, zone in ZONES.items()])
    at = 0
    while at < len(rest):
        size = sizes.pop() if sizes else 3
        store.write(rest[max(0, at - again(at)) : at + size])
        at += size
        if tidy(at):
            store.tidy(seconds=0)
    store.tidy(windows=10**6)
    return store


def tally(store: Store, period: Period) -> Tally:
    found = store.tally(period)
    assert found is not None
    return found


def dump(store):
    return {table: store._file.select(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


@settings(max_examples=30, deadline=None)
@given(histories())
def test_hours_and_days_are_those_of_the_oracle(tmp_path_factory, sequence):
    oracle = Oracle(sequence)
    with fill(tmp_path_factory.mktemp("s") / "s.sqlite", sequence) as store:
        there = {(one.station, to_ms(one.window.end)): one for one in store.read()}
        assert there == {key: one for key, one in oracle.windows.items() if oracle.changes(key)}
        for kind in (0, 1):
            periods: dict[Period, list[Estimate]] = {}
            for (name, end), one in oracle.windows.items():
                periods.setdefault(periods_of(name, end, ZONES[name])[kind], []).append(one)
            for period, windows in periods.items():
                tally = store.tally(period)
                for name in {name for one in windows for name in one.pollutants}:
                    values = [one.pollutants[name] for one in windows if name in one.pollutants]
                    found = tally.pollutants[name]
                    assert found.mean == pytest.approx(sum(one.value for one in values) / len(values))
                    assert (found.least, found.greatest, found.windows) == (
                        min(one.value for one in values), max(one.value for one in values), len(values),
                    )  # fmt: skip
                    assert found.imputed_share == pytest.approx(
                        sum(one.kind == "imputed" for one in values) / len(values)
                    )
                for standard in ("us-epa-2024", "in-naqi-2014"):
                    blocks = {
                        one.window.end: block
                        for one in windows for block in one.indices if block.standard == standard
                    }  # fmt: skip
                    known = {end: block.index for end, block in blocks.items() if block.index is not None}
                    found = tally.indices[standard]
                    assert found.windows == len(known)
                    assert found.last == (known[max(known)] if known else None)
                    assert found.mean == (pytest.approx(sum(known.values()) / len(known)) if known else None)
                assert tally.revision == sum(one.revision for one in windows)
                assert tally.windows == len(windows)
        missed = sum(one.missed for one in store.left())
        assert missed == sum(
            oracle.seen[key] > one.revision for key, one in oracle.windows.items() if not oracle.changes(key)
        )


@settings(max_examples=30, deadline=None)
@given(histories(), st.lists(st.integers(1, 5), max_size=9), st.randoms(use_true_random=False))
def test_the_same_sequence_leaves_the_same_store(tmp_path_factory, sequence, sizes, draw):
    """However it is cut into batches, when it is tidied up, and what of it is delivered again."""
    folder = tmp_path_factory.mktemp("s")
    with fill(folder / "a.sqlite", sequence, tidy=lambda _: False) as store:
        wanted = dump(store)
    with fill(
        folder / "b.sqlite", sequence, sizes, lambda _: draw.random() < 0.6, lambda at: draw.randint(0, at)
    ) as store:
        assert dump(store) == wanted


def minutes(station="s1", first=0, count=60, revision=1, value=10.0):
    return [
        estimate(station, T0 + 60 * n, revision, {"pm25": measured(value)}, (index(40),))
        for n in range(first + 1, first + count + 1)
    ]


def city(names, count):
    """Minutes of several stations, as time goes."""
    return sorted((one for name in names for one in minutes(name, 0, count)), key=lambda one: one.window.end)


def test_a_revision_after_its_window_has_left_changes_nothing_and_is_told(tmp_path, caplog):
    with Store(tmp_path / "s.sqlite", retention=Retention(windows=DAY_MS)) as store:
        store.write(minutes())
        store.write(minutes(first=60 * 26, count=1))
        for _ in range(2):  # delivered again, it is told again, and counted once
            late = minutes(count=1, revision=5, value=99.0)
            assert store.write(late) == late  # the other sink may still keep it
            assert store.write(minutes(count=1)) == []
            store.tidy()
            (hour, *_) = store.left("s1")
            assert (hour.tally.pollutants["pm25"].mean, hour.tally.windows, hour.missed) == (10.0, 60, 1)
    assert "does not count 1 revision(s)" in caplog.text
    assert "s1 2026-01-01T00:01:00Z" in caplog.text


def test_windows_that_nobody_had_are_counted_however_late_they_come(tmp_path):
    with Store(tmp_path / "s.sqlite", retention=Retention(windows=DAY_MS, hours=10 * DAY_MS)) as store:
        store.write(minutes(count=30))
        store.write(minutes(first=60 * 24 * 5, count=1))
        store.tidy(windows=100)
        assert [one.tally.windows for one in store.left()] == [30]
        store.write(minutes(first=30, count=30, value=40.0))
        store.write(minutes(first=30, count=30, revision=2, value=20.0))  # the backfill that heals it
        store.tidy(windows=100)
        assert len(store.read()) == 31
        store.write(minutes(first=60 * 24 * 6, count=1))
        store.tidy(windows=100)
        (hour, *_) = store.left()
        assert (hour.tally.windows, hour.tally.pollutants["pm25"].mean, hour.missed) == (60, 15.0, 0)
        assert len(store.read()) == 2


def test_hours_leave_after_their_time_and_days_stay_or_leave_too(tmp_path):
    kept = Retention(windows=DAY_MS, hours=2 * DAY_MS, days=4 * DAY_MS)
    with Store(tmp_path / "s.sqlite", retention=kept) as store:
        for day in range(4):
            store.write(minutes(first=60 * 24 * day, count=120))
            store.tidy(windows=1000)
        assert [(one.period.kind, one.tally.windows) for one in store.left()] == [
            ("daily", 120), ("hourly", 60), ("hourly", 60), ("hourly", 60), ("hourly", 60),
        ]  # fmt: skip
        first_hour, first_day = periods_of("s1", MS + 1, "UTC")
        assert store.tally(first_hour) is None
        assert tally(store, first_day).windows == 120
        # One of an hour that is gone counts in its day.
        store.write(minutes(first=180, count=1))
        store.write(minutes(first=60 * 24 * 4 - 1, count=1))
        store.tidy(windows=1000)
        assert tally(store, first_day).windows == 121
        store.write(minutes(first=60 * 24 * 7, count=1))
        store.tidy(windows=1000)
        assert [one.period.start for one in store.left()] == [MS + 3 * DAY_MS]
        gone = minutes(count=1)
        assert store.write(gone) == gone
        assert len(store.read()) == 1


def test_what_cannot_be_read_stays_until_it_is_written_again(tmp_path, caplog):
    with Store(tmp_path / "s.sqlite", retention=Retention(windows=DAY_MS)) as store:
        store.write(minutes(count=3))
        store._file._db.execute(
            "UPDATE estimate SET body = replace(body, 'measured', 'guessed') WHERE end = ?", (MS + 120_000,)
        )
        store.write(minutes(first=60 * 26, count=1))
        store.tidy(windows=100)
        assert store._file.select("SELECT end FROM estimate ORDER BY end")[0] == (MS + 120_000,)
        assert "cannot be read" in caplog.text
        store.write(minutes(first=1, count=1, revision=2))
        store.write(minutes(first=60 * 51, count=1))
        store.tidy(windows=100)
        (hour,) = store.left(until=from_ms(MS + 60_000))
        assert (hour.tally.windows, hour.tally.revision) == (3, 4)


def test_one_window_of_the_future_moves_no_other_one_out(tmp_path):
    with Store(tmp_path / "s.sqlite", retention=KEPT, clock=lambda: T0 + 7200) as store:
        future = estimate("s2", T0 + 86_400 * 365 * 100)
        store.write([future, *minutes()])
        store.write([future, *minutes(count=1, revision=2)])
        store.tidy(windows=1000)
        assert len(store.read()) == 61
        assert store._file.select("SELECT * FROM late") == []


def test_nothing_leaves_a_store_that_keeps_all(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.write([*minutes(), *minutes(first=60 * 24 * 400)])
        store.tidy(windows=1000)
        assert (len(store.read()), store.left()) == (120, [])


def test_aggregates_of_another_sink_count_what_has_left(tmp_path):
    """A window that comes late has its hour and day written again: of all their windows, not of itself."""
    with Store(tmp_path / "s.sqlite", aggregates=True, retention=Retention(windows=DAY_MS)) as store:
        store.write(minutes(count=59))
        store.write(minutes(first=60 * 30, count=1))
        store.computed(store.due(MS + 10 * DAY_MS))
        store.tidy(windows=1000)
        store.write(minutes(first=59, count=1, value=70.0))
        for period in store.due(MS + DAY_MS):
            made = aggregate(period, tally(store, period))
            (pm25,) = [one for one in made if dict(one.tags).get("parameter") == "pm25"]
            assert (pm25.fields["windows"], pm25.fields["mean"]) == (60, 11.0)


def test_a_standard_that_was_withdrawn_leaves_with_its_window(tmp_path):
    """Its point of the hour, which may have been written before, is still overwritten with nothing."""
    us, india = index(40), index(60, standard="in-naqi-2014")
    with Store(tmp_path / "s.sqlite", retention=Retention(windows=DAY_MS)) as store:
        store.write([estimate("s1", T0 + 60, indices=(us, india))])
        store.write([estimate("s1", T0 + 60, 2, indices=(us,))])
        store.write(minutes(first=60 * 26, count=1))
        store.tidy(windows=10)
        hour, day = periods_of("s1", MS + 60_000, "UTC")
        for period in (hour, day):
            assert [(name, one.windows) for name, one in tally(store, period).indices.items()] == [
                ("in-naqi-2014", 0), ("us-epa-2024", 1),
            ]  # fmt: skip
        assert store._file.select("SELECT * FROM withdrawn") == []


def test_the_views_of_hours_and_days_show_the_points_that_influx_gets(tmp_path):
    draw = random.Random(4)
    kinds = ("measured", "corrected")
    made = [
        estimate(
            name, T0 + 60 * n, draw.randint(1, 9),
            {
                "pm25": measured(draw.uniform(0, 99), kind=draw.choice(kinds)),
                **({"o3": imputed(draw.uniform(0, 99), 0.0, 200.0)} if draw.random() < 0.5 else {}),
            },
            (index(draw.choice([None, 40, 120]), imputed_share=round(draw.random(), 3)),),
        )
        for n in range(1, 60 * 30) for name in ZONES
    ]  # fmt: skip
    path = tmp_path / "s.sqlite"
    with fill(path, made, kept=Retention(windows=HOUR_MS)) as store:
        assert len(store.read()) == 2 * 119  # those of two hours that are not over
        left = store.left()
        days = [
            (Period("daily", name, start, stop), store.tally(Period("daily", name, start, stop)))
            for name, start, stop in store._file.select("SELECT station, start, stop FROM daily")
        ]
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    seen = {}
    for kind in ("hourly", "daily"):
        for view, tag in ((f"aq_{kind}", "parameter"), (f"aqi_{kind}", "standard")):
            for row in map(dict, db.execute(f"SELECT * FROM {view}")):
                key = view, row.pop("station"), row.pop(tag), row.pop("time")
                seen[key] = row
    db.close()
    wanted = {}
    for period, tally in [*((one.period, one.tally) for one in left), *days]:
        for point in aggregate(period, tally):
            (_, which), (_, name) = point.tags
            wanted[point.measurement, name, which, point.time] = point.fields
    hours = {key for key in wanted if "hourly" in key[0]}
    assert hours == {key for key in seen if "hourly" in key[0]}
    assert len(hours) > 2 * 28 * 6
    for key in hours:
        for name, value in seen[key].items():
            assert (-1 if value is None else value) == pytest.approx(wanted[key][name]), (key, name)
    assert {key[2] for key in seen if key[0] == "aq_daily"} >= {"pm25", "o3"}
    # The first day of s2 has left as a whole.
    key = "aq_daily", "s2", "o3", T0 + 86_400
    assert seen[key] == pytest.approx({name: wanted[key][name] for name in seen[key]})


PRUNES = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from sinks.retention import Retention
    from sinks.store import Store
    store = Store(Path(sys.argv[1]), retention=Retention(windows=3_600_000))
    print("ready", flush=True)
    while store._file.attempt(store._tidying.let_go) is not None:
        print("step", flush=True)
    store._tidying.give_back(float("inf"))
    print("done", flush=True)
    """
)


def test_a_prune_that_is_killed_leaves_the_store_of_one_that_was_not(tmp_path):
    made = [one for day in range(3) for one in minutes("s1", 60 * 24 * day, 600)]
    with Store(tmp_path / "a.sqlite") as store:
        store.write(made)
    (tmp_path / "b.sqlite").write_bytes((tmp_path / "a.sqlite").read_bytes())
    with Store(tmp_path / "a.sqlite", retention=Retention(windows=HOUR_MS)) as store:
        store.tidy(windows=10**6)
        wanted = dump(store)
    path, draw, kills = tmp_path / "b.sqlite", random.Random(1), 0
    for _ in range(60):
        with subprocess.Popen(
            [sys.executable, "-c", PRUNES, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
        ) as process:
            steps = draw.randint(0, 2)
            lines = []
            assert process.stdout
            for line in process.stdout:
                lines.append(line)
                if len(lines) > steps:
                    break
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
        with Store(path) as store:
            assert sum(one.tally.windows for one in store.left()) + len(store.read()) == len(made)
        if "done\n" in lines:
            break
    assert kills > 1
    with Store(path, retention=Retention(windows=HOUR_MS)) as store:
        store.tidy(windows=10**6)
        assert dump(store) == wanted


def test_readers_find_every_window_once_while_the_store_is_pruned(tmp_path):
    path = tmp_path / "s.sqlite"
    made = city("abc", 60 * 20)
    writer = Store(path, retention=Retention(windows=HOUR_MS))
    writer.write(made)
    done = threading.Event()

    def prune():
        while writer._file.attempt(writer._tidying.let_go) is not None:
            pass
        writer._tidying.give_back(float("inf"))
        done.set()

    thread = threading.Thread(target=prune)
    thread.start()
    seen: set[int] = set()
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    try:
        while not done.is_set() or not seen:
            db.execute("BEGIN")
            (windows,) = db.execute("SELECT count(*) FROM estimate").fetchone()
            (left,) = db.execute("SELECT coalesce(sum(body ->> 'n'), 0) FROM hourly").fetchone()
            db.execute("COMMIT")
            assert windows + left == len(made)
            seen.add(left)
    finally:
        thread.join()
        db.close()
        writer.close()
    assert len(seen) > 1


def test_space_is_given_back_while_a_reader_has_the_store(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path, retention=Retention(windows=HOUR_MS)) as store, Store(path, read_only=True) as reader:
        assert store._file.pragma("auto_vacuum") == 2  # it need not be written anew for that
        store.write(city("abcdefgh", 60 * 12))
        before = store._file.pragma("page_count")
        store.tidy(windows=10**6)
        store.tidy(seconds=10)
        assert store._file.pragma("page_count") < before / 3
        assert len(reader.latest()) == 8
        assert len(reader.left()) == 8 * 11


def test_where_the_disk_is_full_what_is_over_its_time_makes_room(tmp_path, monkeypatch):
    """A worker of an earlier version filled the disk; the new one need not wait for ever."""
    path, waits = tmp_path / "s.sqlite", []
    # It lets go for a tenth of a second at a time, in which a busy machine may not get far.
    monkeypatch.setattr("sinks.tidying.time", SimpleNamespace(monotonic=lambda: 0.0))

    def wait(seconds):
        waits.append(seconds)
        return len(waits) > 3  # then the worker is stopped

    with Store(path) as store:
        store.write(city("abcd", 60 * 10))
    with Store(path, retention=Retention(windows=HOUR_MS), patience=Patience(wait=wait)) as store:
        store._file._db.execute(f"PRAGMA max_page_count = {store._file.pragma('page_count')}")
        store.write(minutes("a", 60 * 10, 200))
        assert len(waits) == 1
        assert len(store.read()) + sum(one.tally.windows for one in store.left()) == 4 * 600 + 200


def old(path: Path, days=2) -> list[Estimate]:
    """A store as version 3 left it: other tables, and no end that can be cut off."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript((ROOT / "tests" / "golden" / "store-3.sql").read_text())
    made: list[Estimate] = city(("s1", "s2"), 60 * 24 * days)
    db.execute("BEGIN")
    db.execute("DELETE FROM due")
    db.execute("DELETE FROM estimate")
    for one in made:
        values = one.station, to_ms(one.window.end), one.revision, one.model_dump_json()
        db.execute("INSERT INTO estimate VALUES (?, ?, ?, ?)", values)
    db.execute("COMMIT")
    db.close()
    return made


def test_an_old_store_is_brought_up_to_date_and_shrinks_and_loses_nothing(tmp_path):
    path = tmp_path / "s.sqlite"
    made = old(path)
    size = path.stat().st_size
    with Store(path, read_only=True) as reader:
        assert (len(reader.read()), reader.left(), reader.known_stations()) == (len(made), [], ["s1", "s2"])
    with Store(path, retention=Retention(windows=DAY_MS)) as store:
        store.tidy(windows=10**6)
        assert store._file.pragma("auto_vacuum") == 2
        assert len(store.read()) == 2 * 60 * 24
        assert sum(one.tally.windows for one in store.left()) == 2 * 60 * 24
    assert path.stat().st_size < 0.7 * size
    with Store(path) as store:
        assert store._file.select("PRAGMA integrity_check") == [("ok",)]


def test_an_old_store_is_not_written_anew_where_there_is_no_room_for_it(tmp_path, caplog):
    path = tmp_path / "s.sqlite"
    made = old(path)
    with Store(path, retention=Retention(windows=DAY_MS), free_space=lambda _: 1_000_000) as store:
        store.tidy(windows=10**6)
        store.tidy()
        assert store._file.pragma("auto_vacuum") == 0
        assert len(store.read()) + sum(one.tally.windows for one in store.left()) == len(made)
    assert caplog.text.count("gives no space back") == 1


def test_writing_anew_ends_when_the_worker_does(tmp_path, caplog):
    path = tmp_path / "s.sqlite"
    made = old(path, 4)
    patience = Patience(wait=lambda _: True)  # the worker is stopping
    with Store(path, retention=Retention(windows=60 * DAY_MS), patience=patience) as store:
        store.tidy()
        assert store._file.pragma("auto_vacuum") == 0
        assert len(store.read()) == len(made)
    assert "could not be written anew" in caplog.text


@given(st.dictionaries(st.integers(0, 10**13), st.integers(1, 2**40), max_size=50))
def test_what_was_counted_is_kept(revisions):
    counted = Counted()
    for end, revision in revisions.items():
        counted.add(end, revision)
    read = Counted(counted.to_bytes())
    assert {end: read.newest(end) for end in revisions} == revisions
    for end, revision in revisions.items():
        read.miss(end, revision + 1)
    again = Counted(read.to_bytes())
    assert {end: again.newest(end) for end in revisions} == {end: one + 1 for end, one in revisions.items()}
    assert again.missed(-1, 10**14) == len(revisions)


@settings(deadline=None)
@given(st.lists(estimates(windows=200), max_size=12), st.randoms(use_true_random=False))
def test_a_tally_is_the_same_in_whatever_order_and_portions(batch, draw):
    windows = list({one.window.end: one for one in batch}.values())
    whole = Tally.of(windows)
    draw.shuffle(windows)
    cut = draw.randint(0, len(windows))
    parts = Tally.of(windows[:cut]).plus(Tally.of(windows[cut:]))
    assert parts.to_json() == whole.to_json()
    assert Tally.from_json(whole.to_json()).to_json() == whole.to_json()
