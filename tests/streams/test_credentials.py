"""The three Kafka clients are told the same of who skyfuse is."""

from pathlib import Path
from typing import Any

import certifi
import faust
import pytest

from settings.sections import KafkaSettings
from streams.credentials import for_aiokafka, for_faust, for_kafka_python


def kafka(protocol: str, **more: Any) -> KafkaSettings:
    return KafkaSettings(
        bootstrap="broker:9092", security_protocol=protocol, sasl_mechanism="SCRAM-SHA-512",
        sasl_username="me", sasl_password="secret", **more,
    )  # fmt: skip


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_all_are_told_the_same_user(protocol: str) -> None:
    settings = kafka(protocol)
    plain, other, app = for_kafka_python(settings), for_aiokafka(settings), for_faust(settings)
    assert plain["security_protocol"] == other["security_protocol"] == protocol
    for name in ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"):
        assert plain[name] == other[name]
    assert isinstance(app, faust.SASLCredentials)
    assert (app.username, app.password) == (plain["sasl_plain_username"], plain["sasl_plain_password"])
    assert str(getattr(app.mechanism, "value", app.mechanism)) == plain["sasl_mechanism"]
    assert (app.ssl_context is not None) == ("ssl_context" in other) == (protocol == "SASL_SSL")


def test_tls_alone_names_no_user() -> None:
    authority = Path(certifi.where())
    settings = kafka("SSL", ssl_cafile=authority)
    assert for_kafka_python(settings) == {"security_protocol": "SSL", "ssl_cafile": str(authority)}
    assert set(for_aiokafka(settings)) == {"security_protocol", "ssl_context"}
    assert isinstance(for_faust(settings), faust.SSLCredentials)


def test_a_broker_that_asks_for_nothing_is_told_nothing() -> None:
    settings = kafka("PLAINTEXT")
    assert for_kafka_python(settings) == for_aiokafka(settings) == {"security_protocol": "PLAINTEXT"}
    assert for_faust(settings) is None
