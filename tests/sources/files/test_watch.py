"""Watched folders: whole files are taken once, settled by name, and survive kill -9."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.entries import CameraEntry, FolderEntry
from sources.files.inbox import DONE, FAILED, Inbox
from sources.files.watch import FolderWatch
from tests.sources.cameras.servers import picture
from tests.sources.gateway.desk import Log, desk

HEADER = "time,station,parameter,value,unit\n"


def _table(rows: int, start: int = 0) -> str:
    return HEADER + "".join(
        f"2026-08-21T{10 + row // 60:02}:{row % 60:02}:00Z,roof,pm25,{row + 0.5},ug/m3\n"
        for row in range(start, start + rows)
    )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _watching(folder: Path, cameras: Sequence[CameraEntry] = (), **more: object) -> AsyncIterator[Log]:
    reception, log = desk()
    entries = [] if cameras else [FolderEntry.model_validate({"path": folder, "quiet": "1s"} | more)]
    serving = asyncio.create_task(FolderWatch(entries, cameras, reception, look_s=0.05).serve())
    try:
        yield log
    finally:
        serving.cancel()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_files_of_every_kind_are_taken_and_moved(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "a.csv").write_text(_table(3))
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep" / "er" / "b.csv.gz").write_bytes(gzip.compress(_table(2, 10).encode()))
        (tmp_path / "c.json").write_text(
            json.dumps({"station": "roof", "observed_at": "2026-08-21T12:00:00Z",
                        "values": [{"parameter": "pm25", "value": 1, "unit": "furlong"}]})
        )  # fmt: skip
        (tmp_path / "d.csv").write_text(_table(1, 20) + "2026-08-21T13:00:00Z,roof,pm25,nonsense,ug/m3\n")
        (tmp_path / "e.xlsx").write_bytes(b"PK")
        (tmp_path / "f.csv.part").write_text(_table(1, 30))
        (tmp_path / ".g.csv").write_text(_table(1, 31))
        async with _watching(tmp_path) as log:
            await _until(lambda: len(_names(tmp_path / DONE)) == 4 and len(_names(tmp_path / FAILED)) == 4)
            assert len(log.readings) == 6
        assert _names(tmp_path / DONE) == {"a.csv", "deep__er__b.csv.gz", "d.csv", "d.csv.reason.txt"}
        assert _names(tmp_path / FAILED) == {"c.json", "c.json.reason.txt", "e.xlsx", "e.xlsx.reason.txt"}
        assert "nonsense" in (tmp_path / DONE / "d.csv.reason.txt").read_text()
        assert "adapter" in (tmp_path / FAILED / "e.xlsx.reason.txt").read_text()
        assert "skyfuse dlq show" in (tmp_path / FAILED / "c.json.reason.txt").read_text()
        assert (tmp_path / "f.csv.part").exists()
        assert (tmp_path / ".g.csv").exists()

    asyncio.run(run())


def test_a_file_that_looks_older_than_what_is_in_it_is_read_all_the_same(tmp_path: Path) -> None:
    """Whoever unpacks an archive of another zone sets such times; what is to come by now is refused."""

    async def run() -> None:
        late = "2226-08-21T10:00:00Z,roof,pm25,1,ug/m3\n"
        (tmp_path / "a.csv").write_text(_table(2) + late)
        line = {"station": "roof", "values": [{"parameter": "pm25", "value": 1, "unit": "ug/m3"}]}
        (tmp_path / "b.json").write_text(json.dumps({**line, "observed_at": "2026-08-21T12:00:00Z"}))
        for name in ("a.csv", "b.json"):
            os.utime(tmp_path / name, (1_780_000_000, 1_780_000_000))
        async with _watching(tmp_path) as log:
            await _until(lambda: _names(tmp_path / DONE) == {"a.csv", "a.csv.reason.txt", "b.json"})
            assert len(log.readings) == 3
        assert "[future_time]" in (tmp_path / DONE / "a.csv.reason.txt").read_text()

    asyncio.run(run())


@pytest.mark.parametrize(("at", "code"), [(946_800_000, "clock_reset"), (4_000_000_000, "future_time")])
def test_a_picture_of_a_camera_whose_clock_is_wrong_is_the_camera_s_trouble(
    tmp_path: Path, at: int, code: str
) -> None:
    camera = CameraEntry.model_validate({"station": "roof", "camera": "mast", "folder": tmp_path})

    async def run() -> None:
        (tmp_path / "a.jpg").write_bytes(picture(1))
        os.utime(tmp_path / "a.jpg", (at, at))
        (tmp_path / "b.jpg").write_bytes(picture(2))
        async with _watching(tmp_path, [camera]) as log:
            await _until(lambda: len(log.frames) == 1 and len(_names(tmp_path / FAILED)) == 2)
        assert f"[{code}]" in (tmp_path / FAILED / "a.jpg.reason.txt").read_text()

    asyncio.run(run())


def test_kafka_away_leaves_the_file_until_it_is_back(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "a.csv").write_text(_table(3))
        async with _watching(tmp_path) as log:
            log.there = False
            await _until(lambda: any(name.endswith("a.csv") for name in _names(tmp_path / ".working")))
            assert log.records == []
            log.there = True
            await _until(lambda: _names(tmp_path / DONE) == {"a.csv"})
            assert len(log.readings) == 3

    asyncio.run(run())


def test_pictures_of_a_camera_that_uploads_them(tmp_path: Path) -> None:
    camera = CameraEntry.model_validate({"station": "roof", "camera": "mast", "folder": tmp_path})

    async def run() -> None:
        day = tmp_path / "20260821"
        day.mkdir()
        (day / "100000.jpg").write_bytes(picture(1))
        os.utime(day / "100000.jpg", (1_787_306_400, 1_787_306_400))
        (day / "100100.jpg").write_bytes(b"<html>")
        async with _watching(tmp_path, [camera]) as log:
            await _until(lambda: len(log.frames) == 1 and len(_names(tmp_path / FAILED)) == 2)
        headers = dict(log.frames[0].headers)
        assert headers["ce_time"] == b"2026-08-21T10:00:00Z"
        assert headers["ce_camera"] == b"mast"
        assert not _names(day)
        assert not _names(tmp_path / DONE), "pictures are not kept"

    asyncio.run(run())


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=30),
)
def test_a_file_is_claimed_only_when_it_has_not_changed_for_a_while(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    folder, clock = tmp_path_factory.mktemp("inbox"), _Clock()
    inbox = Inbox(folder, 5.0, clock)
    file = folder / "a.csv"
    with inbox.held() as ours:
        assert ours
        file.write_bytes(b"")
        changed = None
        for grown, waited in steps:
            if grown:
                with file.open("ab") as handle:
                    handle.write(b"x" * grown)
                changed = None
            claimed = inbox.claim()
            if changed is None:
                changed = clock.now
            assert bool(claimed) == (clock.now - changed >= 5.0)
            if claimed:
                assert claimed[0].name == "a.csv"
                return
            clock.now += waited


def test_links_are_let_lie_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text(_table(1))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.csv").symlink_to(outside / "secret.csv")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe.csv")
    clock = _Clock()
    inbox = Inbox(folder, 1.0, clock)
    with inbox.held():
        assert inbox.claim() == []
        clock.now = 10.0
        assert inbox.claim() == []
    assert (outside / "secret.csv").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "done").symlink_to(outside)
    with pytest.raises(OSError, match="leads elsewhere"), Inbox(other, 1.0).held():
        pass


@given(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255
    ).filter(lambda name: len(name.encode()) <= 255 and not name.startswith((".", "~")))
)
def test_every_name_that_a_file_can_have_is_settled(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder, clock = tmp_path_factory.mktemp("inbox"), _Clock()
    inbox = Inbox(folder, 1.0, clock)
    with inbox.held():
        for _ in range(2):  # the second of the same name does not take the first's place
            if name in (DONE, FAILED):
                return
            (folder / name).write_bytes(b"x")
            inbox.claim()
            clock.now += 2.0
            for claimed in inbox.claim():
                inbox.failed(claimed, "no good")
        if not (folder / name).exists():
            assert len(_names(folder / FAILED)) == 4


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Inbox(tmp_path, 1.0).held() as ours, Inbox(tmp_path, 1.0).held() as other:
        assert (ours, other) == (True, False)


def test_a_file_that_ends_the_process_each_time_is_put_away(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(_table(1))
    clock = _Clock()
    inbox = Inbox(tmp_path, 1.0, clock)
    with inbox.held():
        inbox.claim()
        clock.now = 2.0
        assert len(inbox.claim()) == 1
    tries = 0
    while True:
        again = Inbox(tmp_path, 1.0)
        with again.held():
            if not list(again.begun()):
                break
            tries += 1
    assert tries == 9
    assert "ended 9 times" in (tmp_path / FAILED / "bad.csv.reason.txt").read_text()


#: Watches a folder with a broker that is a file: every confirmed record is a line in it.
_PROGRAM = """
import asyncio, json, os, sys
from itertools import cycle
from pathlib import Path
from zoneinfo import ZoneInfo
from settings.sections import GatewaySettings
from sources.entries import FolderEntry
from sources.files import unpacking
from sources.files.watch import FolderWatch
from sources.gateway.reception import Reception

