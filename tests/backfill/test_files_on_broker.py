"""`skyfuse backfill FOLDER` on a real broker: what was held back ends up as if it had come in time."""

import csv
import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from typer.testing import CliRunner

from backfill.committed import horizons_of, read_so_far
from backfill.report import Scope
from backfill.run import run
from cli.main import app
from infra.connect import environment
from infra.stack.broker import EmbeddedBroker
from infra.stack.processes import spawn
from schemas.base import format_time, from_ms
from settings.sections import KafkaSettings, Settings
from sources.replay.feed import feed
from streams import topics
from streams.admin import admin_client, client_arguments, create_topics
from streams.errors import TopicReadError
from tests.harness import NOON, REPLAY, fleet, picture, read_all, stored, until

pytestmark = pytest.mark.broker

MINUTES = 9
#: Inputs held back.
HELD = 2 * MINUTES * 4 + MINUTES
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
    rows: list[tuple[object, ...]] = []
    for minute in range(MINUTES):
        file = root / "images" / f"{station}-{minute}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(seed, minute))
        rows.append((station, at(NOON + minute * 60_000 + 31_000), f"images/{file.name}"))
    return rows


def stations(root: Path, names: tuple[str, ...]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "stations.json").write_text(json.dumps([{"station": n, "standards": STANDARDS} for n in names]))


class Command:
    """`skyfuse` with the settings of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def use(self, settings: Settings) -> None:
        """Take these from now on."""
        for name, text in environment(settings).items():
            self._monkeypatch.setenv(name, text)
        self._monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", str(settings.kafka.partitions))
        self._monkeypatch.setenv("SKYFUSE_WINDOW__ALLOWED_LATENESS", "PT120S")
        self._monkeypatch.setenv("SKYFUSE_WINDOW__GRACE", "PT5S")

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """What it prints."""
        result = CliRunner().invoke(app, [str(word) for word in arguments])
        assert result.exit_code == code, result.output
        return result.output


@pytest.fixture
def skyfuse(monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(monkeypatch)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same history whole, and in two parts: what came in time, and what was held back."""
    root = tmp_path_factory.mktemp("history")
    in_time = [
        *readings("st-a", "main", ["pm25", "o3"], 1),
        *readings("st-b", "main", ["pm10"], 2),
    ]
    held = [
        *readings("st-a", "second", ["so2", "no2"], 3),
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
def ran(kafka_settings: Callable[..., Settings], tmp_path: Path) -> Callable[[str, Path], Settings]:
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
                    horizons_of(read_so_far(settings)).get(p, 0) > NOON + MINUTES * 60_000 for p in range(2)
                ), 90,
            )  # fmt: skip
            settle(settings)
        return settings

    return run


def settle(settings: Settings) -> None:
    """Wait until the store has the newest revision of everything that is on the topic."""
    told: dict[tuple[str, str], int] = {}
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
    skyfuse: Command,
) -> None:
    whole = ran("whole", folders["whole"])
    settings = ran("rest", folders["in-time"])
    skyfuse.use(settings)
    before = stored(settings)
    assert {station for station, _ in before} == {"st-a", "st-b"}
    told = skyfuse("backfill", folders["held"], "--dry-run")
    assert f"{HELD} inputs to add, 0 known already, 0 of windows left alone, 0 that cannot be used" in told
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
    assert len(late) == HELD

    # Again, with the files or from what is on the topic now: nothing changes.
    published = len(read_all(settings, topics.ESTIMATES))
    told = skyfuse("backfill", folders["held"])
    assert f"0 inputs added, {HELD} known already" in told
    assert f"0 rewritten, {3 * MINUTES} counted already" in told
    assert f"0 rewritten, {3 * MINUTES} counted already" in skyfuse("backfill")

    # A table alone: every row that is not counted is named.
    mixed = tmp_path / "mixed.csv"
    known = next(csv.reader((folders["held"] / "readings.csv").read_text().splitlines()[1:]))
    final = max(horizons_of(read_so_far(settings)).values())
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
    assert "1 window is not final yet: run again later" in told  # the workers have not read the amendments
    assert "0 inputs added, 0 known already, 0 of windows left alone, 3 that cannot be used" in told
    assert len(read_all(settings, topics.ESTIMATES)) == published
    assert len(read_all(settings, topics.LATE)) == HELD


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again_it_is_as_if_nothing_had_happened(
    ran: Callable[[str, Path], Settings], folders: dict[str, Path], tmp_path: Path, skyfuse: Command
) -> None:
    whole = ran("whole", folders["whole"])
    settings = ran("rest", folders["in-time"])
    skyfuse.use(settings)

    # One open consumer: to read the topics anew each time takes longer than the command does.
    with closing(KafkaConsumer(**client_arguments(settings.kafka))) as consumer:
        _kill_twice(settings, folders["held"], tmp_path, consumer)
    with fleet(settings, settings.data_dir, ("sink",)):
        assert f"{3 * MINUTES} windows: " in skyfuse("backfill", folders["held"])
        settle(settings)
    mine, theirs = stored(settings), stored(whole)
    assert mine.keys() == theirs.keys()
    assert [mine[key].model_dump_json() for key in mine] == [theirs[key].model_dump_json() for key in mine]
    # Nothing was put on the late topic twice, and nothing is left to do.
    assert len(read_all(settings, topics.LATE)) == HELD
    assert f"0 inputs added, {HELD} known already" in skyfuse("backfill", folders["held"])


