"""What a worker's parts are given by settings."""

import threading
from datetime import timedelta

import pytest

from agents.builders import _waiting
from settings.sections import WindowSettings
from streams.errors import WaitStopped
from streams.join import Rules
from streams.join_rules import join_rules
from streams.metrics import REGISTRY
from streams.patience import Hindrance, Patience

AWAY = Hindrance("influx", "cannot be reached", "InfluxDB cannot be reached: refused")


def test_a_sink_that_waits_is_counted_for_the_alert_rules_and_said(caplog: pytest.LogCaptureFixture) -> None:
    stopping = threading.Event()
    stopping.set()
    before = REGISTRY.get_sample_value("aq_sink_errors_total", {"sink": "influx"}) or 0.0
    with pytest.raises(WaitStopped):
        Patience.until(stopping, _waiting).pause(0, AWAY)
    assert REGISTRY.get_sample_value("aq_sink_errors_total", {"sink": "influx"}) == before + 1
    assert "InfluxDB cannot be reached" in caplog.text


def test_the_joins_rules_are_those_of_the_settings_in_ms() -> None:
    window = WindowSettings(
        size=timedelta(minutes=2), grace=timedelta(seconds=7), allowed_lateness=timedelta(minutes=11),
        disorder=timedelta(seconds=3), idle_timeout=timedelta(seconds=31),
    )  # fmt: skip
    disorder = {"features": 3_000, "readings": 3_000}
    assert join_rules(window) == Rules(120_000, 7_000, 660_000, disorder, 31_000, 660_000)
    assert join_rules(window.model_copy(update={"idle_timeout": None})).idle_timeout is None
