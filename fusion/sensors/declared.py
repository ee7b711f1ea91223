"""What a station's record declares of its sensors: the correction, and whether that needs the humidity."""

from aqi.correction import IDENTITY, Correction, correction
from aqi.quality_defaults import defaults
from schemas.station import Station


def correction_of(station: Station | None, sensor: str, parameter: str) -> Correction:
    """The correction that is declared for a sensor's values of a parameter."""
    known = station.sensor_of(sensor, parameter) if station else None
    found = IDENTITY if known is None else correction(known.correction)
    return found if not found.parameters or parameter in found.parameters else IDENTITY


def humidity_ms(station: Station) -> int:
    """For how long a humidity of the station serves its corrections (ms); 0: none needs any."""
    needed = any(
        correction_of(station, sensor.sensor, parameter).needs_humidity
        for sensor in station.sensors
        for parameter in sensor.parameters
    )
    return defaults().humidity_s * 1000 if needed else 0
