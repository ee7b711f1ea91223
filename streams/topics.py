"""The one table of topics. Creation, checks and the AsyncAPI document are all made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from schemas.times import DAY_MS, HOUR_MS

_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Topic:
    """A topic and its configuration.

    Every topic has the same number of partitions and is keyed by station, so that what is joined lies on the
    same partition number. Record timestamps are the broker's (LogAppendTime): retention would otherwise
    delete a replay of last year as it arrives.
    """

    name: str
    holds: str
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int = 7 * DAY_MS
    max_bytes: int = 1 * _MIB
    extra: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """Kafka topic configuration."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms if self.cleanup == "delete" else -1),
            "max.message.bytes": str(self.max_bytes),
            "message.timestamp.type": "LogAppendTime",
            **self.extra,
        }


STATIONS: Final = Topic("aq.stations.v1", "Station records, the newest per station counts", cleanup="compact")
CAMERA_BANDS: Final = Topic(
    "aq.camera-bands.v1", "far bands that were found, the newest per station counts", cleanup="compact"
)
FRAMES: Final = Topic(
    "aq.frames.v1",
    "camera frames: raw image bytes, metadata in headers",
    retention_ms=6 * HOUR_MS,
    # Three times schemas.frame.MAX_FRAME_BYTES: an oversized one is refused with a reason, not by the broker.
    max_bytes=12 * _MIB,
    # Only closed segments can be dropped: without this, pixels would stay for a week.
    extra={"segment.ms": str(HOUR_MS)},
)
#: Larger than any reading need be: an oversized one is refused with a reason, not by the broker.
READINGS: Final = Topic("aq.readings.v1", "sensor readings", max_bytes=12 * _MIB)
FEATURES: Final = Topic("aq.features.v1", "features of frames")
ESTIMATES: Final = Topic("aq.estimates.v1", "estimates, every revision", retention_ms=30 * DAY_MS)
ALONE: Final = Topic(
    "aq.alone.v1",
    "estimates of stations by themselves, by region, for the network stage",
    # A little more than an estimate.
    max_bytes=2 * _MIB,
)
ALERTS: Final = Topic("aq.alerts.v1", "alert events, the newest per alert counts", cleanup="compact")
ANNOTATIONS: Final = Topic(
    "aq.annotations.v1",
    "what people say of a station's data, the newest per annotation counts",
    cleanup="compact",
)
QUARANTINE: Final = Topic(
    "aq.quarantine.v1", "readings of stations that are not let in yet (gateway.unknown)", max_bytes=12 * _MIB
)
QUARANTINED_FRAMES: Final = replace(
    FRAMES,
    name="aq.quarantined-frames.v1",
    holds="camera frames of stations that are not let in yet, no longer than frames are kept",
)
DEVICES: Final = Topic("aq.devices.v1", "what devices say of themselves, told by gateways where it changes")
FLEET: Final = Topic(
    "aq.fleet.v1", "how each station fares, the newest per station counts", cleanup="compact",
    extra={"segment.ms": str(HOUR_MS), "min.cleanable.dirty.ratio": "0.2"},
)  # fmt: skip
WEATHER: Final = Topic("aq.weather.v1", "weather to come, and that has passed, as somebody issued it")
#: A forecast has some 30 kB; after three days all of its hours have come.
FORECASTS: Final = Topic(
    "aq.forecasts.v1", "the next three days of each station, every hour anew", retention_ms=3 * DAY_MS
)
LATE: Final = Topic("aq.late.v1", "readings and features too late for a revision", retention_ms=30 * DAY_MS)
DEAD_LETTERS: Final = Topic(
    "aq.dlq.v1",
    "refused records: original bytes (of a picture none), reason in headers",
    retention_ms=30 * DAY_MS,
    max_bytes=13 * _MIB,
)
STATE: Final = Topic(
    "aq.state.v1",
    "checkpoints of what outlives a window, per station",
    cleanup="compact",
    max_bytes=4 * _MIB,
    extra={"segment.ms": str(HOUR_MS), "min.cleanable.dirty.ratio": "0.2"},
)
ALERT_STATE: Final = Topic(
    "aq.alert-state.v1",
    "checkpoints of the alerts, per station",
    cleanup="compact",
    extra={"segment.ms": str(HOUR_MS), "min.cleanable.dirty.ratio": "0.2"},
)
FORECAST_STATE: Final = Topic(
    "aq.forecast-state.v1",
    "checkpoints of the forecasts, per station",
    cleanup="compact",
    extra={"segment.ms": str(HOUR_MS), "min.cleanable.dirty.ratio": "0.2"},
)
NETWORK_STATE: Final = Topic(
    "aq.network-state.v1",
    "checkpoints of what regions have learned, in pieces",
    cleanup="compact",
    max_bytes=4 * _MIB,
    extra={"segment.ms": str(HOUR_MS), "min.cleanable.dirty.ratio": "0.2"},
)
TOPICS: Final = (
    STATIONS,
    CAMERA_BANDS,
    FRAMES,
    READINGS,
    FEATURES,
    ALONE,
    ESTIMATES,
    ALERTS,
    ANNOTATIONS,
    QUARANTINE,
    QUARANTINED_FRAMES,
    DEVICES,
    FLEET,
    WEATHER,
    FORECASTS,
    LATE,
    DEAD_LETTERS,
    STATE,
    ALERT_STATE,
    FORECAST_STATE,
    NETWORK_STATE,
)
#: The largest record any worker has to be able to fetch or produce.
MAX_RECORD_BYTES: Final = 14 * _MIB
