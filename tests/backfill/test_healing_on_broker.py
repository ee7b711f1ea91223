"""On a real broker: a memory card is counted by the running worker, and what is invalidated by nobody."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backfill.committed import horizons_of, read_so_far
from cli.main import app
from infra.connect import environment
from schemas.base import format_time, from_ms
from schemas.estimate import Estimate
from schemas.features import Punctuation
from settings.sections import Settings
from sinks.store import Store
from streams import topics
from streams.accept import PUNCTUATION_TYPE
from streams.admin import admin_client, create_topics
from tests.harness import REPLAY, Fleet, Sent, fleet, read_all, reading, send, stored, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

START = 1_750_248_000_000  # on the hour
HOUR, MINUTE = 3_600_000, 60_000
#: Every third minute: sparse, but three quarters of an hour's windows are not needed to make it count.
STATION = "mem"


def at(moment: int) -> str:
    return format_time(from_ms(moment))


def pm25(first: int, last: int) -> list[tuple[int, float]]:
    """(time, value) of each minute of those hours."""
    dice = random.Random(3)
    series = [(START + m * MINUTE + 5_000, round(30 + dice.gauss(0, 1), 2)) for m in range(30 * 60)]
    return [one for one in series if START + first * HOUR <= one[0] < START + last * HOUR]


def sent(values: list[tuple[int, float]]) -> list[Sent]:
    return [reading(STATION, moment, {"pm25": value}) for moment, value in values]


def reached(moment: int) -> list[Sent]:
    """Both sides have got so far."""
    value = Punctuation(kind="watermark", at=from_ms(moment)).model_dump_json().encode()
    return [
        Sent(topic, None, value, (("ce_type", PUNCTUATION_TYPE),), 0)
        for topic in (topics.FEATURES, topics.READINGS)
    ]


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == code, result.output
    return result.output


def kept(settings: Settings, moment: int) -> Estimate | None:
    return stored(settings).get((STATION, moment // 1000))


def final(settings: Settings, workers: Fleet, moment: int) -> None:
    until(
        "windows to be final",
        lambda: workers.check() and horizons_of(read_so_far(settings)).get(0, 0) >= moment, 120,
    )  # fmt: skip


def settle(settings: Settings, workers: Fleet) -> None:
    newest: dict[str, int] = {}
    for record in read_all(settings, topics.ESTIMATES):
        one = Estimate.model_validate_json(record.value)
        end = at(int(one.window.end.timestamp() * 1000))
        newest[end] = max(newest.get(end, 0), one.revision)
    until(
        "the store",
        lambda: workers.check()
        and {at(end * 1000): e.revision for (_, end), e in stored(settings).items()} == newest, 120,
    )  # fmt: skip


def test_a_memory_card_and_an_invalidation(
    kafka_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings(partitions=1, window=REPLAY)
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "1")
    monkeypatch.setenv("SKYFUSE_WINDOW__ALLOWED_LATENESS", "PT120S")
    monkeypatch.setenv("SKYFUSE_WINDOW__GRACE", "PT5S")
    card = tmp_path / "card"
    card.mkdir()
    with (card / "readings.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["station", "time", "parameter", "value", "unit"])
        writer.writerows((STATION, at(moment), "pm25", value, "ug/m3") for moment, value in pm25(8, 20))
    with fleet(settings, tmp_path, ("fusion", "sink")) as workers:
        send(settings, [*sent(pm25(0, 8)), *sent(pm25(20, 27)), *reached(START + 27 * HOUR)])
        final(settings, workers, START + 27 * HOUR - 3 * MINUTE)
        settle(settings, workers)
        last = kept(settings, START + 27 * HOUR - 5 * MINUTE)
        assert last is not None
        assert last.indices[0].status == "indicative"
        assert "pm25_24h: 13 of 24 hours" in last.indices[0].reason

        told = run("backfill", card)
        assert "720 windows: 720 rewritten" in told
        assert "the fusion worker told of 1 station" in told
        again = run("backfill", card)
        assert "0 rewritten, 720 counted already" in again
        assert "their averages" not in again
        settle(settings, workers)
        healed = kept(settings, START + 27 * HOUR - 5 * MINUTE)
        assert healed is not None
        assert healed.indices[0].status == "valid"
        assert (healed.revision, healed.amended) == (last.revision + 1, 1)
        assert healed.pollutants == last.pollutants
        between = kept(settings, START + 21 * HOUR)
        assert between is not None
        assert (between.indices[0].status, between.amended) == ("valid", 1)

        workers.kill("fusion")
        workers.revive()
        send(settings, [*sent(pm25(27, 28)), *reached(START + 28 * HOUR)])
        final(settings, workers, START + 28 * HOUR - 3 * MINUTE)
        settle(settings, workers)
        for minutes in (5, 30, 56):
            one = kept(settings, START + 28 * HOUR - minutes * MINUTE)
            assert one is not None
            assert (one.indices[0].status, one.amended) == ("valid", 0)

        # Windows that were not final at the first run are mended by the next one.
        unmended = kept(settings, START + 27 * HOUR - MINUTE)
        assert unmended is not None
        assert unmended.indices[0].status == "indicative"
        run("backfill")
        settle(settings, workers)
        before = stored(settings)
        assert before[STATION, (START + 27 * HOUR - MINUTE) // 1000].indices[0].status == "valid"
        span = at(START + 26 * HOUR), at(START + 29 * HOUR)
        published = len(read_all(settings, topics.ESTIMATES))
        told = run("invalidate", STATION, "main", *span, "--reason", "spiders", "--dry-run")
        assert "117 to rewrite" in told
        assert len(read_all(settings, topics.ESTIMATES)) == published
        assert not read_all(settings, topics.ANNOTATIONS)
        told = run("invalidate", STATION, "main", *span, "--reason", "spiders", "--by", "me")
        assert "117 rewritten" in told
        settle(settings, workers)
        gone = kept(settings, START + 27 * HOUR)
        assert gone is not None
        assert gone.pollutants.get("pm25") is None or gone.pollutants["pm25"].kind == "imputed"
        [id] = gone.inputs.withheld
        assert id in run("invalidate", "--list")
        assert "0 rewritten" in run("backfill")
        send(settings, [*sent(pm25(28, 30)), *reached(START + 30 * HOUR)])
        final(settings, workers, START + 30 * HOUR - 3 * MINUTE)
        settle(settings, workers)
        live = stored(settings)
        assert live[STATION, (START + 28 * HOUR + 30 * MINUTE) // 1000].inputs.withheld == {id: 1}
        assert live[STATION, (START + 29 * HOUR + 30 * MINUTE) // 1000].pollutants["pm25"].kind == "measured"

        run("backfill")
        told = run("invalidate", "--undo", id)
        assert "rewritten" in told
        run("backfill")
        settle(settings, workers)
        after = stored(settings)
        for key, one in before.items():
            mended = after[key]
            assert mended.pollutants["pm25"] == one.pollutants["pm25"]
            assert mended.indices == one.indices, key
            assert not mended.inputs.withheld
        assert "undone" in run("invalidate", "--list")
        run("annotate", STATION, *span, "--text", "barbecue next door")
        run("annotate", STATION, "2026-01-01T00:00:00", span[1], "--text", "x", code=2)
        until("the store to have the notes", lambda: len(notes(settings)) == 2, 60)


def notes(settings: Settings) -> list[str]:
    with Store(settings.store_path, read_only=True) as store:
        return [one.text for one in store.annotations()]


def test_an_installation_of_before_has_no_topic_of_annotations_and_gets_one(
    kafka_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings(partitions=1, window=REPLAY)
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "1")
    create_topics(settings)
    name = settings.kafka.prefix + topics.ANNOTATIONS.name
    with admin_client(settings.kafka) as client:
        client.delete_topics([name])
        until("the topic to be gone", lambda: name not in client.list_topics(), 30)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    workers = Fleet(settings, tmp_path)
    try:
        for role in ("fusion", "sink"):
            workers.start(role)
        send(settings, [*sent(pm25(0, 1)), *reached(START + HOUR + 10 * MINUTE)])
        until("estimates", lambda: workers.check() and len(stored(settings)) == 60, 90)
        assert "0 invalidations" in run("invalidate", "--list")
        assert "0 windows with late data" in run("backfill")
        run("annotate", STATION, at(START), at(START + HOUR), "--text", "barbecue next door")
        until("the note", lambda: workers.check() and notes(settings) == ["barbecue next door"], 90)
    finally:
        workers.stop()
