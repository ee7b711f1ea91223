"""What a worker counts, under the names that the dashboards and docs/outputs.md use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

MESSAGES: Final = Counter(
    "aq_messages_total", "Records read", ["topic", "result"], registry=REGISTRY
)  # result: used, partly_used, refused, punctuation
LAG_MESSAGES: Final = Gauge(
    "aq_consumer_lag_messages",
    "Records in the log that were not read yet",
    ["topic", "partition"],
    registry=REGISTRY,
)
LAG_SECONDS: Final = Gauge(
    "aq_consumer_lag_seconds", "Age of the newest record read; 0 at the end of the log",
    ["topic"], registry=REGISTRY,
)  # fmt: skip
WATERMARK: Final = Gauge(
    "aq_watermark_timestamp_seconds",
    "Watermark, seconds since 1970",
    ["source", "partition"],
    registry=REGISTRY,
)
WATERMARK_LAG: Final = Gauge(
    "aq_watermark_lag_seconds", "Now less the watermark", ["source", "partition"], registry=REGISTRY
)
LATE: Final = Counter(
    "aq_late_events_total",
    "Records with an input that came after its window was final",
    ["source", "outcome"],
    registry=REGISTRY,
)  # outcome: dropped (to aq.late.v1); what made a revision is in aq_window_emitted_total
WINDOWS_OPEN: Final = Gauge(
    "aq_window_open", "Windows that are open or may be revised", ["partition"], registry=REGISTRY
)
WINDOWS: Final = Counter("aq_window_emitted_total", "Estimates published", ["kind"], registry=REGISTRY)
JOINED: Final = Counter(
    "aq_join_result_total", "Estimates by the sides they rest on", ["result"], registry=REGISTRY
)
INFERENCE_SECONDS: Final = Histogram(
    "aq_inference_seconds", "Time of one inference batch", ["model"], registry=REGISTRY,
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3),
)  # fmt: skip
INFERENCE_BATCH: Final = Histogram(
    "aq_inference_batch_size", "Rows of one inference batch", ["model"], registry=REGISTRY,
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)  # fmt: skip
INFERENCE_QUEUE: Final = Gauge(
    "aq_inference_queue_depth", "Chunks of frames that wait for the encoder", registry=REGISTRY
)
FRAMES: Final = Counter(
    "aq_frames_total", "Frames by verdict of the quality gate", ["verdict"], registry=REGISTRY
)
IMPUTED: Final = Counter(
    "aq_imputed_values_total", "Values imputed", ["parameter", "method"], registry=REGISTRY
)
COVERAGE: Final = Histogram(
    "aq_interval_coverage", "Rolling coverage that imputed values carry (nominal: 0.9)", ["parameter"],
    registry=REGISTRY, buckets=(0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.92, 0.95, 1.0),
)  # fmt: skip
QC_FLAGS: Final = Counter("aq_qc_flags_total", "Quality flags given", ["test", "flag"], registry=REGISTRY)
NETWORK_WINDOWS: Final = Counter(
    "aq_network_estimates_total",
    "Estimates of the network stage: published; of them late; windows that it failed at; too large ones",
    ["kind"],
    registry=REGISTRY,
)
NETWORK_IMPUTED: Final = Counter(
    "aq_network_imputed_total", "Imputed values published by the network stage", ["method"], registry=REGISTRY
)
DEAD_LETTERS: Final = Counter("aq_dlq_total", "Records refused", ["stage", "reason"], registry=REGISTRY)
ARRIVALS: Final = Counter(
    "aq_gateway_arrivals_total", "Payloads and pictures that came in", ["way", "adapter", "result"],
    registry=REGISTRY,
)  # fmt: skip  # result: used, partly_used, refused, duplicate, spooled
TAKES: Final = Gauge(
    "aq_gateway_takes", "1 while the gateway takes what comes by this way", ["way"], registry=REGISTRY
)
SPOOLED: Final = Gauge("aq_gateway_spooled", "Payloads that wait on disk for Kafka", registry=REGISTRY)
TURNED_AWAY: Final = Counter(
    "aq_gateway_turned_away_total", "Requests and messages that were not taken", ["way", "why"],
    registry=REGISTRY,
)  # fmt: skip
CAMERA_STATE: Final = Gauge(
    "aq_camera_state_since_seconds", "Since when a camera is in this state, seconds since 1970",
    ["station", "camera", "state"], registry=REGISTRY,
)  # fmt: skip  # state: ok, night, frozen, or why there is no picture: unauthorized, not_found, timeout …
CAMERA_ASKED: Final = Counter(
    "aq_camera_asked_total", "Pictures that were asked for", ["station", "camera", "result"],
    registry=REGISTRY,
)  # fmt: skip
FILES: Final = Counter(
    "aq_files_total", "Files of watched folders that were read to their end", ["result"], registry=REGISTRY
)  # result: done, failed
PULLED: Final = Counter(
    "aq_pulled_total", "Times that an address was asked for readings", ["name", "result"], registry=REGISTRY
)  # result: ok, gap (in addition), or why there was no answer
STATE_DAMAGED: Final = Counter(
    "aq_state_damaged_total", "Stored states that could not be read", ["topic"], registry=REGISTRY
)
SINK_SECONDS: Final = Histogram(
    "aq_sink_write_seconds", "Time of one write, waiting included", ["sink"], registry=REGISTRY,
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60, 300),
)  # fmt: skip
SINK_ERRORS: Final = Counter("aq_sink_errors_total", "Failed attempts to write", ["sink"], registry=REGISTRY)
SINK_WAITS: Final = Gauge(
    "aq_sink_waits_since_seconds", "Since when a sink waits for its engine, seconds since 1970; none waits:"
    " no sample", ["sink", "why"], registry=REGISTRY,
)  # fmt: skip
STORE_BEYOND: Final = Counter(
    "aq_store_beyond_retention_total",
    "Revisions of windows that the local store keeps no more: not counted in its hours and days",
    registry=REGISTRY,
)
SINK_POINTS: Final = Gauge(
    "aq_sink_buffer_points", "Estimates taken but not written yet", ["sink"], registry=REGISTRY
)
COMMIT_AGE: Final = Gauge(
    "aq_commit_age_seconds", "Since offsets were committed or there was nothing to commit", registry=REGISTRY
)
DELAY: Final = Histogram(
    "aq_estimate_delay_seconds", "From the end of a window to its estimate on the topic", registry=REGISTRY,
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600),
)  # fmt: skip
ALERTS: Final = Gauge("aq_alerts", "Alerts by state", ["state"], registry=REGISTRY)
ALERT_TRANSITIONS: Final = Counter("aq_alert_transitions_total", "Alert events", ["to"], registry=REGISTRY)
FORECASTS: Final = Counter("aq_forecasts_total", "Forecasts of stations", registry=REGISTRY)
FORECAST_SECONDS: Final = Histogram(
    "aq_forecast_seconds", "Time for the forecasts of a partition's stations, once", registry=REGISTRY,
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
)  # fmt: skip
ALERT_RULES_REFUSED: Final = Gauge(
    "aq_alert_rules_refused", "1 while the changed alert rules cannot be used", registry=REGISTRY
)
FLEET_STATIONS: Final = Gauge("aq_fleet_stations", "Stations by state", ["state"], registry=REGISTRY)
FLEET_TROUBLES: Final = Gauge(
    "aq_fleet_troubles", "Stations whose clock is off, whose battery is low, that two addresses speak for,"
    " whose camera or pulled address gives nothing, or of which nothing can be used", ["why"],
    registry=REGISTRY,
)  # fmt: skip
FLEET_UNWELL: Final = Gauge(
    "aq_fleet_unwell", "1 for each station that somebody should look at; none for those that are well",
    ["station", "why"], registry=REGISTRY,
)  # fmt: skip
BUILD: Final = Gauge("aq_build_info", "Always 1", ["version", "model", "role"], registry=REGISTRY)


@contextmanager
def head_run(rows: int) -> Iterator[None]:
    """A run of the head on so many windows: how long it took, and that it was one of so many."""
    with INFERENCE_SECONDS.labels("head").time():
        yield
    INFERENCE_BATCH.labels("head").observe(rows)
