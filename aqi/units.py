"""Mass concentration and mixing ratio of gases, with the reference temperature said aloud.

A mixing ratio (ppb, ppm) becomes a mass concentration only for a stated gas temperature; at 1013.25 hPa

    ug/m3 = ppb * M / Vm,    Vm = R * T / p        (M in g/mol, Vm in litres per mole: 24.465 at 25 Cel)

Agencies differ in T: US EPA, India and China report gases at 25 Cel, the European Union and the United
Kingdom at 20 Cel. Inside the pipeline every pollutant is ug/m3 *at the reference temperature of its
station's network*; a value that was measured as mass is therefore never altered on the way in, and an
index whose standard uses another temperature re-expresses it (`convert`). Particles are weighed in
ambient air: temperature does not enter, and they have no mixing ratio.
"""

from functools import lru_cache
from typing import Final

from aqi.errors import UnitError

CANONICAL_UNIT: Final = "ug/m3"
GAS_CONSTANT: Final = 8.31446261815324  # J/(mol K), CODATA 2018, exact
STANDARD_PRESSURE: Final = 1013.25  # hPa
KELVIN_AT_ZERO_CELSIUS: Final = 273.15

#: g/mol, from the IUPAC abridged standard atomic weights (C 12.011, H 1.008, N 14.007, O 15.999, S 32.06).
MOLAR_MASS: Final[dict[str, float]] = {
    "no2": 46.005,
    "so2": 64.058,
    "co": 28.010,
    "o3": 47.997,
    "nh3": 17.031,
}
#: Weighed, not counted: no mixing ratio, no reference temperature.
PARTICULATE: Final[frozenset[str]] = frozenset({"pm25", "pm10", "pb"})

MASS_SCALE: Final[dict[str, float]] = {"ug/m3": 1.0, "mg/m3": 1e3}
MIXING_SCALE: Final[dict[str, float]] = {"ppb": 1.0, "ppm": 1e3}


def molar_volume(celsius: float) -> float:
    """Litres that a mole of ideal gas takes at `celsius` and 1013.25 hPa."""
    kelvin = celsius + KELVIN_AT_ZERO_CELSIUS
    if not kelvin > 0:
        raise UnitError(
            f"reference temperature {celsius} Cel is not above absolute zero: give degrees Celsius"
        )
    return GAS_CONSTANT * kelvin / STANDARD_PRESSURE * 10.0


def micrograms_per_ppb(parameter: str, celsius: float) -> float:
    """ug/m3 that one ppb of the gas `parameter` weighs at `celsius` and 1013.25 hPa."""
    try:
        mass = MOLAR_MASS[parameter]
    except KeyError:
        raise UnitError(
            f"{parameter} has no mixing ratio: ppb and ppm are for {', '.join(sorted(MOLAR_MASS))}; "
            f"give {parameter} in ug/m3 or mg/m3"
        ) from None
    return mass / molar_volume(celsius)


@lru_cache(maxsize=512)
def factor(
    parameter: str, unit: str, to_unit: str, reference_celsius: float, to_reference_celsius: float
) -> float:
    """What a value of `parameter` in `unit` is multiplied by to be in `to_unit`.

    `reference_celsius` is the temperature at which a mass in `unit` is expressed, `to_reference_celsius` the
    one for a mass in `to_unit`; a mixing ratio depends on neither. UnitError for a unit `parameter` cannot
    have.
    """
    if parameter not in MOLAR_MASS and parameter not in PARTICULATE:
        known = ", ".join(sorted(PARTICULATE | MOLAR_MASS.keys()))
        raise UnitError(f"no units are known for parameter {parameter!r}: known are {known}")
    # Through ppb for gases, through ug/m3 for particles.
    return _scale(parameter, unit, reference_celsius) / _scale(parameter, to_unit, to_reference_celsius)


def _scale(parameter: str, unit: str, celsius: float) -> float:
    if unit in MIXING_SCALE:
        micrograms_per_ppb(parameter, celsius)  # refuses particles
        return MIXING_SCALE[unit]
    if unit not in MASS_SCALE:
        known = ", ".join([*MASS_SCALE, *MIXING_SCALE])
        raise UnitError(f"unit {unit!r} of {parameter} is not known: use one of {known}")
    if parameter in PARTICULATE:
        return MASS_SCALE[unit]
    return MASS_SCALE[unit] / micrograms_per_ppb(parameter, celsius)


def convert(
    parameter: str,
    value: float,
    unit: str,
    to_unit: str,
    reference_celsius: float,
    to_reference_celsius: float | None = None,
) -> float:
    """`value` of `parameter` from `unit` to `to_unit`; masses at `reference_celsius` unless told else.

    Examples:
        >>> round(convert("o3", 60.0, "ppb", "ug/m3", 25.0), 1)  # 60 * 47.997 / 24.465
        117.7
        >>> round(convert("o3", 60.0, "ppb", "ug/m3", 20.0), 1)  # of a network that reports at 20 Cel
        119.7
        >>> convert("pm25", 0.012, "mg/m3", "ug/m3", 25.0)
        12.0
    """
    if unit == to_unit and (to_reference_celsius is None or to_reference_celsius == reference_celsius):
        factor(parameter, unit, to_unit, reference_celsius, reference_celsius)  # refuses an impossible unit
        return value
    to_celsius = reference_celsius if to_reference_celsius is None else to_reference_celsius
    return value * factor(parameter, unit, to_unit, reference_celsius, to_celsius)


def to_canonical(parameter: str, value: float, unit: str, reference_celsius: float) -> float:
    """`value` in ug/m3 at `reference_celsius` (the network's own); a mass concentration is only rescaled."""
    return convert(parameter, value, unit, CANONICAL_UNIT, reference_celsius)


def from_canonical(parameter: str, value: float, unit: str, reference_celsius: float) -> float:
    """`value`, ug/m3 at `reference_celsius`, in `unit`."""
    return convert(parameter, value, CANONICAL_UNIT, unit, reference_celsius)