unpacking.ROWS = 7

class File:
    async def publish(self, records):
        with open(sys.argv[2], "a") as log:
            for record in records:
                log.write(json.dumps([record.topic, record.value.decode()]) + "\\n")
            log.flush()
        await asyncio.sleep(0.01)

entry = FolderEntry(path=Path(sys.argv[1]), quiet="1s")
asyncio.run(FolderWatch([entry], [], Reception(File(), GatewaySettings()), look_s=0.05).serve())
"""


def test_kill_9_in_the_middle_loses_nothing_and_makes_no_second_value(tmp_path: Path) -> None:
    folder, log = tmp_path / "in", tmp_path / "log"
    folder.mkdir()
    log.touch()
    # Without a time of its own: the time of arrival is its, and must be the same when it is read again.
    message = '{"station": "roof", "values": [{"parameter": "pm10", "value": 3, "unit": "ug/m3"}]}'
    (folder / "stampless.json").write_text(message)
    for number in range(3):
        (folder / f"{number}.csv").write_text(_table(60, 60 * number))
    kills = 0
    # A file is 15 kB in the log: the first and every other run ends in the middle of one.
    before_kill = cycle((8_000, 24_000))
    deadline = time.monotonic() + 120
    while len(_names(folder / DONE)) < 4:
        assert time.monotonic() < deadline
        size, grown = log.stat().st_size, next(before_kill)
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(folder), str(log)])
        try:
            while log.stat().st_size - size < grown and len(_names(folder / DONE)) < 4:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            kills += 1
        finally:
            process.kill()
            process.wait()
    values: dict[tuple[str, str], set[float]] = {}
    lines = log.read_text().splitlines()
    for line in lines:
        reading = json.loads(json.loads(line)[1])
        for value in reading["values"]:
            key = str(reading["observed_at"]), value["parameter"]
            values.setdefault(key, set()).add(value["value"])
    assert kills >= 2
    assert len(lines) > 181, "something was sent again, or nothing was tried"
    assert len(values) == 181
    assert all(len(seen) == 1 for seen in values.values())
    assert not _names(folder / FAILED)


def test_nothing_is_read_before_zones_are_known(tmp_path: Path) -> None:
    """After a crash a file would be refused whose times it had understood before."""
    naive = "time,station,parameter,value,unit\n2026-08-21 10:00:00,roof,pm25,7,ug/m3\n"
    (tmp_path / ".working").mkdir()
    (tmp_path / ".working" / "0123456789abcde0-a.csv").write_text(naive)
    zones: dict[str, ZoneInfo] = {}

    async def run() -> None:
        reception, log = desk()
        known = asyncio.Event()
        entry = FolderEntry.model_validate({"path": tmp_path, "station": "roof"})
        watch = FolderWatch([entry], [], reception, zone_of=zones.get, known=known, look_s=0.05)
        serving = asyncio.create_task(watch.serve())
        try:
            for _ in range(20):  # so long it would have taken it, if it did not wait
                await asyncio.sleep(0.02)
            assert not _names(tmp_path / DONE) | _names(tmp_path / FAILED)
            zones["roof"] = ZoneInfo("Asia/Kolkata")
            known.set()
            await _until(lambda: _names(tmp_path / DONE) == {"a.csv"})
        finally:
            serving.cancel()
        assert json.loads(log.readings[0].value or b"")["observed_at"] == 1_787_286_600_000

    asyncio.run(run())


def test_what_states_no_time_is_of_the_files_own_however_often_it_is_read(tmp_path: Path) -> None:
    message = '{"station": "roof", "values": [{"parameter": "pm10", "value": 3, "unit": "ug/m3"}]}'
    (tmp_path / ".working").mkdir()
    for number in range(2):  # twice the same file, as after a crash
        file = tmp_path / ".working" / f"0123456789abcd{number}0-a.json"
        file.write_text(message)
        os.utime(file, (1_787_306_400, 1_787_306_400))

    async def run() -> None:
        async with _watching(tmp_path) as log:
            await _until(lambda: _names(tmp_path / DONE) == {"a.json", "2-a.json"})
        assert [json.loads(one.value or b"")["observed_at"] for one in log.readings] == [
            1_787_306_400_000
        ] * 2

    asyncio.run(run())
