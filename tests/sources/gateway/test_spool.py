"""What waits on disk: in order, bounded, there after a crash, and gone only once Kafka has confirmed it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sources.gateway import spool as spool_module
from sources.gateway.arrival import Arrival, Receipt
from sources.gateway.errors import KafkaAway, SpoolFull
from sources.gateway.key_scope import KeyScope
from sources.gateway.spool import ArrivalSpool, PatientReception
from tests.sources.gateway.desk import NOW, arrival, desk

MIB = 1024 * 1024


def numbered(number: int, size: int = 0) -> Arrival:
    body = json.dumps({"pm02": number, "wifi": -50, "ledMode": "x" * size})
    return arrival("airgradient", body, station="roof", received_at=NOW + number)


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    spool = ArrivalSpool(tmp_path / "deep" / "spool.sqlite", MIB)
    full = arrival(
        "tasmota", b"\x00\xff", topic="tele/x/SENSOR", origin="broker", station="roof", receiver="broker",
        scope=KeyScope(("roof*", "b"), "key x", True), headers={"x-pin": "1"}, zone=ZoneInfo("Europe/Rome"),
    )  # fmt: skip
    spool.put([full, numbered(1)])
    assert [waiting.arrival for waiting in spool.first(10)] == [full, numbered(1)]
    spool.drop(spool.first(1)[0].number)
    spool.close()
    again = ArrivalSpool(tmp_path / "deep" / "spool.sqlite", MIB)
    assert [waiting.arrival for waiting in again.first(10)] == [numbered(1)]
    assert len(again) == 1
    again.close()


def test_it_is_bounded_and_room_comes_back(tmp_path: Path) -> None:
    spool = ArrivalSpool(tmp_path / "spool.sqlite", MIB)

    def fill() -> int:
        for number in range(10_000):
            try:
                spool.put([numbered(number, 10_000)])
            except SpoolFull:
                return number
        raise AssertionError("it never was full")

    taken = fill()
    assert 80 < taken < 105
    assert len(spool) == taken
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 6 * MIB
    spool.drop(spool.first(10_000)[-1].number)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < MIB / 4
    assert fill() == taken
    spool.close()


def test_while_kafka_is_away_it_waits_in_order_and_goes_when_kafka_is_back(tmp_path: Path) -> None:
    reception, log = desk()

    async def run() -> None:
        patient = PatientReception(reception, tmp_path / "spool.sqlite", MIB)
        serving = asyncio.create_task(patient.serve())
        assert not (await patient.take(numbered(0))).spooled
        log.there = False
        for number in range(1, 300):
            assert (await patient.take(numbered(number))).spooled
        log.there = True
        assert (await patient.take(numbered(300))).spooled  # behind those that wait
        deadline = time.monotonic() + 60
        while len(log.readings) < 301:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        while patient.waiting:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert not (await patient.take(numbered(301))).spooled
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        patient.close()

    asyncio.run(run())
    values = [json.loads(record.value or b"")["observed_at"] - NOW for record in log.readings]
    assert values == list(range(302))


def test_a_full_one_takes_nothing_and_says_so(tmp_path: Path) -> None:
    reception, log = desk()
    log.there = False

    async def run() -> None:
        patient = PatientReception(reception, tmp_path / "spool.sqlite", MIB)

        async def fill() -> None:
            for number in range(10_000):
                await patient.take(numbered(number, 20_000))

        with pytest.raises(SpoolFull):
            await fill()
        patient.close()

    asyncio.run(run())


def test_one_gateway_empties_what_two_fill(tmp_path: Path) -> None:
    reception, log = desk()
    log.there = False

    async def run() -> None:
        both = [PatientReception(reception, tmp_path / "spool.sqlite", MIB) for _ in range(2)]
        for number in range(20):
            await both[number % 2].take(numbered(number))
        log.there = True
        serving = [asyncio.create_task(one.serve()) for one in both]
        deadline = time.monotonic() + 60
        while any(one.waiting for one in both):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for one in both:
            one.close()

    asyncio.run(run())
    assert len(log.readings) == 20


_TAKES = """
import asyncio, sys
from pathlib import Path
from sources.gateway.errors import KafkaAway
from sources.gateway.spool import PatientReception
from tests.sources.gateway.desk import desk
from tests.sources.gateway.test_spool import numbered
async def run():
    reception, log = desk()
    log.there = False
    patient = PatientReception(reception, Path(sys.argv[1]), 64 * 1024 * 1024)
    for begin in range(0, 100_000, 10):
        await asyncio.gather(*(patient.take(numbered(begin + more)) for more in range(10)))
        print(begin + 10, flush=True)
asyncio.run(run())
"""


def test_what_was_taken_outlives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "spool.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKES, str(file)], stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert process.stdout is not None
    taken = 0
    while taken < 200:
        taken = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    taken = int(rest[-1]) if rest else taken
    spool = ArrivalSpool(file, 64 * MIB)
    found = [waiting.arrival.received_at - NOW for waiting in spool.first(1_000_000)]
    spool.close()
    assert found[:taken] == list(range(taken))
    assert len(found) <= taken + 10


def test_kafka_away_is_no_reason_to_lose_what_waits(tmp_path: Path) -> None:
    reception, log = desk()
    log.there = False

    async def run() -> None:
        patient = PatientReception(reception, tmp_path / "spool.sqlite", MIB)
        await patient.take(numbered(1))
        serving = asyncio.create_task(patient.serve())
        with pytest.raises(KafkaAway):
            await reception.take(numbered(1))
        await asyncio.sleep(0)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        patient.close()

    asyncio.run(run())
    spool = ArrivalSpool(tmp_path / "spool.sqlite", MIB)
    assert len(spool) == 1
    spool.close()


def test_what_is_acknowledged_is_written_through_to_the_disk(tmp_path: Path) -> None:
    """A power cut right after the answer: WAL alone would lose it."""
    spool = ArrivalSpool(tmp_path / "spool.sqlite", MIB)
    [[synchronous]] = spool._base.execute("PRAGMA synchronous").fetchall()
    assert synchronous == 2  # FULL
    spool.close()


def test_what_kafka_did_not_take_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_PAUSE_S", 0.01)
    reception, log = desk()
    log.there = False
    tried = 0
    take = reception.take

    async def counted(arrived: Arrival) -> Receipt:
        nonlocal tried
        tried += 1
        return await take(arrived)

    async def run() -> int:
        patient = PatientReception(reception, tmp_path / "spool.sqlite", MIB)
        for number in range(3):
            await patient.take(numbered(number))
        monkeypatch.setattr(reception, "take", counted)
        serving = asyncio.create_task(patient.serve())
        deadline = time.monotonic() + 60
        while tried < 9:  # three times all of them
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        patient.close()
        spool = ArrivalSpool(tmp_path / "spool.sqlite", MIB)
        kept = len(spool)
        spool.close()
        return kept

    assert asyncio.run(run()) == 3
