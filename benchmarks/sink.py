"""The InfluxDB sink against bare loops that POST lines to the same server, and the whole sink stage.

The baseline is a loop whose lines were ready before the clock started: what server, sockets and (in the
faster of its two forms, with and without) gzip allow. Beside it: a loop that makes its lines as the sink
does. Neither has revisions, retries or a search for bad lines. The rounds of all take turns, so that other
work on the machine hits them alike, and the best of each counts.

Servers: Debian's VictoriaMetrics and InfluxDB 1.6 on this machine, each with an empty folder. Version 1.6 has
the write path of version 1: there the sink's requests go to /write instead of /api/v2/write.

The stage is the worker's (agents/sink.py) without Kafka: polls of 2,000 records through decoding, the local
store, the database, directory and aggregates. Value: points per second of the sink; ratio: the lower of the
two servers'.
"""

import argparse
import asyncio
import gzip
import http.client
import itertools
import json
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from aiokafka import ConsumerRecord
from urllib3 import BaseHTTPResponse, PoolManager

from agents.sink import SinkStage
from schemas.base import from_ms
from schemas.estimate import Estimate, IndexBlock, Inputs, ModelOutput, PollutantEstimate, Window
from schemas.parameters import PARAMETERS
from streams.accept import Keys
from streams.driver import Out
from streams.sinks.aggregator import Aggregator
from streams.sinks.influx import BATCH_LINES, GZIP_LEVEL, InfluxSink
from streams.sinks.patience import Patience
from streams.sinks.points import window_lines
from streams.sinks.store import Store
from streams.stations import StationBook

_START_MS: Final = 1_767_225_600_000


def estimates(stations: int, windows: int, seed: int = 1) -> list[Estimate]:
    """Made-up estimates with all six pollutants, two standards and a model output, window by window."""
    draw = random.Random(seed)
    made = []
    for window, station in itertools.product(range(windows), range(stations)):
        start = _START_MS + 60_000 * window
        pollutants = {
            parameter: PollutantEstimate(
                value=round(draw.uniform(1, 300), 2), kind="imputed", qc=9, lo=round(draw.uniform(0, 1), 2),
                hi=round(draw.uniform(300, 400), 2), method="camera",
            )
            if draw.random() < 0.4
            else PollutantEstimate(value=round(draw.uniform(1, 300), 2), kind="measured", qc=1, n=6, raw=1.0)
            for parameter in PARAMETERS
        }  # fmt: skip
        indices = tuple(
            IndexBlock(
                standard=standard, index=draw.randint(0, 300), category="moderate", level=1,
                dominant=("pm25",),
                status="indicative", reason="7 of 24 hours of pm25", imputed_share=0.4, nowcast=80,
                subindices={parameter: draw.randint(0, 300) for parameter in PARAMETERS},
            )
            for standard in ("us-epa-2024", "in-naqi-2014")
        )  # fmt: skip
        made.append(
            Estimate(
                station=f"station-{station:04}",
                window=Window(start=from_ms(start), end=from_ms(start + 60_000)),
                revision=draw.randint(1, 30),
                sides="both",
                pollutants=pollutants,
                model=ModelOutput(aqi=draw.uniform(0, 300), lo=1.0, hi=300.0, sensors={}),
                indices=indices,
                inputs=Inputs(readings=12),
                bundle="bundle-1",
            )
        )
    return made


