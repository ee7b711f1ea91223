"""Settings completed with the servers that `skyfuse up` runs on this machine, where settings name none."""

from infra.errors import BrokerError
from infra.settings import Settings
from infra.stack.broker import running_bootstrap


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


def environment(settings: Settings) -> dict[str, str]:
    """What a child process has to know: the addresses that were found or started."""
    idle = settings.window.idle_timeout
    known = {
        "SKYFUSE_WINDOW__IDLE_TIMEOUT": "off" if idle is None else f"PT{idle.total_seconds():g}S",
        "SKYFUSE_DATA_DIR": str(settings.data_dir.absolute()),
        "SKYFUSE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap or "",
        "SKYFUSE_KAFKA__PREFIX": settings.kafka.prefix,
        "SKYFUSE_REDIS__URL": settings.redis.url or "off",
        "SKYFUSE_STORE": "" if settings.store is None else str(settings.store.absolute()),
    }
    return {name: value for name, value in known.items() if value}
