"""The contract of everything that is stored, found by itself for each type that is."""

import json
import math
import types
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import agents.worker  # noqa: F401  # imports every codec that a worker uses
from aqi.history import History
from aqi.slots import Mean
from camera.far_band import ROWS, BandFinder, Strip
from camera.sight import CAMERA_SIZE
from camera.taught import TaughtReadout
from camera.virtual_sensor import VirtualSensor
from fusion.intake import Intake
from fusion.learning import Air
from fusion.stored import SENSORS, STATION, SensorsState, StationState
from network.cell import Cell
from network.members import Members, Position, Variable
from network.region import Region
from schemas.errors import DamagedState, NewerState, StateError
from schemas.parameters import POLLUTANTS
from schemas.state import CODECS, VERSION, Codec, pack, unpack

LAYOUT = Path(__file__).parent / "layout.json"
#: Types with rules of their own about what they hold.
_LINE = CAMERA_SIZE + 2


def profile(length: int, dtype: type) -> st.SearchStrategy[Any]:
    return st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).normal(0, 1e3, length).astype(dtype)
    )


#: Of a region: distinct, each with a place or None.
MEMBERS = st.lists(
    st.tuples(st.text(max_size=8), st.sampled_from(POLLUTANTS), st.none() | st.builds(Position)),
    max_size=3,
    unique_by=lambda one: one[:2],
).map(lambda all: Members(tuple(Variable(*one[:2]) for one in all), tuple(one[2] for one in all)))

