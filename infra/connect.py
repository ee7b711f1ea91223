"""Settings completed with the servers that `skyfuse up` runs on this machine, where settings name none."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from infra.errors import BrokerError
from infra.stack.broker import EmbeddedBroker, has_data, running_bootstrap
from settings.sections import Settings
from settings.values import FOREVER


def with_broker(settings: Settings) -> Settings:
    """These settings, with the embedded broker's address if they name none. Raises BrokerError."""
    if settings.kafka.bootstrap is not None:
        return settings
    bootstrap = running_bootstrap(settings.data_dir / "kafka")
    if bootstrap is None:
        raise BrokerError(
            f"no broker: settings name none (kafka.bootstrap) and none runs in {settings.data_dir}:"
            " start `skyfuse up`, or set SKYFUSE_KAFKA__BOOTSTRAP"
        )
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": bootstrap})})


@contextmanager
def broker_at_hand(settings: Settings, say: Callable[[str], None]) -> Iterator[Settings]:
    """These settings, with a broker: where settings name none and none runs, the embedded one, meanwhile.

    For commands that look at what the last `up` or `replay` left on its topics. Raises BrokerError where
    neither ever ran here: a mistyped data_dir shall not grow a broker of its own.
    """
    folder = settings.data_dir / "kafka"
    if settings.kafka.bootstrap is not None or running_bootstrap(folder) is not None or not has_data(folder):
        yield with_broker(settings)
        return
    say(f"no broker runs on {settings.data_dir}: it is started for this command, and ended after it")
    with EmbeddedBroker(folder):
        yield with_broker(settings)


def _lasting(length: timedelta) -> str:
    return "forever" if length >= FOREVER else f"{length.total_seconds():.0f}s"


def environment(settings: Settings) -> dict[str, str]:
    """What a child process has to know: the addresses that were found or started."""
    idle, http = settings.window.idle_timeout, settings.gateway.http
    known = {
        "SKYFUSE_GATEWAY__HTTP__PORT": "off" if http.port is None else str(http.port),
        "SKYFUSE_GATEWAY__MQTT__URL": settings.gateway.mqtt.url or "",
        "SKYFUSE_WEB__PORT": str(settings.web.port),
        "SKYFUSE_WEB__WORKERS": json.dumps(settings.web.workers),
        "SKYFUSE_WEB__ANONYMOUS": json.dumps(settings.web.anonymous),
        "SKYFUSE_WINDOW__IDLE_TIMEOUT": "off" if idle is None else f"PT{idle.total_seconds():g}S",
        "SKYFUSE_DATA_DIR": str(settings.data_dir.absolute()),
        "SKYFUSE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap or "",
        "SKYFUSE_KAFKA__PREFIX": settings.kafka.prefix,
        "SKYFUSE_REDIS__URL": settings.redis.url or "off",
        "SKYFUSE_STORE": "" if settings.store is None else str(settings.store.absolute()),
        "SKYFUSE_NETWORK__ENABLED": str(settings.network.enabled).lower(),
        "SKYFUSE_NETWORK__RADIUS_KM": str(settings.network.radius_km),
        "SKYFUSE_RETENTION__WINDOWS": _lasting(settings.retention.windows),
        "SKYFUSE_RETENTION__HOURS": _lasting(settings.retention.hours),
        "SKYFUSE_RETENTION__DAYS": _lasting(settings.retention.days),
    }
    return {name: value for name, value in known.items() if value}
