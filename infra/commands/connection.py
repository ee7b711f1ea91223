"""How a command reaches the broker: the one that settings name, or the embedded one that `up` started."""

from typing import Any

from infra.errors import BrokerError
from infra.settings import Settings
from infra.stack.broker import running_bootstrap
from streams.admin import client_arguments
from streams.topics import MAX_RECORD_BYTES


def kafka_connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of kafka-python's clients. Raises BrokerError where there is no broker to reach."""
    kafka = settings.kafka
    if kafka.bootstrap is None:
        bootstrap = running_bootstrap(settings.data_dir / "kafka")
        if bootstrap is None:
            raise BrokerError(
                f"no broker: settings name none (kafka.bootstrap) and none runs in {settings.data_dir}:"
                " start `skyfuse up`, or set SKYFUSE_KAFKA__BOOTSTRAP"
            )
        kafka = kafka.model_copy(update={"bootstrap": bootstrap})
    return client_arguments(kafka)


def consumer_limits() -> dict[str, Any]:
    """Fetch sizes that let every record of every topic through."""
    return {"max_partition_fetch_bytes": MAX_RECORD_BYTES, "fetch_max_bytes": 2 * MAX_RECORD_BYTES}
