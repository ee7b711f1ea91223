"""The InfluxDB sink against bare loops that POST lines to the same server, and the whole sink stage.

The baseline is a loop whose lines were made beforehand: what server and sockets allow (with and without gzip;
the faster of the two counts). Beside it a loop that makes its lines in the loop, as one would who does not
care how fast that is. Both send the very lines of the sink, in batches of the same size over one connection;
neither has revisions, retries or a search for bad lines, and neither does anything while the server works.

The rounds of all take turns, each round in another order, so that other work on the machine hits them alike.
Rates are medians; the ratio is the median of the ratios within a round, beside it their lower and upper
quartile. CPU time a point, ours and the server's, says what is left when no core is idle.

Servers: Debian's VictoriaMetrics and InfluxDB 1.6 on this machine, each with an empty folder. Version 1.6 has
the write path of version 1: there the sink's requests go to /write instead of /api/v2/write.

The stage is the worker's (agents/sink.py) without Kafka: polls of 2,000 records through decoding, the local
store, the database, directory and aggregates. Value: points per second of the sink into InfluxDB, beside it
the same for VictoriaMetrics.
"""

import argparse
import asyncio
import gzip
import http.client
import itertools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from aiokafka import ConsumerRecord
from urllib3 import BaseHTTPResponse, PoolManager

