"""The gateway's worker fetches by itself: a camera, a folder and a device, as docs/ingest.md has them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from settings.sections import Settings
from streams.admin import create_topics
from streams.topics import FRAMES, READINGS
from tests.harness import read_all
from tests.sources.cameras.servers import picture

pytestmark = pytest.mark.broker
Make = Callable[..., Settings]


class _Yard(BaseHTTPRequestHandler):
    """A camera and an AirGradient."""

    def do_GET(self) -> None:
        body = picture(time.monotonic_ns() % 10_000)
        if self.path == "/measures/current":
            body = b'{"serialno": "d83bda1d7660", "wifi": -57, "pm02": 12, "atmp": 21.5, "rhum": 48}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextmanager
def _yard() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Yard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_camera_folder_and_device_arrive(kafka_settings: Make, tmp_path: Path) -> None:
    settings = kafka_settings(partitions=1)
    create_topics(settings)
    folder = tmp_path / "portal"
    folder.mkdir()
    (folder / "may.csv").write_text(
        "time,station,parameter,value,unit\n2026-08-21T10:00:00Z,from-file,pm25,7,ug/m3\n"
    )
    file = tmp_path / "sources.toml"
    with _yard() as url, (tmp_path / "log").open("wb") as log:
        file.write_text(
            f'[[camera]]\nstation = "my-roof"\ncamera = "mast"\nsnapshot = "{url}/shot.jpg"\n'
            'local = true\nevery = "1s"\n'
            f'[[folder]]\npath = "{folder}"\nquiet = "1s"\n'
            f'[[pull]]\nname = "roof"\nurl = "{url}/measures/current"\nadapter = "airgradient"\n'
            'station = "my-roof"\nlocal = true\nevery = "1s"\n'
        )
        environment = os.environ | {
            "SKYFUSE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap or "", "SKYFUSE_CONFIG": "",
            "SKYFUSE_KAFKA__PREFIX": settings.kafka.prefix, "SKYFUSE_DATA_DIR": str(tmp_path / "data"),
            "SKYFUSE_KAFKA__PARTITIONS": "1", "SKYFUSE_GATEWAY__HTTP__PORT": "off",
            "SKYFUSE_GATEWAY__SOURCES": str(file),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "worker", "gateway"], env=environment, stdout=log, stderr=log
        )
        try:
            until = time.monotonic() + 90
            while True:
                readings = read_all(settings, READINGS)
                frames = read_all(settings, FRAMES)
                stations = {record.key for record in readings}
                if stations == {b"my-roof", b"from-file"} and len(frames) >= 2:
                    break
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until, (tmp_path / "log").read_text()
        finally:
            process.terminate()
            assert process.wait(180) == 0
    assert dict(frames[0].headers)["ce_camera"] == b"mast"
    assert (folder / "done" / "may.csv").exists()
