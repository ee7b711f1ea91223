"""The alert stage: estimates through the state machines of `agents.alerting`, events out, then settled."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from aiokafka import ConsumerRecord

from agents.alerting import rules as rules_file
from agents.alerting.errors import RulesError
from agents.alerting.rules import Rules
from agents.alerting.station import StationAlerts
from agents.alerting.stored import ALERTS
from agents.alerting.watch import Watch
from schemas.alert import Alert
from streams import metrics
from streams.accept import read_estimate
from streams.checkpoint import Checkpoints
from streams.driver import Out, Publish
from streams.letters import Letters

log = logging.getLogger(__name__)


class RulesSource:
    """The rules of a file, read again when it changes; the default set without a file.

    The first read raises RulesError. Later a file that is wrong or gone leaves the rules before in force, and
    is complained about once per change: a typing mistake must not end the watch.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp = self._look()
        self._rules = rules_file.load(path)

    def __call__(self) -> Rules:
        """The rules in force now."""
        stamp = self._look()
        if self._path is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = rules_file.load(self._path)
                log.info("alert rules read again from %s", self._path)
            except RulesError as error:
                log.error("the changed alert rules are not used, those before stay in force:\n%s", error)
        return self._rules

    def _look(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


class AlertStage:
    """Alerts of one partition of the estimates.

    Events are confirmed before anything is settled; the states they left behind are checkpointed with the
    offset they belong to, so a successor tells the same events again, under the same ids, or none twice.
    """

    def __init__(
        self,
        rules: Callable[[], Rules],
        checkpoints: Checkpoints,
        snapshots: Mapping[str, tuple[int, StationAlerts]],
        publish: Publish,
        *,
        horizon_ms: int,
        topic: str,
        alerts_topic: str,
        dead_letter_topic: str,
        partition: int,
        start: int,
    ) -> None:
        self._rules = rules
        self._watch = Watch(
            rules(), horizon_ms, {station: state for station, (_, state) in snapshots.items()}
        )
        self._checkpoints = checkpoints
        self._publish = publish
        self._topic = topic
        self._alerts_topic = alerts_topic
        self._dead_letter_topic = dead_letter_topic
        self._partition = partition
        self._read = start
        # Counted from zero: a first event is otherwise no increase to Prometheus.
        for event in get_args(Alert.model_fields["event"].annotation):
            metrics.ALERT_TRANSITIONS.labels(event)
        self._counted = 0
        self._count()

    async def handle(self, topic: str, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Watch one poll's estimates."""
        assert topic == self._topic, f"{topic} is not what this stage reads"
        out: list[Out] = []
        letters = Letters(self._dead_letter_topic, "alert")
        events: list[Alert] = []
        for record in records:
            told = letters.read(record, lambda record=record: self._watch.feed([read_estimate(record)]))  # type: ignore[misc]
            events += told or ()
        for event in events:
            # The estimates' partition, not that of the id: compaction then sees a station's events in order.
            out.append(
                Out(
                    self._alerts_topic, event.id.encode(), event.model_dump_json().encode(),
                    partition=self._partition,
                )
            )  # fmt: skip
            metrics.ALERT_TRANSITIONS.labels(event.event).inc()
        letters.count(records)
        await self._publish(out + letters.out())
        self._read = records[-1].offset + 1

    async def tick(self) -> None:
        """Nothing happens by time alone."""

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Everything before this offset is told, and the states it left are checkpointed."""
        changed = self._watch.changes()
        await self._publish(
            self._checkpoints.write(
                dict.fromkeys(changed, self._read), lambda station, _: ALERTS.encode(changed[station])
            )
        )
        self._count()
        # Rules that have changed hold from the offset on that is committed now: a successor begins there,
        # with the new rules. Changed in between, what the old ones told would be told again by the new ones,
        # in other words under the same id and sequence.
        self._watch.rules = self._rules()
        return {self._topic: (self._read, "")}

    def _count(self, gone: bool = False) -> None:
        """This partition's share of the gauge, which the worker's partitions have in common."""
        now = 0 if gone else sum(state.active() for state in self._watch.states().values())
        metrics.ALERTS.labels("open").inc(now - self._counted)
        self._counted = now

    def committed(self) -> None:
        """The checkpoints written last go with the committed offset."""
        self._checkpoints.committed()

    def paused(self) -> set[str]:
        """Never."""
        return set()

    async def close(self) -> None:
        """The alerts of this partition are another worker's to count."""
        self._count(gone=True)
