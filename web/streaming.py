"""The stream of events to one listener: server-sent events (WHATWG HTML, 9.2)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from schemas.base import format_time
from web.live import Absent, Missed, greeting, pulse, reset
from web.parts import Parts

#: Seconds between two signs of life on a stream.
PULSE_S: Final = 5.0
#: The same while the topics are being read at the start.
_STARTING_S: Final = 1.0
_EVENTS_AT_ONCE: Final = 500
#: With more listeners than so many each has its own turn, once in so many seconds: answers to others do not
#: wait until all of them have been told, and many events cost one writing.
_MANY: Final = 50
_TURN_S: Final = 0.8
_GOLDEN: Final = 0.618034


async def events(parts: Parts, last_id: str | None, station: str | None) -> AsyncIterator[bytes]:
    """A stream: what was missed, then what comes. It holds a place among the events, and no more."""
    live, follower = parts.live, parts.follower
    parts.counter.open += 1
    parts.counter.ever += 1
    phase = _TURN_S * (parts.counter.ever * _GOLDEN % 1.0)
    try:
        while not follower.read.is_set():
            # A server that has just started does not know yet what a listener has had.
            yield pulse(_now(parts), parts.away)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(follower.read.wait(), _STARTING_S)
        missed = live.resume(last_id) if last_id else []
        at = live.number
        if isinstance(missed, Missed):
            yield greeting(live, _now(parts)) + reset(live, missed)
        else:
            yield greeting(live, _now(parts)) if not missed else b""
            for event in missed:
                if station is None or event.station == station:
                    yield event.data
        pulsed, told = float("-inf"), Absent()
        while True:
            news = follower.news
            found = live.since(at)
            if isinstance(found, Missed):
                at = live.number
                yield reset(live, found)
                continue
            if found:
                at = found[-1].number
                for some in _portions([e.data for e in found if station is None or e.station == station]):
                    yield some
            # Also between events: who is never idle has to hear, too, that Kafka is back.
            away = parts.away
            if away != told or time.monotonic() >= pulsed + PULSE_S:
                pulsed, told = time.monotonic(), away
                yield pulse(_now(parts), away)
            if found:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), max(0.0, pulsed + PULSE_S - time.monotonic()))
                if parts.counter.open > _MANY:
                    await asyncio.sleep((phase - time.monotonic()) % _TURN_S)
    finally:
        parts.counter.open -= 1


def _portions(events: Sequence[bytes]) -> Iterator[bytes]:
    for start in range(0, len(events), _EVENTS_AT_ONCE):
        yield b"".join(events[start : start + _EVENTS_AT_ONCE])


def _now(parts: Parts) -> str:
    return format_time(datetime.fromtimestamp(parts.now(), UTC))
