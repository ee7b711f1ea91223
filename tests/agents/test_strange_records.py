"""What only a real broker shows: header names of other bytes, and a good record under a bad one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.builders import FusionBuilder
from settings.sections import Settings
from streams import topics
from tests.harness import (
    NOON,
    REPLAY,
    Sent,
    fleet,
    frame,
    picture,
    punctuations,
    read_all,
    reading,
    send,
    stored,
    until,
)

pytestmark = pytest.mark.broker


class Raw(str):
    """A header's name of other bytes than its letters'."""

    def encode(self, *_: object) -> bytes:
        return b"caf\xe9"


def test_a_header_whose_name_is_no_utf_8_stops_nobody_and_a_bad_station_record_erases_none(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = kafka_settings(partitions=1, window=REPLAY)
    odd = ((Raw("x"), b"y"),)
    good, picture_of = reading("s", NOON + 1000, {"pm25": 20.0}), frame("s", NOON + 2000, picture(1, 1))
    records = [
        Sent(topics.STATIONS, b"s", b'{"station": "s", "name": "good"}', odd),
        Sent(topics.STATIONS, b"s", b'{"station": "s", "timezone": "Europe/Milan"}', odd),
        Sent(topics.READINGS, b"s", good.value, odd),
        Sent(topics.READINGS, b"s", b"bad", odd),
        Sent(topics.FRAMES, b"s", picture_of.value, (*picture_of.headers, *odd)),
        Sent(topics.ANNOTATIONS, b"s", b"bad", odd),
        Sent(topics.ESTIMATES, b"s", b"bad", odd),
    ]
    with fleet(settings, tmp_path, ("vision", "fusion", "sink", "alert")) as workers:
        send(settings, [*punctuations(NOON, 1), *records])
        refused = {
            topic.name for topic in (topics.STATIONS, topics.READINGS, topics.ANNOTATIONS, topics.ESTIMATES)
        }

        def letters() -> list[Any]:
            return read_all(settings, topics.DEAD_LETTERS)

        def told() -> set[str]:
            names = {dict(letter.headers)["x-dlq-topic"].decode() for letter in letters()}
            return {name.removeprefix(settings.kafka.prefix) for name in names}

        until("the dead letters", lambda: workers.check() and told() == refused)
        send(settings, punctuations(NOON + 3_600_000, 1))
        [one] = until("the window", lambda: workers.check() and list(stored(settings).values()))
        assert (one.sides, one.pollutants["pm25"].value) == ("both", 20.0)
        assert all(("caf\\xe9", b"y") in letter.headers for letter in letters())
        again = until("the good record", lambda: read_all(settings, topics.STATIONS)[2:])
        assert b'"good"' in again[0].value
    # A worker that starts while the bad one is the newest finds the good one as well.
    send(settings, [Sent(topics.STATIONS, b"s", b"bad")])
    book = asyncio.run(FusionBuilder(settings).stations(0))
    found = book.get("s")
    assert found is not None
    assert found.name == "good"
    assert len(book.again()) == 1
