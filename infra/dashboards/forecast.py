"""Forecast: the next three days of one station as a fan, its index, and how forecasts came out so far."""

from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard

from infra.dashboards.parts import (
    INFLUX,
    MICROGRAMS,
    STANDARD,
    board,
    city,
    colour,
    influx,
    prop,
    series,
    standard,
    station,
    variable,
)  # fmt: skip

_AT: Final = "\"station\" = '$station'"
_OF: Final = f"{_AT} AND \"parameter\" = '$parameter'"
#: Forecasts are of hours, however close one looks.
_HOURLY: Final = "AND $timeFilter GROUP BY time(1h) fill(null)"
_BLUE: Final = "#3274d9"
_GREY: Final = "#8e8e8e"


def _fan(panel: Any, bands: dict[str, str]) -> Any:
    """`panel` with pairs of its series (upper by lower) as shaded bands."""
    hidden = prop("custom.lineWidth", 0)
    unlisted = prop("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})
    for lower, upper in bands.items():
        panel.override_by_name(lower, [hidden, unlisted, colour(_BLUE)])
        panel.override_by_name(
            upper,
            [
                hidden, unlisted, colour(_BLUE), prop("custom.fillBelowTo", lower),
                prop("custom.fillOpacity", 20),
            ],
        )  # fmt: skip
    return panel


def _concentration() -> Any:
    quantiles = [
        influx(f'SELECT mean("{field}") FROM "forecast" WHERE {_OF} {_HOURLY}', alias)
        for field, alias in (
            ("p50", "median"), ("p05", "5 %"), ("p25", "25 %"), ("p75", "75 %"), ("p95", "95 %"),
        )
    ]  # fmt: skip
    panel = series(
        "$parameter, the next three days",
        "Half of the outcomes lie in the inner band, nine of ten in the outer one. Of hours that have passed:"
        " what was said an hour before.",
        INFLUX,
        influx(f'SELECT mean("value") FROM "aq" WHERE {_OF} AND "has_value" = true {_HOURLY}', "so far"),
        *quantiles,
    ).span(24).height(11).unit(MICROGRAMS).min(0).span_nulls(False)  # fmt: skip
    panel.override_by_name("so far", [colour(_GREY), prop("custom.lineWidth", 2)])
    panel.override_by_name("median", [colour(_BLUE), prop("custom.lineWidth", 2)])
    return _fan(panel, {"5 %": "95 %", "25 %": "75 %"})


def _index() -> Any:
    of = f'{_AT} AND {STANDARD} AND "index" >= 0'
    panel = series(
        "Index to come",
        "That of each hour's concentrations on the scale of the standard, as if they lasted.",
        INFLUX,
        *(
            influx(f'SELECT mean("{field}") FROM "forecast_index" WHERE {of} {_HOURLY}', alias)
            for field, alias in (("index", "index"), ("lo", "lower"), ("hi", "upper"))
        ),
    ).span(24).min(0).decimals(0).span_nulls(False)  # fmt: skip
    panel.override_by_name("index", [colour(_BLUE), prop("custom.lineWidth", 2)])
    return _fan(panel, {"lower": "upper"})


def _score(title: str, about: str, field: str) -> Any:
    return series(
        title, about, INFLUX,
        influx(
            f"""SELECT mean("{field}") FROM "forecast_score" WHERE {_OF} AND $timeFilter
            GROUP BY time(1h), "horizon" fill(null)""",
            "$tag_horizon h",
        ),
    ).span(8).span_nulls(False)  # fmt: skip


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return (
        board("forecast", "Forecast", "The next three days of a station, and how good that is.")
        .time("now-1d", "now+3d")
        .with_variable(city())
        .with_variable(station(multi=False))
        .with_variable(standard())
        .with_variable(variable("parameter", "Pollutant", 'SHOW TAG VALUES FROM "aq" WITH KEY = "parameter"'))
        .with_panel(_concentration())
        .with_panel(_index())
        .with_panel(
            _score("Error", "Mean absolute error of the median, by hours ahead.", "mae").unit(MICROGRAMS)
        )
        .with_panel(
            _score("Skill", "1 - error / error of persistence, by hours ahead: below 0 it is worse.", "skill")
        )
        .with_panel(
            _score(
                "Inside the 90 % interval", "Share of outcomes; .9 is right.", "coverage"
            ).unit("percentunit")
        )
    )  # fmt: skip
