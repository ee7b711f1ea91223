"""The local store: highest revision, durable, read while it is written, clear when it is not ours."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.base import from_ms
from schemas.estimate import Estimate
from schemas.station import Station
from sinks.store import Store
from sinks.store_schema import SCHEMA_VERSION
from streams.errors import StoreError, WaitStopped
from streams.patience import Patience
from tests.samples import T0, estimate, estimates, index, measured
from tests.sinks.lines import points

ROOT = Path(__file__).parents[2]


def keep_newest(batches):
    """The oracle: of equal or higher revisions, the last one written."""
    kept: dict[tuple[str, datetime], Estimate] = {}
    for one in (one for batch in batches for one in batch):
        key = (one.station, one.window.end)
        if key not in kept or one.revision >= kept[key].revision:
            kept[key] = one
    return kept


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(estimates(), max_size=6), max_size=5))
def test_the_store_keeps_what_the_oracle_keeps(tmp_path_factory, batches):
    with Store(tmp_path_factory.mktemp("store") / "s.sqlite") as store:
        for number, batch in enumerate(batches):
            current = store.write(batch)
            kept = keep_newest(batches[: number + 1])
            assert current == [
                one for one in batch if one.revision >= kept[one.station, one.window.end].revision
            ]
        kept = keep_newest(batches)
        assert {(one.station, one.window.end): one for one in store.read()} == kept
        for station in ("s1", "s2"):
            ends = sorted(end for name, end in kept if name == station)
            assert [one.window.end for one in store.read(station)] == ends
            assert store.read(station, limit=1) == [kept[station, end] for end in ends[-1:]]
        assert {one.station: one for one in store.latest()} == {
            station: kept[station, end]
            for station in {name for name, _ in kept}
            for end in [max(end for name, end in kept if name == station)]
        }


@settings(max_examples=30, deadline=None)
@given(st.lists(estimates(), min_size=1, max_size=4))
def test_the_views_show_the_points_that_influx_gets(tmp_path_factory, batch):
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    with Store(path) as store:
        store.write(batch)
        kept = store.read()
    expected = {
        (point.measurement, point.tags, point.time): point.fields for one in kept for point in points(one)
    }
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    seen = {}
    for view, tag in (("aq", "parameter"), ("aqi", "standard"), ("station_state", None)):
        for row in map(dict, db.execute(f"SELECT * FROM {view}")):
            tags = [("station", row.pop("station"))] + ([(tag, row.pop(tag))] if tag else [])
            seen[view, tuple(sorted(tags)), row.pop("time")] = row
    db.close()
    assert seen.keys() == expected.keys()
    for key, row in seen.items():
        for name, value in row.items():
            wanted = expected[key][name]
            if value is None:  # a point says it with a sentinel
                assert wanted in (-1, "")
            elif isinstance(value, str):  # a line end in a text is a blank in a line
                assert " ".join(value.splitlines()) == wanted, (key, name)
            else:
                assert value == wanted, (key, name)


def test_standards_that_a_revision_has_no_more_are_kept_in_mind(tmp_path):
    us, india = index(), index(standard="in-naqi-2014")
    with Store(tmp_path / "s.sqlite") as store:
        store.write([estimate("a", indices=(us, india)), estimate("b", indices=(us,))])
        assert store.withdrawn(store.read()) == []
        without = estimate("a", revision=2, indices=(india,))
        store.write([without, estimate("b", revision=2, indices=(us,))])
        assert store.withdrawn(store.read()) == [(without, ["us-epa-2024"])]
        store.write([without])  # re-read after a crash between this store and the other one
        assert store.withdrawn([without]) == [(without, ["us-epa-2024"])]
    with Store(tmp_path / "s.sqlite") as store:
        bare = estimate("a", revision=3, indices=())
        store.write([bare, estimate("a", revision=1, indices=(us, india))])  # an old one says nothing
        assert store.withdrawn([bare]) == [(bare, ["in-naqi-2014", "us-epa-2024"])]
        again = estimate("a", revision=4, indices=(us,))
        store.write([again])
        assert store.withdrawn([again]) == [(again, ["in-naqi-2014"])]


def test_reads_are_limited_by_time(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.write([estimate(end=T0 + 60 * n) for n in range(1, 6)])
        since, until = from_ms((T0 + 120) * 1000), from_ms((T0 + 240) * 1000)
        assert [one.window.end for one in store.read("s1", since=since, until=until)] == [
            since,
            since + timedelta(minutes=1),
        ]


def test_stations_keep_the_newest_record(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        store.write_stations([Station(station="a", city="X"), Station(station="b")])
        store.write_stations([Station(station="a", city="Y")])
        assert store.stations() == {"a": Station(station="a", city="Y"), "b": Station(station="b")}


def test_readers_see_whole_batches_while_the_store_is_written(tmp_path):
    path = tmp_path / "s.sqlite"
    writer = Store(path)
    done = threading.Event()

    def write():
        for revision in range(1, 60):
            writer.write([estimate(f"s{n}", revision=revision) for n in range(20)])
        done.set()

    writer.write([estimate(f"s{n}") for n in range(20)])
    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    with Store(path, read_only=True) as reader:
        while not done.is_set():
            revisions = {one.revision for one in reader.latest()}
            assert len(revisions) == 1  # never half a batch
            seen |= revisions
    thread.join()
    writer.close()
    assert len(seen) > 1


def test_what_was_written_survives_kill_9(tmp_path):
    path = tmp_path / "s.sqlite"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from sinks.store import Store
        from tests.samples import T0, estimate
        store = Store(Path(sys.argv[1]))
        n = 0
        while True:
            n += 1
            store.write([estimate(f"s{k}", end=T0 + 60 * n) for k in range(10)])
            print(n, flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) >= 25:
                os.kill(process.pid, signal.SIGKILL)
                break
        confirmed = int(line)
    with Store(path) as store:
        ends = [one.window.end for one in store.read("s3")]
        assert len(ends) >= confirmed
        assert len(store.read()) == 10 * len(ends)  # no half batch


def test_two_workers_write_one_file(tmp_path):
    path = tmp_path / "s.sqlite"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from sinks.store import Store
        from tests.samples import T0, estimate
        store = Store(Path(sys.argv[1]))
        for n in range(40):
            store.write([estimate(sys.argv[2], end=T0 + 60 * n, revision=r) for r in (2, 1)])
        """
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name], cwd=ROOT) for name in ("a", "b")
    ]
    assert [worker.wait(300) for worker in workers] == [0, 0]
    with Store(path, read_only=True) as store:
        assert len(store.read("a")) == len(store.read("b")) == 40
        assert {one.revision for one in store.read()} == {2}


