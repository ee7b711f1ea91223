"""Readings: what is accepted, what is refused and in which words; the fast path agrees with the full one."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.base import from_ms, parse_time, to_ms
from schemas.reading import LIMITS, Observation, accept, decode

MOMENT = 1_750_248_000_123

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["pm25", "co", "temperature", "ug/m3", "ppb", "%", "st-1", "cf_1", MOMENT, 12.5]),
)  # fmt: skip
values = st.fixed_dictionaries(
    {
        "parameter": st.sampled_from([*LIMITS, "pm3"]),
        "value": st.one_of(st.floats(), st.integers(-10, 20_000), st.floats(0, 100)),
        "unit": st.sampled_from(["ug/m3", "mg/m3", "ppb", "ppm", "%", "Cel", "hPa", "grains"]),
    },
    optional={"sensor": anything, "channel": anything, "extra": anything},
)
readings = st.fixed_dictionaries(
    {
        "station": st.one_of(st.just("st-1"), anything),
        "observed_at": st.one_of(st.just(MOMENT), st.integers()),
    },
    optional={
        "values": st.one_of(st.lists(values, max_size=4), anything),
        "period": st.one_of(st.integers(-1, 4000), anything),
        "stamp": st.one_of(st.sampled_from(["begins", "ends"]), anything),
        "received_at": st.one_of(st.just(MOMENT), st.integers(), anything),
        "time_source": st.one_of(st.sampled_from(["device", "broker", "server"]), anything),
        "extra": anything,
    },
)


@given(st.one_of(readings, anything))
def test_the_fast_path_never_says_yes_where_the_full_one_says_no_and_says_the_same(plain: Any) -> None:
    data = json.dumps(plain).encode()
    fast = decode(data)
    if fast is None:
        return
    reading, refused = accept(data)
    assert refused is None
    assert reading is not None
    assert fast == Observation.of(reading)
    assert (fast.station, fast.time_ms) == (reading.station, to_ms(reading.observed_at))
    assert [tuple(q) for q in fast.values] == [
        (v.parameter, v.value, v.unit, v.sensor, v.channel) for v in reading.values
    ]


@given(
    st.lists(
        st.sampled_from([("pm25", "ug/m3", 12.0), ("co", "ppm", 0.4), ("relativehumidity", "%", 55.0)]),
        min_size=1,
        max_size=4,
    )
)
def test_good_readings_take_the_fast_path(parts: list[tuple[str, str, float]]) -> None:
    listed = [{"parameter": p, "unit": u, "value": v} for p, u, v in parts]
    message = {"station": "st-1", "observed_at": MOMENT, "values": listed}
    assert decode(json.dumps(message).encode()) is not None
    taken_in = message | {"received_at": MOMENT + 2_000, "time_source": "device"}
    assert decode(json.dumps(taken_in).encode()) is not None


def test_good_values_beside_a_bad_one_are_kept() -> None:
    listed = [
        {"parameter": "pm25", "unit": "ug/m3", "value": 12.0},
        {"parameter": "no2", "unit": "ppb", "value": -999},
    ]
    data = json.dumps({"station": "st-1", "observed_at": MOMENT, "values": listed}).encode()
    reading, refused = accept(data)
    assert reading is not None
    assert [value.parameter for value in reading.values] == ["pm25"]
    assert refused is not None
    assert "values.1: no2 = -999.0 ppb is outside the physical range" in refused.message


@given(st.integers(946_771_200_000, 4_102_444_800_000))
def test_times_survive_the_round_trip(ms: int) -> None:
    assert to_ms(from_ms(ms)) == ms
    assert parse_time(ms) == from_ms(ms)
    assert parse_time(from_ms(ms).isoformat()) == from_ms(ms)


def test_a_time_with_an_offset_is_turned_into_utc_and_finer_digits_are_cut() -> None:
    assert to_ms(parse_time("2025-06-18T17:30:00.123999+05:30")) == 1_750_248_000_123


def test_every_fault_of_a_message_is_named() -> None:
    good = '{"parameter": "pm25", "value": 1, "unit": "ug/m3"}'
    bad = [
        '{"parameter": "pm25", "value": -999, "unit": "ug/m3"}',
        '{"parameter": "no2", "value": 3, "unit": "kg"}',
        '{"parameter": "o3", "value": "high", "unit": "ppb"}',
    ]
    message = '{"station": "s", "observed_at": "2026-08-21T10:00:00Z", "values": [%s]}'
    reading, refused = accept((message % ", ".join([good, *bad])).encode())
    assert reading is not None
    assert refused is not None
    assert refused.code == "out_of_range"
    for said in ("values.1: pm25 = -999", "values.2: no2 cannot come in", "values.3.value: "):
        assert said in str(refused)
    _, many = accept((message % ", ".join(bad[:1] * 100)).encode())
    assert many is not None
    assert str(many).endswith("(and 92 more)")
    assert str(many).count("pm25 = -999") == 8
