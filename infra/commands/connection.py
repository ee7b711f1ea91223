"""How a command reaches the broker: the one that settings name, or the embedded one that `up` started."""

from typing import Any

from infra.errors import BrokerError
from infra.settings import Settings
from infra.stack.broker import running_bootstrap
from streams.topics import MAX_RECORD_BYTES


def kafka_connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of kafka-python's clients. Raises BrokerError where there is no broker to reach."""
    kafka = settings.kafka
    bootstrap = kafka.bootstrap or running_bootstrap(settings.data_dir / "kafka")
    if bootstrap is None:
        raise BrokerError(
            f"no broker: settings name none (kafka.bootstrap) and none runs in {settings.data_dir}:"
            " start `skyfuse up`, or set SKYFUSE_KAFKA__BOOTSTRAP"
        )
    connection: dict[str, Any] = {
        "bootstrap_servers": bootstrap.split(","),
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.startswith("SASL"):
        connection |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        }
    if kafka.ssl_cafile is not None:
        connection["ssl_cafile"] = str(kafka.ssl_cafile)
    return connection


def consumer_limits() -> dict[str, Any]:
    """Fetch sizes that let every record of every topic through."""
    return {"max_partition_fetch_bytes": MAX_RECORD_BYTES, "fetch_max_bytes": 2 * MAX_RECORD_BYTES}
