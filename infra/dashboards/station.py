"""Station: what was measured, corrected and imputed, the sub-indices, and what they rest on."""

from typing import Any

from grafana_foundation_sdk.builders import common, dashboard

from infra.dashboards.parts import (
    GREEN,
    INFLUX,
    KIND_COLOURS,
    MICROGRAMS,
    ORANGE,
    QC_WORDS,
    RED,
    SEVERITY_WORDS,
    STANDARD,
    alerts,
    bands,
    board,
    by_standard,
    city,
    colour,
    influx,
    number,
    prop,
    rows,
    series,
    standard,
    states,
    station,
    values,
    variable,
    word,
)  # fmt: skip
from schemas.parameters import POLLUTANTS

_AT = "\"station\" = '$station'"
_OF = f"{_AT} AND \"parameter\" = '$parameter'"
_EVERY = "AND $timeFilter GROUP BY time($__interval) fill(null)"


def _concentration() -> Any:
    kinds = [
        influx(
            f"""SELECT mean("value") FROM "aq" WHERE {_OF} AND "kind" = '{kind}' {_EVERY}""",
            kind,
        )
        for kind in KIND_COLOURS
    ]
    bounds = [
        influx(f"""SELECT mean("{field}") FROM "aq" WHERE {_OF} AND "has_interval" = true {_EVERY}""", alias)
        for field, alias in (("lo", "lower"), ("hi", "upper"))
    ]
    panel = series(
        "$parameter",
        "Mean concentration. Imputed values stay marked; the band is their 90 % interval. A gap is a gap.",
        INFLUX, *kinds, *bounds,
    ).span(24).height(11).unit(MICROGRAMS).span_nulls(False)  # fmt: skip
    for kind, shade in KIND_COLOURS.items():
        panel.override_by_name(kind, [colour(shade)])
    # Not by colour alone: what was never measured is dashed.
    panel.override_by_name(
        "imputed", [prop("custom.lineStyle", {"fill": "dash", "dash": [6, 4]}), prop("custom.lineWidth", 2)]
    )
    return _band(panel)


