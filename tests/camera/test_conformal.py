"""Conformal trackers: coverage on any stream, recovery after drift, bounds, and states that survive."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera.conformal import ALPHA, BOUNDS, CONDITIONS, STEP, Conformal, Tracker, pattern
from schemas.errors import ArrayError
from schemas.state import pack, unpack


def run(scores: np.ndarray, tracker: Tracker | None = None) -> tuple[np.ndarray, Tracker]:
    tracker = tracker or Tracker()
    held = np.empty(len(scores), bool)
    for index, score in enumerate(scores):
        held[index] = score <= tracker.threshold
        tracker = tracker.after(float(score))
    return held, tracker


@given(st.lists(st.floats(0, 40), min_size=1, max_size=300))
def test_long_run_coverage_holds_for_any_stream(scores: list[float]) -> None:
    """|share of misses - alpha| = |log(q_T / q_0)| / (step T), whatever the scores, while no bound is met."""
    held, tracker = run(np.array(scores))
    if BOUNDS[0] < tracker.threshold < BOUNDS[1]:
        drift = abs(math.log(tracker.threshold / Tracker().threshold)) / (STEP * len(scores))
        assert abs((1 - held.mean()) - ALPHA) == pytest.approx(drift, abs=1e-9)


@pytest.mark.parametrize("law", ["normal", "student", "exponential"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_coverage_of_stationary_errors(law: str, scale: float) -> None:
    random = np.random.default_rng(5)
    draws = {
        "normal": lambda: random.normal(size=4000),
        "student": lambda: random.standard_t(3, 4000),
        "exponential": lambda: random.exponential(size=4000),
    }
    scores = scale * np.abs(draws[law]())
    held, _ = run(scores)
    assert 0.88 <= held[200:].mean() <= 0.92


@pytest.mark.parametrize("factor", [1 / 3, 2.0, 4.0])
def test_recovery_within_200_steps_of_a_drift(factor: float) -> None:
    random = np.random.default_rng(11)
    after = []
    for _ in range(40):
        _, tracker = run(np.abs(random.normal(size=600)))
        held, _ = run(factor * np.abs(random.normal(size=400)), tracker)
        after.append(held[200:])
    assert 0.88 <= np.mean(after) <= 0.92


def test_bounds_hold() -> None:
    assert run(np.full(1000, 1e9))[1].threshold == BOUNDS[1]
    assert run(np.zeros(5000))[1].threshold == BOUNDS[0]


@pytest.mark.parametrize("score", [-1.0, math.nan])
def test_nonsense_is_refused(score: float) -> None:
    with pytest.raises(ArrayError):
        Tracker().after(score)


@given(st.lists(st.tuples(st.integers(0, 90), st.floats(0, 10)), max_size=150))
def test_conditions_are_apart_bounded_and_survive(steps: list[tuple[int, float]]) -> None:
    state = Conformal()
    alone: dict[str, Tracker] = {}
    for number, score in steps:
        name = f"c{number}"
        if name not in dict(state.trackers):
            alone.pop(name, None)  # was never there, or made room
        state = state.after(name, score)
        alone[name] = alone.get(name, Tracker()).after(score)
        assert state.of(name) == alone[name]
    assert len(state.trackers) <= CONDITIONS
    assert unpack(Conformal, pack(state)) == state


def test_rolling_coverage_and_pattern() -> None:
    held, tracker = run(np.abs(np.random.default_rng(1).normal(size=60)))
    assert tracker.rolling == pytest.approx(held.mean())
    assert tracker.count == 60
    assert pattern({"pm25": True, "no2": False, "image": True}) == "image+pm25"
    assert pattern({"pm25": False}) == "none"


def test_the_threshold_at_the_start_is_that_of_a_deviation_made_of_16_errors() -> None:
    """Of 16 Gaussian errors the last lies within it 9 times in 10; within 1.645, 88 times in 100."""
    errors = np.random.default_rng(2).normal(size=(400_000, 16))
    deviation = np.sqrt((errors[:, :15] ** 2).mean(axis=1))  # 15 degrees of freedom
    held = np.abs(errors[:, 15]) <= Tracker().threshold * deviation
    assert held.mean() == pytest.approx(1 - ALPHA, abs=0.002)
