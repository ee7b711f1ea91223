"""The sink stage and what a foreign producer puts on the estimates topic."""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from agents.sink import Sinks, SinkStage
from schemas.alert import Alert
from schemas.annotation import Annotation
from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.estimate import Estimate, Inputs, MissingPollutant, ModelOutput
from sinks.influx import InfluxBucket, InfluxSink
from sinks.retention import Retention
from sinks.store import Store
from streams.accept import Keys, read_estimate
from streams.patience import Patience
from streams.stage import Out, StageIo
from streams.stations import StationBook
from tests.agents.test_sink_annotations import SPIDER
from tests.exchange.test_cap_and_webhook import EVENTS
from tests.samples import T0, estimate, imputed, index, measured

TOPIC = "aq.estimates.v1"
GOOD = estimate("s1", T0 + 60, pollutants={"pm25": measured(12.5)})
LATER = estimate("s1", T0 + 120, pollutants={"pm25": measured(13.5)})


def record(offset: int, value: bytes | None, key: bytes | None = b"s1") -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(TOPIC, 0, offset, 1_767_225_700_000, 1, key, value, None, 0, 0, (("a", b"b"),))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (('"value":12.5', '"value":NaN'), "not_finite"),
        (('"value":12.5', '"value":-Infinity'), "not_finite"),
        (('"value":12.5', '"value":1e400'), "not_finite"),
        (('"value":12.5', '"value":null'), "float_type"),
        (('"revision":1', '"revision":9999999999999999999'), "less_than_equal"),
        (("2026-01-01T00:01:00Z", "9999-12-31T23:59:59Z"), "not_a_window"),
        (('"s1"', '"s\\ud800"'), "not_json"),
    ],
)
def test_what_no_series_can_hold_is_a_dead_letter_as_it_came(
    change: tuple[str, str], code: str, tmp_path: Path
) -> None:
    letters: list[Out] = []

    async def publish(records: Iterable[Out], /) -> None:
        letters.extend(records)

    text = GOOD.model_dump_json()
    assert change[0] in text
    bad = record(1, text.replace(*change).encode())
    with Store(tmp_path / "store.sqlite", aggregates=True) as store, ThreadPoolExecutor(1) as executor:
        stage = SinkStage(
            StageIo(0, publish), Sinks(store),
            StationBook("aq.stations.v1", Keys(1)), executor, threading.Event(),
        )  # fmt: skip
        batch = [record(0, GOOD.model_dump_json().encode()), bad, record(2, LATER.model_dump_json().encode())]

        async def run() -> int:
            await stage.handle(TOPIC, batch)
            return (await stage.settle())[TOPIC][0]

        assert asyncio.run(run()) == 3
        assert store.read() == [GOOD, LATER]
    (letter,) = letters
    story = DeadLetter.from_headers(letter.headers)
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert DeadLetter.original_headers(letter.headers) == [("a", b"b")]
    assert (story.code, story.stage, story.offset) == (code, "sink", 1)
    assert len(story.reason) > 20


