"""`skyfuse backfill FOLDER` on a real broker: what was held back ends up as if it had come in time."""

import csv
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.backfill import final_horizons
from infra.connect import environment
from infra.replay.feed import feed
from infra.settings import Settings
from schemas.base import format_time, from_ms
from streams import topics
from streams.admin import create_topics
from tests.agents.harness import NOON, REPLAY, fleet, picture, read_all, stored, until

pytestmark = pytest.mark.broker

MINUTES = 9
STANDARDS = ["us-epa-2024", "in-naqi-2014"]
#: The last one is known to the files of history alone.
STATIONS = ("st-a", "st-b", "st-c")
READING = ("station", "time", "parameter", "value", "unit", "sensor")
FRAME = ("station", "time", "path")


def at(ms: int) -> str:
    return format_time(from_ms(ms))


def table(file: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])


def readings(station: str, sensor: str, names: list[str], seed: int) -> list[tuple[object, ...]]:
    """Two values a minute of each."""
    dice = random.Random(seed)
    rows: list[tuple[object, ...]] = []
    for second in range(0, MINUTES * 60, 30):
        for name in names:
            time = at(NOON + second * 1000 + dice.randrange(20_000))
            rows.append((station, time, name, round(dice.uniform(5, 80), 1), "ug/m3", sensor))
    return rows


def frames(root: Path, station: str, seed: int) -> list[tuple[object, ...]]:
    """One picture a minute."""
    rows = []
    for minute in range(MINUTES):
        file = root / "images" / f"{station}-{minute}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(seed, minute))
        rows.append((station, at(NOON + minute * 60_000 + 31_000), f"images/{file.name}"))
    return rows


def stations(root: Path, names: tuple[str, ...]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "stations.json").write_text(json.dumps([{"station": n, "standards": STANDARDS} for n in names]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same history whole, and in two parts: what came in time, and what was held back."""
    root = tmp_path_factory.mktemp("history")
    in_time = [
        *readings("st-a", "main", ["pm25", "o3"], 1),
        *readings("st-b", "main", ["pm10"], 2),
    ]
    held = [
        *readings("st-a", "second", ["pm25", "no2"], 3),
        *readings("st-b", "roof", ["so2"], 4),
        *readings("st-c", "main", ["pm25"], 5),
    ]
    made = {name: root / name for name in ("whole", "in-time", "held")}
    table(made["whole"] / "readings" / "one.csv", READING, in_time)
    table(made["whole"] / "readings" / "two.csv", READING, held)
    table(made["in-time"] / "readings.csv", READING, in_time)
    table(made["held"] / "readings.csv", READING, held)
    for name in ("whole", "held"):
        table(made[name] / "frames.csv", FRAME, frames(made[name], "st-b", 6))
        stations(made[name], STATIONS)
    stations(made["in-time"], STATIONS[:2])
    return made


@pytest.fixture
def ran(kafka_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Callable[[str, Path], Settings]]:
    """Replays a folder through workers of its own; gives the settings when all is stored and final."""

    def run(name: str, root: Path) -> Settings:
        settings = kafka_settings(partitions=2, window=REPLAY, data_dir=tmp_path / name)
        kafka = settings.kafka.model_copy(update={"prefix": f"{settings.kafka.prefix}{name}."})
        settings = settings.model_copy(update={"kafka": kafka})
        create_topics(settings)
        feed(settings, root)
        with fleet(settings, settings.data_dir) as workers:
            until("the first estimates", lambda: workers.check() and stored(settings), 90)
            until(
                "all windows to be final",
                lambda: workers.check() and all(
                    final_horizons(settings).get(p, 0) > NOON + MINUTES * 60_000 for p in range(2)
                ), 90,
            )  # fmt: skip
            settle(settings)
        return settings

    return run


def settle(settings: Settings) -> None:
    """Wait until the store has the newest revision of everything that is on the topic."""
    told = {}
    for record in read_all(settings, topics.ESTIMATES):
        plain = json.loads(record.value)
        key = plain["station"], plain["window"]["end"]
        told[key] = max(told.get(key, 0), plain["revision"])

    def kept() -> dict[tuple[str, str], int]:
        plain = [e.model_dump(mode="json") for e in stored(settings).values()]
        return {(e["station"], e["window"]["end"]): e["revision"] for e in plain}

    until("the store", lambda: kept() == told, 60)


@pytest.mark.slow
def test_what_was_held_back_ends_up_as_if_it_had_come_in_time(
    ran: Callable[[str, Path], Settings],
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = ran("whole", folders["whole"])
    settings = ran("rest", folders["in-time"])
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "2")
    monkeypatch.setenv("SKYFUSE_WINDOW__ALLOWED_LATENESS", "PT120S")
    monkeypatch.setenv("SKYFUSE_WINDOW__GRACE", "PT5S")

    def skyfuse(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(word) for word in arguments])
        assert result.exit_code == code, result.output
        return result.output

    before = stored(settings)
    assert {station for station, _ in before} == {"st-a", "st-b"}
    inputs = 2 * MINUTES * 4 + MINUTES

    told = skyfuse("backfill", folders["held"], "--dry-run")
    assert f"{inputs} inputs to add, 0 known already, 0 of windows left alone, 0 that cannot be used" in told
    assert f"{3 * MINUTES} windows: {3 * MINUTES} to rewrite" in told
    assert "st-c 2025-06-18T11:41:00Z: no estimate -> revision 2" in told
    assert not read_all(settings, topics.LATE)
    assert {record.key for record in read_all(settings, topics.STATIONS)} == {b"st-a", b"st-b"}

    with fleet(settings, settings.data_dir, ("sink",)):
        told = skyfuse("backfill", folders["held"])
        assert f"{3 * MINUTES} windows: {3 * MINUTES} rewritten" in told
        settle(settings)
    mine, theirs = stored(settings), stored(whole)
    assert mine.keys() == theirs.keys()
    for key, estimate in mine.items():
        assert estimate.model_dump_json() == theirs[key].model_dump_json()
        assert key not in before or estimate.revision > before[key].revision
    late = read_all(settings, topics.LATE)
    assert len(late) == inputs

    # Again, with the files or from what is on the topic now: nothing changes.
    published = len(read_all(settings, topics.ESTIMATES))
    told = skyfuse("backfill", folders["held"])
    assert f"0 inputs added, {inputs} known already" in told
    assert f"0 rewritten, {3 * MINUTES} counted already" in told
    assert f"0 rewritten, {3 * MINUTES} counted already" in skyfuse("backfill")

    # A table alone: every row that is not counted is named.
    mixed = tmp_path / "mixed.csv"
    known = next(csv.reader((folders["held"] / "readings.csv").read_text().splitlines()[1:]))
    final = max(final_horizons(settings).values())
    table(mixed, READING, [
        ("st-a", at(NOON + 1_000), "pm99", 1, "ug/m3", "main"),
        ("st-a", "2025-06-18 11:45", "pm25", 1, "ug/m3", "main"),
        (*known[:3], float(known[3]) + 1, *known[4:]),
        ("st-b", at(final + 3_600_000), "pm25", 1, "ug/m3", "main"),
    ])  # fmt: skip
    told = skyfuse("backfill", mixed, code=1)
    assert f"{mixed}:2: " in told
    assert f"{mixed}:3: " in told
    assert f"{mixed}:4: " in told
    assert "is known with another value" in told
    assert "1 windows are not final yet" in told
    assert "0 inputs added, 0 known already, 0 of windows left alone, 3 that cannot be used" in told
    assert len(read_all(settings, topics.ESTIMATES)) == published
    assert len(read_all(settings, topics.LATE)) == inputs
