"""How a command reaches the broker: the one that settings name, or the embedded one that `up` started."""

from typing import Any

from infra.connect import with_broker
from settings.sections import Settings
from streams.admin import client_arguments, dial


def kafka_connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of kafka-python's clients.

    Raises BrokerError or TopicError where there is no broker to reach.
    """
    kafka = with_broker(settings).kafka
    dial(kafka)
    return client_arguments(kafka)
