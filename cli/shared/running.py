"""A pipeline on this machine: what settings do not name is started, and all of it ended again."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from agents.worker import started
from cli.shared.live import Pipeline
from infra.connect import environment
from infra.stack.broker import EmbeddedBroker, running_bootstrap
from infra.stack.cache import EmbeddedCache
from infra.stack.mosquitto import LocalMosquitto
from infra.stack.ports import HOST, expect_free, free_port
from infra.stack.processes import ProcessStatus, Supervisor, ended_by_signals
from settings.sections import Settings
from streams.admin import create_topics


@dataclass(frozen=True)
class Running:
    """A running pipeline: its settings, completed, and where its workers answer."""

    settings: Settings
    supervisor: Supervisor
    pipeline: Pipeline
    workers: Mapping[str, Sequence[str]]
    broker: EmbeddedBroker | None
    mosquitto: LocalMosquitto | None = None

    def keep_broker(self, note: Callable[[str], None]) -> None:
        """Start the embedded broker again if it has died; the workers wait for it, or are restarted."""
        if self.broker is not None and not self.broker.running:
            note("Apache Kafka died and is started again")
            self.broker.start()
        if self.mosquitto is not None and not self.mosquitto.running:
            note("Mosquitto died and is started again")
            self.mosquitto.start()

    def start_workers(self) -> None:
        """Start those that do not run yet."""
        known = {status.name for status in self.supervisor.status()}
        for role, command in self.workers.items():
            if role not in known:
                self.supervisor.add(role, command, environment(self.settings))


@contextmanager
def running(
    settings: Settings,
    say: Callable[[str], None],
    note: Callable[[str], None],
    *,
    replay: bool = False,
    ways: Collection[str] = (),
) -> Iterator[Running]:
    """Start what settings do not name (broker, cache) and the topics; end everything on exit.

    `ways`: how devices may send (http, mqtt): with any there is a gateway, and with mqtt a broker for them.
    A replay may run beside `up`: it uses the broker that is there, logs of its own, and no cache.
    """
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        shown = settings.web
        if not replay and shown.port and "port" in shown.model_fields_set:  # whoever asks for it looks there
            expect_free(shown.host, shown.port, "web.port (SKYFUSE_WEB__PORT)")
        mosquitto = None
        if "mqtt" in ways and settings.gateway.mqtt.url is None:
            mosquitto = stack.enter_context(LocalMosquitto(settings.data_dir / "mosquitto"))
        settings = _let_in(settings, ways, None if mosquitto is None else mosquitto.url)
        broker = None
        bootstrap = settings.kafka.bootstrap
        if bootstrap is None and replay:
            bootstrap = running_bootstrap(settings.data_dir / "kafka")
        if bootstrap is None:
            broker = EmbeddedBroker(settings.data_dir / "kafka")
            broker.start(progress=say)
            stack.callback(broker.stop)
            bootstrap = broker.bootstrap
        kafka = settings.kafka.model_copy(update={"bootstrap": bootstrap})
        settings = settings.model_copy(update={"kafka": kafka})
        if settings.redis.url is None and not replay:
            say("starting the cache")
            cache = stack.enter_context(EmbeddedCache(settings.data_dir / "cache"))
            settings = settings.model_copy(
                update={"redis": settings.redis.model_copy(update={"url": cache.url})}
            )
        create_topics(settings)
        ports = {
            role: free_port()
            for role in (
                *started(settings, replay=replay),
                *(["gateway"] if ways else []),
                *([] if replay else ["web"]),
            )
        }
        pages = {role: f"http://127.0.0.1:{port}/metrics" for role, port in ports.items()}
        settings = _shown(settings, {role: page for role, page in pages.items() if role != "web"})

        def crashed(status: ProcessStatus, tail: str) -> None:
            last = tail.strip().splitlines()[-1:] or ["(its log is empty)"]
            note(f"{status.name} crashed and is restarted: {last[0]}")

        supervisor = stack.enter_context(
            Supervisor(settings.data_dir / ("log-replay" if replay else "log"), crashed)
        )
        yield Running(
            settings,
            supervisor,
            Pipeline(pages),
            {
                role: [sys.executable, "-m", "cli.main", "worker", role, "--web-port", str(port)]
                for role, port in ports.items()
            },
            broker,
            mosquitto,
        )


def _shown(settings: Settings, workers: Mapping[str, str]) -> Settings:
    """Settings of the page: at its usual port if that is free, else at another; `workers`: their metrics."""
    shown = settings.web
    port = free_port(shown.port or None) if shown.host == HOST else shown.port
    return settings.model_copy(
        update={"web": shown.model_copy(update={"port": port, "workers": dict(workers)})}
    )


def _let_in(settings: Settings, ways: Collection[str], mqtt: str | None) -> Settings:
    """Settings of a gateway that takes what comes by `ways` alone; `mqtt`: of the broker that was started."""
    gateway = settings.gateway
    if "http" not in ways:
        gateway = gateway.model_copy(update={"http": gateway.http.model_copy(update={"port": None})})
    if mqtt is not None:
        gateway = gateway.model_copy(update={"mqtt": gateway.mqtt.model_copy(update={"url": mqtt})})
    return settings.model_copy(update={"gateway": gateway})
