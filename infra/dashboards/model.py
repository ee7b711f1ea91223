"""Model: does the camera agree with the sensors, and how wide are the guesses."""

from grafana_foundation_sdk.builders import dashboard

from infra.dashboards.parts import (
    INFLUX,
    MICROGRAMS,
    PER_SECOND,
    PROMETHEUS,
    STATIONS,
    board,
    city,
    influx,
    prom,
    rows,
    series,
    states,
    station,
    variable,
)

_EACH = f'WHERE {STATIONS} AND $timeFilter GROUP BY time($__interval), "station" fill(null)'
_OF = f"{STATIONS} AND \"parameter\" = '$parameter'"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return (
        board("model", "Model", "Agreement of camera and sensors, intervals, drift.", span="now-7d")
        .with_variable(city())
        .with_variable(station(multi=True))
        .with_variable(variable("parameter", "Pollutant", 'SHOW TAG VALUES FROM "aq" WITH KEY = "parameter"'))
        .with_panel(
            series(
                "The model's AQI",
                "What the model alone says, on the scale of its training data.",
                INFLUX,
                influx(
                    f"""SELECT mean("model_aqi") FROM "station_state" WHERE {STATIONS} AND "has_model" = true
                    AND $timeFilter GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station",
                ),
            )
        )
        .with_panel(
            series(
                "Its 90 % interval",
                "Mean width: grows when the model is unsure.",
                INFLUX,
                influx(
                    f"""SELECT mean("width") FROM (SELECT "model_hi" - "model_lo" AS "width"
                    FROM "station_state"
                    WHERE {STATIONS} AND "has_model_interval" = true AND $timeFilter GROUP BY "station")
                    WHERE $timeFilter GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station",
                ),
            )
        )
        .with_panel(
            series(
                "Imputed and measured $parameter",
                "Means over the time step. A lasting difference where both occur is drift of one of them.",
                INFLUX,
                influx(
                    f"""SELECT mean("value") FROM "aq" WHERE {_OF} AND "kind" = 'imputed' AND $timeFilter
                    GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station imputed",
                ),
                influx(
                    f"""SELECT mean("value") FROM "aq" WHERE {_OF} AND "kind" =~ /^(measured|corrected)$/
                    AND $timeFilter GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station measured",
                ),
            ).unit(MICROGRAMS)
        )
        .with_panel(
            series(
                "Width of imputed $parameter",
                "Mean width of the 90 % interval.",
                INFLUX,
                influx(
                    f"""SELECT mean("width") FROM (SELECT "hi" - "lo" AS "width" FROM "aq"
                    WHERE {_OF} AND "has_interval" = true AND $timeFilter GROUP BY "station")
                    WHERE $timeFilter GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station",
                ),
            ).unit(MICROGRAMS)
        )
        .with_panel(
            series(
                "Correction of $parameter",
                "Mean of the raw values less what was made of them.",
                INFLUX,
                influx(
                    f"""SELECT mean("shift") FROM (SELECT "raw" - "value" AS "shift" FROM "aq"
                    WHERE {_OF} AND "kind" = 'corrected' AND "has_raw" = true AND $timeFilter
                    GROUP BY "station")
                    WHERE $timeFilter GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station",
                ),
            ).unit(MICROGRAMS)
        )
        .with_panel(
            series(
                "Imputed by method",
                "Values per second: by stations themselves, and what the network stage published instead.",
                PROMETHEUS,
                prom(
                    "sum by (parameter, method) (rate(aq_imputed_values_total[$__rate_interval]))",
                    "{{parameter}} {{method}}",
                ),
                prom(
                    "sum by (method) (rate(aq_network_imputed_total[$__rate_interval]))",
                    "network stage: {{method}}",
                ),
            ).unit(PER_SECOND)
        )
        .with_panel(
            series(
                "Frames the gate let through",
                "Share of the frames of a window.",
                INFLUX,
                influx(
                    f"""SELECT sum("frames_used") / sum("frames") FROM "station_state" {_EACH}""",
                    "$tag_station",
                ),
            )
            .unit("percentunit")
            .min(0)
            .max(1)
        )
        .with_panel(
            series(
                "Inference",
                "Batches per second, by model.",
                PROMETHEUS,
                prom("sum by (model) (rate(aq_inference_seconds_count[$__rate_interval]))", "{{model}}"),
            ).unit(PER_SECOND)
        )
        .with_panel(
            states(
                "Bundle",
                "The model bundle that made the estimates.",
                influx(f'SELECT last("bundle") FROM "station_state" {_EACH}', "$tag_station"),
            )
        )
        .with_panel(
            rows(
                "Methods",
                "How the newest values of each station came about.",
                influx(
                    f"""SELECT last("value") AS "value", "kind", "method", "lo", "hi", "qc" FROM "aq"
                    WHERE {STATIONS} AND "has_value" = true AND $timeFilter
                    GROUP BY "station", "parameter" """,
                    table=True,
                ),
            )
        )
    )
