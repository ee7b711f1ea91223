"""The notifier: alert events to a web hook, one after the other. A worker of its own, without Faust.

Events must not overtake each other, and one that waits for its receiver for minutes is no reason to be taken
for dead; so it has a plain consumer with a group, and commits after each event.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from exchange.webhook import Webhook
from schemas.alert import Alert
from schemas.errors import Refused
from settings.names import TopicNames
from streams.accept import dead_letter
from streams.boundary import guarded
from streams.errors import DeliveryError, TopicReadError, WaitStopped
from streams.record_sender import RecordSender
from streams.stage import KafkaRecord
from streams.topics import ALERTS, DEAD_LETTERS

#: A notifier that was killed keeps its partitions for the shortest time that brokers allow by default, so
#: that its successor goes on in a few seconds. One that is alive may take long over a single event, since it
#: waits for the receiver; between two it lets others join.
_MEMBERSHIP: Final = {
    "session_timeout_ms": 6_000, "heartbeat_interval_ms": 2_000, "max_poll_interval_ms": 2 * 3_600_000,
    "max_poll_records": 1,
}  # fmt: skip


def notify(
    connection: Mapping[str, Any],
    names: TopicNames,
    group: str,
    webhook: Webhook,
    stopping: threading.Event,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Deliver every event on the alerts topic; what cannot be delivered goes to the dead letters.

    The position is committed after each event, so that an event is sent again only if this process dies
    between the receiver's answer and the commit; receivers tell repeats by the Skyfuse-Event header.
    Raises TopicReadError, DeliveryError.
    """
    try:
        consumer = KafkaConsumer(
            names.of(ALERTS), **connection, group_id=names.prefix + group, enable_auto_commit=False,
            auto_offset_reset="earliest", **_MEMBERSHIP,
        )  # fmt: skip
        sender = RecordSender(connection)
    except KafkaError as error:
        raise TopicReadError(f"the broker cannot be reached: {error}") from error
    try:
        while not stopping.is_set():
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    refused = _deliver(webhook, record)
                    place = f"{record.topic}/{record.partition}/{record.offset}"
                    if refused is not None:
                        letter = dead_letter(names.of(DEAD_LETTERS), "alert", record, refused)
                        sender.publish(letter)
                        tell(f"dead letter {place}: {refused.message}")
                    elif record.value is not None:
                        event = (record.key or b"").decode(errors="replace")
                        tell(f"delivered {event} ({datetime.now(UTC):%H:%M:%S}Z)")
                    consumer.commit(
                        {
                            TopicPartition(record.topic, record.partition): OffsetAndMetadata(
                                record.offset + 1, "", -1
                            )
                        }
                    )
    except WaitStopped:
        tell("stopped while the receiver was away; the event will be sent again")
    except KafkaError as error:
        raise DeliveryError(f"the broker did not confirm: {error}") from error
    finally:
        sender.close()
        consumer.close()


def _deliver(webhook: Webhook, record: KafkaRecord) -> Refused | None:
    """Why an event was not delivered, if so; a tombstone is no event."""
    value = record.value
    if value is None:
        return None
    alert = guarded(lambda: Alert.model_validate_json(value))
    if isinstance(alert, Refused):
        return alert
    reason = webhook.deliver(alert)
    return None if reason is None else Refused("webhook_refused", reason)
