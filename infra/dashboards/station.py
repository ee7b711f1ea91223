"""Station: what was measured, corrected and imputed, the sub-indices, and what they rest on."""

from typing import Any

from grafana_foundation_sdk.builders import dashboard

from infra.dashboards.parts import (
    INFLUX,
    KIND_COLOURS,
    MICROGRAMS,
    QC_WORDS,
    STANDARD,
    bands,
    board,
    city,
    colour,
    influx,
    number,
    prop,
    series,
    standard,
    states,
    station,
    values,
    variable,
)  # fmt: skip
from schemas.parameters import PARAMETERS

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
    hidden = prop("custom.lineWidth", 0)
    unlisted = prop("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})
    panel.override_by_name("lower", [hidden, unlisted, colour(KIND_COLOURS["imputed"])])
    panel.override_by_name(
        "upper",
        [
            hidden,
            unlisted,
            colour(KIND_COLOURS["imputed"]),
            prop("custom.fillBelowTo", "lower"),
            prop("custom.fillOpacity", 20),
        ],
    )
    return panel


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return (
        board("station", "Station", "One station in detail.", span="now-24h")
        .with_variable(city())
        .with_variable(station(multi=False))
        .with_variable(standard())
        .with_variable(variable("parameter", "Pollutant", 'SHOW TAG VALUES FROM "aq" WITH KEY = "parameter"'))
        .with_panel(
            number(
                "Index",
                "The newest index by the chosen standard.",
                INFLUX,
                influx(f"""SELECT last("index") FROM "aqi" WHERE {_AT} AND {STANDARD} AND "index" >= 0
                    AND $timeFilter"""),
            )
        )
        .with_panel(
            number(
                "Category",
                "The newest category.",
                INFLUX,
                influx(f"""SELECT last("band") FROM "aqi" WHERE {_AT} AND {STANDARD} AND $timeFilter"""),
            ).mappings(bands())
        )
        .with_panel(
            number(
                "Status",
                "Whether the standard's completeness rules are met.",
                INFLUX,
                influx(f"""SELECT last("status") FROM "aqi" WHERE {_AT} AND {STANDARD} AND $timeFilter"""),
            )
        )
        .with_panel(
            number(
                "Dominant pollutant",
                "The pollutant that sets the newest index.",
                INFLUX,
                influx(f"""SELECT last("dominant") FROM "aqi" WHERE {_AT} AND {STANDARD} AND "index" >= 0
                    AND $timeFilter"""),
            )
        )
        .with_panel(_concentration())
        .with_panel(
            series(
                "Index, NowCast, and the network alone",
                "The regulatory index averages over hours; NowCast weighs the newest hours; the network's own"
                " estimate is of the window alone, on the scale of its training data.",
                INFLUX,
                influx(
                    f'SELECT mean("index") FROM "aqi" WHERE {_AT} AND {STANDARD} AND "index" >= 0 {_EVERY}',
                    "index",
                ),
                influx(
                    f"""SELECT mean("nowcast") FROM "aqi"
                    WHERE {_AT} AND {STANDARD} AND "nowcast" >= 0 {_EVERY}""",
                    "NowCast",
                ),
                influx(
                    f"""SELECT mean("model_aqi") FROM "station_state"
                    WHERE {_AT} AND "has_model" = true {_EVERY}""",
                    "network",
                ),
            )
        )
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
                    for parameter in PARAMETERS
                ),
            )
        )
        .with_panel(
            states(
                "Category over time",
                "By the chosen standard.",
                influx(
                    f"""SELECT last("band") FROM "aqi" WHERE {_AT} AND {STANDARD} AND $timeFilter
                    GROUP BY time($__interval) fill(none)""",
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
                    GROUP BY time($__interval), "parameter" fill(none)""",
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
                    GROUP BY time($__interval), "parameter" fill(none)""",
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
                    GROUP BY time($__interval) fill(none)""",
                    "reasons",
                ),
            ).span(12)
        )
    )
