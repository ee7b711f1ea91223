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

#: Grafana's names of the units.
MICROGRAMS: Final = "conμgm3"
PER_SECOND: Final = "suffix:/s"

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
SEVERITY_WORDS: Final = {
    "info": ("info", "#3274d9"), "minor": ("minor", YELLOW), "moderate": ("moderate", ORANGE),
    "severe": ("severe", RED), "extreme": ("extreme", "#8f3bb8"),
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
    """One number, in the colour of text: Grafana's own thresholds would call anything above 80 red.

    `graded` and `by_standard` give it colours.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .no_value(NO_DATA)
        .height(4)
        .span(6)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("text"))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    made: stat.Panel = with_queries(panel, source, queries)
    return made


def word(title: str, about: str, query: str, name: str) -> stat.Panel:
    """One word. `name`: of the series; Grafana shows fields that are no numbers only where they are named."""
    return number(title, about, INFLUX, influx(query, name)).reduce_options(
        common.ReduceDataOptions().calcs(["lastNotNull"]).fields(f"/^{name}$/")
    )


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
        table.Panel().show_header(True).title(title).description(about).no_value(NO_DATA).height(10).span(24),
        INFLUX,
        queries,
    )
    return made


def graded(panel: stat.Panel, *steps: tuple[float | None, str]) -> stat.Panel:
    """`panel` in the colour of the step that its number has reached."""
    return panel.thresholds(thresholds(*steps)).color_scheme(
        dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)
    )


def by_standard(panel: Any, *more: models.DynamicConfigValue) -> Any:
    """`panel`, whose series named after its standard (alias `$standard`) has the standard's own colours.

    `more`: further properties of that series.
    """
    for one in editions():
        steps = [
            {"value": category.low if position else None, "color": category.colour}
            for position, category in enumerate(one.categories)
        ]
        panel.override_by_name(
            one.id,
            [
                prop("thresholds", {"mode": "absolute", "steps": steps}),
                prop("color", {"mode": "thresholds"}),
                *more,
            ],
        )
    return panel


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
            for standard in editions()
            for category in standard.categories
        }
    )


def editions() -> list[standards.Standard]:
    """Every edition of every standard."""
    found = []
    for name in standards.available():
        try:
            found.append(standards.load(name))
        except StandardError:
            continue  # an alias of editions that are listed themselves
    return found


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


def alerts(name: str, colour: str, where: str, end: str = "") -> dashboard.AnnotationQuery:
    """Alerts that began before the end of the time range, as marks; as regions up to the column `end`.

    The names of columns are Grafana's own making: `measurement.column` where it compares the whole name.
    """
    query = f"""SELECT "reason", "severity", "rule"{f', "{end}"' if end else ""} FROM "alert"
        WHERE {where} AND time <= ${{__to}}ms"""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(INFLUX)
        .enable(True)
        .icon_color(colour)
        .target(AnnotationTarget(" ".join(query.split()), f"alert.{end}" if end else ""))
    )


class AnnotationTarget(Builder[Any]):
    """An InfluxQL query whose rows are annotations (the SDK knows only those of Grafana's own store)."""

    def __init__(self, query: str, end: str) -> None:
        self._plain = {
            "refId": "Anno", "fromAnnotations": True, "queryType": "tags", "rawQuery": True, "query": query,
            "textColumn": "reason", "tagsColumn": "severity,rule", "timeEndColumn": end, "titleColumn": "",
        }  # fmt: skip

    def build(self) -> Any:
        """The target as plain data."""
        return self._plain


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
