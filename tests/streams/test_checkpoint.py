"""Which snapshot a worker goes on from, and what a damaged one costs."""

import logging
import re
from dataclasses import dataclass

import pytest

from schemas.errors import DamagedState, NewerState
from streams import metrics
from streams.checkpoint import AT, Checkpoints


@dataclass
class Kept:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def kept(key: str, at: int, value: bytes) -> Kept:
    return Kept(key.encode(), value, [(AT, str(at).encode())])


def read(name: str, data: bytes) -> str:
    if data == b"damaged":
        raise DamagedState(f"{name} cannot be read")
    if data == b"newer":
        raise NewerState("start the newer skyfuse")
    return data.decode()


def counted() -> float:
    return float(metrics.STATE_DAMAGED.labels("state")._value.get())


def test_the_newest_that_is_not_ahead_counts() -> None:
    records = [kept("a#0", 10, b"old"), kept("a#1", 20, b"new"), kept("b#0", 30, b"ahead")]
    assert Checkpoints("state", 0).load(records, 20, read) == {"a": (20, "new")}
    assert Checkpoints("state", 0).load(records, 19, read) == {"a": (10, "old")}


def test_a_damaged_snapshot_costs_what_came_after_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    before, checkpoints = counted(), Checkpoints("state", 3)
    records = [kept("a#0", 10, b"old"), kept("a#1", 20, b"damaged"), kept("b#1", 20, b"fine")]
    with caplog.at_level(logging.ERROR):
        assert checkpoints.load(records, 20, read) == {"a": (10, "old"), "b": (20, "fine")}
    assert counted() == before + 1
    assert re.search(r"state\[3\], 'a': .* it goes on from the snapshot before", caplog.text)
    # The damaged one is what the next snapshot takes the place of.
    [out] = checkpoints.write({"a": 30}, lambda name, _: name.encode())
    assert out.key == b"a#1"


def test_without_a_readable_snapshot_a_station_begins_anew_alone(caplog: pytest.LogCaptureFixture) -> None:
    before, checkpoints = counted(), Checkpoints("state", 0)
    records = [kept("a#0", 10, b"damaged"), kept("a#1", 20, b"damaged"), kept("b#1", 20, b"fine")]
    with caplog.at_level(logging.ERROR):
        assert checkpoints.load(records, 20, read) == {"b": (20, "fine")}
    assert counted() == before + 2
    assert "'a'" in caplog.text
    assert "it begins anew" in caplog.text
    assert checkpoints.write({"a": 30}, lambda name, _: name.encode())


def test_what_is_no_snapshot_at_all_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    strangers = [
        Kept(b"a#0", b"x", []), kept("a", 1, b"x"), kept("a#z", 1, b"x"), Kept(b"\xff#0", b"x", [(AT, b"1")]),
        Kept(b"a#0", b"x", [(AT, b"soon")]),
    ]  # fmt: skip
    before = counted()
    with caplog.at_level(logging.ERROR):
        assert Checkpoints("state", 0).load([*strangers, kept("b#0", 1, b"fine")], 9, read) == {
            "b": (1, "fine")
        }
    assert counted() == before + len(strangers)


def test_a_snapshot_of_a_later_version_stops_the_worker() -> None:
    with pytest.raises(NewerState):
        Checkpoints("state", 0).load([kept("a#0", 1, b"newer")], 9, read)
