"""The sink stage and what a foreign producer puts on the estimates topic."""

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from agents.sink import SinkStage
from schemas.dead_letter import DeadLetter
from streams.accept import Keys
from streams.driver import Out
from streams.sinks.store import Store
from streams.stations import StationBook
from tests.outputs.samples import T0, estimate, measured

TOPIC = "aq.estimates.v1"
GOOD = estimate("s1", T0 + 60, pollutants={"pm25": measured(12.5)})
LATER = estimate("s1", T0 + 120, pollutants={"pm25": measured(13.5)})


def record(offset: int, value: bytes | None) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(TOPIC, 0, offset, 1_767_225_700_000, 1, b"s1", value, None, 0, 0, (("a", b"b"),))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (('"value":12.5', '"value":NaN'), "not_finite"),
        (('"value":12.5', '"value":-Infinity'), "not_finite"),
        (('"value":12.5', '"value":1e400'), "not_finite"),
        (('"value":12.5', '"value":null'), "float_type"),
        (('"revision":1', '"revision":9999999999999999999'), "less_than_equal"),
        (("2026-01-01T00:01:00Z", "9999-12-31T23:59:59Z"), "not_a_window"),
        (('"s1"', '"s\\ud800"'), "not_json"),
    ],
)
def test_what_no_series_can_hold_is_a_dead_letter_as_it_came(
    change: tuple[str, str], code: str, tmp_path: Path
) -> None:
    letters: list[Out] = []

    async def publish(records: Iterable[Out], /) -> None:
        letters.extend(records)

    text = GOOD.model_dump_json()
    assert change[0] in text
    bad = record(1, text.replace(*change).encode())
    with Store(tmp_path / "store.sqlite", aggregates=True) as store, ThreadPoolExecutor(1) as executor:
        stage = SinkStage(
            store, None, None, None, StationBook("aq.stations.v1", Keys(1)), publish, executor,
            threading.Event(), topic=TOPIC, dead_letter_topic="aq.dlq.v1", start=0,
        )  # fmt: skip
        batch = [record(0, GOOD.model_dump_json().encode()), bad, record(2, LATER.model_dump_json().encode())]

        async def run() -> int:
            await stage.handle(TOPIC, batch)
            return (await stage.settle())[TOPIC][0]

        assert asyncio.run(run()) == 3
        assert store.read() == [GOOD, LATER]
    (letter,) = letters
    story = DeadLetter.from_headers(letter.headers)
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert DeadLetter.original_headers(letter.headers) == [("a", b"b")]
    assert (story.code, story.stage, story.offset) == (code, "sink", 1)
    assert len(story.reason) > 20
