"""The gateway's settings, as people write them in the environment."""

import pytest
from pydantic import ValidationError

from settings.sections import Settings


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFUSE_CONFIG", "")


def test_http_may_be_off_and_mqtt_left_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().gateway.http.port == 8090
    monkeypatch.setenv("SKYFUSE_GATEWAY__HTTP__PORT", "off")
    monkeypatch.setenv("SKYFUSE_GATEWAY__MQTT__URL", "")
    monkeypatch.setenv("SKYFUSE_GATEWAY__MQTT__TOPICS", '["a/{station} tasmota"]')
    gateway = Settings().gateway
    assert (gateway.http.port, gateway.mqtt.url) == (None, None)
    assert gateway.mqtt.topics == ("a/{station} tasmota",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP__PORT", "70000"),
        ("HTTP__PORT", "on"),
        ("HTTP__TLS_CERT", "cert.pem"),
        ("MQTT__URL", "mqtt://me:secret-word@broker"),
        ("MQTT__URL", "broker:1883"),
        ("MQTT__CLIENT_ID", "a b"),
        ("MQTT__SHARE", "a/b"),
        ("LONGEST_SIDE", "100"),
    ],
)
def test_what_is_wrong_is_told_without_what_was_given(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SKYFUSE_GATEWAY__{name}", value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "secret-word" not in str(raised.value)
