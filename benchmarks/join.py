"""The join stage on Kafka: decode, validate, join, encode, produce with confirmation.

Drains the same log with the same stage object under Faust's batch driver and under a bare aiokafka loop, in
processes of their own, in turns. Inference and indices are not part of it: windows are written as they are.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from agents.fusion import FusionCheckpoints, FusionStage
from agents.worker import GC_THRESHOLDS
from benchmarks._kafka import PARTITIONS, child, fresh_broker, verdict
from fusion.assessor import Assessed
from model.bundle.bundle import Bundle
from schemas.base import from_ms
from schemas.features import Features, Punctuation, Quality
from settings.sections import KafkaSettings, Settings
from sources.sender import Sender
from streams import topics
from streams.accept import PUNCTUATION_TYPE, Keys
from streams.cadences import Cadences
from streams.checkpoint import Checkpoints
from streams.driver import AppOptions, build_app
from streams.join import Close, Join, Rules, Step, WindowView
from streams.stage import Committed, Out, Stage, StageIo
from streams.standing import Periods
from streams.stations import StationBook
from streams.topics import MAX_RECORD_BYTES

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--rounds", "1", "--readings", "4000")

STATIONS = 100
FEATURES_EVERY = 5
START = 1_750_248_000_000


class WriteWindows:
    """In the assessor's place: writes what a window holds, nothing more."""

    def run(self, steps: Sequence[Step], done: int, station_of: Any) -> Assessed:
        """One record per window to publish."""
        del done, station_of
        joined: list[Any] = [Joined(step.view) for step in steps if isinstance(step, Close)]
        return Assessed(joined, [0] * len(joined), [None] * len(joined), [], [])

    def stations(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def forgotten(self, done: int) -> list[str]:
        """Nothing is learned."""
        del done
        return []

    def horizons(self, done: int) -> dict[str, int]:
        """Nothing is learned."""
        del done
        return {}

    def dump(self, station: str, horizon: int) -> bytes:
        """Nothing is learned."""
        raise KeyError(station, horizon)


class Joined:
    """A joined window as JSON."""

    def __init__(self, view: WindowView) -> None:
        self.station = view.station
        self._view = view

    def model_dump_json(self) -> str:
        """Means per parameter and the pooled embedding."""
        view = self._view
        values: dict[str, list[float]] = {}
        for item in view.inputs.get("readings", ()):
            values.setdefault(item.payload.parameter, []).append(item.payload.value)
        frames = [
            np.frombuffer(item.payload.embeddings["frame"], "<f4") for item in view.inputs.get("features", ())
        ]
        pooled = np.mean(frames, axis=0).tolist() if frames else []
        means = {name: sum(all_) / len(all_) for name, all_ in values.items()}
        return json.dumps([view.station, view.start, view.end, view.revision, means, pooled])


class BareStage(FusionStage):
    """The stage without its metrics of estimates."""

    def _count(self, estimates: Sequence[Any]) -> None:
        """The written windows are no estimates."""


def make_stage(settings: Settings, partition: int, publish: Any) -> FusionStage:
    """The stage both drivers run."""
    keys = Keys(PARTITIONS)
    names = settings.kafka.names
    rules = Rules(60_000, 5_000, 60_000, {"features": 2_000, "readings": 2_000}, hold=60_000)
    return BareStage(
        StageIo(partition, publish, names),
        Join(rules),
        WriteWindows(),  # type: ignore[arg-type]
        StationBook(names.of(topics.STATIONS), keys),
        Periods(rules.size, Cadences(), lambda _: None),
        FusionCheckpoints(
            Checkpoints(names.of(topics.STATE), partition), Checkpoints(names.of(topics.STATE), partition)
        ),
        ThreadPoolExecutor(1),
    )


def fill(settings: Settings, readings: int) -> int:
    """Readings at 1 Hz a station, a frame each five seconds; gives the number of records."""
    dice = np.random.default_rng(1)
    embedding = dice.normal(size=128).astype("<f4").tobytes()
    camera = dice.normal(size=64).astype("<f4").tobytes()
    encoder = Bundle.load().encoder
    count = 0
    with Sender(settings.kafka) as sender:

        def send(topic: topics.Topic, key: str | None, value: str, **more: Any) -> None:
            nonlocal count
            count += 1
            sender.send(topic.name, None if key is None else key.encode(), value.encode(), **more)

        for number in range(readings):
            second, station = divmod(number, STATIONS)
            at, name = START + second * 1000, f"station-{station}"
            send(
                topics.READINGS, name,
                f'{{"station":"{name}","observed_at":{at},"values":'
                f'[{{"parameter":"pm25","value":{10 + number % 50}.5,"unit":"ug/m3"}}]}}',
            )  # fmt: skip
            if second % FEATURES_EVERY == 0:
                features = Features(
                    station=name, camera="main", captured_at=from_ms(at), frame_id=str(number),
                    sha256="0" * 64, bundle="bench", encoder=encoder,
                    embeddings={"frame": embedding, "camera": camera},
                    haze=camera[:80],
                    quality=Quality(usable=True), camera_layout="whole", digest=str(number),
                )  # fmt: skip
                send(topics.FEATURES, name, features.model_dump_json())
        end = Punctuation(kind="watermark", at=from_ms(START + 10 * 86_400_000)).model_dump_json()
        for topic in (topics.READINGS, topics.FEATURES):
            for partition in range(PARTITIONS):
                send(topic, None, end, headers=[("ce_type", PUNCTUATION_TYPE)], partition=partition)
        sender.flush()
    return count


class Clock:
    """Seconds from the first batch to the last confirmation, then the process ends."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._began: float | None = None
        self._total = total

    def begin(self) -> None:
        """A batch is about to be handled."""
        if self._began is None:
            self._began = time.perf_counter()

    def handled(self, count: int) -> None:
        """A batch is out and confirmed."""
        self._left -= count
        if self._left <= 0:
            assert self._began is not None
            seconds = time.perf_counter() - self._began
            cpu = time.process_time()
            print(json.dumps({"rate": self._total / seconds, "seconds": seconds, "cpu": cpu}), flush=True)
            os._exit(0)


def run_faust(settings: Settings, total: int) -> None:
    """Under Faust's batch driver, as a worker runs it."""
    clock = Clock(total)
    inputs = [settings.kafka.names.of(topic) for topic in (topics.FEATURES, topics.READINGS)]

    async def open_stage(partition: int, committed: Committed) -> Stage:
        del committed
        stage = make_stage(settings, partition, app.host.publish)
        handle = stage.handle

        async def timed(topic: str, records: Sequence[Any]) -> None:
            clock.begin()
            await handle(topic, records)
            clock.handled(len(records))

        stage.handle = timed  # type: ignore[method-assign]
        return stage

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    app = build_app(
        f"bench-{os.getpid()}",
        inputs,
        open_stage,
        AppOptions(settings.kafka.bootstrap or "", str(settings.data_dir)),
    )
    import faust

    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


async def run_bare(settings: Settings, total: int) -> None:
    """A plain aiokafka loop around the same stage."""
    clock = Clock(total)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap, acks="all", enable_idempotence=True, linger_ms=5,
        max_batch_size=256 * 1024, max_request_size=MAX_RECORD_BYTES,
    )  # fmt: skip
    consumer = AIOKafkaConsumer(
        *(settings.kafka.names.of(topic) for topic in (topics.FEATURES, topics.READINGS)),
        bootstrap_servers=settings.kafka.bootstrap, group_id=f"bare-{os.getpid()}", enable_auto_commit=False,
        auto_offset_reset="earliest", max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )  # fmt: skip
    await producer.start()
    await consumer.start()

    async def publish(records: Iterable[Out]) -> None:
        sent = [
            await producer.send(out.topic, out.value, key=out.key, headers=list(out.headers))
            for out in records
        ]
        for future in sent:
            await future

    stages: dict[int, FusionStage] = {}
    committed_at = time.monotonic()
    while True:
        polled: Mapping[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=1000, max_records=2000)
        for tp, records in polled.items():
            clock.begin()
            stage = stages.setdefault(tp.partition, make_stage(settings, tp.partition, publish))
            await stage.handle(tp.topic, records)
            clock.handled(len(records))
        if time.monotonic() - committed_at > 1.0:
            committed_at = time.monotonic()
            for partition, stage in stages.items():
                settled = await stage.settle()
                await consumer.commit(
                    {
                        TopicPartition(topic, partition): OffsetAndMetadata(*kept)
                        for topic, kept in settled.items()
                    }
                )


