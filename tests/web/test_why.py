"""What an estimate rests on, in sentences."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.together.departures import drift_of
from network.drift import Departure
from tests.samples import estimate
from web.documents import Sentence
from web.pages import FILES
from web.why import of_alert, percents, reasons_of, sentences


def test_a_sensor_that_drifts_is_told_in_words() -> None:
    calm = estimate()
    gone = drift_of(Departure("slide", 20_000, 20_018, 4.2, -0.18, -0.01, 0.0), "pm25")
    told = sentences(calm.model_copy(update={"drift": {"pm25": gone}}))
    assert [line.text for line in told if line not in sentences(calm)] == [
        "The drift watch says: pm25 slides by -1.0% a day, and reads 18% less than its neighbours let expect,"
        " since about 2024-10-04. Its neighbours do not listen to it."
    ]


WORDS = json.loads((FILES / "words" / "en.json").read_text())


def codes(told: Sentence) -> list[str]:
    return [told.code, *(code for part in told.parts for code in codes(part))]


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("pm25_24h: 3 of 24 hours, 18 needed", ["hours"]),
        ("so2_15min: 3 of 4 quarter hours, 4 needed", ["quarters"]),
        ("so2_15min: no complete quarter hour yet", ["no_quarter"]),
        ("pm25 NowCast: its newest hours are imputed", ["newest_imputed"]),
        ("no data for any pollutant of us-epa-2024", ["no_data"]),
        (
            "us-epa-2024 is not met: 0 of at least 1 pollutants, none of pm25 or pm10 with a valid mean",
            ["not_met", "lacks_count", "lacks_any"],
        ),
        ("in-naqi-2014 is not met: 2 of at least 3 pollutants with a valid mean", ["not_met", "lacks_count"]),
        ("cn-hj-633-2012 is not met: no pm25 and no no2", ["not_met", "lacks_all"]),
    ],
)
def test_a_reason_of_an_index_can_be_said_in_every_language(reason: str, wanted: list[str]) -> None:
    [told] = reasons_of(reason)
    assert codes(told) == wanted
    assert all(f"why.{code}" in WORDS for code in wanted)


@pytest.mark.parametrize(
    ("reason", "code", "values"),
    [
        (
            "pm25 is 107.02 ug/m3, at or above 55.5 ug/m3 since 2026-11-27T19:05:00Z (15 min)",
            "above", {"subject": "pm25", "value": 107.02, "bound": 55.5, "unit": "ug/m3"},
        ),
        (
            "us-epa-2024 index is 163, at or above 151 since 2026-11-27T19:05:00Z (2 h 30 min)",
            "above", {"subject": "us-epa-2024 index", "value": 163, "unit": ""},
        ),
        (
            "pm10 is 107 ug/m3 (87 to 120, imputed), at or above 55 ug/m3 since 2026-11-27T19:05:00Z (90 s)",
            "above_imputed", {"lo": 87, "hi": 120},
        ),
        ("no data for 9 windows, since 2026-11-27T19:05:00Z (9 min)", "nodata", {"count": 9}),
    ],
)  # fmt: skip
def test_why_an_alert_is_open_can_be_said_in_every_language(
    reason: str, code: str, values: dict[str, object]
) -> None:
    told = of_alert(reason)
    assert told is not None
    assert (told.code, told.text) == (code, reason)
    assert told.values.items() >= (values | ({"at": "2026-11-27T19:05:00Z"})).items()
    assert f"hint.{code}" in WORDS


def test_a_reason_of_another_form_is_left_as_it_is() -> None:
    assert (
        of_alert("after late data: no2 is 9 ug/m3, below 30 ug/m3 since 2026-01-01T00:00:00Z (1 h)") is None
    )
    assert of_alert("retired") is None
    assert codes(reasons_of("something else; pm25_1h: no complete hour yet")[0]) == ["other"]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_shares_of_a_whole_make_a_hundred_per_cent(parts: list[int]) -> None:
    shares = [part / sum(parts) for part in parts]
    told = [int(one.rstrip("%")) for one in percents(shares)]
    assert sum(told) == 100
    assert all(abs(one - 100 * share) < 1 for one, share in zip(told, shares, strict=True))
