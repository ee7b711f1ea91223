"""What every adapter keeps, whoever wrote it: it is found by itself, and so are its golden payloads."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.base import from_ms
from schemas.parameters import units_of
from schemas.reading import accept
from sources.adapters import adapters
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.parts import MAX_NAMED
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import Translation, translate
from tests.sources.adapters.golden import RECEIVED, Case, cases, text

ALL = sorted(adapters().values(), key=lambda adapter: adapter.name)
CASES = list(cases())
FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(
        ["12.5", "-999", "nan", "2026-08-21T10:00:00Z", "2026-08-21 10:00:00", "24:00", "+05:30", "\ud800",
         "a\x00b", "PM2.5", "pm25", "µg/m³", "ppb", 1755770400, 1755770400000, 0, -999, 65535, 1e308, 10**400]
    ),
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def test_each_adapter_has_golden_payloads_and_each_folder_an_adapter() -> None:
    assert {case.adapter.name for case in CASES} == set(adapters())


@pytest.mark.parametrize("adapter", ALL, ids=lambda adapter: adapter.name)
def test_what_an_adapter_states(adapter: Adapter) -> None:
    for said in (adapter.title, adapter.versions, adapter.arrives, adapter.correction):
        assert said.strip()
    assert all(field.unit in units_of(field.parameter) for field in adapter.fields.values())
    assert all(what.strip() for what in adapter.others.values())
    if adapter.period_s is not None:
        assert 1 <= adapter.period_s <= 3600


@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden_payloads_become_what_is_expected(case: Case) -> None:
    made = translate(case.adapter, case.file.read_bytes(), case.context)
    assert text(made) == case.expected.read_text()
    sound(made)


@pytest.mark.parametrize("adapter", ALL, ids=lambda adapter: adapter.name)
def test_some_golden_payload_is_read_whole(adapter: Adapter) -> None:
    made = [
        translate(adapter, case.file.read_bytes(), case.context) for case in CASES if case.adapter is adapter
    ]
    assert any(translation.readings and not translation.refused for translation in made)


def sound(made: Translation) -> None:
    """What holds of every translation: valid records, all bounded and printable, nothing empty unsaid."""
    for reading in made.readings:
        again, refused = accept(reading.model_dump_json().encode())
        assert refused is None
        assert again == reading
        assert reading.received_at is not None
        assert reading.time_source is not None
    told = [*made.refused, *made.left_out, *made.remarks]
    assert "adapter_fault" not in {part.code for part in told}
    assert all(len(parts) <= MAX_NAMED + 1 for parts in (made.refused, made.left_out, made.remarks))
    for part in told:
        assert len(part.where) + len(part.why) <= 600
        assert (part.where + part.why).isprintable()
        assert part.times >= 1
    assert made.readings or made.facts or made.refused or made.left_out


JSON_CASES = [case for case in CASES if case.file.suffix == ".json"]


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each (object or list, key) in a document."""
    inside = list(document.items()) if isinstance(document, dict) else list(enumerate(document))
    for key, value in inside:
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


@FEW
@given(st.data())
@pytest.mark.parametrize("case", JSON_CASES, ids=str)
def test_altered_documents_never_raise_and_stay_sound(case: Case, data: st.DataObject) -> None:
    document = json.loads(case.file.read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(places(document))))
        match data.draw(st.sampled_from(["value", "gone", "wrapped", "doubled"])):
            case "value":
                holder[key] = data.draw(anything)
            case "gone":
                holder[key] = None
            case "wrapped":
                holder[key] = [holder[key]]
            case _:
                holder[key] = {"a": holder[key], "b": holder[key]}
        if not isinstance(document, dict | list) or not list(places(document)):
            break
    sound(translate(case.adapter, json.dumps(document).encode(), case.context))


