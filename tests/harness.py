"""Real workers as processes against a real broker, and a small made-up city to feed them."""

import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition
from PIL import Image, ImageDraw

from infra.connect import environment
from infra.stack.processes import Child, spawn
from schemas.base import from_ms
from schemas.estimate import Estimate
from schemas.features import Punctuation
from schemas.frame import FrameHeader
from settings.sections import Settings, WindowSettings
from sinks.store import Store
from streams import topics
from streams.accept import PUNCTUATION_TYPE
from streams.admin import client_arguments, create_topics
from streams.topics import MAX_RECORD_BYTES, Topic

#: Twenty minutes before noon (UTC) on a June day: daylight for the gate, and an hour ends on the way.
NOON = 1_750_246_800_000
REPLAY = WindowSettings(
    size=timedelta(seconds=60),
    grace=timedelta(seconds=5),
    allowed_lateness=timedelta(seconds=120),
    disorder=timedelta(seconds=10),
    idle_timeout=None,
)


def until(what: str, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The condition's first true value; AssertionError when it does not come in time.

    `seconds` are those of an idle machine; where others work beside the test it may take six times as long.
    """
    seconds *= 6
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)


def picture(seed: int, noise: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG of coloured blocks: a different scene per `seed`, never twice the same grain."""
    dice = random.Random(seed)
    image = Image.new("RGB", size, (200, 215, 235))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = dice.randrange(size[0]), dice.randrange(size[1] // 3, size[1])
        colour = tuple(dice.randrange(20, 255) for _ in range(3))
        draw.rectangle([x, y, x + dice.randrange(8, 50), y + dice.randrange(8, 60)], fill=colour)
    grain = np.random.default_rng(noise).integers(-6, 7, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(image, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@dataclass(frozen=True)
class Sent:
    """A record as a station sends it."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


def reading(station: str, at: int, values: dict[str, float], unit: str = "ug/m3") -> Sent:
    """A reading message."""
    listed = ",".join(f'{{"parameter":"{p}","value":{v},"unit":"{unit}"}}' for p, v in values.items())
    body = f'{{"station":"{station}","observed_at":{at},"values":[{listed}]}}'
    return Sent(topics.READINGS, station.encode(), body.encode())


def frame(station: str, at: int, data: bytes, camera: str = "main") -> Sent:
    """A frame."""
    header = FrameHeader(
        id=f"{station}/{camera}/{at}", source="/test", time=from_ms(at), station=station, camera=camera
    )
    return Sent(topics.FRAMES, station.encode(), data, tuple(header.to_headers()))


def punctuations(at: int, partitions: int) -> list[Sent]:
    """Progress on every input partition."""
    value = Punctuation(kind="watermark", at=from_ms(at)).model_dump_json().encode()
    return [
        Sent(topic, None, value, (("ce_type", PUNCTUATION_TYPE),), partition)
        for topic in (topics.FRAMES, topics.READINGS)
        for partition in range(partitions)
    ]


def city(seed: int, stations: int, minutes: int, partitions: int) -> list[Sent]:
    """Readings each 10 s, frames each 30 s, a little out of order, with gaps, repeats, missing sensors."""
    dice = random.Random(seed)
    timed: list[tuple[int, Sent]] = []
    for number in range(stations):
        name = f"st-{number}"
        sensors = dice.sample(["pm25", "pm10", "no2", "so2", "co", "o3"], dice.randrange(1, 7))
        for second in range(0, minutes * 60, 10):
            at = NOON + second * 1000 + number
            if dice.random() < 0.85:
                values = {p: round(dice.uniform(5, 90), 2) for p in sensors if dice.random() < 0.8}
                if values:
                    timed.append((at + dice.randrange(0, 8000), reading(name, at, values)))
            if second % 30 == 0 and number % 4 != 3 and dice.random() < 0.9:
                timed.append((at + dice.randrange(0, 8000), frame(name, at, picture(number, seed + second))))
    timed.sort(key=lambda pair: pair[0])
    records = [record for _, record in timed]
    for _ in range(len(records) // 20):
        place = dice.randrange(len(records) - 5)
        records.insert(place + dice.randrange(1, 5), records[place])
    return [
        *punctuations(NOON, partitions),
        *records,
        *punctuations(NOON + (minutes + 60) * 60_000, partitions),
    ]


def send(
    settings: Settings, records: Sequence[Sent], on_sent: Callable[[int], None] = lambda _: None
) -> None:
    """Produce in order, confirmed."""
    producer = KafkaProducer(
        **client_arguments(settings.kafka), max_request_size=MAX_RECORD_BYTES, linger_ms=5
    )
    try:
        futures = []
        for index, record in enumerate(records):
            futures.append(
                producer.send(
                    settings.kafka.prefix + record.topic.name, key=record.key, value=record.value,
                    headers=list(record.headers), partition=record.partition,
                )
            )  # fmt: skip
            on_sent(index)
        for future in futures:
            future.get(timeout=300)
    finally:
        producer.close()


@contextmanager
def following(settings: Settings, topic: Topic) -> Iterator[Callable[[], list[Any]]]:
    """What gives everything that has come on a topic since it was last asked."""
    name = settings.kafka.prefix + topic.name
    consumer = KafkaConsumer(
        **client_arguments(settings.kafka),
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        fetch_max_bytes=2 * MAX_RECORD_BYTES,
    )  # fmt: skip
    tps = [KafkaTopicPartition(name, p) for p in range(settings.kafka.partitions)]

    def news() -> list[Any]:
        ends = consumer.end_offsets(tps)
        found: list[Any] = []
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            for records in consumer.poll(timeout_ms=500).values():
                found += records
        return found

    try:
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        yield news
    finally:
        consumer.close()


def read_all(settings: Settings, topic: Topic) -> list[Any]:
    """Everything on a topic now."""
    with following(settings, topic) as news:
        return news()


class Fleet:
    """Workers as processes; each may be killed and started again."""

    def __init__(self, settings: Settings, log_dir: Path) -> None:
        self.settings = settings
        self._log_dir = log_dir
        self._children: dict[str, Child] = {}

    def start(self, role: str) -> None:
        """Start a role's worker."""
        window = self.settings.window
        seconds = {
            "SIZE": window.size, "GRACE": window.grace, "DISORDER": window.disorder,
            "ALLOWED_LATENESS": window.allowed_lateness, "IDLE_TIMEOUT": window.idle_timeout,
        }  # fmt: skip
        influx = self.settings.influx
        env = {
            **os.environ,
            **environment(self.settings),
            "SKYFUSE_CONFIG": "",
            "SKYFUSE_KAFKA__PARTITIONS": str(self.settings.kafka.partitions),
            "SKYFUSE_KAFKA__SESSION_TIMEOUT": "PT6S",
            **{
                f"SKYFUSE_WINDOW__{k}": "off" if v is None else f"PT{v.total_seconds():g}S"
                for k, v in seconds.items()
            },
            **(
                {
                    "SKYFUSE_INFLUX__URL": influx.url,
                    "SKYFUSE_INFLUX__BUCKET": influx.bucket,
                    "SKYFUSE_INFLUX__TOKEN": "test",
                }
                if influx.url
                else {}
            ),
        }
        self._children[role] = spawn(
            [sys.executable, "-m", "cli.main", "worker", role],
            name=role,
            log=self._log_dir / f"{role}.log",
            env=env,
        )

    def pid(self, role: str) -> int:
        """Process id of the worker."""
        return self._children[role].pid

    def kill(self, role: str) -> None:
        """kill -9."""
        self._children[role].kill()

    def revive(self) -> list[str]:
        """Start again what has ended; gives the roles."""
        ended = [role for role, child in self._children.items() if child.poll() is not None]
        for role in ended:
            self.start(role)
        return ended

    def check(self) -> bool:
        """True; AssertionError with the log of a worker that has ended."""
        for role, child in self._children.items():
            assert child.poll() is None, f"{role} ended:\n{self.log(role)[-3000:]}"
        return True

    def log(self, role: str) -> str:
        """What the worker wrote."""
        return (self._log_dir / f"{role}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End all workers."""
        for child in self._children.values():
            child.interrupt()
        for child in self._children.values():
            child.stop(10.0)


@contextmanager
def fleet(
    settings: Settings, tmp_path: Path, roles: Sequence[str] = ("vision", "fusion", "sink")
) -> Iterator[Fleet]:
    """Topics and running workers."""
    create_topics(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    running = Fleet(settings, tmp_path)
    try:
        for role in roles:
            running.start(role)
        yield running
    finally:
        running.stop()


def stored(settings: Settings) -> dict[tuple[str, int], Estimate]:
    """The store's estimates by (station, end of window)."""
    if not settings.store_path.exists():
        return {}
    with Store(settings.store_path, read_only=True) as store:
        return {(e.station, int(e.window.end.timestamp())): e for e in store.read()}


def expected_windows(records: Sequence[Sent]) -> set[tuple[str, int]]:
    """(station, end of window) of every window that has any input."""
    import json

    found = set()
    for record in records:
        if record.key is None or record.value is None:
            continue
        headers = dict(record.headers)
        if "ce_time" in headers:
            from schemas.base import parse_time, to_ms

            at = to_ms(parse_time(headers["ce_time"].decode()))
        else:
            at = json.loads(record.value)["observed_at"]
        found.add((record.key.decode(), (at // 60_000 + 1) * 60))
    return found
