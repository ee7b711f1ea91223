"""Names of quantities and units as the world writes them, and what they are here. Pure.

A unit that is not known, or that is missing where two are common, is never guessed: for a gas the same number
in ppb and in ug/m3 is another air.
"""

import re
from typing import Final, NamedTuple

from schemas.errors import Refused
from schemas.parameters import Parameter

#: Signs of units, as they are looked up.
_SPELT: Final = str.maketrans(
    {"µ": "u", "μ": "u", "³": "3", "⁻": "-", "−": "-", "°": "deg", "º": "deg"} | dict.fromkeys("^*·⋅ _", "")
)


class Scale(NamedTuple):
    """A unit of readings, and how a number becomes one in it: `value * factor + offset`."""

    unit: str
    factor: float = 1.0
    offset: float = 0.0


_UNITS: Final[dict[str, Scale]] = {
    spelling: scale
    for scale, spellings in {
        Scale("ug/m3"): "ug/m3 ugm3 ugm-3 ug.m-3 ug/cum ucum:ug/m3 microgrampercubicmetre gq"
        " microgrampercubicmeter microgramspercubicmetre microgramspercubicmeter"
        " micrograms/cubicmeter micrograms/cubicmeter(lc)",
        Scale("ug/m3", 0.001): "ng/m3",
        Scale("mg/m3"): "mg/m3 mgm3 mgm-3 mg.m-3 milligrampercubicmetre milligramspercubicmetre gp",
        Scale("ppb"): "ppb ppbv nmol/mol partsperbillion 61",
        Scale("ppm"): "ppm ppmv umol/mol partspermillion 59",
        Scale("%"): "% percent %rh rh% pct p1",
        Scale("Cel"): "cel c degc degcelsius degreecelsius degreescelsius celsius degreec",
        Scale("Cel", 5 / 9, -160 / 9): "f degf degreefahrenheit degreesfahrenheit fahrenheit fah",
        Scale("Cel", 1.0, -273.15): "k kel kelvin",
        Scale("hPa"): "hpa mbar mb hectopascal millibar a97",
        Scale("hPa", 0.01): "pa pascal pal",
        Scale("hPa", 10.0): "kpa kilopascal",
        Scale("hPa", 33.8639): "inhg",
        Scale("hPa", 1.33322): "mmhg",
    }.items()
    for spelling in spellings.split()
}

_SIZES: Final[dict[str, Parameter]] = {"2.5": "pm25", "10": "pm10"}
_NAMES: Final[dict[str, Parameter]] = {
    "no2": "no2", "nitrogendioxide": "no2", "so2": "so2", "sulphurdioxide": "so2", "sulfurdioxide": "so2",
    "co": "co", "carbonmonoxide": "co", "o3": "o3", "ozone": "o3",
    "relativehumidity": "relativehumidity", "humidity": "relativehumidity", "hum": "relativehumidity",
    "airhumidity": "relativehumidity", "rh": "relativehumidity",
    "temperature": "temperature", "temp": "temperature", "airtemperature": "temperature",
    "pressure": "pressure", "airpressure": "pressure", "barometricpressure": "pressure",
    "atmosphericpressure": "pressure", "barometer": "pressure", "barpr": "pressure",
    "rhum": "relativehumidity",
}  # fmt: skip

#: Quantities of the air that stations often measure and no reading carries.
NOT_CARRIED: Final[frozenset[str]] = frozenset(
    {
        "volatileorganiccompounds", "volatileorganiccompoundsparts", "nitrogenmonoxide", "nitrousoxide",
        "co2", "carbondioxide", "eco2", "tvoc", "voc", "vocindex", "tvocindex", "noxindex", "iaq", "hcho",
        "ch2o", "formaldehyde", "no", "nox", "noy", "nh3", "ammonia", "h2s", "ch4", "benzene", "toluene",
        "bc", "blackcarbon", "noise", "light", "lightlevel", "illuminance", "uv", "uvindex", "windspeed",
        "windgust", "winddirection", "rain", "rainfall", "precipitation", "dewpoint", "aqi", "um003",
        "um010", "um025", "um100", "battery", "batteryvoltage", "rssi", "snr",
    }
)  # fmt: skip

