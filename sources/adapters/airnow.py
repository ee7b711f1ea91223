"""AirNow's file product HourlyData: one value a line, times in GMT, of the hour that begins then."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

_COLUMNS: Final = ("date", "time", "aqsid", "site", "offset", "parameter", "unit", "value", "agency")


def _read(payload: Node, tray: Tray) -> None:
    for line in payload.each():
        device = tray.device(line["aqsid"].text(), "airnow-")
        tray.fact(device, "name", line["site"])
        day, hour = line["date"], line["time"].text()
        at = tray.moment(device, day.put(f"{day.peek()} {hour}"))
        draft = tray.draft(device, at=at) if at else tray.refused_draft(device)
        name, unit, value = line["parameter"].text(), line["unit"].text(), line["value"]
        if not draft.named(name, value.called(name), unit):
            tray.other(name, value)


ADAPTER: Final = Adapter(
    name="airnow",
    title="AirNow HourlyData (.dat)",
    versions="Fact Sheet of HourlyData: nine columns, no header. AQSID of nine or twelve digits; two-digit"
    " years",
    arrives="file HourlyData_YYYYMMDDHH.dat",
    form="table",
    header=_COLUMNS,
    read=_read,
    others={
        "*offset": "offset of local time", "*agency": "agency", "WS": "wind", "WD": "wind", "SRAD": "light",
        "PRECIP": "rain", "BC": "black carbon", "EC": "carbon", "OC": "carbon", "*-DISP": "computed",
        "RWS": "wind", "RWD": "wind", "UV-AETH": "black carbon", "NO2Y": "NOy less NO",
        "NO2T": "NO2 by photolysis", "CH4": "methane",
    },
    period_s=3600,
    stamp="begins",
    naive="utc",
    formats=("%m/%d/%y %H:%M", "%m/%d/%Y %H:%M"),
    correction="the agency's; PM2.5 is the hour's mean, not NowCast",
    many=True,
    time_source="server",
    archive=True,
)  # fmt: skip
