"""OpenAQ's ingest format (as openaq-transform writes it): locations with systems and sensors, measurements.

OpenAQ publishes measurements as they are. So imputed values are **left out**, and of a corrected value the
raw mean is given, never the correction. Times are the end of the averaging period. Keys and units are those
of openaq-transform's table: `:mass` apart from `:parts`, ug/m3, but mg/m3 for CO.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from schemas.base import format_time
from schemas.estimate import Estimate, PollutantEstimate
from schemas.station import Station

SCHEMA: Final = "v0.1"
_PROVIDER: Final = "skyfuse"


def transform(
    estimates: Iterable[Estimate], stations: Mapping[str, Station], *, exported_on: datetime
) -> dict[str, Any]:
    """The document. Stations without a position are left out, and named in `meta`."""
    measurements: list[dict[str, Any]] = []
    sensors: dict[str, dict[str, dict[str, Any]]] = {}
    skipped: set[str] = set()
    ends = []
    for estimate in estimates:
        station = stations.get(estimate.station)
        if station is None or station.latitude is None or station.longitude is None:
            skipped.add(estimate.station)
            continue
        seconds = (estimate.window.end - estimate.window.start).total_seconds()
        for parameter, pollutant in estimate.pollutants.items():
            value = measured(pollutant)
            if value is None:
                continue
            metric = f"{parameter}:mass"
            units, scale = ("mg/m3", 1000) if parameter == "co" else ("ug/m3", 1)
            key = f"{_PROVIDER}/{estimate.station}-{metric}"
            sensors.setdefault(estimate.station, {})[key] = {
                "key": key, "parameter": metric, "units": units, "averaging_interval_secs": seconds,
                "logging_interval_secs": seconds, "flags": [],
            }  # fmt: skip
            measurements.append(
                {"key": key, "timestamp": format_time(estimate.window.end), "value": value / scale}
            )
            ends.append(estimate.window.end)
    locations = []
    for name in sorted(sensors):
        station = stations[name]
        key = f"{_PROVIDER}/{name}"
        locations.append(
            {
                "key": key,
                "site_id": name,
                "site_name": station.name or name,
                "coordinates": {"lat": station.latitude, "lon": station.longitude, "proj": "EPSG:4326"},
                "ismobile": False,
                "systems": [{"key": key, "sensors": [sensors[name][one] for one in sorted(sensors[name])]}],
            }
        )
    return {
        "meta": {
            "schema": SCHEMA,
            "sourceName": _PROVIDER,
            "ingestMatchingMethod": "ingest-id",
            "exportedOn": format_time(exported_on),
            "fetchSummary": {
                "sourceName": _PROVIDER,
                "locations": len(locations),
                "sensors": sum(map(len, sensors.values())),
                "measurements": len(measurements),
                "datetimeFrom": format_time(min(ends)) if ends else None,
                "datetimeTo": format_time(max(ends)) if ends else None,
                "errors": {"stations_without_position": sorted(skipped)},
            },
        },
        "measurements": measurements,
        "locations": locations,
    }


def measured(pollutant: PollutantEstimate) -> float | None:
    """What was measured: nothing where the value was imputed, the raw mean where it was corrected."""
    if pollutant.kind == "imputed":
        return None
    return pollutant.raw if pollutant.kind == "corrected" else pollutant.value
