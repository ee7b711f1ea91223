"""`skyfuse replay` on a real broker: nothing vanishes, and what is fed beside live stations hurts none."""

import csv
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.replay import NOT_ALL_USED, NOT_READ, USED, feed_live
from datasets.layouts import Files
from infra.connect import environment
from schemas.base import format_time, from_ms
from settings.sections import Settings, WindowSettings
from sinks.store import Store
from streams import topics
from streams.admin import create_topics
from tests.harness import NOON, fleet, picture, read_all, reading, send, stored, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SIZE = 10
#: Everything of a window is over some seconds after its end, so that a test can wait for it. Pictures count
#: as silent only after longer than a busy machine's vision takes for its first one.
BRISK = WindowSettings(
    size=timedelta(seconds=SIZE), grace=timedelta(seconds=1), allowed_lateness=timedelta(seconds=3),
    disorder=timedelta(seconds=1), idle_timeout=timedelta(seconds=12),
)  # fmt: skip
HEAD = ("station", "time", "parameter", "value", "unit")


def folder(root: Path, rows: list[tuple[object, ...]]) -> Path:
    root.mkdir()
    with (root / "readings.csv").open("w", newline="") as out:
        csv.writer(out).writerows([HEAD, *rows])
    return root


def readings(station: str, start_s: int, seconds: int) -> list[tuple[object, ...]]:
    times = (format_time(from_ms((start_s + second) * 1000)) for second in range(0, seconds, 2))
    return [(station, at, "pm25", 20 + n, "ug/m3") for n, at in enumerate(times)]


def ends(settings: Settings, station: str) -> set[int]:
    return {end for name, end in stored(settings) if name == station}


def test_files_in_a_row_and_live_stations_are_never_made_late(
    kafka_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Workers that start beside others' work may read nothing for longer than a person is let to wait.
    monkeypatch.setattr("cli.replay._NOBODY_SECONDS", 180.0)
    settings = kafka_settings(partitions=1, window=BRISK)
    start = NOON // 1000
    first = folder(tmp_path / "first", readings("filed", start, 35))
    (first / "one.jpg").write_bytes(picture(1, 1))
    (first / "frames.csv").write_text(f"station,time,path\nfiled,{NOON + 3_000},one.jpg\n")
    second = folder(tmp_path / "second", readings("filed", start + 40, 30))
    with fleet(settings, tmp_path) as workers:
        assert feed_live(settings, Files(first, "layout"), None) == USED
        # The last window closes by itself, in silence, and becomes final.
        first_ends = {start + SIZE * n for n in (1, 2, 3, 4)}
        until(
            "the first file's windows", lambda: workers.check() and ends(settings, "filed") == first_ends, 60
        )
        quiet = time.monotonic() + 2 * (SIZE + 8)
        until("more silence than all of them need", lambda: time.monotonic() > quiet, 60)
        assert feed_live(settings, Files(second, "layout"), None) == USED
        until("the second file's windows", lambda: ends(settings, "filed") >= first_ends | {start + 50}, 60)

        now = time.time_ns() // 1_000_000
        send(settings, [reading("live", now, {"pm25": 80})])
        until("the live station's window", lambda: ends(settings, "live"), 60)
        assert not read_all(settings, topics.LATE)

        # What was final already is late by right, is told, and is late alone.
        capsys.readouterr()
        assert feed_live(settings, Files(first, "layout"), None) == NOT_ALL_USED
        told = " ".join(capsys.readouterr().out.split())
        assert f"too late: {first}/frames.csv:2, {first}/readings.csv:2-19" in told.replace(
            f"{first}/readings.csv:2-19, {first}/frames.csv:2",
            f"{first}/frames.csv:2, {first}/readings.csv:2-19",
        )
        assert "rows: 0 used, 19 late, 0 refused" in told
        assert f"`skyfuse backfill {first}`" in told
        before = len(ends(settings, "live"))
        send(settings, [reading("live", time.time_ns() // 1_000_000, {"pm25": 80})])
        until("the live station's next window", lambda: len(ends(settings, "live")) > before, 60)
        assert {record.key for record in read_all(settings, topics.LATE)} == {b"filed"}
    assert not read_all(settings, topics.DEAD_LETTERS)


def test_without_workers_it_is_said_that_nobody_read_it(
    kafka_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cli.replay._NOBODY_SECONDS", 1.0)
    settings = kafka_settings(partitions=1)
    create_topics(settings)
    root = folder(tmp_path / "data", readings("filed", NOON // 1000, 10))
    assert feed_live(settings, Files(root, "layout"), None) == NOT_READ
    assert "no worker has read on for" in " ".join(capsys.readouterr().out.split())


def test_rows_without_a_zone_are_named_or_given_one(
    kafka_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings(partitions=1)
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "1")
    monkeypatch.setenv("SKYFUSE_WINDOW__IDLE_TIMEOUT", "20s")
    rows: list[tuple[object, ...]] = [
        ("cpcb", f"2022-05-01 {hour:02}:00:00", "pm25", 40 + hour, "ug/m3") for hour in range(24)
    ]
    root = folder(tmp_path / "may", rows)

    def replay(*arguments: str, code: int) -> str:
        result = CliRunner().invoke(app, ["replay", str(root), *arguments])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    told = replay(code=1)
    assert (
        f"refused: {root}/readings.csv:2-25 (24 rows): observed_at: time 2022-05-01 00:00:00 has no zone"
        in told
    )
    assert "rows: 0 used, 0 late, 24 refused (dead letters), 0 not sent · 0 estimates" in told
    assert "--timezone Asia/Kolkata" in told

    told = replay("--timezone", "Asia/Kolkata", code=0)
    assert "sent 0 frames and 24 values of 1 station" in told
    assert "rows: 24 used, 0 late, 0 refused (dead letters), 0 not sent" in told
    with Store(settings.store_path, read_only=True) as store:
        got = store.read("cpcb")
    assert format_time(got[0].window.start) == "2022-04-30T18:30:00Z"
    # There is no live store, so the replay's is shown in its place; a live one is left alone.
    assert settings.store_path.is_symlink()
    settings.store_path.unlink()
    Store(settings.store_path).close()
    told = replay("--timezone", "Asia/Kolkata", code=0)
    with Store(settings.store_path, read_only=True) as store:
        assert store.read() == []
    [mine] = [word for word in told.split() if word.endswith(".sqlite)")]
    with Store(Path(mine.removesuffix(")")), read_only=True) as store:
        assert [one.window for one in store.read()] == [one.window for one in got]
