"""Whether there is what a station's record names: its standards, corrections and models of sensors."""

from aqi import standards
from aqi.correction import correction
from aqi.errors import AqiError
from aqi.fill_values import plain_model
from aqi.quality_defaults import defaults
from schemas.errors import Refused
from schemas.station import Station


def check_station(station: Station) -> None:
    """Refused where a station names a standard or a correction that does not exist, or named one."""
    for version in station.earlier:
        check_station(version)
    try:
        for name in station.standards:
            standards.load(name, at_ms=0)
        for sensor in station.sensors:
            correction(sensor.correction)
    except AqiError as error:
        raise Refused("unknown_name", f"station {station.station}: {error}") from error
    known = defaults().fill_values
    for sensor in station.sensors:
        if sensor.model and plain_model(sensor.model) not in known:
            types = ", ".join(sorted(known.keys() - {"any"}))
            raise Refused(
                "unknown_name",
                f"station {station.station}: no sensor of model {sensor.model!r} is known; known are"
                f" {types}. Leave `model` out, and give the numbers that mean no value in `fill_values`",
            )
