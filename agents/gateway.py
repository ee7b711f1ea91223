"""The gateway's worker: every way in as a task of one event loop. What `skyfuse worker gateway` runs."""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import generate_latest

from agents.away import Away, end_within
from schemas.errors import Refused
from settings.sections import GatewaySettings, Settings
from sources.cameras.round import CameraRound
from sources.codecs.shelf import CodecShelf
from sources.entries import read_entries
from sources.files.watch import FolderWatch
from sources.gateway.admission import Admission
from sources.gateway.devices import DeviceReporter, SourceChange
from sources.gateway.directory import StationDirectory
from sources.gateway.errors import CodecFileError
from sources.gateway.ftp_way import FtpWay
from sources.gateway.http_way import HttpWay
from sources.gateway.keys import KeyRing
from sources.gateway.mqtt_way import MqttWay
from sources.gateway.producer import ConfirmedProducer
from sources.gateway.reception import Reception
from sources.gateway.spool import PatientReception
from sources.gateway.way import Way
from sources.pull.schedule import PullSchedule
from sources.stations.registry import StationRegistry
from streams import metrics
from streams.admin import client_arguments
from streams.version import version

log = logging.getLogger(__name__)

#: Seconds before the first restart of a way in that failed; doubled, up to the longest, while it fails.
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
#: A way that has run for so long (s) has recovered.
_STEADY_S: Final = 60.0
_FORMAT: Final = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"


@dataclass(frozen=True)
class Gateway:
    """A gateway put together: its producer, and all ways in."""

    producer: ConfirmedProducer
    reception: Reception
    patient: PatientReception | None
    ways: Sequence[Way]

    async def run(self) -> None:
        """Serve all ways until cancelled; then close what is open."""
        await self.producer.start()
        try:
            async with asyncio.TaskGroup() as group:
                for way in self.ways:
                    group.create_task(_kept(way), name=way.name)
        finally:
            await self.producer.stop()
            if self.patient is not None:
                self.patient.close()


def build_gateway(settings: Settings) -> Gateway:
    """The gateway of settings. Raises KeyFileError, TemplateError, SourceError, FtpMissing."""
    gateway = settings.gateway
    prefix = settings.kafka.prefix
    producer = ConfirmedProducer(settings.kafka, patience_s=gateway.patience.total_seconds())
    directory = StationDirectory(settings.kafka)
    devices = DeviceReporter(producer, prefix)
    admission = None
    if gateway.unknown == "quarantine":
        admission = Admission(
            gateway.admit, directory.__contains__, directory.read.is_set, gateway.admit_within
        )
    reception = Reception(
        producer,
        gateway,
        prefix,
        admission=admission,
        listeners=[devices],
        codec_of=_codecs(gateway) if gateway.codecs else None,
    )
    patient = None
    if gateway.spool:
        file = settings.data_dir / "gateway" / "spool.sqlite"
        patient = PatientReception(reception, file, gateway.spool * 1024 * 1024)
    ways: list[Way] = [directory, devices]
    if patient is not None:
        ways.append(patient)
    keys = KeyRing(settings.keys_path, complain=log.error)
    if not len(keys) and not (gateway.http.port is None and gateway.ftp.port is None):
        log.warning("there is no key yet, so nobody can send by HTTP or FTP: `skyfuse gateway keys add NAME`")
    if gateway.ftp.port is not None:
        ways.append(FtpWay(gateway.ftp, reception, keys, report=devices.source_changed))
    if gateway.http.port is not None:
        stations = StationRegistry(client_arguments(settings.kafka), prefix)
        ways.append(
            HttpWay(
                gateway.http, reception, patient or reception, keys, zone_of=directory.zone_of,
                stations=stations,
            )
        )  # fmt: skip
    if gateway.mqtt.url is not None:
        ways.append(
            MqttWay(
                gateway.mqtt, reception, patient or reception, settings.data_dir / "gateway",
                zone_of=directory.zone_of,
            )
        )  # fmt: skip
    ways += _fetching(settings, reception, directory, devices.source_changed)
    return Gateway(producer, reception, patient, ways)


def _fetching(
    settings: Settings,
    reception: Reception,
    directory: StationDirectory,
    report: Callable[[SourceChange], None],
) -> list[Way]:
    """What fetches by itself, as the operator's file has it. Raises SourceError."""
    file = settings.sources_path
    if file is None:
        return []
    entries = read_entries(file)
    ways: list[Way] = []
    asked = [entry for entry in entries.camera if entry.folder is None]
    if asked:
        ways.append(
            CameraRound(asked, reception, place_of=directory.place_of, known=directory.read, report=report)
        )
    if entries.pull:
        cursors = settings.data_dir / "gateway" / "pull.sqlite"
        ways.append(
            PullSchedule(
                entries.pull,
                reception,
                cursors,
                zone_of=directory.zone_of,
                known=directory.read,
                report=report,
            )
        )
    uploading = [entry for entry in entries.camera if entry.folder is not None]
    if entries.folder or uploading:
        ways.append(
            FolderWatch(
                entries.folder,
                uploading,
                reception,
                zone_of=directory.zone_of,
                known=directory.read,
                report=report,
            )
        )
    return ways


def _codecs(settings: GatewaySettings) -> CodecShelf:
    try:
        return CodecShelf(settings.codecs)
    except (Refused, OSError) as error:
        raise CodecFileError(f"gateway.codecs: {error}") from error


def run_gateway(settings: Settings, web_port: int, web_host: str, loglevel: str = "INFO") -> None:
    """Run a gateway in this process until it is told to stop."""
    assert settings.kafka.bootstrap is not None
    logging.basicConfig(level=loglevel.upper(), format=_FORMAT)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Away(settings.kafka.bootstrap))
    metrics.BUILD.labels(version(), "", "gateway").set(1)
    gateway = build_gateway(settings)
    # What was loaded to get here stays: the collector of cycles need not go through it again and again.
    gc.collect()
    gc.freeze()
    asyncio.run(_run(gateway, web_port, web_host))


async def _run(gateway: Gateway, web_port: int, web_host: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = None
    if web_port:
        runner = web.AppRunner(_pages(gateway), access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, web_host, web_port).start()
    serving = asyncio.create_task(gateway.run(), name="gateway")
    stopping = asyncio.create_task(stop.wait(), name="stops")
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    backstop = end_within()
    stopping.cancel()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    if runner is not None:
        await runner.cleanup()
    backstop.cancel()


async def _kept(way: Way) -> None:
    """Keep a way in running: what fails is begun again, later and later."""
    pause = _FIRST_PAUSE_S
    while True:
        began = time.monotonic()
        try:
            await way.serve()
        except Exception:
            log.exception("%s failed and is begun again in %g s", way.name, pause)
        if time.monotonic() - began > _STEADY_S:
            pause = _FIRST_PAUSE_S
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _pages(gateway: Gateway) -> web.Application:
    """/livez, /readyz and /metrics, as the other workers have them."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive", "role": "gateway"})

    async def readyz(_: web.Request) -> web.Response:
        problems = ["Kafka does not confirm"] if gateway.producer.away else []
        return web.json_response(
            {"status": "not ready" if problems else "ready", "role": "gateway", "problems": problems},
            status=503 if problems else 200,
        )

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    return app
