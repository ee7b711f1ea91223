"""Fleet: which stations are heard, and which of them somebody should look at."""

from grafana_foundation_sdk.builders import dashboard

from infra.dashboards.parts import (
    GREEN,
    ORANGE,
    PROMETHEUS,
    RED,
    board,
    graded,
    number,
    prom,
    series,
)


def build() -> dashboard.Dashboard:
    """The dashboard."""
    any_wrong = (None, GREEN), (1, ORANGE)
    made = board(
        "fleet", "Fleet", "Stations by state, clocks, batteries; `skyfuse fleet` has all.", span="now-1d"
    )
    made.with_panel(
        number(
            "Online",
            "Stations that were heard as often as they usually are.",
            PROMETHEUS,
            prom('sum(aq_fleet_stations{state="online"})', instant=True),
        )
    )
    for title, about, query, steps in (
        ("Late", "Over their usual wait by half.", 'sum(aq_fleet_stations{state="late"})', any_wrong),
        (
            "Silent",
            "Over three of their usual waits, or gone by their last will.",
            'sum(aq_fleet_stations{state=~"silent|offline"})',
            ((None, GREEN), (1, RED)),
        ),
        (
            "Clocks off",
            "More than a minute ahead, or ten minutes (or two periods) behind.",
            'sum(aq_fleet_troubles{why="clock"})',
            any_wrong,
        ),
        ("Low batteries", "Below 20 %.", 'sum(aq_fleet_troubles{why="battery"})', any_wrong),
        (
            "Two addresses",
            "Stations that two addresses speak for in turns: one id on two devices?",
            'sum(aq_fleet_troubles{why="two_addresses"})',
            any_wrong,
        ),
        (
            "Cameras, sources",
            "Stations of which a camera or an address that is asked gives nothing, or nothing new.",
            'sum(aq_fleet_troubles{why=~"camera|pull"})',
            any_wrong,
        ),
    ):
        made.with_panel(graded(number(title, about, PROMETHEUS, prom(query, instant=True)), *steps))
    return made.with_panel(
        series(
            "States",
            "Stations by state.",
            PROMETHEUS,
            prom("sum by (state) (aq_fleet_stations)", "{{state}}"),
        )
    ).with_panel(
        series(
            "To look at",
            "Each station that is not well, and why.",
            PROMETHEUS,
            prom("max by (station, why) (aq_fleet_unwell)", "{{station}}: {{why}}"),
        )
    )
