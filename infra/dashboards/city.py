"""City now: where the air is bad at this moment, and how it came about."""

from grafana_foundation_sdk.builders import common, dashboard, geomap
from grafana_foundation_sdk.models import common as common_models

from infra.dashboards.parts import (
    GREEN,
    INFLUX,
    ORANGE,
    SEVERITY_WORDS,
    STANDARD,
    STATIONS,
    YELLOW,
    bands,
    board,
    by_standard,
    city,
    graded,
    influx,
    number,
    prop,
    rows,
    series,
    standard,
    states,
    station,
    transform,
    values,
    with_queries,
)

_NOW = f"""SELECT last("index") AS "index", "band", "status", "dominant", "imputed_share" FROM "aqi"
    WHERE {STATIONS} AND {STANDARD} AND "index" >= 0 AND $timeFilter GROUP BY "station" """
_NEWEST = f"""SELECT last("index") AS "newest" FROM "aqi"
    WHERE {STATIONS} AND {STANDARD} AND "index" >= 0 AND $timeFilter GROUP BY "station" """

_LINK = "/d/skyfuse-station?var-station=${__value.raw}&${standard:queryparam}&${__url_time_range}"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    places = f"""SELECT last("latitude") AS "latitude", "longitude", "name" FROM "station"
        WHERE {STATIONS} AND "has_location" = true GROUP BY "station" """
    layer = (
        common.MapLayerOptions()
        .type("markers")
        .name("stations")
        .location(
            common.FrameGeometrySource()
            .mode(common_models.FrameGeometrySourceMode.COORDS)
            .latitude("latitude")
            .longitude("longitude")
        )
        .config(
            {
                "showLegend": False,
                "style": {
                    "color": {"field": "band", "fixed": "#888888"},
                    "opacity": 0.9,
                    "size": {"fixed": 10, "min": 8, "max": 16},
                    "text": {"mode": "field", "field": "index", "fixed": ""},
                    "textConfig": {"fontSize": 12, "offsetX": 0, "offsetY": -14},
                },
            }
        )
        .tooltip(True)
    )
    where = geomap.Panel().title("Stations").height(14).span(12).layers([layer]).mappings(bands())
    where.description("The newest index in the time range, in the colour of its category.")
    where.transformations([transform("joinByField", byField="station", mode="outer")])
    where.view(geomap.MapViewConfig().id("fit").all_layers(True).padding(20))
    return (
        board("city", "City now", "The newest index of every station, where it is, and the last hours.")
        .with_variable(city())
        .with_variable(station(multi=True))
        .with_variable(standard())
        .with_panel(
            number(
                "Stations with an index",
                "Stations that had an index in the time range.",
                INFLUX,
                influx(f'SELECT count("newest") AS "stations" FROM ({_NEWEST})'),
            )
        )
        .with_panel(
            by_standard(
                number(
                    "Highest index now",
                    "The highest of the newest indices.",
                    INFLUX,
                    influx(f'SELECT max("newest") AS "index" FROM ({_NEWEST})', "$standard"),
                )
            )
        )
        .with_panel(
            number(
                "Mean of the stations",
                "Mean of the newest indices: no index of a standard, a rough picture.",
                INFLUX,
                influx(f'SELECT mean("newest") AS "index" FROM ({_NEWEST})'),
            ).decimals(0)
        )
        .with_panel(
            graded(
                number(
                    "Imputed share",
                    "Mean share of the indices' input that was imputed, newest values.",
                    INFLUX,
                    influx(f"""SELECT mean("newest") AS "share" FROM (SELECT last("imputed_share") AS "newest"
                    FROM "aqi" WHERE {STATIONS} AND {STANDARD} AND $timeFilter GROUP BY "station")"""),
                ).unit("percentunit"),
                (None, GREEN),
                (0.34, YELLOW),
                (0.67, ORANGE),
            )
        )
        .with_panel(with_queries(where, INFLUX, [influx(_NOW, table=True), influx(places, table=True)]))
        .with_panel(
            rows(
                "Stations by index",
                "The newest index. Status: valid, indicative (too little data), insufficient.",
                influx(_NOW, table=True),
            )
            .span(12)
            .height(14)
            .mappings(bands())
            .override_by_name(
                "band",
                [prop("custom.cellOptions", {"type": "color-background"}), prop("displayName", "category")],
            )
            .override_by_name("imputed_share", [prop("unit", "percentunit")])
            .override_by_name(
                "station",
                [
                    prop(
                        "links",
                        [{"title": "Station", "url": _LINK}],
                    )
                ],
            )
            .sort_by([common.TableSortByFieldState().display_name("index").desc(True)])
        )
        .with_panel(
            rows(
                "Open alerts",
                "Alerts that are open now, whenever they opened. `skyfuse alerts explain STATION` says more.",
                influx(
                    f"""SELECT "severity", "value", "reason" FROM "alert"
                    WHERE {STATIONS} AND "active" = true GROUP BY "station", "rule" """,
                    table=True,
                ),
            )
            .height(8)
            .mappings(values(SEVERITY_WORDS))
            .override_by_name("Time", [prop("displayName", "opened")])
            .override_by_name("severity", [prop("custom.cellOptions", {"type": "color-text"})])
            .override_by_name("reason", [prop("custom.minWidth", 400)])
            .override_by_name("station", [prop("links", [{"title": "Station", "url": _LINK}])])
            .sort_by([common.TableSortByFieldState().display_name("opened").desc(True)])
        )
        .with_panel(
            states(
                "Category",
                "Category of each station over time.",
                influx(
                    f"""SELECT last("band") FROM "aqi" WHERE {STATIONS} AND {STANDARD} AND $timeFilter
                    GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station",
                ),
            ).mappings(bands())
        )
        .with_panel(
            series(
                "Index",
                "Index of each station.",
                INFLUX,
                influx(
                    f"""SELECT mean("index") FROM "aqi" WHERE {STATIONS} AND {STANDARD} AND "index" >= 0
                    AND $timeFilter GROUP BY time($__interval), "station" fill(null)""",
                    "$tag_station",
                ),
            ).span(24)
        )
    )
