"""From an estimate on the topic to the alert it opens on the alerts topic: p50 and p99, on a real broker.

Estimates are sent at a steady rate; the rule opens and clears at once, so every estimate makes one event. The
alert stage (decode, all default rules beside that one, publish with confirmation) runs in a plain aiokafka
loop; the baseline is the same loop that forwards a record of the same size for each estimate without looking
at it. Value: p99 in ms; baseline: the forwarder's p99; ratio: forwarder / stage of the p50 (1 is no cost).
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.alert import AlertStage
from alerting.rules import AlertRules, Rule, SeverityStep, default
from alerting.watch import Watch
from benchmarks._kafka import fresh_broker, verdict
from benchmarks.sink import estimates
from schemas.alert import Alert
from schemas.estimate import Estimate
from streams.accept import Keys
from streams.checkpoint import Checkpoints
from streams.stage import Out, StageIo

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--stations", "5", "--windows", "4")

_HORIZON_MS = 660_000


def every_estimate(rules: AlertRules) -> AlertRules:
    """`rules` and one that opens when the share of imputed values is above a half, at once."""
    edge = Rule(id="edge", what="imputed_share", steps=(SeverityStep(severity="minor", enter=0.5),))
    return AlertRules(rule=(*rules.rule, edge))


def alternating(stations: int, windows: int) -> list[Estimate]:
    """Estimates whose share of imputed values goes from none to all and back with each window."""
    made = []
    for estimate in estimates(stations, windows):
        odd = estimate.window.end.minute % 2
        kind, qc = ("imputed", 9) if odd else ("measured", 1)
        pollutants = {
            name: one.model_copy(update={"kind": kind, "qc": qc}) for name, one in estimate.pollutants.items()
        }
        made.append(estimate.model_copy(update={"pollutants": pollutants}))
    return made


Handle = Callable[[str, list[Any]], Awaitable[None]]


async def through(
    bootstrap: str,
    made: list[Estimate],
    rate: float,
    topics: tuple[str, str],
    open_stage: Callable[[Any], Handle],
) -> list[float]:
    """Milliseconds from sending each estimate to reading what came of it, in order of arrival."""
    source, target = topics
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
    stage_producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=50)
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=50)
    for client in (producer, stage_producer, consumer, reader):
        await client.start()
    consumer.assign([TopicPartition(source, 0)])
    reader.assign([TopicPartition(target, 0)])
    for client in (consumer, reader):
        await client.seek_to_end()
        for partition in client.assignment():
            await client.position(partition)

    async def publish(out: Iterable[Out]) -> None:
        sent = [
            await stage_producer.send(one.topic, key=one.key, value=one.value, partition=0) for one in out
        ]
        for future in sent:
            await future

    handle = open_stage(publish)

    async def work() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                await handle(source, list(records))

    started: dict[tuple[str, str], float] = {}
    took: list[float] = []

    async def read() -> None:
        async for record in reader:
            plain = Alert.model_validate_json(record.value or b"")
            if plain.rule == "edge":
                took.append((time.perf_counter() - started[plain.station, plain.at.isoformat()]) * 1000)
                if len(took) == len(made):
                    return

    tasks = [asyncio.create_task(work()), asyncio.create_task(read())]
    begin = time.perf_counter()
    for number, estimate in enumerate(made):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        started[estimate.station, estimate.window.end.isoformat()] = time.perf_counter()
        await producer.send(
            source, key=estimate.station.encode(), value=estimate.model_dump_json().encode(), partition=0
        )
    done, running = await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        task.result()
    for client in (producer, stage_producer, consumer, reader):
        await client.stop()
    if len(took) < len(made):
        raise SystemExit(f"{len(made) - len(took)} of {len(made)} estimates made no event")
    return took


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the last line is its JSON."""
    parser = argparse.ArgumentParser(prog="bench alerts", description=__doc__)
    parser.add_argument("--stations", type=int, default=100)
    parser.add_argument("--windows", type=int, default=21)
    parser.add_argument("--rate", type=float, default=200.0, help="estimates per second")
    chosen = parser.parse_args(argv)
    made = alternating(chosen.stations, chosen.windows)
    rules = every_estimate(default())
    with fresh_broker() as settings:
        bootstrap = settings.kafka.bootstrap
        assert bootstrap is not None

        def stage(publish: Any) -> Handle:
            return AlertStage(
                StageIo(0, publish), Keys(1), lambda: rules, Checkpoints("aq.state.v1", 0), {},
                horizon_ms=_HORIZON_MS,
            ).handle  # fmt: skip

        def forwarder(publish: Any) -> Handle:
            (event,) = Watch(AlertRules(rule=rules.rule[-1:]), _HORIZON_MS).feed(made[:1])

            async def handle(topic: str, records: list[Any]) -> None:
                del topic
                out = []
                for record in records:
                    estimate = Estimate.model_validate_json(record.value)
                    told = event.model_copy(update={"station": estimate.station, "at": estimate.window.end})
                    out.append(Out("aq.alerts.v1", record.key, told.model_dump_json().encode(), partition=0))
                await publish(out)

            return handle

        print(f"{len(made)} estimates at {chosen.rate:g}/s")
        results = {}
        for name, open_stage in (("forwarder", forwarder), ("alert stage", stage)):
            took = asyncio.run(
                through(bootstrap, made, chosen.rate, ("aq.estimates.v1", "aq.alerts.v1"), open_stage)
            )
            results[name] = quantile(took, 0.5), quantile(took, 0.99)
            print(f"{name:12} p50 {results[name][0]:7.2f} ms   p99 {results[name][1]:7.2f} ms")
    (base50, base99), (mine50, mine99) = results["forwarder"], results["alert stage"]
    verdict("alerts", mine99, "ms p99", base99, base50 / mine50, p50=mine50, baseline_p50=base50)
    return 0
