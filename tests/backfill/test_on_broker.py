"""`skyfuse backfill` on a real broker: late data and a mended dead letter end up counted in the store."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import TopicPartition
from typer.testing import CliRunner

from backfill.committed import horizons_of, read_so_far
from cli.main import app
from infra.connect import environment
from settings.sections import Settings
from streams import topics
from streams.admin import admin_client
from tests.harness import (
    NOON,
    REPLAY,
    Sent,
    fleet,
    frame,
    picture,
    punctuations,
    read_all,
    reading,
    send,
    stored,
    until,
)

pytestmark = pytest.mark.broker

STATION = "st-0"


def minute(number: int) -> tuple[str, int]:
    """Key, in the store, of the window of that minute."""
    return STATION, NOON // 1000 + 60 * (number + 1)


def skyfuse(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_late_data_and_a_mended_dead_letter_are_counted(
    kafka_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings(partitions=1, window=REPLAY)
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "1")
    monkeypatch.setenv("SKYFUSE_WINDOW__ALLOWED_LATENESS", "PT120S")
    in_time = [
        reading(STATION, NOON + at * 1000, {"pm25": 12.0 + at / 60}) for at in range(0, 300, 20)
    ]  # five minutes, three readings each
    bad = json.loads(reading(STATION, NOON + 190_000, {"no2": 33.0}).value or b"")
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(bad))
    bad["values"][0]["value"] = -33.0
    late = [
        reading(STATION, NOON + 70_000, {"pm10": 41.5}),
        reading(STATION, NOON + 60_000, {"pm25": 99.0}),  # known already: the first one counts
        frame(STATION, NOON + 130_000, picture(1, 1)),
        reading(STATION, NOON + 601_000, {"so2": 7.0}),  # a window that nothing was known of
    ]
    far = NOON + 3_600_000
    with fleet(settings, tmp_path) as workers:
        poison = Sent(topics.READINGS, STATION.encode(), json.dumps(bad).encode())
        send(settings, [*punctuations(NOON, 1), *in_time, poison, *punctuations(far, 1)])
        first = {minute(number) for number in range(5)}
        until("the first estimates", lambda: workers.check() and set(stored(settings)) == first, 90)
        before = stored(settings)
        assert {e.revision for e in before.values()} == {3}

        send(settings, late)
        [letter] = read_all(settings, topics.DEAD_LETTERS)
        story = dict(letter.headers)
        identity = "/".join(story[f"x-dlq-{part}"].decode() for part in ("topic", "partition", "offset"))
        skyfuse("dlq", "redrive", identity, "--value-file", str(mended))
        until(
            "the late records",
            lambda: workers.check() and len(read_all(settings, topics.LATE)) == len(late) + 1, 60,
        )  # fmt: skip
        until(
            "their windows to be final",
            lambda: horizons_of(read_so_far(settings)).get(0, 0) > NOON + 700_000,
            60,
        )

        published = len(read_all(settings, topics.ESTIMATES))
        told = skyfuse("backfill", "--dry-run")
        assert f"{STATION} 2025-06-18T11:42:00Z: revision 3 -> revision 4" in told
        assert f"{STATION} 2025-06-18T11:51:00Z: no estimate -> revision 1" in told
        assert "4 windows with late data: 4 to rewrite" in told
        assert len(read_all(settings, topics.ESTIMATES)) == published

        told = skyfuse("backfill", "--since", "2025-06-18T11:43:00Z", "--until", "2025-06-18T11:44:00Z")
        assert "1 window with late data: 1 rewritten" in told
        told = skyfuse("backfill")
        assert "4 windows with late data: 3 rewritten, 1 counted already" in told
        wanted = {**dict.fromkeys(first, 3), minute(1): 4, minute(2): 4, minute(3): 4, minute(10): 1}
        until(
            "the store to have them",
            lambda: workers.check()
            and {k: e.revision - e.amended for k, e in stored(settings).items()} == wanted, 60,
        )  # fmt: skip
        # The last window's averages reach back to those that were late.
        until("its averages", lambda: workers.check() and stored(settings)[minute(4)].amended > 0, 60)
        after = stored(settings)
        for number, name, value in ((1, "pm10", 41.5), (3, "no2", 33.0), (10, "so2", 7.0)):
            pollutant = after[minute(number)].pollutants[name]  # type: ignore[index]
            assert (pollutant.kind, pollutant.value, pollutant.n) == ("measured", value, 1)
        assert after[minute(1)].pollutants["pm25"].value == before[minute(1)].pollutants["pm25"].value
        assert (before[minute(2)].sides, after[minute(2)].sides) == ("sensors", "both")
        # No input of the first and the last was late.
        assert after[minute(0)] == before[minute(0)]
        assert after[minute(4)].pollutants == before[minute(4)].pollutants

        # Once more: nothing is written.
        published = len(read_all(settings, topics.ESTIMATES))
        assert "0 rewritten, 4 counted already" in skyfuse("backfill")
        assert len(read_all(settings, topics.ESTIMATES)) == published

        # What came in time is gone by retention: its estimates are left alone.
        with admin_client(settings.kafka) as client:
            name = settings.kafka.prefix + topics.READINGS.name
            client.delete_records({TopicPartition(name, 0): len(in_time)})
        send(settings, [reading(STATION, NOON + at * 1000, {"so2": 5.0}) for at in (75, 76, 77, 78, 79)])
        until("more late records", lambda: len(read_all(settings, topics.LATE)) == len(late) + 6, 60)
        told = skyfuse("backfill")
        assert "0 rewritten" in told
        assert "rests on 3 inputs that came in time, of which retention has left 0" in told
        assert len(read_all(settings, topics.ESTIMATES)) == published
        assert stored(settings) == after

        # A GPS that rolled over: what is of 2007 has to be asked for.
        old = 1_176_372_000_000
        send(settings, [reading(STATION, old + 5_000, {"pm25": 9.0})])
        until("the old record", lambda: len(read_all(settings, topics.LATE)) == len(late) + 7, 60)
        told = skyfuse("backfill")
        assert "left alone: st-0: 1 late values of 2007-04-12T10:00:05Z are left alone" in told
        assert "--since TIME" in told
        assert len(read_all(settings, topics.ESTIMATES)) == published
        told = skyfuse("backfill", "--since", "2007-04-12T00:00:00Z", "--until", "2007-04-13T00:00:00Z")
        assert "1 window with late data: 1 rewritten" in told
        assert "left alone" not in told
        until("the store to have it", lambda: (STATION, (old + 60_000) // 1000) in stored(settings), 60)
