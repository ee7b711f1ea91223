"""European Environment Agency: its tables of E1a (validated) and E2a (up to date), as CSV."""

import re
from datetime import timedelta
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import CET
from sources.adapters.core.tray import Tray

#: Codes of the agency's vocabulary of pollutants (newer tables have only these).
_CODES: Final = {"1": "so2", "5": "pm10", "6001": "pm25", "7": "o3", "8": "no2", "10": "co"}
#: A sampling point is of one pollutant; the station's code is in its name, in most countries.
_STATION: Final = re.compile(
    r"(?<![A-Z0-9])([A-Z]{2}[0-9]{5}[A-Z]?|[A-Z]{2}[0-9]{4}[A-Z]|[A-Z]{4}[0-9]{3}|SP_[0-9]{8}(?=_))(?![A-Z0-9])"
)
_LENGTHS: Final = {"hour": 3600, "day": 86_400}


def _read(payload: Node, tray: Tray) -> None:
    for line in payload.each():
        point = (line["Samplingpoint"] or line["SamplingPoint"]).text()
        site = (line["AirQualityStationEoICode"] or line["AirQualityStation"]).text() or point
        code = _STATION.search(site)
        device = tray.device(code[1] if code else site.rpartition("/")[2])
        pollutant = (line["AirPollutant"] or line["Pollutant"]).text()
        value = (line["Value"] or line["Concentration"]).called(pollutant)
        begin, end = line["Start"] or line["DatetimeBegin"], line["End"] or line["DatetimeEnd"]
        at, since = tray.moment(device, end), tray.moment(device, begin)
        stated = (line["AggType"] or line["AveragingTime"]).text()
        period = (at - since) / timedelta(seconds=1) if at and since else _LENGTHS.get(stated)
        draft = tray.draft(device, at=at, period_s=period) if at else tray.refused_draft(device)
        validity = line["Validity"].text()
        if validity not in ("", "1", "2", "3", "4"):
            tray.leave("declared_invalid", value, f"the agency's validity is {validity:.8}")
        elif not draft.named(
            _CODES.get(pollutant, pollutant), value, line["Unit"].text() or line["UnitOfMeasurement"].text()
        ):
            tray.other(pollutant, value)


ADAPTER: Final = Adapter(
    name="eea",
    title="EEA air quality (CSV)",
    versions="tables until 2023 (DatetimeBegin, Concentration) and since (Start, Value; pollutants by code)."
    " Validity -1 (maintenance), -99 and 0 are no values; 2, 3: below the limit of detection. E2a is revised"
    " for months",
    arrives="file",
    form="table",
    read=_read,
    others={
        "*UnitOfMeasurement": "unit", "*.Unit": "unit", "*Countrycode": "region", "*Namespace": "ids",
        "*AirQualityNetwork": "ids", "*AirQualityStation": "ids", "*SamplingPoint": "ids",
        "*SamplingProcess": "ids", "*Sample": "ids", "*AirPollutantCode": "ids", "*Verification": "state",
        "*ResultTime": "time of the answer", "*DataCapture": "completeness", "*FkObservationLog": "ids",
        "*Validity": "validity", "*AirQualityStationEoICode": "ids",
    },
    naive=CET,
    correction="the reporting country's",
    missing=(-999.0,),
    many=True,
    time_source="server",
    archive=True,
)  # fmt: skip
