"""Waiting: longer each time, jittered, as long as asked, and over when the worker stops."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import WaitStopped
from streams.patience import Hindrance, Patience

BECAUSE = Hindrance("influx", "why", "because")


def note(seen: list[float], seconds: float) -> bool:
    seen.append(seconds)
    return False


def waits(count, uniform=lambda: 0.0, asked=None):
    seen: list[float] = []
    patience = Patience(wait=lambda seconds: note(seen, seconds), uniform=uniform)
    for attempt in range(count):
        patience.pause(attempt, BECAUSE, asked)
    return seen


def test_waits_double_up_to_the_longest():
    assert waits(9, uniform=lambda: 1.0) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_half(attempt, uniform):
    seen: list[float] = []
    Patience(wait=lambda seconds: note(seen, seconds), uniform=lambda: uniform).pause(attempt, BECAUSE)
    full = min(30.0, 0.5 * 2 ** min(attempt, 30))
    assert full / 2 <= seen[0] <= full


@given(st.floats(0, 600), st.floats(0, 1, exclude_max=True))
def test_a_server_is_given_the_time_it_asks_for(asked, uniform):
    (seen,) = waits(1, uniform=lambda: uniform, asked=asked)
    assert asked <= seen <= asked + 0.5


def test_an_absurd_request_is_cut():
    assert waits(1, asked=1e9) == [600.0]


def test_stopping_ends_the_wait():
    stopping = threading.Event()
    stopping.set()
    told = []
    patience = Patience.until(
        stopping, on_wait=lambda trouble, seconds: told.append((trouble.words, seconds > 0))
    )
    with pytest.raises(WaitStopped, match="because"):
        patience.pause(20, BECAUSE)
    assert told == [("because", True)]
