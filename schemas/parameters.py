"""The six pollutants skyfuse estimates, what else a station may measure, and their units.

Names are those of OpenAQ v3. The canonical unit inside the pipeline is ug/m3 for every pollutant, CO
included, so that no stage has to ask; conversion happens once, where a reading is accepted.
"""

from typing import Final, Literal, get_args

Pollutant = Literal["pm25", "pm10", "no2", "so2", "co", "o3"]
Weather = Literal["relativehumidity", "temperature", "pressure", "windspeed", "winddirection"]
Parameter = Literal[Pollutant, Weather]
#: What estimates tell of the weather at a station, beside its humidity.
OwnWeather = Literal["temperature", "pressure", "windspeed", "winddirection"]

#: Order of the sensor vector in the model, in masks and in every array of six.
POLLUTANTS: Final[tuple[Pollutant, ...]] = get_args(Pollutant)
WEATHER: Final[tuple[Weather, ...]] = get_args(Weather)
GASES: Final[frozenset[str]] = frozenset({"no2", "so2", "co", "o3"})
#: As people write them.
LABELS: Final[dict[str, str]] = {
    "pm25": "PM2.5", "pm10": "PM10", "no2": "NO2", "so2": "SO2", "co": "CO", "o3": "O3",
}  # fmt: skip

#: Units a reading may carry, per parameter. Mass concentrations for all, mixing ratios for gases only.
MASS_UNITS: Final[tuple[str, ...]] = ("ug/m3", "mg/m3")
MIXING_UNITS: Final[tuple[str, ...]] = ("ppb", "ppm")
WEATHER_UNITS: Final[dict[str, tuple[str, ...]]] = {
    "relativehumidity": ("%",),
    "temperature": ("Cel",),
    "pressure": ("hPa",),
    "windspeed": ("m/s",),
    "winddirection": ("deg",),
}


def units_of(parameter: str) -> tuple[str, ...]:
    """Units accepted for `parameter` (KeyError for an unknown one)."""
    if parameter in WEATHER_UNITS:
        return WEATHER_UNITS[parameter]
    if parameter in GASES:
        return MASS_UNITS + MIXING_UNITS
    if parameter in POLLUTANTS:
        return MASS_UNITS
    raise KeyError(parameter)
