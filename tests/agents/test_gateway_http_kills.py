"""Clients by HTTP while the gateway is killed and Kafka is away: what was answered with 200 is in Kafka.

    python -m tests.agents.test_gateway_http_kills CLIENTS SECONDS AWAY_SECONDS

runs it with more clients and for longer than the test does, and says what it saw.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from infra.connect import environment
from infra.stack.broker import EmbeddedBroker
from infra.stack.ports import free_port
from infra.stack.processes import Child, spawn
from settings.sections import KafkaSettings, Settings
from sources.gateway.keys import StoredKey, changing_keys, digest_of
from streams.admin import create_topics
from streams.topics import READINGS
from tests.agents.test_gateway_kills import T0, _until_said
from tests.harness import read_all


class Sender:
    """A client that sends a message a period: one that tries again, or a device that does not."""

    def __init__(self, number: int, port: int, *, tries_again: bool) -> None:
        self.tries_again = tries_again
        self.station = f"c{number}" if tries_again else f"airgradient-d{number}"
        self._port = port
        self.taken: set[int] = set()
        self.statuses: Counter[int] = Counter()
        #: Of answers with 503: what they said of when to come again.
        self.waits: list[int] = []
        self.spooled = 0

    def _request(self, number: int) -> bytes:
        if self.tries_again:
            value = {"parameter": "pm25", "value": 1.0 + number, "unit": "ug/m3"}
            body = json.dumps({"station": self.station, "observed_at": T0 + number, "values": [value]})
            path = "/v1/observations"
        else:
            body = json.dumps({"pm02": 1 + number})
            path = f"/sensors/airgradient:{self.station.removeprefix('airgradient-')}/measures"
        return (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def run(self, messages: int, period_s: float, until: float) -> None:
        """Send all messages, each again and again until it is taken; a device sends each once."""
        began = time.monotonic()
        for number in range(messages):
            await asyncio.sleep(max(0.0, began + number * period_s - time.monotonic()))
            while True:
                if await self._send(number) or not self.tries_again or time.monotonic() > until:
                    break
                await asyncio.sleep(0.3)

    async def _send(self, number: int) -> bool:
        status, body, wait = 0, b"", 0
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(self._request(number))
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
                    body = await reader.readexactly(int(fields["content-length"]))
                    status, wait = int(head.split()[1]), int(fields.get("retry-after", 0))
                finally:
                    writer.close()
        self.statuses[status] += 1
        if status == 503:
            self.waits.append(wait)
        if status != 200:
            return False
        self.spooled += json.loads(body).get("spooled", False)
        self.taken.add(number)
        return True


class Outcome(NamedTuple):
    """What became of the senders' messages, and the gateway's memory (MiB) over time."""

    taken: int
    lost: list[tuple[str, int]]
    statuses: dict[int, int]
    shortest_wait_s: int
    spooled: int
    not_taken: int
    memory: list[float]


def _number(value: bytes) -> int:
    return int(json.loads(value)["values"][0]["value"]) - 1


async def _run(folder: Path, clients: int, seconds: float, away_s: float) -> Outcome:
    with EmbeddedBroker(folder / "kafka") as kafka:
        settings = Settings(
            data_dir=folder / "data", kafka=KafkaSettings(bootstrap=kafka.bootstrap, partitions=4)
        )
        create_topics(settings)
        with changing_keys(settings.keys_path) as keys:
            keys.append(StoredKey(name="k", stations=("*",), sha256=digest_of("k")))
        port = free_port()
        env = environment(settings) | {
            "SKYFUSE_CONFIG": "", "SKYFUSE_GATEWAY__HTTP__PORT": f"{port}", "SKYFUSE_GATEWAY__PATIENCE": "2s",
            "SKYFUSE_GATEWAY__HTTP__RATE_PER_KEY": "1e6", "SKYFUSE_GATEWAY__HTTP__RATE_PER_ADDRESS": "1e6",
        }  # fmt: skip

        def gateway() -> Child:
            command = [sys.executable, "-m", "cli.main", "worker", "gateway"]
            return spawn(command, name="gateway", log=folder / "gateway.log", env=env)

        running = gateway()
        await asyncio.to_thread(_until_said, folder / "gateway.log", "takes HTTP")
        began = time.monotonic()
        memory: list[float] = []
        senders = [Sender(number, port, tries_again=number % 2 == 0) for number in range(clients)]
        messages = max(1, round(seconds))
        sending = asyncio.gather(*(one.run(messages, 1.0, began + seconds + 120) for one in senders))

        async def pause(until_s: float) -> None:
            while time.monotonic() < began + until_s:
                with suppress(psutil.Error):
                    memory.append(psutil.Process(running.pid).memory_info().rss / 2**20)
                await asyncio.sleep(min(5.0, seconds / 20))

        try:
            await pause(0.2 * seconds)
            running.kill()
            running = gateway()
            await pause(0.4 * seconds)
            await asyncio.to_thread(kafka.kill)
            await pause(0.4 * seconds + away_s / 2)
            running.kill()  # with what waits on its disk
            running = gateway()
            await pause(0.4 * seconds + away_s)
            await asyncio.to_thread(kafka.start)
            await sending
            taken = {(one.station, number) for one in senders for number in one.taken}
            deadline = time.monotonic() + 90
            while True:
                found = {
                    (record.key.decode(), _number(record.value))
                    for record in await asyncio.to_thread(read_all, settings, READINGS)
                }
                lost = sorted(taken - found)
                if not lost or time.monotonic() > deadline:
                    break
                await asyncio.sleep(1.0)
        finally:
            running.kill()
    patient = [one for one in senders if one.tries_again]
    return Outcome(
        taken=len(taken),
        lost=lost,
        statuses=dict(sum((one.statuses for one in senders), Counter())),
        shortest_wait_s=min((wait for one in senders for wait in one.waits), default=0),
        spooled=sum(one.spooled for one in senders),
        not_taken=sum(messages - len(one.taken) for one in patient),
        memory=memory,
    )


@pytest.mark.slow
@pytest.mark.broker
def test_what_was_answered_is_in_kafka_whatever_was_killed(tmp_path: Path) -> None:
    seen = asyncio.run(_run(tmp_path, 12, 15.0, 8.0))
    assert seen.lost == []
    assert seen.not_taken == 0  # who tries again gets everything in
    assert seen.statuses[503] > 0
    assert seen.shortest_wait_s >= 1  # each was told when to come again
    assert seen.spooled > 0  # and who does not is not asked to
    assert set(seen.statuses) <= {0, 200, 503}  # 0: the gateway was just killed
    assert "Traceback" not in (tmp_path / "gateway.log").read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        clients, seconds, away_s = sys.argv[1:]
        print(asyncio.run(_run(Path(place), int(clients), float(seconds), float(away_s))))
        print((Path(place) / "gateway.log").read_text()[-3000:])