def _band(panel: Any) -> Any:
    """`panel` with its series `lower` and `upper` as one shaded band: imputed, so in imputed's colour."""
    shade = colour(KIND_COLOURS["imputed"])
    hidden = prop("custom.lineWidth", 0)
    unlisted = prop("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})
    panel.override_by_name("lower", [hidden, unlisted, shade])
    panel.override_by_name(
        "upper",
        [hidden, unlisted, shade, prop("custom.fillBelowTo", "lower"), prop("custom.fillOpacity", 20)],
    )
    return panel


def _index() -> Any:
    """The index over time in its standard's colours, with the band of what it rests on."""
    of = f"{_AT} AND {STANDARD}"
    panel = series(
        "Index, NowCast, and the model alone",
        "The regulatory index averages over hours, and the band is the 90 % interval of what was imputed in"
        " it; NowCast weighs the newest hours; the model's own estimate is of the window alone, on the"
        " scale of its training data. Dashed lines: where the standard's categories begin.",
        INFLUX,
        influx(f'SELECT mean("index") FROM "aqi" WHERE {of} AND "index" >= 0 {_EVERY}', "$standard"),
        influx(f'SELECT mean("nowcast") FROM "aqi" WHERE {of} AND "nowcast" >= 0 {_EVERY}', "NowCast"),
        influx(
            f'SELECT mean("model_aqi") FROM "station_state" WHERE {_AT} AND "has_model" = true {_EVERY}',
            "model",
        ),
        *(
            influx(
                f'SELECT mean("{field}") FROM "aqi" WHERE {of} AND "lo" >= 0 AND "hi" >= 0 {_EVERY}', alias
            )
            for field, alias in (("lo", "lower"), ("hi", "upper"))
        ),
    ).min(0).decimals(0).span_nulls(False)  # fmt: skip
    by_standard(
        panel,
        prop("custom.gradientMode", "scheme"),
        prop("custom.lineWidth", 2),
        prop("custom.thresholdsStyle", {"mode": "dashed"}),
    )
    panel.override_by_name("NowCast", [colour("#3274d9")])
    panel.override_by_name("model", [colour("#8e8e8e")])
    return _band(panel)


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return (
        board("station", "Station", "One station in detail.", span="now-24h")
        .with_variable(city())
        .with_variable(station(multi=False))
        .with_variable(standard())
        .with_variable(variable("parameter", "Pollutant", 'SHOW TAG VALUES FROM "aq" WITH KEY = "parameter"'))
        .annotation(alerts("Open alerts", RED, f'{_AT} AND "active" = true'))
        .annotation(
            alerts(
                "Alerts that are over",
                ORANGE,
                f'{_AT} AND "event" = \'clear\' AND "at" >= ${{__from}}',
                end="at",
            )
        )
        .with_panel(
            by_standard(
                number(
                    "Index",
                    "The newest index by the chosen standard.",
                    INFLUX,
                    influx(
                        f"""SELECT last("index") FROM "aqi" WHERE {_AT} AND {STANDARD} AND "index" >= 0
                        AND $timeFilter""",
                        "$standard",
                    ),
                )
            )
        )
        .with_panel(
            word(
                "Category",
                "The newest category.",
                f'SELECT last("band") FROM "aqi" WHERE {_AT} AND {STANDARD} AND $timeFilter',
                "category",
            ).mappings(bands())
        )
        .with_panel(
            word(
                "Status",
                "Whether the standard's completeness rules are met.",
                f'SELECT last("status") FROM "aqi" WHERE {_AT} AND {STANDARD} AND $timeFilter',
                "status",
            )
        )
        .with_panel(
            word(
                "Dominant pollutant",
                "The pollutant that sets the newest index.",
                f"""SELECT last("dominant") FROM "aqi" WHERE {_AT} AND {STANDARD} AND "index" >= 0
                AND $timeFilter""",
                "dominant",
            )
        )
        .with_panel(_concentration())
        .with_panel(_index())
        .with_panel(
            series(
                "Sub-indices",
                "The highest sets the index.",
                INFLUX,
                *(
                    influx(
                        f"""SELECT mean("sub_{parameter}") FROM "aqi"
                        WHERE {_AT} AND {STANDARD} AND "sub_{parameter}" >= 0 {_EVERY}""",
                        parameter,
                    )
                    for parameter in POLLUTANTS
                ),
            )
        )
        .with_panel(
            rows(
                "Alerts",
                "What opened in the time range, or is open still. Withdrawn ones (late data) are left out.",
                influx(
                    f"""SELECT "event", "severity", "value", "reason" FROM "alert"
                    WHERE {_AT} AND "event" <> 'retract' AND ("active" = true OR "at" >= ${{__from}})
                    AND time <= ${{__to}}ms
                    GROUP BY "rule" """,
                    table=True,
                ),
            )
            .height(7)
            .mappings(
                values(
                    {
                        **SEVERITY_WORDS,
                        "open": ("open", RED),
                        "update": ("open", RED),
                        "clear": ("over", GREEN),
                    }
                )
            )
            .override_by_name("Time", [prop("displayName", "opened")])
            .override_by_name("event", [prop("custom.cellOptions", {"type": "color-text"})])
            .override_by_name("severity", [prop("custom.cellOptions", {"type": "color-text"})])
            .override_by_name("reason", [prop("custom.minWidth", 400)])
            .sort_by([common.TableSortByFieldState().display_name("opened").desc(True)])
        )
        .with_panel(
            states(
                "Category over time",
                "By the chosen standard.",
                influx(
                    f"""SELECT last("band") FROM "aqi" WHERE {_AT} AND {STANDARD} AND $timeFilter
                    GROUP BY time($__interval) fill(null)""",
                    "category",
                ),
            )
            .mappings(bands())
            .height(4)
        )
        .with_panel(
            states(
                "Quality flags",
                "Worst QARTOD flag of the readings of each pollutant.",
                influx(
                    f"""SELECT max("qc") FROM "aq" WHERE {_AT} AND $timeFilter
                    GROUP BY time($__interval), "parameter" fill(null)""",
                    "$tag_parameter",
                ),
            ).mappings(values(QC_WORDS))
        )
        .with_panel(
            states(
                "Kind",
                "How each pollutant's value came about.",
                influx(
                    f"""SELECT last("kind") FROM "aq" WHERE {_AT} AND $timeFilter
                    GROUP BY time($__interval), "parameter" fill(null)""",
                    "$tag_parameter",
                ),
            ).mappings(
                values(
                    {
                        **{kind: (kind, shade) for kind, shade in KIND_COLOURS.items()},
                        "missing": ("missing", "#3d3d3d"),
                    }
                )
            )
        )
        .with_panel(
            series(
                "Camera",
                "Frames of each window, and those that passed the quality gate.",
                INFLUX,
                influx(f'SELECT mean("frames") FROM "station_state" WHERE {_AT} {_EVERY}', "taken"),
                influx(f'SELECT mean("frames_used") FROM "station_state" WHERE {_AT} {_EVERY}', "used"),
            )
        )
        .with_panel(
            states(
                "Why frames were not used",
                "Verdicts of the quality gate.",
                influx(
                    f"""SELECT last("frame_reasons") FROM "station_state" WHERE {_AT} AND $timeFilter
                    GROUP BY time($__interval) fill(null)""",
                    "reasons",
                ),
            ).span(12)
        )
    )