from agents.sink import Sinks, SinkStage
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate, IndexBlock, Inputs, ModelOutput, PollutantEstimate, Window
from schemas.parameters import POLLUTANTS
from sinks.aggregator import Aggregator
from sinks.influx import BATCH_LINES, GZIP_LEVEL, InfluxBucket, InfluxSink
from sinks.points import window_lines
from sinks.store import Store
from streams.accept import Keys
from streams.patience import Patience
from streams.stage import Out, StageIo
from streams.stations import StationBook

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--stations", "20", "--windows", "3", "--rounds", "2")
#: What it needs beside a checkout, as markers of tests.
NEEDS: Final = ("engine",)

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
            for parameter in POLLUTANTS
        }  # fmt: skip
        indices = tuple(
            IndexBlock(
                standard=standard, index=draw.randint(0, 300), category="moderate", level=1,
                dominant=("pm25",),
                status="indicative", reason="7 of 24 hours of pm25", imputed_share=0.4, nowcast=80,
                subindices={parameter: draw.randint(0, 300) for parameter in POLLUTANTS},
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


@dataclass(frozen=True)
class Server:
    """A server that runs: where lines are posted, and its process."""

    url: str
    path: str
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        times = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(program: str, port: int, health: str, path: str, *arguments: str) -> Iterator[Server]:
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
            yield Server(f"http://127.0.0.1:{port}", path, process.pid)
        finally:
            process.kill()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def victoria_metrics() -> Iterator[Server]:
    """Debian's VictoriaMetrics."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        _running(
            "victoria-metrics", port, "/health", "/api/v2/write?org=o&bucket=aq&precision=s",
            f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=100y",
        ) as server,
    ):  # fmt: skip
        yield server


@contextmanager
def influxdb() -> Iterator[Server]:
    """Debian's InfluxDB 1.6."""
    port, rpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "influxd.toml"
        config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n[meta]\n dir = "{folder}/meta"\n'
            f'[data]\n dir = "{folder}/data"\n wal-dir = "{folder}/wal"\n[monitor]\n store-enabled = false\n'
            f'[http]\n bind-address = "127.0.0.1:{port}"\n log-enabled = false\n'
        )
        write = "/write?db=aq&precision=s"
        with _running("influxd", port, "/ping", write, "-config", str(config)) as server:
            for database in ("aq", "aq_hourly", "aq_daily"):
                made = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                made.request("POST", f"/query?q=CREATE%20DATABASE%20{database}")
                if made.getresponse().status != 200:
                    raise SystemExit("influxd makes no database")
            yield server


class _Version1(PoolManager):
    """Sends writes of version 2 to the path of version 1."""

    def request(self, method: str, url: str, *args: Any, **more: Any) -> BaseHTTPResponse:
        bucket = parse_qs(urlsplit(url).query)["bucket"][0]
        older = f"{url.partition('/api/v2/')[0]}/write?db={bucket}&precision=s"
        return super().request(method, older, *args, **more)


def sink_to(server: Server) -> InfluxSink:
    """The sink, writing where the bare loops write."""
    sink = InfluxSink(InfluxBucket(server.url, "o", "aq"), "t", Patience.until(threading.Event()))
    if server.path.startswith("/write"):
        sink._pool = _Version1(num_pools=1, retries=False, headers=sink._pool.headers)
    return sink


def bare(server: Server, batches: Iterable[bytes], level: int | None = None) -> None:
    """POST every batch, compressed at `level` if there is one."""
    host = urlsplit(server.url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=60)
    headers = {"Content-Type": "text/plain"} | ({} if level is None else {"Content-Encoding": "gzip"})
    for batch in batches:
        body = batch if level is None else gzip.compress(batch, compresslevel=level)
        connection.request("POST", server.path, body, headers)
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


def _plain_line(measurement: str, tags: dict[str, str], fields: dict[str, Any], time_s: int) -> str:
    def written(value: Any) -> str:
        match value:
            case bool():
                return "t" if value else "f"
            case int():
                return f"{value}i"
            case float():
                return repr(value)
            case _:
                return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'

    named = ",".join(f"{name}={value}" for name, value in tags.items())
    return f"{measurement},{named} {','.join(f'{k}={written(v)}' for k, v in fields.items())} {time_s}"


def plain_lines(estimate: Estimate) -> Iterator[str]:
    """The sink's lines, made as one would who writes them down for the first time."""

    def number(name: str, value: float | None) -> dict[str, Any]:
        return {name: -1.0 if value is None else value, f"has_{name}": value is not None}

    def interval(low: str, high: str, has: str, lo: float | None, hi: float | None) -> dict[str, Any]:
        known = lo is not None and hi is not None
        return {low: lo if known else -1.0, high: hi if known else -1.0, has: known}

    def whole(value: int | None) -> int:
        return -1 if value is None else value

    end = round(estimate.window.end.timestamp())
    station = estimate.station
    common = {"revision": estimate.revision, "bundle": estimate.bundle}
    for parameter in POLLUTANTS:
        p = estimate.pollutants[parameter]
        fields = {
            "value": p.value, "has_value": True, "kind": p.kind, "qc": p.qc, "qc_tests": p.qc_tests,
            **interval("lo", "hi", "has_interval", p.lo, p.hi), "method": p.method, **number("raw", p.raw),
            "n": p.n, "sensors": ",".join(p.sensors),
            "refused": "; ".join(f"{name} {why}" for name, why in p.refused.items()), **common,
        }  # fmt: skip
        yield _plain_line("aq", {"parameter": parameter, "station": station}, fields, end)
    for rank, block in enumerate(estimate.indices):
        fields = {
            "index": whole(block.index), "category": block.category or "",
            "band": f"{block.standard}/{block.category}" if block.category else "",
            "level": whole(block.level), "dominant": ",".join(block.dominant), "status": block.status,
            "reason": block.reason, "imputed_share": block.imputed_share, "lo": whole(block.lo),
            "hi": whole(block.hi), "nowcast": whole(block.nowcast), "nowcast_lo": whole(block.nowcast_lo),
            "nowcast_hi": whole(block.nowcast_hi),
            **{f"sub_{parameter}": block.subindices.get(parameter, -1) for parameter in POLLUTANTS},
            "leading": rank == 0, **common,
        }  # fmt: skip
        yield _plain_line("aqi", {"standard": block.standard, "station": station}, fields, end)
    inputs, model = estimate.inputs, estimate.model
    assert model is not None  # of all estimates made above
    kinds = [p.kind for p in estimate.pollutants.values()]
    fields = {
        "sides": estimate.sides, "readings": inputs.readings, "frames": len(inputs.frames),
        "frames_used": sum(frame.usable for frame in inputs.frames),
        "frame_reasons": ",".join(sorted({reason for frame in inputs.frames for reason in frame.reasons})),
        **number("humidity", inputs.humidity), "measured": kinds.count("measured"),
        "corrected": kinds.count("corrected"), "imputed": kinds.count("imputed"), "missing": 6 - len(kinds),
        "model_aqi": model.aqi, "has_model": True,
        **interval("model_lo", "model_hi", "has_model_interval", model.lo, model.hi),
        "window_s": round((estimate.window.end - estimate.window.start).total_seconds()), **common,
    }  # fmt: skip
    yield _plain_line("station_state", {"station": station}, fields, end)


class Round(NamedTuple):
    """One run of one contender, in seconds."""

    wall: float
    ours: float  #: CPU of this process
    servers: float  #: CPU of the server


def in_turn(
    contenders: Mapping[str, Callable[[], None]], server: Server, rounds: int
) -> dict[str, list[Round]]:
    """Every contender's rounds; in each round they run in another order."""
    times: dict[str, list[Round]] = {name: [] for name in contenders}
    order = list(contenders.items())
    for _ in range(rounds):
        for name, run in order:
            wall, ours, servers = time.perf_counter(), time.process_time(), server.cpu()
            run()
            spent = time.perf_counter() - wall, time.process_time() - ours, server.cpu() - servers
            times[name].append(Round(*spent))
        order.append(order.pop(0))
    return times


BEFOREHAND: Final = ("loop, lines made beforehand, plain", "loop, lines made beforehand, gzip")
IN_THE_LOOP: Final = "loop, lines made in the loop, plain"
SINK: Final = "sink"


def contenders(
    server: Server, sink: InfluxSink, polls: Sequence[Sequence[Estimate]], lines: Sequence[str]
) -> dict[str, Callable[[], None]]:
    """What writes all of `polls`, whose lines are `lines`, once."""
    bodies = list(batched(lines, BATCH_LINES))

    def ours() -> None:
        for poll in polls:
            if sink.write(poll):
                raise SystemExit("the server refused lines")

    def in_the_loop() -> None:
        made = (line for poll in polls for estimate in poll for line in plain_lines(estimate))
        bare(server, batched(made, BATCH_LINES))

    return {
        BEFOREHAND[0]: lambda: bare(server, bodies),
        BEFOREHAND[1]: lambda: bare(server, bodies, GZIP_LEVEL),
        IN_THE_LOOP: in_the_loop,
        SINK: ours,
    }


def against_loops(
    server: Server, polls: Sequence[Sequence[Estimate]], rounds: int
) -> tuple[float, float, float]:
    """Points per second of the sink and of the faster loop with lines made beforehand, and their ratio."""
    lines = [line for poll in polls for estimate in poll for line in window_lines(estimate)]
    if lines != [line for poll in polls for estimate in poll for line in plain_lines(estimate)]:
        raise SystemExit("the loop would not send the sink's lines")
    sink = sink_to(server)
    runs = contenders(server, sink, polls, lines)
    runs[BEFOREHAND[0]]()  # series exist from here on, for all alike
    times = in_turn(runs, server, rounds)
    sink.close()

    def rate(name: str) -> float:
        return len(lines) / statistics.median(one.wall for one in times[name])

    def ratios(name: str) -> list[float]:
        return sorted(loop.wall / ours.wall for loop, ours in zip(times[name], times[SINK], strict=True))

    for name, each in times.items():
        low, middle, high = statistics.quantiles(ratios(name), n=4)
        ours, servers = (
            1e6 * statistics.median(one[column] for one in each) / len(lines) for column in (1, 2)
        )
        print(
            f"  {name:34} {rate(name):8,.0f} points/s; CPU a point {ours:4.1f} us, server {servers:4.1f} us;"
            f" sink is {middle:.2f} of it ({low:.2f} to {high:.2f})"
        )
    baseline = max(BEFOREHAND, key=rate)
    return rate(SINK), rate(baseline), statistics.median(ratios(baseline))


async def _nothing(records: Iterable[Out], /) -> None:
    if list(records):
        raise SystemExit("the stage refused records")


def stage(server: Server, polls: Sequence[Sequence[Estimate]]) -> float:
    """Estimates per second of the worker's stage, from the bytes of the topic on."""
    topic, partition = "aq.estimates.v1", 0
    records = [
        [
            ConsumerRecord(
                topic, partition, 2_000 * number + offset, to_ms(one.window.end), 0, one.station.encode(),
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
        influx = sink_to(server)
        book = StationBook("aq.stations.v1", Keys(1))
        running = SinkStage(
            StageIo(0, _nothing),
            Sinks(store, influx, Aggregator(store, influx, "aq", lambda _: True)),
            book, executor, threading.Event(),
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
    parser.add_argument("--rounds", type=int, default=11)
    chosen = parser.parse_args(argv)
    if chosen.rounds < 2:
        parser.error("--rounds: quartiles need two rounds at least")
    made = estimates(chosen.stations, chosen.windows)
    polls = [made[start : start + 2_000] for start in range(0, len(made), 2_000)]
    print(f"{len(made)} estimates of {len(window_lines(made[0]))} points, in polls of 2,000")
    results: dict[str, tuple[float, float, float]] = {}
    for name, running in (("VictoriaMetrics", victoria_metrics), ("InfluxDB 1.6", influxdb)):
        with running() as server:
            print(f"{name} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
            value, baseline, ratio = against_loops(server, polls, chosen.rounds)
            results[name] = ratio, value, baseline
            print(f"  whole stage {stage(server, polls):,.0f} estimates/s")
    ratio, value, baseline = results["InfluxDB 1.6"]
    other = results["VictoriaMetrics"]
    print(
        json.dumps(
            {
                "name": "sink", "value": round(value), "unit": "points/s",
                "baseline": round(baseline), "ratio": round(ratio, 3),
                "victoriametrics": {
                    "value": round(other[1]), "baseline": round(other[2]), "ratio": round(other[0], 3)
                },
            }
        )
    )  # fmt: skip
    return 0