_PARTICLES: Final = re.compile(r"(?:pm|particulate ?matter)[ _-]*([0-9]{1,2})(?:[._p,]([0-9]))?(?: ?um)?")
#: A name of more characters is none of a quantity.
_LONGEST: Final = 64
_WITH_UNIT: Final = re.compile(r"(.+?)(?: *[(\[]([^)\]]+)[)\]]|_([a-zA-Z0-9]+))")
_PLAIN: Final = re.compile(r"[^a-z0-9]")


def without_unit(name: str) -> tuple[str, str]:
    """A name that ends in its unit (`no2_ppb`, `PM2.5 (µg/m³)`), and that unit; any other, and none."""
    found = _WITH_UNIT.fullmatch(name.strip()) if len(name) <= _LONGEST else None
    if found is None:
        return name, ""
    unit = found[2] or found[3]
    return (found[1], unit) if scale_of(unit) is not None else (name, "")


def parameter_of(name: str) -> Parameter | None:
    """The parameter that a quantity's name means: PM2.5, pm2_5, pm25, Nitrogen dioxide … None: none."""
    if len(name) > _LONGEST:
        return None
    lowered = name.strip().lower()
    if lowered.startswith(("pm", "particulate")):
        return _SIZES.get(_size(lowered) or "")
    return _NAMES.get(_PLAIN.sub("", lowered))


def is_not_carried(name: str) -> bool:
    """Whether it names a quantity that is known and that no reading carries, such as CO2 or PM1."""
    if len(name) > _LONGEST:
        return False
    lowered = name.strip().lower()
    if size := _size(lowered):
        return size not in ("2.5", "10")
    return _PLAIN.sub("", lowered) in NOT_CARRIED


def _size(name: str) -> str | None:
    """Of particles, in micrometres: 1.0 and 01 are 1, 25, 2_5 and AirGradient's 02 are 2.5, 10.0 is 10."""
    found = _PARTICLES.fullmatch(name)
    if found is None:
        return None
    whole, tenth = found[1], found[2] or "0"
    if whole == "02" and found[2] is None:
        whole, tenth = "2", "5"
    elif len(whole) == 2 and whole[0] == "0":
        whole = whole[1]
    elif whole == "25" and found[2] is None:
        whole, tenth = "2", "5"
    return whole if tenth == "0" else f"{whole}.{tenth}"


def scale_of(text: str) -> Scale | None:
    """The unit that is meant: µg/m³, UG/M3, ug/m^3, °C, Pa … None: none that is known."""
    return None if len(text) > _LONGEST else _UNITS.get(text.strip().lower().translate(_SPELT))


def unit_for(parameter: Parameter, stated: str, value: float) -> Scale:
    """The unit of a value whose payload names its unit, or does not (`stated` empty).

    Without one, particles are in ug/m3, humidity in % and temperature in Cel; a pressure tells Pa, hPa and
    kPa apart by its size. Raises Refused: ``no_unit`` for gases, ``unit`` for one that is not known.
    """
    if stated:
        scale = scale_of(stated)
        if scale is None:
            raise Refused("unit", f"{stated[:24]!r} is no unit of {parameter} that is known here")
        return scale
    match parameter:
        case "relativehumidity":
            return Scale("%")
        case "temperature":
            return Scale("Cel")
        case "pressure":
            return Scale("hPa", 0.01 if value > 20_000 else 10.0 if value < 200 else 1.0)
        case "pm25" | "pm10":
            return Scale("ug/m3")
    raise Refused(
        "no_unit", f"{parameter} without a unit could be ppb, ppm or ug/m3: let the payload say which"
    )
