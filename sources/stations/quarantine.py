"""What waits for its station to be let in: who waits, and the way onto the topics of readings and frames.

Pictures wait on a topic of their own, which keeps them no longer than frames are kept. Those of 0.2.0 and
before lie among the readings, told by their header.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from kafka.errors import KafkaError

from schemas.arrival_headers import ADAPTER_HEADER, FRAME, ORIGIN_HEADER
from sources.errors import StationError
from streams.record_sender import RecordSender
from streams.stage import Out
from streams.to_end import read_topic
from streams.topics import FRAMES, QUARANTINE, QUARANTINED_FRAMES, READINGS, Topic

#: Pictures first: the readings behind them move the time on, and what came before is late then.
_WAIT_ON: Final = (QUARANTINED_FRAMES, QUARANTINE)
#: Header of a record without a value: those of its key before this offset have been published.
RELEASED: Final = "x-released-to"
#: Unconfirmed at most.
_AT_ONCE: Final = 1_000
#: Looks for what came while the rest was published: a gateway knows of a new record after a second or two.
_ROUNDS: Final = 5
_PAUSE_S: Final = 2.0
#: Addresses that are named.
_ADDRESSES: Final = 4


@dataclass
class Waiting:
    """What waits of a station, pictures counted by themselves; times are the broker's, ms since 1970."""

    count: int = 0
    pictures: int = 0
    first: int = 0
    last: int = 0
    adapters: dict[str, None] = field(default_factory=dict)
    origins: dict[str, None] = field(default_factory=dict)


def waiting(connection: Mapping[str, Any], prefix: str) -> dict[str, Waiting]:
    """Who waits, by station. Raises TopicReadError."""
    found: dict[str, Waiting] = {}
    for record in chain.from_iterable(_unreleased(connection, prefix, topic) for topic in _WAIT_ON):
        station = (record.key or b"").decode(errors="replace")
        one = found.setdefault(station, Waiting(first=record.timestamp))
        one.first, one.last = min(one.first, record.timestamp), max(one.last, record.timestamp)
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        if headers.get(ADAPTER_HEADER) == FRAME:
            one.pictures += 1
        else:
            one.count += 1
        for known, name in ((one.adapters, ADAPTER_HEADER), (one.origins, ORIGIN_HEADER)):
            if headers.get(name) and len(known) < _ADDRESSES:
                known[headers[name]] = None
    return found


def release(connection: Mapping[str, Any], prefix: str, station: str) -> int:
    """Publish what waits of a station, in order, until nothing more comes; gives how much it was.

    What was published twice because this was cut off in between counts once. Raises StationError.
    """
    published = 0
    try:
        sender = RecordSender(connection)
    except KafkaError as error:
        raise StationError("broker", f"the broker cannot be reached: {error}") from error
    with sender:
        try:
            for number in range(_ROUNDS):
                if number:
                    time.sleep(_PAUSE_S)
                count = sum(_round(connection, prefix, topic, station, sender) for topic in _WAIT_ON)
                published += count
                if number and not count:
                    break
        except KafkaError as error:
            raise StationError(
                "broker", f"{station}: the broker did not confirm it: {error}; call it again"
            ) from error
    return published


def _round(
    connection: Mapping[str, Any], prefix: str, waits_on: Topic, station: str, sender: RecordSender
) -> int:
    count, upto = 0, 0
    for record in _unreleased(connection, prefix, waits_on, station):
        is_picture = dict(record.headers).get(ADAPTER_HEADER) == FRAME.encode()
        topic = FRAMES if is_picture else READINGS
        out = Out(prefix + topic.name, record.key, record.value, record.headers)
        count, upto = count + 1, record.offset + 1
        if sender.send(out) >= _AT_ONCE:
            sender.confirm()
    sender.confirm()
    if count:
        marker = [(RELEASED, str(upto).encode())]
        sender.publish(Out(prefix + waits_on.name, station.encode(), None, marker))
    return count


def _unreleased(
    connection: Mapping[str, Any], prefix: str, waits_on: Topic, station: str | None = None
) -> Iterator[Any]:
    """What waits on a topic, in two passes: what was released says so behind it."""
    topic = prefix + waits_on.name
    only = None if station is None else station.encode()
    upto: dict[bytes | None, int] = {}
    for record in read_topic(connection, topic):
        if record.value is None and (only is None or record.key == only):
            text = (dict(record.headers).get(RELEASED) or b"").decode(errors="replace")
            upto[record.key] = max(upto.get(record.key, 0), int(text) if text.isdecimal() else 0)
    for record in read_topic(connection, topic):
        if record.value is None or (only is not None and record.key != only):
            continue
        if record.offset >= upto.get(record.key, 0):
            yield record
