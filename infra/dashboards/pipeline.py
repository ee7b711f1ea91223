"""Pipeline: is the worker keeping up, and where does it wait."""

from grafana_foundation_sdk.builders import dashboard

from infra.dashboards.parts import (
    GREEN,
    ORANGE,
    PER_SECOND,
    PROMETHEUS,
    RED,
    board,
    graded,
    number,
    prom,
    series,
)


def _quantile(share: float, name: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by}) (rate({name}_bucket[$__rate_interval])))"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    lag = (None, GREEN), (60, ORANGE), (300, RED)
    return (
        board("pipeline", "Pipeline", "Throughput, lag and errors of the workers.", span="now-1h")
        .with_panel(
            graded(
                number(
                    "Lag",
                    "Age of the newest record read, worst topic.",
                    PROMETHEUS,
                    prom("max(aq_consumer_lag_seconds)", instant=True),
                ).unit("s"),
                *lag,
            )
        )
        .with_panel(
            graded(
                number(
                    "Watermark lag",
                    "How far event time is behind now, worst source.",
                    PROMETHEUS,
                    prom("max(aq_watermark_lag_seconds)", instant=True),
                ).unit("s"),
                *lag,
            )
        )
        .with_panel(
            graded(
                number(
                    "Commit age",
                    "Since offsets were committed, worst worker. Grows while a database is away.",
                    PROMETHEUS,
                    prom("max(aq_commit_age_seconds)", instant=True),
                ).unit("s"),
                *lag,
            )
        )
        .with_panel(
            number(
                "Workers",
                "Workers that answered the last scrape.",
                PROMETHEUS,
                prom("count(aq_build_info)", instant=True),
            )
        )
        .with_panel(
            series(
                "Records read",
                "Per second, by topic and what became of them.",
                PROMETHEUS,
                prom(
                    "sum by (topic, result) (rate(aq_messages_total[$__rate_interval]))",
                    "{{topic}} {{result}}",
                ),
            ).unit(PER_SECOND)
        )
        .with_panel(
            series(
                "Records behind",
                "Records in the log that were not read yet.",
                PROMETHEUS,
                prom("sum by (topic) (aq_consumer_lag_messages)", "{{topic}}"),
            )
        )
        .with_panel(
            series(
                "Lag in seconds",
                "Age of the newest record read.",
                PROMETHEUS,
                prom("max by (topic) (aq_consumer_lag_seconds)", "{{topic}}"),
            ).unit("s")
        )
        .with_panel(
            series(
                "Watermark lag",
                "Event time behind now, by source.",
                PROMETHEUS,
                prom("max by (source) (aq_watermark_lag_seconds)", "{{source}}"),
            ).unit("s")
        )
        .with_panel(
            series(
                "Windows",
                "Open or revisable, and estimates per second.",
                PROMETHEUS,
                prom("sum(aq_window_open)", "open"),
                prom("sum by (kind) (rate(aq_window_emitted_total[$__rate_interval]))", "{{kind}}/s"),
            )
        )
        .with_panel(
            series(
                "Joined",
                "Estimates per second by the sides they rest on.",
                PROMETHEUS,
                prom("sum by (result) (rate(aq_join_result_total[$__rate_interval]))", "{{result}}"),
            ).unit(PER_SECOND)
        )
        .with_panel(
            series(
                "Window end to estimate",
                "Delay on the topic.",
                PROMETHEUS,
                prom(_quantile(0.5, "aq_estimate_delay_seconds"), "p50"),
                prom(_quantile(0.99, "aq_estimate_delay_seconds"), "p99"),
            ).unit("s")
        )
        .with_panel(
            series(
                "Inference",
                "Time of a batch.",
                PROMETHEUS,
                prom(_quantile(0.5, "aq_inference_seconds", ", model"), "{{model}} p50"),
                prom(_quantile(0.99, "aq_inference_seconds", ", model"), "{{model}} p99"),
            ).unit("s")
        )
        .with_panel(
            series(
                "Inference batches",
                "Mean rows of a batch, and chunks waiting.",
                PROMETHEUS,
                prom(
                    """sum by (model) (rate(aq_inference_batch_size_sum[$__rate_interval]))
                    / sum by (model) (rate(aq_inference_batch_size_count[$__rate_interval]))""",
                    "{{model}} rows",
                ),
                prom("sum(aq_inference_queue_depth)", "waiting"),
            )
        )
        .with_panel(
            series(
                "Sink writes",
                "Time of a write, waiting included.",
                PROMETHEUS,
                prom(_quantile(0.5, "aq_sink_write_seconds", ", sink"), "{{sink}} p50"),
                prom(_quantile(0.99, "aq_sink_write_seconds", ", sink"), "{{sink}} p99"),
            ).unit("s")
        )
        .with_panel(
            series(
                "Sink trouble",
                "Failed attempts per second, and estimates held.",
                PROMETHEUS,
                prom("sum by (sink) (rate(aq_sink_errors_total[$__rate_interval]))", "{{sink}} errors"),
                prom("sum by (sink) (aq_sink_buffer_points)", "{{sink}} held"),
            )
        )
        .with_panel(
            series(
                "Alert events",
                "Per second.",
                PROMETHEUS,
                prom("sum by (to) (rate(aq_alert_transitions_total[$__rate_interval]))", "{{to}}"),
            ).unit(PER_SECOND)
        )
    )
