"""Debian's servers, started for a test on free ports, and a proxy that misbehaves on demand."""

import json
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from infra.errors import MosquittoError
from infra.stack.mosquitto import LocalMosquitto

_DEADLINE_S = 30.0
HTTP = urllib3.PoolManager(retries=False, timeout=10.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], what: str, deadline_s: float = _DEADLINE_S) -> Any:
    """The first truthy result of `condition`; fails the test when there is none in time.

    `deadline_s` is that of an idle machine; where others work beside the test it may take six times that.
    """
    deadline_s *= 6
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            pytest.fail(f"{what} did not happen within {deadline_s:.0f} s")
        threading.Event().wait(0.02)


def answers(url: str) -> bool:
    """Whether a server says something good at `url`."""
    try:
        return HTTP.request("GET", url).status < 400
    except urllib3.exceptions.HTTPError:
        return False


@contextmanager
def server(program: str, *arguments: str, ready: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`program` as a child process until the block ends; skips the test where it is not installed."""
    binary = shutil.which(program)
    if binary is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    with (
        (folder / f"{program}.log").open("wb") as log,
        subprocess.Popen([binary, *arguments], stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: process.poll() is not None or answers(ready), f"{program} to answer")
            assert process.poll() is None, (folder / f"{program}.log").read_text()
            yield process
        finally:
            process.kill()


@contextmanager
def mosquitto_of(broker: LocalMosquitto) -> Iterator[LocalMosquitto]:
    """A Mosquitto while it runs; where none is installed the test is skipped."""
    try:
        broker.start()
    except MosquittoError as error:
        if "not installed" not in str(error):
            raise
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    try:
        yield broker
    finally:
        broker.stop()


@dataclass
class Influx1:
    """Debian's InfluxDB 1.6, with one database."""

    url: str
    database: str
    process: subprocess.Popen[bytes]

    def create_database(self, name: str) -> None:
        answer = HTTP.request("POST", f"{self.url}/query", fields={"q": f'CREATE DATABASE "{name}"'})
        assert answer.status == 200, answer.data

    def query(self, text: str, database: str | None = None) -> list[dict[str, Any]]:
        """The series of one InfluxQL statement; fails on any error, also one inside a 200."""
        answer = HTTP.request(
            "GET", f"{self.url}/query", fields={"db": database or self.database, "q": text, "epoch": "s"}
        )
        body = json.loads(answer.data)
        assert answer.status == 200, (text, body)
        assert "error" not in body, (text, body)
        (result,) = body["results"]
        assert "error" not in result, (text, result)
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def rows(self, text: str) -> list[dict[str, Any]]:
        """Rows of one statement as dicts, tags included."""
        return [
            dict(zip(one["columns"], values, strict=True)) | one.get("tags", {})
            for one in self.query(text)
            for values in one["values"]
        ]


@contextmanager
def influxdb(folder: Path, database: str = "aq", port: int | None = None) -> Iterator[Influx1]:
    port, rpc = port or free_port(), free_port()
    config = folder / "influxd.toml"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n'
        f'[meta]\n dir = "{folder}/meta"\n'
        f'[data]\n dir = "{folder}/data"\n wal-dir = "{folder}/wal"\n query-log-enabled = false\n'
        "[monitor]\n store-enabled = false\n"
        f'[http]\n bind-address = "127.0.0.1:{port}"\n log-enabled = false\n'
    )
    url = f"http://127.0.0.1:{port}"
    with server("influxd", "-config", str(config), ready=f"{url}/ping", folder=folder) as process:
        engine = Influx1(url, database, process)
        engine.create_database(database)
        yield engine


@dataclass
class Victoria:
    """Debian's VictoriaMetrics."""

    url: str

    def export(self, match: str) -> list[dict[str, Any]]:
        """Samples of the matching series: {"metric": labels, "values": [...], "timestamps": [ms ...]}."""
        HTTP.request("GET", f"{self.url}/internal/force_flush")
        answer = HTTP.request("GET", f"{self.url}/api/v1/export", fields={"match[]": match})
        assert answer.status == 200, answer.data
        return [json.loads(line) for line in answer.data.splitlines()]


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[Victoria]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server(
        "victoria-metrics",
        f"-storageDataPath={folder / 'vm'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-search.latencyOffset=0s",
        "-memory.allowedBytes=128MB",
        "-dedup.minScrapeInterval=1ms",
        ready=f"{url}/health",
        folder=folder,
    ):
        yield Victoria(url)


@contextmanager
def prometheus(folder: Path, targets: list[str], interval: str = "200ms") -> Iterator[str]:
    """Debian's Prometheus scraping `targets` (host:port); yields its URL."""
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": interval, "scrape_timeout": interval},
                "scrape_configs": [{"job_name": "skyfuse", "static_configs": [{"targets": targets}]}],
            }
        )
    )
    url = f"http://127.0.0.1:{port}"
    with server(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
        ready=f"{url}/-/ready",
        folder=folder,
    ):
        yield url


@dataclass(frozen=True)
class Fault:
    """What the proxy does with one request instead of passing it on.

    `after`: pass it on first. `status` 0: cut the connection instead of answering; -1: stay silent.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"code":"fault","message":"made by the proxy"}'
    after: bool = False


class FaultProxy:
    """Stands between a sink and its server. Speaks /api/v2/write; `influx1`: to an InfluxDB 1 behind it.

    `faults` are used up, one per request, and so are `delays` (seconds before a request is passed on);
    `requests` counts what arrived.
    """

    def __init__(self, upstream: str, *, influx1: bool = False) -> None:
        self.faults: deque[Fault] = deque()
        self.delays: deque[float] = deque()
        self.requests = 0
        self.bodies = 0
        self._upstream = upstream
        self._influx1 = influx1
        self._port = free_port()
        self._quiet = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen (again)."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._serve(self)

            def log_message(self, *_: object) -> None:
                """A test's output is its own."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def process_request(self, request: Any, client_address: Any) -> None:
                proxy._connections.add(request)
                super().process_request(request, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Connections that the test cuts."""

        assert issubclass(Server, socketserver.TCPServer)
        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections; those that are open are cut."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed before
        self._connections.clear()

    def close(self) -> None:
        self._quiet.set()
        self.down()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests += 1
        self.bodies += len(body)
        if self.delays:
            self._quiet.wait(self.delays.popleft())
        fault = self.faults.popleft() if self.faults else None
        if fault is None or fault.after:
            answer = self._forward(handler, body)
            if fault is None:
                self._reply(handler, answer.status, {"Content-Type": "application/json"}, answer.data)
                return
        if fault.status == -1:
            self._quiet.wait(_DEADLINE_S)
        if fault.status <= 0:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        self._reply(handler, fault.status, fault.headers, fault.body)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> urllib3.BaseHTTPResponse:
        path = handler.path
        if self._influx1:
            asked = parse_qs(urlsplit(path).query)
            path = f"/write?db={asked['bucket'][0]}&precision={asked['precision'][0]}"
        passed = {"Content-Type": "text/plain"}
        if "Content-Encoding" in handler.headers:
            passed["Content-Encoding"] = handler.headers["Content-Encoding"]
        return HTTP.request("POST", self._upstream + path, body=body, headers=passed)

    @staticmethod
    def _reply(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
