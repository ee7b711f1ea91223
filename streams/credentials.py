"""How skyfuse proves to Kafka who it is: the settings, in the words of each of the three clients."""

import ssl
from typing import Any

import faust

from settings.sections import KafkaSettings


def for_kafka_python(kafka: KafkaSettings) -> dict[str, Any]:
    """Arguments of kafka-python's clients."""
    arguments: dict[str, Any] = {"security_protocol": kafka.security_protocol} | _sasl(kafka)
    if kafka.ssl_cafile is not None:
        arguments["ssl_cafile"] = str(kafka.ssl_cafile)
    return arguments


def for_aiokafka(kafka: KafkaSettings) -> dict[str, Any]:
    """Arguments of a plain aiokafka client."""
    arguments: dict[str, Any] = {"security_protocol": kafka.security_protocol} | _sasl(kafka)
    context = _tls(kafka)
    if context is not None:
        arguments["ssl_context"] = context
    return arguments


def for_faust(kafka: KafkaSettings) -> Any:
    """What a Faust app takes as `broker_credentials`; None for a broker that asks for none."""
    context, sasl = _tls(kafka), _sasl(kafka)
    if sasl:
        return faust.SASLCredentials(
            username=sasl["sasl_plain_username"],
            password=sasl["sasl_plain_password"],
            mechanism=sasl["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _tls(kafka: KafkaSettings) -> ssl.SSLContext | None:
    return (
        ssl.create_default_context(cafile=kafka.ssl_cafile)
        if kafka.security_protocol.endswith("SSL")
        else None
    )


def _sasl(kafka: KafkaSettings) -> dict[str, Any]:
    if not kafka.security_protocol.startswith("SASL"):
        return {}
    password = kafka.sasl_password
    return {
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": None if password is None else password.get_secret_value(),
    }
