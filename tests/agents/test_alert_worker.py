"""The alert worker alone: time passes without data, a record is taken back, and people are told the same."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from cli.alerts import app, newest
from cli.errors import QueryError
from cli.shared.connection import kafka_connection
from infra.stack.broker import EmbeddedBroker
from schemas.base import format_time, from_ms
from schemas.estimate import Window
from settings.sections import KafkaSettings, Settings, WindowSettings
from streams.compacted import appended_since
from streams.topics import ALERTS, ESTIMATES, FEATURES, FRAMES, READINGS, STATIONS
from tests.harness import fleet, until
from tests.samples import estimate

pytestmark = [pytest.mark.broker, pytest.mark.slow]

LIVE = WindowSettings(
    size=timedelta(seconds=1), grace=timedelta(0), allowed_lateness=timedelta(seconds=60),
    disorder=timedelta(0), idle_timeout=timedelta(seconds=1),
)  # fmt: skip
RULES = """
[[rule]]
id = "silence"
what = "silence"
steps = [{ severity = "minor", enter = 5 }]
"""


def test_a_quiet_partition_is_silent_by_the_clock_and_its_station_can_be_retired(
    broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules.toml"
    (tmp_path / "skyfuse.toml").touch()
    rules.write_text("")  # a save that is under way: the worker waits for it
    kafka = KafkaSettings(bootstrap=broker.bootstrap, prefix=topic_prefix, partitions=1)
    settings = Settings(data_dir=tmp_path / "data", kafka=kafka, window=LIVE)
    for name, value in (
        ("ALERTS__RULES", str(rules)), ("KAFKA__BOOTSTRAP", broker.bootstrap),
        ("KAFKA__PREFIX", topic_prefix), ("KAFKA__PARTITIONS", "1"), ("DATA_DIR", str(settings.data_dir)),
        ("CONFIG", str(tmp_path / "skyfuse.toml")),
    ):  # fmt: skip
        monkeypatch.setenv(f"SKYFUSE_{name}", value)

    def said(*command: str) -> str:
        result = CliRunner(env={"COLUMNS": "250"}).invoke(app, command, catch_exceptions=False)
        return result.output

    with fleet(settings, tmp_path, ("alert",)) as workers:
        producer = KafkaProducer(**kafka_connection(settings))

        def send(topic: str, value: bytes | None) -> None:
            producer.send(settings.kafka.prefix + topic, key=b"s", value=value).get(30)

        until("the complaint", lambda: "until the rules are mended" in workers.log("alert"))
        rules.write_text(RULES)
        last = int(time.time())
        for end in range(last - 9, last + 1):
            window = Window(start=from_ms((end - 1) * 1000), end=from_ms(end * 1000))
            send(ESTIMATES.name, estimate("s", end, window=window).model_dump_json().encode())

        def alert(event: str) -> object:
            workers.check()
            found, _ = newest(kafka_connection(settings), settings.kafka.prefix + ALERTS.name)
            return next((one for one in found if one.event == event), None)

        opened = until("the silence", lambda: alert("open"), 120)
        since = format_time(from_ms(last * 1000))
        assert opened.id == f"s/silence/{format_time(from_ms((last + 5) * 1000))}"
        # What is told of it is the same from wherever it is asked, also by a successor.
        workers.kill("alert")
        workers.revive()
        for command in (("list",), ("explain", "s")):
            text = said(*command)
            assert since in text
            assert opened.reason in text
        send(STATIONS.name, None)
        cleared = until("the retirement", lambda: alert("clear"), 60)
        assert (cleared.id, cleared.sequence, cleared.reason) == (opened.id, 1, "retired")
        assert "0 open alerts" in said("list")
        assert "1970" not in said("explain", "s")
        with pytest.raises(QueryError, match="station typo is unknown"):
            said("explain", "typo")

        # Whether the pipeline is behind is asked of the topics before it.
        def unread(at: float) -> bool:
            inputs = [topic_prefix + topic.name for topic in (READINGS, FRAMES, FEATURES)]
            return asyncio.run(appended_since(broker.bootstrap, inputs, 0, int(at * 1000), {}))

        assert not unread(0)
        send(READINGS.name, b"{}")
        assert unread(last)
        assert not unread(time.time() + 60)
        producer.close()
