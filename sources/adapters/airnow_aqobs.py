"""AirNow's file product HourlyAQObs: one site a line, a column for each pollutant and its unit."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

_POLLUTANTS: Final = ("PM25", "PM10", "OZONE", "NO2", "CO", "SO2")


def _read(payload: Node, tray: Tray) -> None:
    for line in payload.each():
        device = tray.device(line["AQSID"].text(), "airnow-")
        tray.fact(device, "name", line["SiteName"])
        tray.place(device, line["Latitude"], line["Longitude"])
        day, hour = line["ValidDate"], line["ValidTime"].text()
        at = tray.moment(device, day.put(f"{day.peek()} {hour}"))
        draft = tray.draft(device, at=at) if at else tray.refused_draft(device)
        for name in _POLLUTANTS:
            value, unit = line[name], line[f"{name}_Unit"].text()
            if value.peek() not in (None, ""):
                draft.named(name, value, unit)


ADAPTER: Final = Adapter(
    name="airnow-aqobs",
    title="AirNow HourlyAQObs (.dat, CSV)",
    versions="Fact Sheet of HourlyAQObs: 36 named columns",
    arrives="file HourlyAQObs_YYYYMMDDHH.dat",
    form="table",
    read=_read,
    others={
        "*_AQI": "index", "*_Measured": "whether there is a value", "*.Status": "of the site",
        "*EPARegion": "region", "*Elevation": "position", "*GMTOffset": "offset of local time",
        "*CountryCode": "region", "*StateName": "region", "*DataSource": "agency",
        "*ReportingArea*": "region",
    },
    period_s=3600,
    stamp="begins",
    naive="utc",
    formats=("%m/%d/%y %H:%M", "%m/%d/%Y %H:%M"),
    correction="the agency's",
    many=True,
    time_source="server",
    archive=True,
)  # fmt: skip
