"""OGC SensorThings 1.1: a station as a Thing with its Datastreams, and observations as a data array.

There is one Datastream per pollutant **and kind**, so that nobody takes an imputed series for a measured one.
Datastream ids are texts, `station:parameter:kind` (servers such as FROST can be set to take them). A time is
the window as an interval; the result is in ug/m3.

Property names, which of them are mandatory, and the codes of encodings and observation types are those of
OGC 18-088 (SensorThings 1.1), section 8.2. `resultQuality` holds data-quality elements (ISO 19157). An
observation names no FeatureOfInterest: the service takes the Thing's location, so a Thing has to have one.
"""

from collections.abc import Iterable
from typing import Any, Final, get_args

from schemas.base import format_time
from schemas.estimate import Estimate, ValueKind
from schemas.parameters import POLLUTANTS
from schemas.station import Station

UNIT: Final = {"name": "microgram per cubic metre", "symbol": "ug/m3", "definition": "ucum:ug/m3"}
COMPONENTS: Final = ("phenomenonTime", "resultTime", "result", "resultQuality", "parameters")
#: Words for the QARTOD flags.
_QUALITY: Final = {1: "pass", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing"}
_OBSERVATION: Final = "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement"
_SENSOR: Final[dict[ValueKind, str]] = {
    "measured": "sensors of the station, values as they were read",
    "corrected": "sensors of the station, values corrected; the parameter method names the correction",
    "imputed": "no usable sensor: estimated from camera and remaining sensors, with a 90 % interval",
}


def datastream_id(station: str, parameter: str, kind: str) -> str:
    """The id that `thing` gives to a Datastream and `observations` refer to."""
    return f"{station}:{parameter}:{kind}"


def thing(station: Station) -> dict[str, Any]:
    """A Thing with location and Datastreams, for one POST to /Things (deep insert)."""
    made: dict[str, Any] = {
        "@iot.id": station.station,
        "name": station.name or station.station,
        "description": f"air-quality station {station.station}",
        "properties": {"kind": station.kind, "city": station.city, "timezone": station.timezone},
        "Datastreams": [
            {
                "@iot.id": datastream_id(station.station, parameter, kind),
                "name": f"{parameter} {kind}",
                "description": f"{parameter} at {station.station}, {kind} values",
                "observationType": _OBSERVATION,
                "unitOfMeasurement": UNIT,
                "properties": {"kind": kind},
                "ObservedProperty": {
                    "name": parameter,
                    "definition": f"https://docs.openaq.org/resources/parameters#{parameter}",
                    "description": f"mass concentration of {parameter}",
                },
                "Sensor": {
                    "name": f"skyfuse {kind}",
                    "description": _SENSOR[kind],
                    "encodingType": "text/html",
                    "metadata": f"<p>{_SENSOR[kind]}</p>",
                },
            }
            for parameter in POLLUTANTS
            for kind in get_args(ValueKind)
        ],
    }
    if station.latitude is not None and station.longitude is not None:
        made["Locations"] = [
            {
                "name": station.name or station.station,
                "description": station.city or station.station,
                "encodingType": "application/geo+json",
                "location": {"type": "Point", "coordinates": [station.longitude, station.latitude]},
            }
        ]
    return made


def observations(estimates: Iterable[Estimate]) -> list[dict[str, Any]]:
    """The body of a POST to /CreateObservations: one data array per Datastream."""
    arrays: dict[str, list[list[Any]]] = {}
    for estimate in estimates:
        start, end = format_time(estimate.window.start), format_time(estimate.window.end)
        for parameter, pollutant in estimate.pollutants.items():
            details: dict[str, Any] = {
                "kind": pollutant.kind, "method": pollutant.method, "revision": estimate.revision,
            }  # fmt: skip
            if pollutant.lo is not None and pollutant.hi is not None:
                details["interval90"] = [pollutant.lo, pollutant.hi]
            quality = [{"nameOfMeasure": "QARTOD flag", "result": _QUALITY[pollutant.qc]}]
            row = [f"{start}/{end}", end, pollutant.value, quality, details]
            arrays.setdefault(datastream_id(estimate.station, parameter, pollutant.kind), []).append(row)
    return [
        {
            "Datastream": {"@iot.id": id},
            "components": list(COMPONENTS),
            "dataArray@iot.count": len(rows),
            "dataArray": rows,
        }
        for id, rows in sorted(arrays.items())
    ]
