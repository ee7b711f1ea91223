"""The fast way of our own messages says the same as the one that explains, or nothing."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import from_ms
from schemas.reading import Reading, decode
from sources.adapters import adapters
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
             1_787_306_400_123, 1_787_306_400, 17.5, "1970-01-01T00:00:00Z", None,
             "2000-01-05T10:00:00Z", "2007-01-05T10:00:00Z", "2026-08-21T10:06:00Z", 1_787_310_000_000]
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
    return text.replace('":', draw(st.sampled_from(['":', '" :', '"\n:']))).encode()


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


TIME = b'"observed_at":"2026-08-21T09:59:00Z"'
VALUE = b'{"parameter":"pm25","value":1,"unit":"ug/m3"}'
WHOLE = b'{"station":"roof",%s,"period":60,"values":[%s,%s]}' % (TIME, VALUE, VALUE.replace(b"pm25", b"pm10"))
BEFORE_COLON = st.sampled_from([b"", b" ", b"\t", b"\n "])


@given(
    st.sampled_from(["station", "observed_at", "period", "stamp", "values", "parameter", "value", "unit"]),
    BEFORE_COLON, BEFORE_COLON, st.sampled_from([None, "hint"]), st.booleans(),
)  # fmt: skip
def test_what_is_there_twice_is_believed_by_neither_way(
    name: str, before: bytes, more: bytes, station: str | None, lines: bool
) -> None:
    other = {
        "station": b'"yard"', "observed_at": b'"2026-08-21T08:00:00Z"', "period": b"3600",
        "stamp": b'"begins"', "values": b"[]", "parameter": b'"no2"', "value": b"900", "unit": b'"ppb"',
    }[name]  # fmt: skip
    of_value = name in ("parameter", "value", "unit")
    data = WHOLE.replace(b'"stamp"', b'"stamp"').replace(b'"period"', b'"stamp":"ends","period"')
    added = b'{"%s"%s:%s,' % (name.encode(), more, other)
    data = data.replace(b'{"parameter"', added + b'"parameter"', 1) if of_value else added + data[1:]
    data = data.replace(b'"%s":' % name.encode(), b'"%s"%s:' % (name.encode(), before))
    data = data.replace(b"\n", b" ")
    assert plain_message(data, NOW, station) is None
    body = data + b"\n" + WHOLE.replace(b"roof", b"other") if lines else data
    made = translate(ADAPTER, body, replace(CONTEXT, station=station))
    assert "twice" in [part.code for part in made.refused]
    mine = [reading for reading in made.readings if reading.station != "other"]
    assert [value.parameter for reading in mine for value in reading.values] == (["pm10"] if of_value else [])
    assert len(made.readings) - len(mine) == lines


def test_a_time_that_stands_twice_is_not_that_of_arrival() -> None:
    for name, body, time in (
        ("airgradient", b'{"serialno":"a","pm02":7', b',"timestamp":"2026-08-21T0%d:00:00Z"'),
        ("purpleair", b'{"SensorId":"a","pm2_5_atm":7', b',"DateTime":"2026/08/21T0%d:00:00z"'),
    ):
        made = translate(adapters()[name], body + time % 8 + time % 9 + b"}", CONTEXT)
        assert not made.readings
        assert {"twice", "not_a_time", "no_time"} <= {part.code for part in made.refused}


@pytest.mark.parametrize("said", [b'"period":"1 hour"', b'"period":"-PT1H"', b'"period":-1', b'"period":[60]',
                                  b'"stamp":"middle"', b'"stamp":1', b'"stamp":{}'])  # fmt: skip
def test_a_period_that_cannot_be_read_makes_no_value_of_a_moment(said: bytes) -> None:
    data = WHOLE.replace(b'"period":60', said)
    assert plain_message(data, NOW, None) is None
    made = translate(ADAPTER, data, CONTEXT)
    assert not made.readings
    assert {part.code for part in made.refused} <= {"not_a_period", "not_a_stamp", "no_time"}
    if b"[" not in said and b"{" not in said:
        [name, value] = said.decode().replace('"', "").split(":")
        table = f"station,time,parameter,value,unit,{name}\nroof,2026-08-21T09:00:00Z,pm25,1,ug/m3,{value}\n"
        assert not translate(adapters()["skyfuse-csv"], table.encode(), CONTEXT).readings


@pytest.mark.parametrize("said", ["1h", "PT1H", "01:00:00", "3600"])
def test_a_period_is_written_as_durations_are(said: str) -> None:
    data = WHOLE.replace(b'"period":60', b'"period":"%s"' % said.encode())
    [reading] = translate(ADAPTER, data, CONTEXT).readings
    assert reading.period == 3600


@given(st.lists(st.booleans(), min_size=2, max_size=8).filter(lambda good: 2 * sum(good) >= len(good)))
def test_a_bad_line_spoils_itself_alone(good: list[bool]) -> None:
    bad = b'{"station":"roof","observed_at":"2026'
    lines = [WHOLE.replace(b"09:59", b"09:%02d" % number) if one else bad for number, one in enumerate(good)]
    made = translate(ADAPTER, b"\n".join(lines), CONTEXT)
    assert [reading.observed_at.minute for reading in made.readings] == [
        n for n, one in enumerate(good) if one
    ]
    assert [(part.code, part.where) for part in made.refused] == [
        ("not_json", f"line {number + 1}") for number, one in enumerate(good) if not one
    ]


def test_a_document_over_lines_is_no_lines() -> None:
    data = WHOLE.replace(b'"values":[', b'"values":[\n').replace(b"},{", b"},\n{").replace(b"}]}", b"}\n]}")
    made = translate(ADAPTER, data, CONTEXT)
    assert ([len(reading.values) for reading in made.readings], made.refused) == ([2], ())


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
