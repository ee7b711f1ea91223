"""Data quality: what is missing, what was guessed, what was refused."""

from grafana_foundation_sdk.builders import common, dashboard

from infra.dashboards.parts import (
    GREEN,
    INFLUX,
    ORANGE,
    PER_SECOND,
    PROMETHEUS,
    RED,
    STATIONS,
    YELLOW,
    board,
    city,
    graded,
    influx,
    number,
    prom,
    prop,
    rows,
    series,
    station,
)
from schemas.parameters import POLLUTANTS

_EACH = f'WHERE {STATIONS} AND $timeFilter GROUP BY time($__interval), "station" fill(null)'

#: A counter that never counted does not exist: that is zero as long as any worker is seen, else no data.
_ZERO = "0 * min(aq_build_info)"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return (
        board("quality", "Data quality", "Coverage, imputation, flags, refusals and silence.", span="now-24h")
        .with_variable(city())
        .with_variable(station(multi=True))
        .with_panel(
            graded(
                number(
                    "Values imputed",
                    "Share of pollutant values in the time range that were imputed.",
                    INFLUX,
                    influx(
                        f"""SELECT sum("imputed") / sum("values") AS "share" FROM
                    (SELECT "imputed", "measured" + "corrected" + "imputed" AS "values"
                    FROM "station_state" WHERE {STATIONS} AND $timeFilter)"""
                    ),
                ).unit("percentunit"),
                (None, GREEN),
                (0.34, YELLOW),
                (0.67, ORANGE),
            )
        )
        .with_panel(
            number(
                "Values missing",
                "Mean number of pollutants without any value.",
                INFLUX,
                influx(f'SELECT mean("missing") FROM "station_state" WHERE {STATIONS} AND $timeFilter'),
            ).decimals(1)
        )
        .with_panel(
            graded(
                number(
                    "Dead letters, 24 h",
                    "Records refused by any stage.",
                    PROMETHEUS,
                    prom(f"sum(increase(aq_dlq_total[24h])) or {_ZERO}", instant=True),
                ).decimals(0),
                (None, GREEN),
                (1, YELLOW),
                (100, RED),
            )
        )
        .with_panel(
            graded(
                number(
                    "Too late, 24 h",
                    "Inputs that came after their window was final (kept on aq.late.v1).",
                    PROMETHEUS,
                    prom(
                        f'sum(increase(aq_late_events_total{{outcome="dropped"}}[24h])) or {_ZERO}',
                        instant=True,
                    ),
                ).decimals(0),
                (None, GREEN),
                (1, YELLOW),
                (100, RED),
            )
        )
        .with_panel(
            rows(
                "Last heard",
                "Newest window of each station in the time range, the most silent first.",
                influx(
                    f"""SELECT last("readings") AS "readings", "frames", "frames_used", "sides", "missing"
                    FROM "station_state" WHERE {STATIONS} AND $timeFilter GROUP BY "station" """,
                    table=True,
                ),
            )
            .override_by_name("Time", [prop("unit", "dateTimeFromNow"), prop("displayName", "last heard")])
            .sort_by([common.TableSortByFieldState().display_name("last heard").desc(False)])
        )
        .with_panel(
            series(
                "Coverage",
                "Share of each hour for which there is an estimate; the hour that runs is not full yet.",
                INFLUX,
                influx(
                    f"""SELECT sum("window_s") / 3600 FROM "station_state" WHERE {STATIONS} AND $timeFilter
                    GROUP BY time(1h), "station" fill(0)""",
                    "$tag_station",
                ),
            )
            .unit("percentunit")
            .min(0)
            .max(1)
        )
        .with_panel(
            series(
                "Share imputed",
                "Of the pollutants, per station.",
                INFLUX,
                influx(
                    f'SELECT mean("imputed") / {len(POLLUTANTS)} FROM "station_state" {_EACH}', "$tag_station"
                ),
            )
            .unit("percentunit")
            .min(0)
            .max(1)
        )
        .with_panel(
            series(
                "Readings per window",
                "Distinct values that estimates rest on.",
                INFLUX,
                influx(f'SELECT mean("readings") FROM "station_state" {_EACH}', "$tag_station"),
            )
        )
        .with_panel(
            series(
                "Readings that did not pass",
                "Suspect or failed values, by pollutant: worst flag 3 or 4.",
                INFLUX,
                influx(
                    f"""SELECT count("qc") FROM "aq" WHERE {STATIONS} AND "qc" >= 3 AND "qc" <= 4
                    AND $timeFilter
                    GROUP BY time($__interval), "parameter" fill(0)""",
                    "$tag_parameter",
                ),
            )
        )
        .with_panel(
            series(
                "Flags by test",
                "Quality-control tests that did not pass, per second, whole network.",
                PROMETHEUS,
                prom('sum by (test) (rate(aq_qc_flags_total{flag!="1"}[$__rate_interval]))', "{{test}}"),
            ).unit(PER_SECOND)
        )
        .with_panel(
            series(
                "Refused and late",
                "Dead letters by stage and reason; inputs too late for their window.",
                PROMETHEUS,
                prom(
                    "sum by (stage, reason) (rate(aq_dlq_total[$__rate_interval]))", "{{stage}}: {{reason}}"
                ),
                prom("sum by (outcome) (rate(aq_late_events_total[$__rate_interval]))", "late: {{outcome}}"),
            ).unit(PER_SECOND)
        )
        .with_panel(
            series(
                "Frames",
                "Frames by verdict of the quality gate, per second.",
                PROMETHEUS,
                prom("sum by (verdict) (rate(aq_frames_total[$__rate_interval]))", "{{verdict}}"),
            ).unit(PER_SECOND)
        )
        .with_panel(
            series(
                "Alerts",
                "Alerts by state.",
                PROMETHEUS,
                prom("sum by (state) (aq_alerts)", "{{state}}"),
            )
        )
    )