def _kill_twice(settings: Settings, held: Path, tmp_path: Path, consumer: KafkaConsumer) -> None:
    """kill -9 the command twice, each time amid its work."""

    def lengths() -> tuple[int, int]:
        late, estimates = (
            sum(
                consumer.end_offsets(
                    [
                        TopicPartition(settings.kafka.prefix + topic.name, place)
                        for place in range(settings.kafka.partitions)
                    ]
                ).values()
            )
            for topic in (topics.LATE, topics.ESTIMATES)
        )
        return late, estimates

    def killed(number: int, when: Callable[[int, int], bool]) -> None:
        """kill -9 the command as soon as `when` the topics are that long."""
        child = spawn(
            [sys.executable, "-m", "cli.main", "backfill", str(held)],
            name="backfill", log=tmp_path / f"backfill-{number}.log", env=dict(os.environ),
        )  # fmt: skip
        until("a part to be written", lambda: when(*lengths()) or child.poll() is not None, 90)
        child.kill()
        assert child.poll() != 0, "it was done before it was killed"

    _, published = lengths()
    killed(1, lambda late, _: late > 0)
    late, told = lengths()
    assert late < HELD or told < published + 3 * MINUTES
    killed(2, lambda more, made: more > late or made > told)


@pytest.mark.slow
def test_a_window_whose_inputs_retention_has_dropped_is_left_as_it_is(
    ran: Callable[[str, Path], Settings], folders: dict[str, Path], skyfuse: Command, tmp_path: Path
) -> None:
    settings = ran("rest", folders["in-time"])
    skyfuse.use(settings)
    before = stored(settings)
    # What is newer than all that its partition has heard is not late, and does not become so by waiting.
    newer = tmp_path / "newer.csv"
    table(
        newer,
        READING,
        [("st-a", at(max(horizons_of(read_so_far(settings)).values()) + 3_600_000), "pm25", 1, "ug/m3", "")],
    )
    told = skyfuse("backfill", newer, "--dry-run", code=1)
    assert "1 window is not final, and waiting does not make it so: nothing newer has come" in told
    assert f"To count it, send the files like live data: `skyfuse replay {newer} --feed-only`" in told
    with admin_client(settings.kafka) as client:  # what retention does
        name = settings.kafka.prefix + topics.READINGS.name
        client.delete_records({TopicPartition(name, number): -1 for number in range(2)})
    # Of st-c nothing was ever published, so nothing of it can be lost.
    left = HELD - 2 * MINUTES
    for arguments in (("--dry-run",), ()):
        told = skyfuse("backfill", folders["held"], *arguments, code=1)
        assert told.count("not possible: ") == 2 * MINUTES
        assert "st-a 2025-06-18T11:41:00Z: its estimate rests on 4 inputs that came in time" in told
        assert "retention has left 0" in told
        verb = "to add" if arguments else "added"
        assert f"{2 * MINUTES} inputs {verb}, 0 known already, {left} of windows left alone" in told
    with fleet(settings, settings.data_dir, ("sink",)):
        settle(settings)
    after = stored(settings)
    assert {key: after[key] for key in before} == before
    assert {station for station, _ in after.keys() - before.keys()} == {"st-c"}
    assert {record.key for record in read_all(settings, topics.LATE)} == {b"st-c"}
    again = skyfuse("backfill", folders["held"], code=1)
    assert f"0 inputs added, {2 * MINUTES} known already, {left} of windows left alone" in again


def test_a_broker_on_which_nothing_was_ever_fused(
    restartable_broker: EmbeddedBroker, folders: dict[str, Path], tmp_path: Path, skyfuse: Command
) -> None:
    """No topics; then topics, but no consumer group, of which the broker knows none yet."""
    kafka = KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=2)
    settings = Settings(data_dir=tmp_path / "data", kafka=kafka, window=REPLAY)
    skyfuse.use(settings)
    with pytest.raises(TopicReadError, match=r"has no topic aq\.camera-bands\.v1.*`skyfuse topics` creates"):
        run(settings, Scope(), dry_run=True)
    create_topics(settings)
    assert "0 windows with late data" in skyfuse("backfill")
    told = skyfuse("backfill", folders["held"], code=1)
    assert f"{3 * MINUTES} windows are not final: no fusion worker has ever read on this broker" in told
    assert f"`skyfuse replay {folders['held']} --feed-only`" in told
    assert not read_all(settings, topics.LATE)
    assert not read_all(settings, topics.ESTIMATES)
