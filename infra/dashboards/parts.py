"""What all dashboards share: data sources, queries, variables, colours."""

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from aqi import standards
from aqi.errors import StandardError

#: Unique ids that infra/grafana/provisioning/datasources gives to the data sources.
INFLUX: Final = models.DataSourceRef(type_val="influxdb", uid="skyfuse-influx")
PROMETHEUS: Final = models.DataSourceRef(type_val="prometheus", uid="skyfuse-prometheus")

#: Grafana's name of the unit.
MICROGRAMS: Final = "conμgm3"

#: What a panel says that has nothing to show: silence must not look like a zero.
NO_DATA: Final = "no data"

#: Conditions on the variables, for WHERE.
STATIONS: Final = '"station" =~ /^${station:regex}$/'
STANDARD: Final = "\"standard\" = '$standard'"

GREEN, YELLOW, ORANGE, RED, GREY = "#56a64b", "#f2cc0c", "#ff780a", "#e02f44", "#8e8e8e"
KIND_COLOURS: Final = {"measured": "#3274d9", "corrected": "#37872d", "imputed": "#ff780a"}
QC_WORDS: Final = {
    "1": ("pass", GREEN), "2": ("not evaluated", GREY), "3": ("suspect", YELLOW), "4": ("fail", RED),
    "9": ("missing", "#3d3d3d"),
}  # fmt: skip


class InfluxQuery(Dataquery):
    """A raw InfluxQL query (the SDK has no builder for it). `table`: rows instead of series."""

    def __init__(self, query: str, alias: str, *, table: bool) -> None:
        self.query = query
        self.alias = alias
        self.table = table
        self.ref_id = ""

    def to_json(self) -> dict[str, Any]:
        """Grafana's JSON of the target."""
        return {
            "refId": self.ref_id,
            "datasource": INFLUX.to_json(),
            "rawQuery": True,
            "query": self.query,
            "resultFormat": "table" if self.table else "time_series",
            "alias": self.alias,
        }


class Target(Builder[Dataquery]):
    """A finished query as the builder that panels ask for."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """The query."""
        return self._query


def influx(query: str, alias: str = "", *, table: bool = False) -> InfluxQuery:
    """An InfluxQL query; runs of white space are one space."""
    return InfluxQuery(" ".join(query.split()), alias, table=table)


def prom(expr: str, legend: str = "", *, instant: bool = False) -> Builder[Dataquery]:
    """A PromQL query."""
    query = prometheus.Dataquery().expr(" ".join(expr.split())).legend_format(legend)
    return query.instant() if instant else query.range()


def with_queries(panel: Any, source: models.DataSourceRef, queries: Sequence[Any]) -> Any:
    """`panel` with its data source and its queries, named A, B, C …"""
    panel.datasource(source)
    for letter, query in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", queries, strict=False):
        if isinstance(query, InfluxQuery):
            query.ref_id = letter
            panel.with_target(Target(query))
        else:
            panel.with_target(query.ref_id(letter).datasource(source))
    return panel


def series(title: str, about: str, source: models.DataSourceRef, *queries: Any) -> timeseries.Panel:
    """Lines over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .line_width(1)
        .fill_opacity(0)
        .show_points(common_models.VisibilityMode.AUTO)
        .height(8)
        .span(12)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    made: timeseries.Panel = with_queries(panel, source, queries)
    return made


def number(title: str, about: str, source: models.DataSourceRef, *queries: Any) -> stat.Panel:
    """One number."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .no_value(NO_DATA)
        .height(4)
        .span(6)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    made: stat.Panel = with_queries(panel, source, queries)
    return made


def states(title: str, about: str, *queries: Any) -> statetimeline.Panel:
    """Coloured states over time."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .no_value(NO_DATA)
        .height(8)
        .span(24)
        .merge_values(True)
        .row_height(0.8)
    )
    made: statetimeline.Panel = with_queries(panel, INFLUX, queries)
    return made


def rows(title: str, about: str, *queries: Any) -> table.Panel:
    """A table."""
    made: table.Panel = with_queries(
        table.Panel().title(title).description(about).no_value(NO_DATA).height(10).span(24), INFLUX, queries
    )
    return made


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colour steps by absolute value; the first has no lower bound."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in steps])
    )


def values(words: dict[str, tuple[str, str]]) -> list[models.ValueMapping]:
    """Words and colours for values."""
    return [
        models.ValueMap(
            options={
                value: models.ValueMappingResult(text=text, color=colour, index=position)
                for position, (value, (text, colour)) in enumerate(words.items())
            }
        )
    ]


def bands() -> list[models.ValueMapping]:
    """Name and colour of every category of every standard, by the field `band`."""
    return values(
        {
            f"{standard.id}/{category.key}": (category.name, category.colour)
            for name in standards.available()
            for standard in [_edition(name)]
            if standard is not None
            for category in standard.categories
        }
    )


def _edition(name: str) -> standards.Standard | None:
    try:
        return standards.load(name)
    except StandardError:
        return None  # an alias of editions that are listed themselves


def colour(name: str) -> models.DynamicConfigValue:
    """Override: a fixed colour."""
    return models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": name})


def prop(name: str, value: object) -> models.DynamicConfigValue:
    """Override: any property."""
    return models.DynamicConfigValue(id_val=name, value=value)


def transform(name: str, **options: object) -> models.DataTransformerConfig:
    """A transformation of the panel's frames."""
    return models.DataTransformerConfig(id_val=name, options=options)


def variable(
    name: str, label: str, query: str, *, multi: bool = False, everything: bool = False
) -> dashboard.QueryVariable:
    """A variable whose values an InfluxQL query lists."""
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(INFLUX)
        .query(" ".join(query.split()))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi)
        .include_all(everything)
    )
    if everything:
        made.all_value(".*").current(models.VariableOption(selected=True, text="All", value="$__all"))
    return made


def city() -> dashboard.QueryVariable:
    """$city"""
    return variable(
        "city", "City", 'SHOW TAG VALUES FROM "station" WITH KEY = "city"', multi=True, everything=True
    )


def station(*, multi: bool) -> dashboard.QueryVariable:
    """$station, those of $city"""
    return variable(
        "station",
        "Station",
        'SHOW TAG VALUES FROM "station" WITH KEY = "station" WHERE "city" =~ /^${city:regex}$/',
        multi=multi,
        everything=multi,
    )


def standard() -> dashboard.QueryVariable:
    """$standard"""
    return variable("standard", "Standard", 'SHOW TAG VALUES FROM "aqi" WITH KEY = "standard"')


def board(uid: str, title: str, about: str, *, span: str = "now-6h") -> dashboard.Dashboard:
    """An empty dashboard, linked to the others."""
    return (
        dashboard.Dashboard(f"skyfuse / {title}")
        .uid(f"skyfuse-{uid}")
        .description(about)
        .tags(["skyfuse"])
        .timezone("browser")
        .time(span, "now")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("skyfuse")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["skyfuse"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