OVERRIDES: dict[tuple[type, str], st.SearchStrategy[Any]] = {
    **{(BandFinder, name): profile(ROWS, np.float64) for name in ("mean", "square", "product")},
    **{(VirtualSensor, name): profile(_LINE, np.float32) for name in ("settled", "former")},
    (Region, "members"): MEMBERS,
    (Cell, "members"): MEMBERS,
    (VirtualSensor, "moments"): profile((_LINE + 1) * (_LINE + 2) // 2, np.float32),
    (TaughtReadout, "settled"): profile(_LINE, np.float32),
    (TaughtReadout, "moments"): profile((_LINE + 1) * (_LINE + 2) // 2, np.float32),
    # As many as there are ages.
    (VirtualSensor, "shadows"): st.deferred(lambda: st.tuples(*[drawn(parts(VirtualSensor)["level"])] * 3)),
    (Strip, "top"): st.floats(0, 0.4),
    (Strip, "bottom"): st.floats(0.5, 1),
    (Strip, "left"): st.floats(0, 0.4),
    (Strip, "right"): st.floats(0.5, 1),
}
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def parts(kind: Any) -> dict[str, Any]:
    """Names and types of the fields of a stored type; empty for anything that has none."""
    if isinstance(kind, type) and (
        is_dataclass(kind) or issubclass(kind, msgspec.Struct) or hasattr(kind, "_fields")
    ):
        hints = get_type_hints(kind)
        return {name: hints[name] for name in names(kind)}
    return {}


def names(kind: Any) -> list[str]:
    if is_dataclass(kind):
        return [one.name for one in fields(kind)]
    return list(kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else kind._fields)


def with_default(kind: Any) -> set[str]:
    if is_dataclass(kind):
        return {o.name for o in fields(kind) if o.default is not MISSING or o.default_factory is not MISSING}
    if issubclass(kind, msgspec.Struct):
        return {one.name for one in msgspec.structs.fields(kind) if not one.required}
    return set(kind._field_defaults)


def types_in(kind: Any) -> Iterator[type]:
    """All stored types that a type is made of, itself included."""
    if parts(kind):
        yield kind
        for part in parts(kind).values():
            yield from types_in(part)
    else:
        for part in get_args(kind):
            yield from types_in(part)


def drawn(kind: Any, most: int = 3) -> st.SearchStrategy[Any]:
    """Values of a type, from its definition."""
    origin, arguments = get_origin(kind), get_args(kind)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**62), 2**62), float: NUMBERS, str: st.text(max_size=8), bool: st.booleans(),
        type(None): st.none(),
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    if origin is np.ndarray:
        dtype = np.dtype(get_args(arguments[1])[0])
        return st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 99)).map(
            lambda it: np.random.default_rng(it[2]).integers(-9, 9, it[:2]).astype(dtype)
        )
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([drawn(one) for one in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(drawn(arguments[0]), max_size=most).map(tuple)
    if origin is tuple:
        return st.tuples(*map(drawn, arguments))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(drawn(arguments[0]), drawn(arguments[1]), max_size=most)
    assert parts(kind), f"no values of {kind} can be drawn: teach `drawn`, or say them in OVERRIDES"
    return st.builds(
        kind,
        **{
            name: OVERRIDES[kind, name] if (kind, name) in OVERRIDES else drawn(part)
            for name, part in parts(kind).items()
        },
    )


def plain(value: Any) -> Any:
    """Anything as nested tuples that compare bit by bit."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else (value, math.copysign(1.0, value))
    if parts(type(value)):
        return type(value).__name__, *((name, plain(getattr(value, name))) for name in names(type(value)))
    if isinstance(value, Mapping):
        return tuple((key, plain(one)) for key, one in sorted(value.items()))
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value


def kept() -> dict[str, Codec[Any]]:
    """The codecs of what workers store; that of `network` alone is stored by none."""
    return {name: one for name, one in CODECS.items() if not one.kind.__module__.startswith("network.")}


def test_all_codecs_are_known() -> None:
    assert {codec.kind.__name__ for codec in kept().values()} == {
        "StationState", "SensorsState", "StationAlerts", "CadencesState", "StationOutlook", "LearnedState",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(kept()))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_state_survives_to_the_last_bit(name: str, data: st.DataObject) -> None:
    codec = CODECS[name]
    state = data.draw(drawn(codec.kind))
    stored = codec.encode(state)
    again = codec.decode(stored)
    assert plain(again) == plain(state)
    assert codec.encode(again) == stored


@pytest.mark.parametrize("name", sorted(kept()))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_state_of_a_later_version_or_damaged_is_refused(name: str, data: st.DataObject) -> None:
    codec = CODECS[name]
    stored = codec.encode(data.draw(drawn(codec.kind)))
    version, checksum, body = msgspec.msgpack.decode(stored)
    with pytest.raises(NewerState, match=f"{name}.*start the newer skyfuse"):
        codec.decode(msgspec.msgpack.encode((version + 1, checksum, body)))
    at = data.draw(st.integers(0, len(body) - 1))
    bitten = body[:at] + bytes([body[at] ^ 1 << data.draw(st.integers(0, 7))]) + body[at + 1 :]
    for damaged in ((version, checksum, bitten), (version, checksum, body[:at])):
        with pytest.raises(DamagedState, match=name):
            codec.decode(msgspec.msgpack.encode(damaged))


@pytest.mark.parametrize("name", sorted(kept()))
def test_what_was_stored_once_stays_readable(name: str) -> None:
    """A field may be added, with a default; `python -m tests.golden.layout` then writes the new layout. One
    that is renamed, moved or removed needs a migration and another version.
    """
    kept = json.loads(LAYOUT.read_text())
    assert kept["version"] == VERSION, "a new version: delete the file's types, and write it again"
    for kind in types_in(CODECS[name].kind):
        before = kept["types"][kind.__name__]
        by_position = hasattr(kind, "_fields")
        present = names(kind)
        if by_position:
            assert present[: len(before)] == before, f"{kind.__name__} is stored by position"
        assert set(before) <= set(present), f"{kind.__name__} lost a field"
        added = set(present) - set(before)
        assert added <= with_default(kind), f"what {kind.__name__} gained has no default"
        assert not added, f"{kind.__name__} gained {sorted(added)}: python -m tests.golden.layout"


HISTORIES = st.sampled_from(
    [
        History.empty(),
        History.empty(26, 20.0).with_window(3_600_000, 60_000, {"no2": Mean(4.0, 30, 30, 1.0, 2.0, 0.5)}),
    ]
)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(Intake, **{name: drawn(part) for name, part in parts(Intake).items()}),
    st.builds(
        Air,
        **{name: drawn(part) for name, part in parts(Air).items() if name != "history"},
        history=HISTORIES,
    ),
)
def test_nothing_that_a_station_remembers_is_left_out(intake: Intake, air: Air) -> None:
    """A field of `Intake` or `Air` that is new has its place in the two records."""
    state = STATION.decode(STATION.encode(StationState.of(intake, air)))
    sensors = SENSORS.decode(SENSORS.encode(SensorsState.of(air)))
    assert plain(state.intake()) == plain(intake)
    back = replace(
        state.air(), virtual=sensors.virtual, finders=dict(sensors.finders), virtual_at=air.virtual_at
    )
    assert back.history == air.history
    assert plain(replace(back, history=air.history)) == plain(air)
    assert list(back.finders) == list(air.finders)  # the one fed last stays at the end


@dataclass(frozen=True)
class Before:
    old: int = 1
    gone: str = ""


@dataclass(frozen=True)
class After:
    old: int = 1
    more: Mapping[str, float] = field(default_factory=dict)


def test_a_field_more_or_less_needs_no_migration() -> None:
    assert unpack(After, pack(Before(7, "x"))) == After(7)
    assert unpack(Before, pack(After(7, {"a": 1.0}))) == Before(7)


def test_equal_values_have_equal_bytes_however_they_came_about() -> None:
    names = ["pm25", "co", "o3"]
    forwards = dict.fromkeys(names, 1.0)
    backwards = dict.fromkeys(reversed(names), 1.0)
    assert pack(After(1, forwards)) == pack(After(1, backwards))


@pytest.fixture
def made() -> Iterator[Codec[After]]:
    """A codec with a history: version 3 had another name, version 5 counted in tens."""
    yield Codec(
        "state of a test",
        After,
        {3: lambda plain: {"old": plain["ancient"]}, 5: lambda plain: {"old": plain["old"] * 10}},
    )
    del CODECS["state of a test"]


def record(version: int, body: Any) -> bytes:
    data = msgspec.msgpack.encode(body)
    return msgspec.msgpack.encode((version, zlib.crc32(data), data))


def test_migrations_follow_each_other(made: Codec[After]) -> None:
    assert made.decode(b'{"v": 3, "ancient": 2}') == After(20)
    assert made.decode(b'{"version": 3, "ancient": 2}') == After(20)
    assert made.decode(record(4, {"old": 2})) == After(20)
    assert made.decode(record(5, {"old": 2, "x": 1})) == After(20)
    assert made.decode(record(VERSION, {"old": 2})) == After(2)
    with pytest.raises(DamagedState, match="version 2, older than any"):
        made.decode(b'{"v": 2, "ancient": 2}')


def test_a_later_version_is_refused_with_what_to_do(made: Codec[After]) -> None:
    for data in (record(VERSION + 1, {"old": 2}), msgspec.msgpack.encode([VERSION + 1, {"any": "form"}])):
        with pytest.raises(NewerState, match=f"version {VERSION + 1}.*start the newer skyfuse.*deleted"):
            made.decode(data)


def test_damaged_bytes_are_told_from_any_others(made: Codec[After]) -> None:
    whole = made.encode(After(1, {"a": 0.5}))
    for at in range(len(whole)):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            with pytest.raises(StateError):
                made.decode(data)
    for data in (b"{", b"{}", b'{"v": "x"}', b'{"v": 3}', b"[" * 100_000, b'{"v":' + b"[" * 100_000):
        with pytest.raises(DamagedState, match="state of a test"):
            made.decode(data)
    with pytest.raises(DamagedState):
        made.decode(record(VERSION, {"old": "many"}))


def test_an_array_of_another_kind_is_refused() -> None:
    stored = pack(np.zeros(3, np.float64))
    with pytest.raises(DamagedState, match="<f8 instead of <f4"):
        unpack(NDArray[np.float32], stored)
