"""Corrections: ids that say what was done, channels that cannot be confused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqi.correction import BARKJOHN_2021, CF_1, IDENTITY, correction, linear
from aqi.errors import CorrectionError


def test_identity_changes_nothing() -> None:
    assert correction("identity") is IDENTITY
    assert IDENTITY.apply("no2", 12.3, "value") == 12.3


@pytest.mark.parametrize(
    ("cf_1", "humidity", "expected"),
    [(100.0, 50.0, 53.84), (0.0, 0.0, 5.75), (20.0, 90.0, 8.472), (0.0, 100.0, -2.87)],
)
def test_barkjohn_2021(cf_1: float, humidity: float, expected: float) -> None:
    assert correction("barkjohn-2021") is BARKJOHN_2021
    assert BARKJOHN_2021.apply("pm25", cf_1, CF_1, humidity) == pytest.approx(expected)


@pytest.mark.parametrize(("humidity", "taken"), [(101.7, 100.0), (119.0, 100.0), (-3.0, 0.0)])
def test_a_humidity_beyond_its_scale_is_at_its_end(humidity: float, taken: float) -> None:
    expected = BARKJOHN_2021.apply("pm25", 80.0, CF_1, taken)
    assert BARKJOHN_2021.apply("pm25", 80.0, CF_1, humidity) == expected


@pytest.mark.parametrize("humidity", [None, float("nan")])
def test_barkjohn_without_humidity_gives_nothing_rather_than_a_guess(humidity: float | None) -> None:
    assert BARKJOHN_2021.apply("pm25", 100.0, CF_1, humidity) is None


def test_the_wrong_channel_or_pollutant_is_refused() -> None:
    with pytest.raises(CorrectionError, match="takes channel 'cf_1', got 'atm'"):
        BARKJOHN_2021.apply("pm25", 100.0, "atm", 50.0)
    with pytest.raises(CorrectionError, match="corrects pm25, not pm10"):
        BARKJOHN_2021.apply("pm10", 100.0, CF_1, 50.0)


def test_what_is_for_any_channel_takes_each() -> None:
    assert IDENTITY.apply("pm25", 100.0, CF_1) == IDENTITY.apply("pm25", 100.0, "atm") == 100.0
    assert linear(2.0, 1.0).apply("pm25", 100.0, "atm") == 201.0


@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e4))
def test_the_id_of_a_linear_correction_is_the_whole_of_it(slope: float, offset: float, value: float) -> None:
    made = linear(slope, offset)
    again = correction(made.id)
    assert again.id == made.id
    assert again.apply("o3", value, "value") == made.apply("o3", value, "value") == slope * value + offset


def test_linear_ids_are_written_one_way() -> None:
    assert correction("linear:slope=1,offset=-2").id == "linear:slope=1.0,offset=-2.0"


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("epa", "no correction 'epa': there are identity, barkjohn-2021 and linear"),
        ("linear:slope=1", "no correction"),
        ("linear:slope=0,offset=1", "must be above zero"),
        ("linear:slope=-1,offset=1", "must be above zero"),
        ("linear:slope=1e999,offset=1", "must be above zero"),
    ],
)
def test_refusals(id: str, message: str) -> None:
    with pytest.raises(CorrectionError, match=message):
        correction(id)
