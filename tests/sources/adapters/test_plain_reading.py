"""The fast way of our own messages says the same as the one that explains, or nothing."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import from_ms
from schemas.reading import Reading, decode
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import translate
from sources.adapters.skyfuse_json import ADAPTER, plain_message

NOW = 1_787_306_400_000
CONTEXT = Context(from_ms(NOW))

names = st.sampled_from(["main", "a", "value", "values", "station", "pm25", "b_1"])
values = st.fixed_dictionaries(
    {
        "parameter": st.sampled_from(["pm25", "no2", "temperature", "pressure", "co2", "PM2.5"]),
        "value": st.floats(-50, 2000) | st.integers(-1000, 1100) | st.sampled_from([-999, "7", None, True]),
        "unit": st.sampled_from(["ug/m3", "ppb", "Cel", "hPa", "%", "µg/m³"]),
    },
    optional={"sensor": names, "channel": names, "extra": st.none()},
)
messages = st.fixed_dictionaries(
    {
        "observed_at": st.sampled_from(
            ["2026-08-21T10:00:00Z", "2026-08-21T10:00:00.1239+05:30", "2026-08-21T10:00:00",
             1_787_306_400_123, 1_787_306_400, 17.5, "1970-01-01T00:00:00Z", None]
        ),
        "values": st.lists(values, max_size=4),
    },
    optional={
        "station": st.sampled_from(["roof", "a b", ""]), "period": st.sampled_from([60, 0, 3601, "60"]),
        "stamp": st.sampled_from(["begins", "ends", "x"]), "received_at": st.just("2026-08-21T10:00:00Z"),
        "time_source": st.sampled_from(["server", "x"]),
    },
)  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A message, or one with a member twice, or cut."""
    text = json.dumps(draw(messages), ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        name, more = draw(st.sampled_from([("station", '"yard"'), ("values", "[]"), ("period", "60")]))
        text = text[:-1] + f', "{name}": {more}}}'
    if draw(st.booleans()):
        name = draw(st.sampled_from(["value", "sensor", "unit", "channel"]))
        text = text.replace('{"parameter"', f'{{"{name}": "main", "parameter"', 1)
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text.encode()


@given(texts(), st.sampled_from([None, "hint"]))
def test_it_makes_the_same_reading_or_none(data: bytes, station: str | None) -> None:
    context = replace(CONTEXT, station=station)
    fast = plain_message(data, NOW, station)
    if fast is None:
        return
    made = translate(ADAPTER, data, context)
    reading = Reading.model_validate_json(fast.data)
    assert (made.readings, made.refused, made.left_out) == ((reading,), (), ())
    assert (fast.station, fast.values) == (reading.station, len(reading.values))
    assert decode(fast.data) is not None  # the fast way of the stages, too


@pytest.mark.parametrize(
    "data",
    [
        b'{"station":"roof","observed_at":"2026-08-21T10:00:00Z","values":[{"parameter":"pm25","value":1,"unit":"ug/m3"}]}',
        b'{"station":"roof","observed_at":1787306400000,"period":60,"values":['
        b'{"parameter":"pm25","value":1,"unit":"ug/m3","sensor":"a"},{"parameter":"pm10","value":2,"unit":"ug/m3"}]}',
    ],
)
def test_plain_messages_go_the_fast_way(data: bytes) -> None:
    assert plain_message(data, NOW, None) is not None
    without = data.replace(b'"station":"roof",', b"")
    assert plain_message(without, NOW, None) is None
    for given_away in (b'"time_source":"server"', b'"received_at":"2026-08-21T10:00:00Z"'):
        assert plain_message(data.replace(b'"station"', given_away + b',"station"'), NOW, None) is None
    hinted = plain_message(without, NOW, "roof")
    assert hinted is not None
    assert hinted.station == "roof"
