"""What strangers send: records drawn from the schemas, and the same ones spoilt in every way we know."""

import base64
import copy
import io
import json
import struct
import types
import zlib
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from camera.far_band import ROWS
from camera.haze import HAZE_SIZE
from camera.sight import CAMERA_SIZE
from model.bundle.bundle import EMBEDDING_SIZE
from schemas.amendment import AmendedHour
from schemas.base import STATION_PATTERN
from schemas.estimate import Window
from schemas.features import Features, Punctuation
from schemas.reading import CHANNEL_PATTERN, Value
from schemas.station import Sensor, Station
from schemas.weather import WeatherHour

STATIONS = ("a", "b", "s.1", "Z-_9")
#: Event time (ms) around which records lie, and the broker's clock.
NOON = 1_750_246_800_000
NOW = NOON + 3_600_000

_SPECIAL_TEXT = st.sampled_from(
    [
        "",
        "a",
        "us-epa-2024",
        "UTC",
        "Europe/Rome",
        "Europe/Milan",
        "../../etc/passwd",
        "\0",
        "x" * 300,
        "ä ,=\n",
    ]
)
_times = st.one_of(
    st.integers(NOON - 600_000, NOON + 600_000),
    st.integers(NOON - 600_000, NOON + 600_000).map(
        lambda ms: datetime.fromtimestamp(ms / 1000).astimezone().isoformat(timespec="milliseconds")
    ),
)
_numbers = st.one_of(
    st.floats(0, 500).map(lambda value: round(value, 3)), st.sampled_from([0.0, 5.0, 1e-300, 5e-324, 1e308])
)