@contextmanager
def _running(program: str, port: int, health: str, *arguments: str) -> Iterator[str]:
    binary = shutil.which(program)
    if binary is None:
        raise SystemExit(f"{program} is not installed: apt-get install influxdb victoria-metrics")
    with subprocess.Popen(
        [binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(600):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                    connection.request("GET", health)
                    if connection.getresponse().status < 300:
                        break
                except OSError:
                    time.sleep(0.05)
            else:
                raise SystemExit(f"{program} does not answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def victoria_metrics() -> Iterator[tuple[str, str]]:
    """Debian's VictoriaMetrics: address and write path."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        _running(
            "victoria-metrics", port, "/health", f"-storageDataPath={folder}",
            f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=100y",
        ) as url,
    ):  # fmt: skip
        yield url, "/api/v2/write?org=o&bucket=aq&precision=s"


@contextmanager
def influxdb() -> Iterator[tuple[str, str]]:
    """Debian's InfluxDB 1.6: address and write path."""
    port, rpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "influxd.toml"
        config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n[meta]\n dir = "{folder}/meta"\n'
            f'[data]\n dir = "{folder}/data"\n wal-dir = "{folder}/wal"\n[monitor]\n store-enabled = false\n'
            f'[http]\n bind-address = "127.0.0.1:{port}"\n log-enabled = false\n'
        )
        with _running("influxd", port, "/ping", "-config", str(config)) as url:
            for database in ("aq", "aq_hourly", "aq_daily"):
                made = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                made.request("POST", f"/query?q=CREATE%20DATABASE%20{database}")
                if made.getresponse().status != 200:
                    raise SystemExit("influxd makes no database")
            yield url, "/write?db=aq&precision=s"


class _Version1(PoolManager):
    """Sends writes of version 2 to the path of version 1."""

    def request(self, method: str, url: str, *args: Any, **more: Any) -> BaseHTTPResponse:
        bucket = parse_qs(urlsplit(url).query)["bucket"][0]
        older = f"{url.partition('/api/v2/')[0]}/write?db={bucket}&precision=s"
        return super().request(method, older, *args, **more)


def sink_to(url: str, path: str) -> InfluxSink:
    """The sink, writing where the bare loops write."""
    sink = InfluxSink(url, org="o", bucket="aq", token="t", patience=Patience.until(threading.Event()))
    if path.startswith("/write"):
        sink._pool = _Version1(num_pools=1, retries=False, headers=sink._pool.headers)
    return sink


def bare(url: str, path: str, batches: Iterable[bytes], level: int | None) -> None:
    """POST every batch, compressed at `level` if there is one."""
    host = urlsplit(url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=60)
    headers = {"Content-Type": "text/plain"} | ({} if level is None else {"Content-Encoding": "gzip"})
    for batch in batches:
        body = batch if level is None else gzip.compress(batch, compresslevel=level)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise SystemExit(f"the server answers {answer.status}")
    connection.close()


def batched(lines: Iterable[str], size: int) -> Iterator[bytes]:
    """Bodies of at most `size` lines."""
    lines = iter(lines)
    while batch := list(itertools.islice(lines, size)):
        yield "\n".join(batch).encode()


def best_in_turn(contenders: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in times.items()}


def against_loops(url: str, path: str, polls: Sequence[Sequence[Estimate]], rounds: int) -> dict[str, float]:
    """Points per second of the sink and of the bare loops."""
    lines = [line for poll in polls for estimate in poll for line in window_lines(estimate)]
    bodies = list(batched(lines, BATCH_LINES))
    sink = sink_to(url, path)

    def ours() -> None:
        for poll in polls:
            if sink.write(poll):
                raise SystemExit("the server refused lines")

    def same_core() -> None:
        made = (line for poll in polls for estimate in poll for line in window_lines(estimate))
        bare(url, path, batched(made, BATCH_LINES), GZIP_LEVEL)

    bare(url, path, bodies, None)  # series exist from here on, for all alike
    times = best_in_turn(
        {
            "loop, lines ready, plain": lambda: bare(url, path, bodies, None),
            "loop, lines ready, gzip": lambda: bare(url, path, bodies, GZIP_LEVEL),
            "loop that makes its lines": same_core,
            "sink": ours,
        },
        rounds,
    )
    sink.close()
    return {name: len(lines) / seconds for name, seconds in times.items()}


async def _nothing(records: Iterable[Out], /) -> None:
    if list(records):
        raise SystemExit("the stage refused records")


def stage(url: str, path: str, polls: Sequence[Sequence[Estimate]]) -> float:
    """Estimates per second of the worker's stage, from the bytes of the topic on."""
    topic, partition = "aq.estimates.v1", 0
    records = [
        [
            ConsumerRecord(
                topic, partition, 2_000 * number + offset, 0, 0, one.station.encode(),
                one.model_dump_json().encode(), None, 0, 0, (),
            )
            for offset, one in enumerate(poll)
        ]
        for number, poll in enumerate(polls)
    ]  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(1) as executor,
        Store(Path(folder) / "store.sqlite", aggregates=True) as store,
    ):
        influx = sink_to(url, path)
        book = StationBook("aq.stations.v1", Keys(1))
        running = SinkStage(
            store, influx, Aggregator(store, influx, "aq", lambda _: True), None, book, _nothing, executor,
            threading.Event(), topic=topic, dead_letter_topic="aq.dlq.v1", start=0,
        )  # fmt: skip

        async def work() -> None:
            for poll in records:
                await running.handle(topic, poll)

        start = time.perf_counter()
        asyncio.run(work())
        seconds = time.perf_counter() - start
        influx.close()
    return sum(map(len, polls)) / seconds


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the last line is its JSON."""
    parser = argparse.ArgumentParser(prog="bench sink", description=__doc__)
    parser.add_argument("--stations", type=int, default=500)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(argv)
    made = estimates(chosen.stations, chosen.windows)
    polls = [made[start : start + 2_000] for start in range(0, len(made), 2_000)]
    print(f"{len(made)} estimates of {len(window_lines(made[0]))} points, in polls of 2,000")
    results = []
    for name, server in (("VictoriaMetrics", victoria_metrics), ("InfluxDB 1.6", influxdb)):
        with server() as (url, path):
            print(name)
            rates = against_loops(url, path, polls, chosen.rounds)
            for contender, rate in rates.items():
                print(f"  {contender:26} {rate:10,.0f} points/s   sink is {rates['sink'] / rate:.2f} of it")
            print(f"  whole stage                {stage(url, path, polls):10,.0f} estimates/s")
            ready = max(rates["loop, lines ready, plain"], rates["loop, lines ready, gzip"])
            results.append((rates["sink"] / ready, rates["sink"], ready))
    ratio, value, baseline = min(results)
    print(
        json.dumps(
            {
                "name": "sink", "value": round(value), "unit": "points/s",
                "baseline": round(baseline), "ratio": round(ratio, 3),
            }
        )
    )  # fmt: skip
    return 0
