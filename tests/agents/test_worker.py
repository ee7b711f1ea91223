"""What a worker's parts are given by settings."""

import threading

import pytest

from agents.worker import _waiting
from streams.metrics import REGISTRY
from streams.sinks.errors import SinkStopped
from streams.sinks.patience import Patience


def test_a_sink_that_waits_is_counted_for_the_alert_rules_and_said(caplog: pytest.LogCaptureFixture) -> None:
    stopping = threading.Event()
    stopping.set()
    before = REGISTRY.get_sample_value("aq_sink_errors_total", {"sink": "influx"}) or 0.0
    with pytest.raises(SinkStopped):
        Patience.until(stopping, _waiting).pause(0, "InfluxDB cannot be reached: refused")
    assert REGISTRY.get_sample_value("aq_sink_errors_total", {"sink": "influx"}) == before + 1
    assert "InfluxDB cannot be reached" in caplog.text
