"""NGSI-LD `AirQualityObserved` (Smart Data Models, dataModel.Environment): one entity per station.

The model has no place for how a value came about, so every pollutant carries it as sub-properties, which
NGSI-LD allows: `kind` (measured, corrected, imputed), `qualityFlag` (QARTOD) and, for imputed values, the
90 % `interval`. `reliability` is the share of the index's input that was not imputed. Concentrations are in
ug/m3 (UN/CEFACT GQ); the relative humidity of the model runs from 0 to 1.
"""

from typing import Any, Final

from schemas.base import format_time
from schemas.estimate import Estimate
from schemas.station import Station

CONTEXT: Final = (
    "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context.jsonld",
    "https://raw.githubusercontent.com/smart-data-models/dataModel.Environment/master/context.jsonld",
)
_MICROGRAMS: Final = "GQ"


def entity(estimate: Estimate, station: Station) -> dict[str, Any]:
    """The entity, normalised form. ValueError for a station without a position: the model requires one."""
    if station.latitude is None or station.longitude is None:
        raise ValueError(f"station {station.station} has no position; AirQualityObserved requires `location`")
    at = format_time(estimate.window.end)
    made: dict[str, Any] = {
        "id": f"urn:ngsi-ld:AirQualityObserved:{estimate.station}",
        "type": "AirQualityObserved",
        "@context": list(CONTEXT),
        "dateObserved": {"type": "Property", "value": {"@type": "DateTime", "@value": at}},
        "location": {
            "type": "GeoProperty",
            "value": {"type": "Point", "coordinates": [station.longitude, station.latitude]},
        },
        "name": _property(station.name or station.station),
        "source": _property("skyfuse"),
    }
    if station.city:
        made["areaServed"] = _property(station.city)
    for parameter, pollutant in estimate.pollutants.items():
        if pollutant.value < 0:
            continue  # a correction may go below zero; the model does not
        value = _property(pollutant.value, observedAt=at, unitCode=_MICROGRAMS)
        value["kind"] = _property(pollutant.kind)
        value["qualityFlag"] = _property(pollutant.qc)
        if pollutant.lo is not None and pollutant.hi is not None:
            value["interval"] = _property([pollutant.lo, pollutant.hi], unitCode=_MICROGRAMS)
        made[parameter] = value
    if estimate.inputs.humidity is not None:
        made["relativeHumidity"] = _property(min(estimate.inputs.humidity, 100.0) / 100, observedAt=at)
    block = estimate.indices[0] if estimate.indices else None
    if block is not None:
        made["reliability"] = _property(1 - block.imputed_share, observedAt=at)
        if block.index is not None:
            index = _property(block.index, observedAt=at)
            index["standard"] = _property(block.standard)
            index["status"] = _property(block.status)
            made["airQualityIndex"] = index
        if block.category is not None:
            made["airQualityLevel"] = _property(block.category, observedAt=at)
    return made


def _property(value: object, **more: object) -> dict[str, Any]:
    return {"type": "Property", "value": value, **more}