@pytest.mark.parametrize(
    ("key", "code"), [(b"s2", "key_mismatch"), (b"\xff", "key_mismatch"), (None, "no_key")]
)
def test_an_estimate_under_another_key_than_its_station_is_refused(key: bytes | None, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read_estimate(record(0, GOOD.model_dump_json().encode(), key), Keys(1))
    assert refused.value.code == code
    assert "'s1'" in refused.value.message
    assert read_estimate(record(0, GOOD.model_dump_json().encode()), Keys(1)) == GOOD


def test_an_estimate_on_another_partition_than_its_key_s_is_refused() -> None:
    """Two stages would keep the station's hours and alerts, each by what it has seen of them."""
    away = next(count for count in range(2, 9) if Keys(count).partition("s1") != 0)
    with pytest.raises(Refused, match="murmur2") as refused:
        read_estimate(record(0, GOOD.model_dump_json().encode()), Keys(away))
    assert refused.value.code == "wrong_partition"


FULL = estimate(
    "s1",
    T0 + 60,
    pollutants={"pm25": measured(12.5), "no2": imputed(9.5, 2.5, 20.5, weights={"camera": 0.5})},
    missing={"co": MissingPollutant(raw=9e5, qc=4, n=3, refused={"a": "b"})},
    indices=(index(nowcast=77, lo=66, hi=88),),
    model=ModelOutput(aqi=60.5, lo=40.5, hi=80.5, sensors={"pm25": 15.5}, shares={"image": 0.5}),
    inputs=Inputs(readings=3, humidity=55.5, withheld={"s1/x": 1}),
)


def places(plain: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers and the free words of a document stand."""
    if isinstance(plain, dict | list):
        for key, inner in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from places(inner, (*path, key))
    elif isinstance(plain, str | int | float) and not isinstance(plain, bool):
        yield path


@pytest.mark.parametrize("path", list(places(json.loads(FULL.model_dump_json()))), ids=str)
def test_nothing_of_an_estimate_is_of_absurd_size(path: tuple[Any, ...]) -> None:
    """Of a producer of somebody else's: the screen shows what it says."""
    plain = json.loads(FULL.model_dump_json())
    assert read_estimate(record(0, json.dumps(plain).encode()), Keys(1)) == FULL
    at = plain
    for part in path[:-1]:
        at = at[part]
    known = at[path[-1]]
    if isinstance(known, str):
        absurdities: tuple[str | float, ...] = ("x" * 17_000,)
    elif isinstance(known, int):
        absurdities = (10**12, -(10**12))
    else:
        absurdities = (10**12 * 1e290, -(10**12) * 1e290)
    for absurd in absurdities:
        at[path[-1]] = absurd
        with pytest.raises((Refused, ValidationError)):
            read_estimate(record(0, json.dumps(plain).encode()), Keys(1))


def test_what_is_over_its_time_leaves_while_the_sink_works(tmp_path: Path) -> None:
    """After each batch, as many as keep up with it; and by and by while nothing comes."""

    async def publish(_: Iterable[Out], /) -> None:
        """Nothing is refused here."""

    made = [estimate("s1", T0 + 60 * n) for n in range(1, 181)] + [estimate("s1", T0 + 86_400)]
    kept = Retention(windows=20 * 3_600_000)
    with Store(tmp_path / "s.sqlite", retention=kept) as store, ThreadPoolExecutor(1) as executor:
        stage = SinkStage(
            StageIo(0, publish), Sinks(store),
            StationBook("aq.stations.v1", Keys(1)), executor, threading.Event(),
        )  # fmt: skip
        records = [record(n, one.model_dump_json().encode()) for n, one in enumerate(made)]
        asyncio.run(stage.handle(TOPIC, records))
        assert [one.tally.windows for one in store.left()] == [60, 60, 60]
        store.write([estimate("s1", T0 + 2 * 86_400)])
        asyncio.run(stage.tick())
        assert [one.window.end.timestamp() for one in store.read()] == [T0 + 2 * 86_400]
        assert len(store.left()) == 4


class ShortMemory(BaseHTTPRequestHandler):
    """Answers as InfluxDB 2 does to points that are older than a bucket's retention, here than T0 + 90."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        old = [line for line in body.decode().split("\n") if int(line.rsplit(" ", 1)[1]) < T0 + 90]
        words = {
            "code": "unprocessable entity",
            "message": f"failure writing points to database: partial write: dropped {len(old)} points"
            " outside retention policy of duration 2160h0m0s - oldest point"
            f" {old[0][:40] if old else ''} dropped={len(old)}",
        }
        answer = json.dumps(words).encode() if old else b""
        self.send_response(422 if old else 204)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


def sent_to_short_memory(store: Store, batch: "Sequence[ConsumerRecord[bytes, bytes]]") -> list[Out]:
    """What the stage sends to the dead letters, of a batch that goes to an InfluxDB that keeps little."""
    letters: list[Out] = []

    async def publish(records: Iterable[Out], /) -> None:
        letters.extend(records)

    server = ThreadingHTTPServer(("127.0.0.1", 0), ShortMemory)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bucket = InfluxBucket(f"http://127.0.0.1:{server.server_port}", "o", "aq")
    influx = InfluxSink(bucket, "t", Patience(wait=lambda _: True))
    with ThreadPoolExecutor(1) as executor:
        stage = SinkStage(
            StageIo(0, publish), Sinks(store, influx),
            StationBook("aq.stations.v1", Keys(1)), executor, threading.Event(),
        )  # fmt: skip
        asyncio.run(stage.handle(TOPIC, batch))
    influx.close()
    server.shutdown()
    server.server_close()
    return letters


def test_an_estimate_older_than_the_bucket_keeps_is_one_dead_letter_that_says_so(tmp_path: Path) -> None:
    """Its eight lines were eight letters, each with the whole estimate."""
    batch = [record(offset, one.model_dump_json().encode()) for offset, one in enumerate((GOOD, LATER))]
    with Store(tmp_path / "store.sqlite", aggregates=True) as store:
        letters = sent_to_short_memory(store, batch)
        assert store.read() == [GOOD, LATER]
    (letter,) = letters
    story = DeadLetter.from_headers(letter.headers)
    assert (letter.value, story.code, story.offset) == (batch[0].value, "sink_rejected", 0)
    assert (
        "points of this estimate, which are older than its bucket keeps: the local store has them"
        in story.reason
    )
    assert "lengthen the bucket's retention" in story.reason
    assert "2160h0m0s" in story.reason


def test_a_sink_that_is_stopped_while_it_waits_acknowledges_nothing(tmp_path: Path) -> None:
    """What was not written is read again by the partition's next owner."""
    letters: list[Out] = []

    async def publish(records: Iterable[Out], /) -> None:
        letters.extend(records)

    stopping = threading.Event()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        bucket = InfluxBucket(f"http://127.0.0.1:{nobody.getsockname()[1]}", "o", "aq")
        influx = InfluxSink(bucket, "t", Patience.until(stopping, lambda *_: stopping.set()))
        with Store(tmp_path / "store.sqlite", aggregates=True) as store, ThreadPoolExecutor(1) as executor:
            stage = SinkStage(
                StageIo(0, publish, committed={TOPIC: (3, "")}), Sinks(store, influx),
                StationBook("aq.stations.v1", Keys(1)), executor, stopping,
            )  # fmt: skip

            async def run() -> int:
                await stage.handle(TOPIC, [record(3, GOOD.model_dump_json().encode())])
                return (await stage.settle())[TOPIC][0]

            assert asyncio.run(run()) == 3
        influx.close()
    assert not letters


@pytest.mark.parametrize(("topic", "said"), [("aq.alerts.v1", EVENTS[0]), ("aq.annotations.v1", SPIDER)])
def test_alerts_and_annotations_that_were_not_written_are_not_acknowledged_either(
    tmp_path: Path, topic: str, said: Alert | Annotation
) -> None:
    async def publish(records: Iterable[Out], /) -> None:
        assert not list(records)

    stopping = threading.Event()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        bucket = InfluxBucket(f"http://127.0.0.1:{nobody.getsockname()[1]}", "o", "aq")
        influx = InfluxSink(bucket, "t", Patience.until(stopping, lambda *_: stopping.set()))
        with Store(tmp_path / "store.sqlite", aggregates=True) as store, ThreadPoolExecutor(1) as executor:
            stage = SinkStage(
                StageIo(0, publish), Sinks(store, influx), StationBook("aq.stations.v1", Keys(1)), executor,
                stopping,
            )  # fmt: skip

            async def run() -> Mapping[str, tuple[int, str]]:
                await stage.handle(topic, [record(3, said.model_dump_json().encode(), said.id.encode())])
                return await stage.settle()

            assert topic not in asyncio.run(run())
        assert stopping.is_set(), "it waited for the server"
        influx.close()


def test_the_estimate_that_influxdb_refuses_is_the_one_that_is_a_dead_letter(tmp_path: Path) -> None:
    """It is neither the first nor the last of its batch."""
    ends = (T0 + 120, T0 + 60, T0 + 180, T0 + 240)
    batch = [
        record(offset, estimate("s1", end, pollutants={"pm25": measured(12.5)}).model_dump_json().encode())
        for offset, end in enumerate(ends)
    ]
    with Store(tmp_path / "store.sqlite", aggregates=True) as store:
        letters = sent_to_short_memory(store, batch)
    assert [(DeadLetter.from_headers(one.headers).offset, one.value) for one in letters] == [
        (1, batch[1].value)
    ]


class Picky(Store):
    """Cannot keep what ends at T0 + 60."""

    def write(self, estimates: Sequence[Estimate]) -> list[Estimate]:
        if any(one.window.end.timestamp() == T0 + 60 for one in estimates):
            raise ValueError("this one cannot be kept")
        return super().write(estimates)


def test_the_estimate_that_the_store_cannot_keep_is_the_one_that_is_a_dead_letter(tmp_path: Path) -> None:
    letters: list[Out] = []

    async def publish(records: Iterable[Out], /) -> None:
        letters.extend(records)

    ends = (T0 + 120, T0 + 60, T0 + 180)
    with Picky(tmp_path / "store.sqlite", aggregates=True) as store, ThreadPoolExecutor(1) as executor:
        stage = SinkStage(
            StageIo(0, publish), Sinks(store),
            StationBook("aq.stations.v1", Keys(1)), executor, threading.Event(),
        )  # fmt: skip
        batch = [
            record(
                offset, estimate("s1", end, pollutants={"pm25": measured(12.5)}).model_dump_json().encode()
            )
            for offset, end in enumerate(ends)
        ]
        asyncio.run(stage.handle(TOPIC, batch))
        assert [one.window.end.timestamp() for one in store.read()] == [T0 + 120, T0 + 180]
    assert [(DeadLetter.from_headers(one.headers).offset, one.value) for one in letters] == [
        (1, batch[1].value)
    ]