def main(argv: list[str] | None = None) -> int:
    """Prints a line per run and ends in one JSON line."""
    parser = argparse.ArgumentParser(prog="bench join", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readings", type=int, default=240_000)
    parser.add_argument("--child", choices=["faust", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", help=argparse.SUPPRESS)
    parser.add_argument("--total", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        gc.set_threshold(*GC_THRESHOLDS)  # as a worker does
        settings = Settings(kafka=KafkaSettings(bootstrap=arguments.bootstrap, partitions=PARTITIONS))
        sys.argv = sys.argv[:1]
        if arguments.child == "faust":
            run_faust(settings, arguments.total)
        else:
            asyncio.run(run_bare(settings, arguments.total))
        return 0
    with fresh_broker() as settings:
        total = fill(settings, arguments.readings)
        print(f"{total} records in the log: {arguments.readings} readings, the rest features", flush=True)
        rates: dict[str, list[float]] = {"faust": [], "bare": []}
        for _ in range(arguments.rounds):
            for name, found in rates.items():
                result = child(
                    "benchmarks.join",
                    "--child",
                    name,
                    "--total",
                    str(total),
                    "--bootstrap",
                    str(settings.kafka.bootstrap),
                )
                found.append(result["rate"])
                print(f"{name:5} {result['rate']:9.0f} messages/s  {result['cpu']:.1f} s of CPU", flush=True)
    value, baseline = max(rates["faust"]), max(rates["bare"])
    verdict("join", value, "messages/s", baseline, value / baseline, rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
