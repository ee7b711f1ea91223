"""kill -9 of the alert worker at random: the topic tells every event under the same id, in the same bytes."""

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaProducer

from agents import rules_file
from alerting.watch import Watch
from cli.shared.connection import kafka_connection
from infra.stack.broker import EmbeddedBroker
from schemas.alert import Alert
from schemas.estimate import Estimate
from schemas.times import in_ms
from settings.sections import KafkaSettings, Settings
from streams.accept import Keys
from streams.to_end import read_topic
from streams.topics import ALERTS, ESTIMATES
from tests.agents.test_alert_stage import city
from tests.harness import REPLAY, fleet, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KILLS = 8
PARTITIONS = 2
RULES = """
[[rule]]
id = "plume"
what = "concentration"
parameter = "pm25"
rests_on = "lower_bound"
open_after = "2m"
clear_after = "2m"
steps = [
    { severity = "minor", enter = 100, leave = 90 },
    { severity = "severe", enter = 150, leave = 140 },
]

[[rule]]
id = "guessed"
what = "imputed_share"
steps = [{ severity = "info", enter = 1, leave = 0.5 }]

[[rule]]
id = "quiet"
what = "silence"
clear_after = "1m"
steps = [{ severity = "minor", enter = 3 }]
"""


def test_kills_change_no_event(
    broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(4)
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    monkeypatch.setenv("SKYFUSE_ALERTS__RULES", str(file))
    settings = Settings(
        data_dir=tmp_path / "data",
        kafka=KafkaSettings(bootstrap=broker.bootstrap, prefix=topic_prefix, partitions=PARTITIONS),
        window=REPLAY,
    )
    keys, source = Keys(PARTITIONS), city(seed=1, count=1_200)
    horizon = in_ms(REPLAY.size + REPLAY.grace + REPLAY.allowed_lateness)

    def due(sent: Sequence[Estimate]) -> dict[tuple[str, int], bytes]:
        """What there is to tell of these estimates."""
        lanes = defaultdict(list)
        for one in sent:
            lanes[keys.partition(one.station)].append(one)
        return {
            (event.id, event.sequence): event.model_dump_json().encode()
            for lane in lanes.values()
            for event in Watch(rules_file.load(file), horizon).feed(lane)
        }

    wanted = due(source)
    assert len(wanted) > 100

    topic = settings.kafka.prefix + ALERTS.name

    def passed(deadline: float) -> bool:
        return time.monotonic() > deadline

    def has_told(enough: int) -> bool:
        return len(told()) >= enough

    def told() -> dict[tuple[str, int], set[bytes]]:
        found = defaultdict(set)
        for record in read_topic(kafka_connection(settings), topic):
            event = Alert.model_validate_json(record.value)
            found[event.id, event.sequence].add(record.value)
        return found

    with fleet(settings, tmp_path, ("alert",)) as workers:
        producer = KafkaProducer(**kafka_connection(settings))
        size, amid = -(-len(source) // KILLS), 0
        for number in range(KILLS):
            for one in source[number * size : (number + 1) * size]:
                producer.send(
                    settings.kafka.prefix + ESTIMATES.name, key=one.station.encode(),
                    value=one.model_dump_json().encode(), partition=keys.partition(one.station),
                )  # fmt: skip
            producer.flush(300)
            # Killed after some more events, however long they take, or at any moment: while it starts, or
            # waits for the dead one's partitions.
            before, some, moment = len(told()), dice.randint(1, 10), dice.uniform(0.2, 3.0)
            enough = min(before + some, len(due(source[: (number + 1) * size])))
            deadline = time.monotonic() + moment
            if number % 2:
                until("some events", partial(has_told, enough), 120)
            else:
                until("the moment", partial(passed, deadline))
            workers.kill("alert")
            amid += before < len(told()) < len(wanted)
            workers.revive()
        until("every event", lambda: workers.check() and wanted.keys() <= told().keys(), 60)
        producer.close()
    assert amid >= 2, "the worker was never killed amid its work"
    # However often an event was told, its bytes are the same.
    assert told() == {key: {value} for key, value in wanted.items()}
