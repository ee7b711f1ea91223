"""From the moment a window may close to its estimate on the topic, p50 and p99, in real time.

Fifty stations send a reading each second to a broker of their own; a fusion worker (a process, as in
production) joins, infers and publishes. A window may close when event time reaches its end plus grace plus
disorder; stations keep true time, so that is an instant on the clock. The baseline is the time that a bare
aiokafka loop needs to hand one record from topic to topic at the same broker.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks._kafka import PARTITIONS, fresh_broker, verdict
from infra.connect import environment
from infra.stack.processes import spawn
from schemas.estimate import Estimate
from schemas.times import in_ms
from settings.sections import Settings, WindowSettings
from streams import topics

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--seconds", "3", "--warm-up", "1")

STATIONS = 50
#: A worker that has said nothing for so long says nothing.
_PATIENCE_S = 120.0
WINDOW = WindowSettings(
    size=timedelta(seconds=5),
    grace=timedelta(seconds=1),
    disorder=timedelta(seconds=0.5),
    allowed_lateness=timedelta(seconds=20),
    idle_timeout=timedelta(seconds=5),
)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def feed(settings: Settings, done: asyncio.Event) -> None:
    """Readings in real time, stations spread over each second."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap, linger_ms=2)
    await producer.start()
    try:
        began = time.time()
        number = 0
        while not done.is_set():
            due = began + number / STATIONS
            await asyncio.sleep(max(0.0, due - time.time()))
            name = f"station-{number % STATIONS}"
            body = (
                f'{{"station":"{name}","observed_at":{int(time.time() * 1000)},'
                '"values":[{"parameter":"pm25","value":17.5,"unit":"ug/m3"}]}'
            )
            await producer.send(topics.READINGS.name, body.encode(), key=name.encode())
            number += 1
        await producer.flush()
    finally:
        await producer.stop()


async def measure(settings: Settings, seconds: float, warm_up: float) -> tuple[list[float], list[float]]:
    """(delays of estimates, hand-over times of the bare loop), both in ms.

    Measures `seconds` of windows, after `warm_up` seconds of them, which belong to the start. Delays are
    empty where no estimate came at all.
    """
    consumer = AIOKafkaConsumer(
        topics.ESTIMATES.name, bootstrap_servers=settings.kafka.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    done = asyncio.Event()
    feeding = asyncio.create_task(feed(settings, done))
    slack = in_ms(WINDOW.grace + WINDOW.disorder)
    delays: list[float] = []
    first_end = None
    give_up = time.monotonic() + _PATIENCE_S
    try:
        while not (done.is_set() or feeding.done()):
            if first_end is None and time.monotonic() > give_up:
                done.set()
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    end = Estimate.model_validate_json(record.value).window.end.timestamp() * 1000
                    first_end = end if first_end is None else first_end
                    if end > first_end + 1000 * warm_up:
                        delays.append(record.timestamp - end - slack)
                    if end > first_end + 1000 * (warm_up + seconds):
                        done.set()
        await feeding
        return delays, await hand_over(settings)
    finally:
        done.set()
        await asyncio.gather(feeding, return_exceptions=True)
        await consumer.stop()


async def hand_over(settings: Settings) -> list[float]:
    """Milliseconds from sending a record to its copy being read from another topic, one at a time."""
    server = settings.kafka.bootstrap
    producer = AIOKafkaProducer(bootstrap_servers=server, linger_ms=0)
    source = AIOKafkaConsumer(topics.LATE.name, bootstrap_servers=server, auto_offset_reset="latest")
    copies = AIOKafkaConsumer(topics.ALERTS.name, bootstrap_servers=server, auto_offset_reset="latest")
    for client in (producer, source, copies):
        await client.start()
    for consumer in (source, copies):
        await consumer.seek_to_end()

    async def forward() -> None:
        async for record in source:
            await producer.send_and_wait(topics.ALERTS.name, record.value, key=b"k", partition=0)

    forwarding = asyncio.create_task(forward())
    found = []
    try:
        for _ in range(200):
            began = time.perf_counter()
            await producer.send_and_wait(topics.LATE.name, b"x", key=b"k", partition=0)
            await copies.getone()
            found.append((time.perf_counter() - began) * 1000)
        return found
    finally:
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)
        for client in (producer, source, copies):
            await client.stop()


def main(argv: list[str] | None = None) -> int:
    """Prints the percentiles and ends in one JSON line."""
    parser = argparse.ArgumentParser(prog="bench latency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of windows that are measured")
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds of windows before these")
    arguments = parser.parse_args(argv)
    with fresh_broker() as settings, tempfile.TemporaryDirectory() as logs:
        settings = settings.model_copy(update={"window": WINDOW})
        seconds = {
            "SIZE": WINDOW.size, "GRACE": WINDOW.grace, "DISORDER": WINDOW.disorder,
            "ALLOWED_LATENESS": WINDOW.allowed_lateness,
        }  # fmt: skip
        env = {
            **environment(settings),
            "SKYFUSE_KAFKA__PARTITIONS": str(PARTITIONS),
            **{f"SKYFUSE_WINDOW__{name}": f"PT{value.total_seconds():g}S" for name, value in seconds.items()},
        }
        command = [sys.executable, "-m", "cli.main", "worker", "fusion", "--log-level", "WARNING"]
        worker = spawn(command, name="fusion", log=Path(logs) / "fusion.log", env=env)
        try:
            delays, floor = asyncio.run(measure(settings, arguments.seconds, arguments.warm_up))
        finally:
            worker.stop(10.0)
        if not delays:
            raise SystemExit(f"no estimate came:\n{(Path(logs) / 'fusion.log').read_text()[-2000:]}")
    p50, p99 = statistics.median(delays), percentile(delays, 0.99)
    base = statistics.median(floor)
    print(f"{len(delays)} estimates: p50 {p50:.0f} ms, p99 {p99:.0f} ms; bare hand-over p50 {base:.1f} ms")
    verdict("latency", p50, "ms", base, p50 / base, p99=p99, estimates=len(delays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
