"""Events of alerts as records, whichever stage tells them."""

from schemas.alert import Alert
from streams import metrics
from streams.stage import Out


def alert_record(topic: str, event: Alert, partition: int) -> Out:
    """The record of an event, which is counted.

    It goes to its station's partition, not to that of its id: so compaction sees a station's in order.
    """
    metrics.ALERT_TRANSITIONS.labels(event.event).inc()
    return Out(topic, event.id.encode(), event.model_dump_json().encode(), partition=partition)
