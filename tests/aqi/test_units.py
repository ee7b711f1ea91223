"""Units: published factors, round trips, refusals, and pint as an independent judge."""

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqi.errors import UnitError
from aqi.units import MOLAR_MASS, convert, from_canonical, micrograms_per_ppb, to_canonical

GASES = sorted(MOLAR_MASS)


@pytest.mark.parametrize(
    ("parameter", "celsius", "published"),
    [
        ("o3", 25.0, 1.96), ("no2", 25.0, 1.88), ("so2", 25.0, 2.62), ("co", 25.0, 1.145),
        ("o3", 20.0, 1.995), ("no2", 20.0, 1.913), ("so2", 20.0, 2.663), ("co", 20.0, 1.164),
    ],
)  # fmt: skip
def test_published_factors(parameter: str, celsius: float, published: float) -> None:
    assert micrograms_per_ppb(parameter, celsius) == pytest.approx(published, rel=1e-3)


@pytest.fixture(scope="module")
def registry() -> pint.UnitRegistry[float]:
    return pint.UnitRegistry()


@pytest.mark.parametrize("parameter", GASES)
@pytest.mark.parametrize("celsius", [0.0, 20.0, 25.0])
@pytest.mark.parametrize(("unit", "parts"), [("ppb", 1e-9), ("ppm", 1e-6)])
@pytest.mark.parametrize("mass_unit", ["ug/m3", "mg/m3"])
def test_pint_agrees(
    registry: "pint.UnitRegistry[float]",
    parameter: str,
    celsius: float,
    unit: str,
    parts: float,
    mass_unit: str,
) -> None:
    """Ideal gas law written with dimensions: mass per volume = parts * p * M / (R * T)."""
    q = registry.Quantity
    pressure, temperature = q(1013.25, "hPa"), q(celsius + 273.15, "kelvin")
    density = (
        q(parts, "")
        * pressure
        * q(MOLAR_MASS[parameter], "g/mol")
        / (registry.molar_gas_constant * temperature)
    )
    expected = density.to(mass_unit.replace("ug", "microgram").replace("m3", "meter**3")).magnitude
    assert convert(parameter, 1.0, unit, mass_unit, celsius) == pytest.approx(expected, rel=1e-9)
    assert convert(parameter, expected, mass_unit, unit, celsius) == pytest.approx(1.0, rel=1e-9)


@given(
    parameter=st.sampled_from(["pm25", "pm10", *GASES]),
    value=st.floats(0, 1e6),
    unit=st.sampled_from(["ug/m3", "mg/m3", "ppb", "ppm"]),
    celsius=st.floats(-20, 40),
)
def test_round_trip(parameter: str, value: float, unit: str, celsius: float) -> None:
    if parameter.startswith("pm") and unit.startswith("pp"):
        with pytest.raises(UnitError, match="no mixing ratio"):
            to_canonical(parameter, value, unit, celsius)
    else:
        canonical = to_canonical(parameter, value, unit, celsius)
        assert from_canonical(parameter, canonical, unit, celsius) == pytest.approx(value, rel=1e-14)


def test_a_mass_is_not_altered_on_the_way_in() -> None:
    assert to_canonical("o3", 117.3, "ug/m3", 20.0) == 117.3
    assert to_canonical("co", 1.4, "mg/m3", 20.0) == 1400.0


def test_masses_at_two_reference_temperatures_differ_by_the_gas_law() -> None:
    at_25 = convert("no2", 40.0, "ug/m3", "ug/m3", 20.0, 25.0)
    assert at_25 == pytest.approx(40.0 * 293.15 / 298.15)
    assert convert("pm25", 40.0, "ug/m3", "ug/m3", 20.0, 25.0) == 40.0


@pytest.mark.parametrize(
    ("parameter", "unit", "message"),
    [
        ("pm25", "ppb", "pm25 has no mixing ratio"),
        ("o3", "ug", "unit 'ug' of o3 is not known: use one of ug/m3, mg/m3, ppb, ppm"),
        ("voc", "ug/m3", "no units are known for parameter 'voc'"),
        ("relativehumidity", "ug/m3", "no units are known"),
    ],
)
def test_refusals_say_how_to_mend(parameter: str, unit: str, message: str) -> None:
    with pytest.raises(UnitError, match=message):
        to_canonical(parameter, 1.0, unit, 25.0)
    with pytest.raises(UnitError, match=message):
        convert(parameter, 1.0, unit, unit, 25.0)


def test_a_temperature_in_kelvin_below_zero_is_refused() -> None:
    with pytest.raises(UnitError, match="absolute zero"):
        to_canonical("o3", 1.0, "ppb", -300.0)