def plain(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """JSON-able values that the annotation of a field allows, as far as it says so."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return plain(inner, (*metadata, *more))
    if origin in (Union, types.UnionType):
        return st.one_of([plain(one, metadata) for one in get_args(annotation)])
    if origin is Literal:
        return st.sampled_from(get_args(annotation))
    if annotation is type(None):
        return st.none()
    flat = [one for item in metadata for one in (item.metadata if isinstance(item, FieldInfo) else [item])]
    least = next((one.min_length for one in flat if isinstance(one, MinLen)), 0)
    most = min(next((one.max_length for one in flat if isinstance(one, MaxLen)), 3), 3)
    if origin is tuple:
        return st.lists(plain(get_args(annotation)[0]), min_size=least, max_size=max(most, least))
    if origin is dict:
        keys, values = get_args(annotation)
        return st.dictionaries(plain(keys), plain(values), max_size=most)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model(annotation)
    if annotation is datetime:
        return _times
    if annotation is bool:
        return st.booleans()
    if annotation in (int, float):
        low: Any = next((one.ge for one in flat if isinstance(one, Ge)), None)
        low = next((one.gt for one in flat if isinstance(one, Gt)), low)
        high: Any = next((one.le for one in flat if isinstance(one, Le)), None)
        high = next((one.lt for one in flat if isinstance(one, Lt)), high)
        if annotation is int:
            return st.integers(low if low is not None else -3, min(high if high is not None else 900, 900))
        if low is None and high is None:
            return _numbers
        return st.floats(low, high).map(lambda value: round(value, 4))
    if annotation is bytes:
        return st.integers(0, 40).map(lambda size: _packed([0.5] * size))
    pattern = next((one.pattern for one in flat if getattr(one, "pattern", None)), None)
    if pattern == STATION_PATTERN:
        return st.sampled_from(STATIONS)
    if pattern == CHANNEL_PATTERN:
        return st.sampled_from(["value", "atm", "cf_1", "x_a", "x_b"])
    if pattern is not None:
        return st.from_regex(pattern, fullmatch=True)
    return _SPECIAL_TEXT


def _packed(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _vector(size: int) -> st.SearchStrategy[str]:
    return st.sampled_from([0.0, 0.5, -3.0, 1e38]).map(lambda value: _packed([value] * size))


#: Fields whose values hang on one another: without these hardly a record would be good.
_TOGETHER: dict[tuple[type[BaseModel], str], st.SearchStrategy[Any]] = {
    (Features, "sha256"): st.just("0" * 64),
    (Features, "haze"): _vector(HAZE_SIZE),
    (Features, "embeddings"): st.fixed_dictionaries(
        {},
        optional={
            "frame": _vector(EMBEDDING_SIZE),
            "camera": _vector(CAMERA_SIZE),
            "camera_whole": _vector(CAMERA_SIZE),
            "rows": _vector(ROWS),
        },
    ),
    (Station, "standards"): st.lists(
        st.sampled_from(["us-epa-2024", "eaqi-2025", "uk-daqi", "mars-1"]), min_size=1, max_size=3
    ),
    (Station, "earlier"): st.just([]) | st.lists(st.deferred(lambda: _earlier()), max_size=2),
    (Sensor, "correction"): st.sampled_from(
        ["identity", "barkjohn-2021", "linear:slope=1e308,offset=0", "linear:slope=0.5,offset=-1e300", "mars"]
    ),
    (AmendedHour, "end"): st.sampled_from([(NOON // 3_600_000 + n) * 3_600_000 for n in (-2, 0, 1)]),
    (WeatherHour, "valid_at"): st.sampled_from([(NOON // 3_600_000 + n) * 3_600_000 for n in range(-3, 9)]),
    (Station, "timezone"): st.sampled_from(["UTC", "Europe/Rome", "Europe/Milan", "Pacific/Apia"]),
}  # fmt: skip
_UNITS = st.sampled_from(
    [("pm25", "ug/m3"), ("pm10", "ug/m3"), ("no2", "ppb"), ("o3", "ppb"), ("co", "mg/m3"), ("so2", "ppm"),
     ("relativehumidity", "%"), ("temperature", "Cel")]
)  # fmt: skip


def _earlier() -> st.SearchStrategy[dict[str, Any]]:
    return model(Station)


@cache
def model(of: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of a record's type."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in of.model_fields.items():
        drawn = _TOGETHER.get((of, name))
        if drawn is None:
            drawn = plain(field.annotation, tuple(field.metadata))
        (required if field.is_required() else optional)[name] = drawn
    whole = st.fixed_dictionaries(required, optional=optional)
    if of is Window:
        return st.integers(-10, 10).map(
            lambda n: {"start": NOON + n * 60_000, "end": NOON + (n + 1) * 60_000}
        )
    if of is Value:
        return st.tuples(whole, _UNITS, st.floats(0, 90)).map(
            lambda drawn: {
                **drawn[0],
                "parameter": drawn[1][0],
                "unit": drawn[1][1],
                "value": round(drawn[2], 2),
            }
        )
    return whole


@cache
def pool(of: type[BaseModel], size: int) -> tuple[dict[str, Any], ...]:
    """So many objects of `model`, drawn beforehand: drawing one takes ten times what a stage takes for it."""
    drawn: list[dict[str, Any]] = []

    @settings(
        max_examples=size, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )  # fmt: skip
    @given(model(of))
    def draw(one: dict[str, Any]) -> None:
        drawn.append(one)

    draw()
    return tuple(drawn)


# -- spoiling ----------------------------------------------------------------------------------------------

_NONSENSE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**40, 1e308, -1e308, "", "NaN", [], {}, [[]], {"a": None}, "\0", "x" * 5000,
    "2026-02-30T00:00:00Z", 946_771_200_000, 253_402_300_799_999, -(2**62),
)  # fmt: skip
#: In place of a number in the text of a record.
_NOT_JSON: tuple[bytes, ...] = (b"NaN", b"-Infinity", b"1e999", b"9" * 400, b'"\\ud800"', b"[" * 3000, b"--1")


@st.composite
def spoilt(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """The bytes of a record in which a few things are wrong."""
    tree = json.loads(json.dumps(good))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2]))):
        _spoil(draw, tree)
    text = json.dumps(tree).encode()
    match draw(st.sampled_from([*[9] * 20, 0, 1, 2, 3, 4])):
        case 0:
            at = draw(st.integers(0, len(text)))
            return text[:at]
        case 1:
            at = draw(st.integers(0, len(text) - 1))
            return text[:at] + bytes([text[at] ^ draw(st.integers(1, 255))]) + text[at + 1 :]
        case 2:
            head, colon, tail = text.partition(b":")
            end = min((at for at in (tail.find(b","), tail.find(b"}")) if at >= 0), default=0)
            return head + colon + draw(st.sampled_from(_NOT_JSON)) + tail[end:]
        case 3:
            return draw(
                st.sampled_from([b"", b"null", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", text + text])
            )
        case 4:
            return text[:-1] + b"," + text[1:]  # every field twice
        case _:
            return text


def _spoil(draw: st.DrawFn, tree: Any) -> None:
    """Change something somewhere in a JSON tree, in place."""
    places: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                todo.append(node[key])
    if not places:
        return
    node, key = places[draw(st.integers(0, len(places) - 1))]
    match draw(st.integers(0, 4)):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[draw(st.sampled_from(["extra", "station", "value", ""]))] = node[key]
        case 2 if isinstance(node, list):
            node.extend([node[key]] * draw(st.integers(1, 3)))
        case _:
            node[key] = copy.deepcopy(draw(st.sampled_from(_NONSENSE)))


# -- envelopes ---------------------------------------------------------------------------------------------

odd_headers: st.SearchStrategy[list[tuple[str, bytes | None]]] = st.lists(
    st.sampled_from(
        [("traceparent", b"00-1"), ("x-dlq-code", b"\xff"), ("x-dlq-offset", None), ("x-dlq-foo", b"1"),
         ("x-late-from", b"aq"), ("ce_type", None), ("", b""), ("ce_station", None), ("ce_time", b"\xff")]
    ),
    max_size=2,
)  # fmt: skip
timestamps = st.sampled_from([NOW] * 25 + [-1, 0, NOON - 10**9, 2**62])
odd_keys: st.SearchStrategy[bytes | None] = st.sampled_from([None, b"", b"\xff", b"other", b"a" * 2000])


def punctuation_values() -> st.SearchStrategy[bytes | None]:
    """Values of punctuations, spoilt ones too."""
    ahead = st.sampled_from([0, 60_000, 600_000, 7_200_000, 10**12])
    good = ahead.map(lambda by: {"kind": "watermark", "at": NOON + by})
    return st.one_of(good.flatmap(spoilt), st.sampled_from(pool(Punctuation, 20)).flatmap(spoilt), st.none())


@cache
def pictures() -> tuple[bytes, ...]:
    """Frames: good ones, cut ones, bombs, and what is none."""
    made = []
    for size, kind in (((320, 240), "JPEG"), ((64, 48), "PNG"), ((48, 2000), "JPEG")):
        grain = np.random.default_rng(size[0]).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grain).resize(size).save(buffer, kind)
        made.append(buffer.getvalue())
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return (*made, bomb, b"", b"\xff\xd8" + b"x" * 2000, b"RIFF\0\0\0\0WEBP", b"[" * 1000)


@st.composite
def bitten(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes of which some are gone or changed."""
    if not data or draw(st.booleans()):
        return data
    at = draw(st.integers(0, len(data) - 1))
    if draw(st.booleans()):
        return data[:at]
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