@FEW
@given(st.data())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_damaged_bytes_never_raise_and_stay_sound(case: Case, data: st.DataObject) -> None:
    raw = bytearray(case.file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        upto = data.draw(st.integers(at, min(len(raw), at + 40)))
        raw[at:upto] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b",", b'"', b"\n", b"-999", b"24:00", b"|"])
        )
    sound(translate(case.adapter, bytes(raw), case.context))


@settings(max_examples=40, deadline=None)
@given(anything, st.binary(max_size=60), st.text(max_size=60), st.text(max_size=30))
@pytest.mark.parametrize("adapter", ALL, ids=lambda adapter: adapter.name)
def test_anything_at_all_never_raises_and_stays_sound(
    adapter: Adapter, document: Any, raw: bytes, line: str, topic: str
) -> None:
    context = Context(received_at=RECEIVED, station="st-1", topic=topic)
    for payload in (json.dumps(document).encode(), raw, line.encode("utf-8", "replace")):
        sound(translate(adapter, payload, context))


@pytest.mark.parametrize("case", JSON_CASES, ids=str)
def test_a_part_that_nobody_knows_is_named_wherever_it_is(case: Case) -> None:
    whole = translate(case.adapter, case.file.read_bytes(), case.context)
    document = json.loads(case.file.read_text())
    objects = [document, *(holder[key] for holder, key in places(document))]
    for index in [index for index, found in enumerate(objects) if isinstance(found, dict)]:
        altered = json.loads(case.file.read_text())
        [altered, *(holder[key] for holder, key in places(altered))][index]["zz_unheard"] = "of"
        made = translate(case.adapter, json.dumps(altered).encode(), case.context)
        told = [part for part in (*made.refused, *made.left_out) if "zz_unheard" in part.where]
        if not told:  # then it lies in a part that is left out, or refused, as a whole
            before = {(part.code, part.where, part.times) for part in (*whole.refused, *whole.left_out)}
            assert {(part.code, part.where, part.times) for part in (*made.refused, *made.left_out)} == before
            names = [anywhere(part.where) for part in (*made.refused, *made.left_out)]
            path = anywhere(path_of(altered, "zz_unheard"))
            assert any(name and path.startswith(name) for name in names), path
        assert made.readings == whole.readings


def anywhere(place: str) -> str:
    """A place without the indices of lists: of parts of one path, the first one's place is told."""
    return re.sub(r"\[[0-9]+\]", "[]", place)


def path_of(document: Any, key: str, before: str = "") -> str:
    """Where a key is in a document, as parts are named."""
    for name, inner in document.items() if isinstance(document, dict) else enumerate(document):
        here = f"{before}.{name}".lstrip(".") if isinstance(document, dict) else f"{before}[{name}]"
        if name == key:
            return here
        if isinstance(inner, dict | list) and (found := path_of(inner, key, here)):
            return found
    return ""


@pytest.mark.parametrize("case", JSON_CASES, ids=str)
def test_a_number_that_turns_to_rubbish_is_named_or_changes_nothing(case: Case) -> None:
    whole = translate(case.adapter, case.file.read_bytes(), case.context)
    document = json.loads(case.file.read_text())
    for index, (holder, key) in enumerate(list(places(document))):
        if isinstance(holder[key], bool) or not isinstance(holder[key], int | float):
            continue
        altered = json.loads(case.file.read_text())
        there, name = list(places(altered))[index]
        there[name] = "!?"
        made = translate(case.adapter, json.dumps(altered).encode(), case.context)
        values, before = (sum(len(r.values) for r in translation.readings) for translation in (made, whole))
        new = {*made.refused, *made.left_out} - {*whole.refused, *whole.left_out}
        assert values == before or new, (key, made)


def test_a_payload_that_is_too_large_is_not_even_read() -> None:
    made = translate(ALL[0], b" " * (8 * 1024 * 1024 + 1), Context(received_at=from_ms(1_755_770_400_000)))
    assert [part.code for part in made.refused] == ["too_large"]
