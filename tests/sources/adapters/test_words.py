"""Names of quantities and units as the world writes them."""

import pytest

from schemas.errors import Refused
from sources.adapters.core.words import is_not_carried, parameter_of, scale_of, unit_for


@pytest.mark.parametrize(
    "name", ["PM2.5", "pm25", "pm2_5", "PM 2.5", "pm2p5", "Particulate matter 2.5", "PM2,5", "pm02.5"]
)
def test_fine_particles(name: str) -> None:
    assert parameter_of(name) == "pm25"


@pytest.mark.parametrize("name", ["PM10", "pm10.0", "pm_10", "PM 10", "pm10_0"])
def test_coarse_particles(name: str) -> None:
    assert parameter_of(name) == "pm10"


@pytest.mark.parametrize("name", ["PM1", "pm1.0", "pm01", "PM1_0", "pm4", "PM4.0", "CO2", "TVOC", "NO"])
def test_what_no_reading_carries_is_neither_pm10_nor_co(name: str) -> None:
    assert parameter_of(name) is None
    assert is_not_carried(name)


@pytest.mark.parametrize("name", ["pm", "pm100", "speed", "", "co3", "temperature_error"])
def test_other_names_are_unknown(name: str) -> None:
    assert parameter_of(name) is None
    assert not is_not_carried(name)


@pytest.mark.parametrize(
    ("text", "value", "expected", "unit"),
    [
        ("µg/m³", 5, 5, "ug/m3"), ("μg/m3", 5, 5, "ug/m3"), ("UG/M3", 5, 5, "ug/m3"),
        ("ug/m^3", 5, 5, "ug/m3"),
        ("µg⋅m⁻³", 5, 5, "ug/m3"), ("ug m-3", 5, 5, "ug/m3"), ("GQ", 5, 5, "ug/m3"), ("mg/m3", 5, 5, "mg/m3"),
        ("°C", 20, 20, "Cel"), ("°F", 212, 100, "Cel"), ("K", 273.15, 0, "Cel"),
        ("Pa", 101325, 1013.25, "hPa"),
        ("kPa", 101.325, 1013.25, "hPa"), ("PPB", 5, 5, "ppb"), ("% RH", 5, 5, "%"),
    ],
)  # fmt: skip
def test_units(text: str, value: float, expected: float, unit: str) -> None:
    scale = scale_of(text)
    assert scale is not None
    assert scale.unit == unit
    assert value * scale.factor + scale.offset == pytest.approx(expected)


def test_a_gas_without_a_unit_and_a_unit_that_nobody_knows_are_refused() -> None:
    with pytest.raises(Refused, match="ppb, ppm or ug/m3"):
        unit_for("no2", "", 20)
    with pytest.raises(Refused, match="no unit of pm25"):
        unit_for("pm25", "grains", 20)
    assert [unit_for("pressure", "", value).factor for value in (1013, 101_300, 101.3)] == [1.0, 0.01, 10.0]
