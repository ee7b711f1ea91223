"""Which state an estimate reads: that of one allowed lateness before, whatever has become final since."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from fusion.assessor import Assessor
from schemas.estimate import Estimate
from streams.join import Close, Expire, Step
from tests.fusion.test_imputation import HEAD, MINUTE, NOON, view

LATENESS = 3 * MINUTE


def told(final: Sequence[tuple[int, float]], minute: int, value: float) -> Estimate:
    """Of the window that ends at `minute`, after the windows `final` (minute, PM2.5), in their order."""
    assessor = Assessor(HEAD, size_ms=MINUTE, lateness_ms=LATENESS, snapshots={})
    steps: list[Step] = [Expire(view(NOON + at * MINUTE, {"pm25": number})) for at, number in final]
    steps.append(Close(view(NOON + minute * MINUTE, {"pm25": value})))
    # None of it is pruned: a window as of which something is read is kept for as long as one may ask.
    [estimate] = assessor.run(steps, NOON, lambda _: None).estimates
    return estimate


@pytest.mark.parametrize("since", [(2,), (3,), (2, 3)])
def test_what_became_final_within_the_lateness_is_not_read(since: tuple[int, ...]) -> None:
    """Its place in the log beside this window depends on when the other source spoke."""
    alone = told([(1, 20.0)], 4, 21.0)
    beside = told([(1, 20.0), *((at, 300.0) for at in since)], 4, 21.0)
    assert beside == alone
    # Of the averages, what one allowed lateness before was known is in; and what quality control remembers.
    assert alone != told([(1, 300.0)], 4, 21.0)


def test_what_was_final_one_lateness_before_is_read() -> None:
    jump = told([(1, 20.0), (2, 20.0), (3, 300.0)], 6, 21.0)
    steady = told([(1, 20.0), (2, 20.0), (3, 21.0)], 6, 21.0)
    assert jump.pollutants["pm25"].qc != steady.pollutants["pm25"].qc, "quality control saw the jump"
    assert jump.indices[0].model_dump() != steady.indices[0].model_dump(), "and so did the averages"


def test_each_run_of_the_head_is_done_within_what_times_it() -> None:
    runs: list[tuple[str, int]] = []

    @contextmanager
    def timed(rows: int) -> Iterator[None]:
        runs.append(("begins", rows))
        yield
        runs.append(("ends", rows))

    assessor = Assessor(HEAD, size_ms=MINUTE, lateness_ms=LATENESS, snapshots={}, timed=timed)
    steps: list[Step] = [Close(view(NOON + at * MINUTE, {"pm25": 20.0})) for at in (1, 2)]
    steps.append(Expire(view(NOON + MINUTE, {"pm25": 20.0})))
    assessor.run(steps, NOON, lambda _: None)
    assert runs == [("begins", 2), ("ends", 2), ("begins", 1), ("ends", 1)]  # published ones, final ones
