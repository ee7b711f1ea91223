"""The newest good record of a station: bad ones after it, and workers that start later."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from aiokafka import ConsumerRecord
from hypothesis import example, given
from hypothesis import strategies as st

from aqi.known_names import check_station
from schemas.station import Station
from streams.accept import Keys
from streams.stage import Out
from streams.stations import StationBook

TOPIC = "aq.stations.v1"
Record: TypeAlias = ConsumerRecord[bytes, bytes]


def good(name: str, number: int = 1) -> bytes:
    return Station(station=name, name=f"number {number}").model_dump_json().encode()


class Topic:
    """A compacted topic of one partition."""

    def __init__(self) -> None:
        self.log: list[Record] = []

    def add(self, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] = ()) -> None:
        offset, size = len(self.log), len(value or b"")
        self.log.append(
            ConsumerRecord(TOPIC, 0, offset, offset, 0, key, value, None, len(key), size, tuple(headers))
        )

    def send(self, out: Sequence[Out]) -> None:
        for one in out:
            assert one.key is not None
            self.add(one.key, one.value, [(name, data) for name, data in one.headers])

    def newest(self) -> list[Record]:
        return [one for one in {one.key: one for one in self.log}.values() if one.value is not None]


def book() -> StationBook:
    return StationBook(TOPIC, Keys(1), check_station)


def names(of: StationBook) -> dict[str, str]:
    return {name: station.name for name, station in of.all().items()}


def test_a_refused_record_does_not_erase_the_good_one_before_it() -> None:
    topic, running = Topic(), book()
    for key, value in (
        (b"a", good("a")),
        (b"a", b'{"station": "a", "timezone": "Europe/Milan"}'),
        (b"b", good("b")),
        (b"b", good("a")),  # another one's, under its key
        (b"c", b"nobody has a good one of c"),
    ):
        topic.add(key, value)
    assert len(running.apply(topic.log).refused) == 3
    assert names(running) == {"a": "number 1", "b": "number 1"}
    again = running.again()
    assert [one.key for one in again] == [b"a", b"b"]
    assert running.again() == []
    topic.send(again)
    assert not running.apply(topic.log[5:]).refused
    assert running.again() == []
    later = book()
    assert later.restore(topic.newest()) == {b"c"}
    assert names(later) == names(running)


def test_a_good_record_that_comes_at_once_is_not_set_back() -> None:
    topic, running = Topic(), book()
    for value in (good("a", 1), b"bad", good("a", 2)):
        topic.add(b"a", value)
    running.apply(topic.log)
    assert running.again() == []
    assert names(running) == {"a": "number 2"}


def test_who_starts_while_the_bad_one_is_the_newest_finds_the_good_one_and_sends_it_again() -> None:
    topic, starting = Topic(), book()
    for value in (good("a", 1), good("a", 2), b"bad", b"worse"):
        topic.add(b"a", value)
    refused = starting.restore(topic.newest())
    assert refused == {b"a"}
    assert names(starting) == {}
    assert starting.again() == []
    starting.restore([record for record in topic.log if record.key in refused])
    assert names(starting) == {"a": "number 2"}
    topic.send(starting.again())
    later = book()
    assert later.restore(topic.newest()) == set()
    assert names(later) == {"a": "number 2"}


events = st.lists(
    st.tuples(st.sampled_from(["good", "bad", "end", "read", "read"]), st.integers(1, 3)), max_size=40
)


@example([("good", 1), ("bad", 1), ("end", 1), ("read", 2), ("read", 1), ("good", 1), ("read", 1)])
@given(events)
def test_whatever_comes_in_between_the_topic_ends_with_the_last_that_was_good(
    happened: list[tuple[str, int]],
) -> None:
    """What is sent again arrives late: after records that its sender has not read yet."""
    topic, running = Topic(), book()
    read = 0
    wanted: str | None = None
    on_their_way: list[Out] = []
    for number, (kind, count) in enumerate([*happened, *[("read", 99)] * 8]):
        if kind == "good":
            topic.add(b"a", good("a", number))
            wanted = f"number {number}"
        elif kind == "bad":
            topic.add(b"a", b"bad")
        elif kind == "end":
            topic.add(b"a", None)
            wanted = None
        else:
            part = topic.log[read : read + count]
            read += len(part)
            running.apply(part)
            topic.send(on_their_way)
            on_their_way = running.again()
    assert on_their_way == []
    assert names(running) == ({} if wanted is None else {"a": wanted})
    later = book()
    # Where there never was a good one, or it was ended, a bad one may be what is left.
    assert later.restore(topic.newest()) <= ({b"a"} if wanted is None else set())
    assert names(later) == names(running)