def test_a_full_disk_is_waited_for(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # space is freed
        return False

    troubles = []
    patience = Patience(wait=wait, on_wait=lambda trouble, _: troubles.append(trouble))
    with Store(tmp_path / "s.sqlite", patience=patience) as store:
        store.write([estimate("before")])
        batch = [estimate(f"s{n}", pollutants={"pm25": measured(float(n))}) for n in range(500)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # no file may grow beyond this
        try:
            store.write(batch)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(waits) == 3
        assert "free some space" in troubles[0].words
        assert (troubles[0].sink, troubles[0].kind) == ("store", "cannot be written")
        assert len(store.read()) == 501


def test_a_worker_that_stops_does_not_wait_for_the_disk(tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(tmp_path / "s.sqlite", patience=Patience(wait=lambda _: True)) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(WaitStopped, match="cannot be written"):
                store.write([estimate(f"s{n}") for n in range(500)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert store.read() == []


def test_a_reader_of_no_store_is_told_how_to_get_one(tmp_path):
    with pytest.raises(StoreError, match="skyfuse up"):
        Store(tmp_path / "none.sqlite", read_only=True)
    assert not list(tmp_path.iterdir())


def test_a_store_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreError, match=f"version {SCHEMA_VERSION + 1}.*start the newer skyfuse"):
        Store(path)


def test_another_sqlite_file_is_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(StoreError, match="not a skyfuse store"):
        Store(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(path)
