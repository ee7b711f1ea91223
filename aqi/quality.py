"""Quality control of readings as they arrive: QARTOD primary flags and a bitmask of the tests that objected.

    1 good · 2 not evaluated (no test could run) · 3 suspect · 4 fail · 9 missing

`step` judges one reading of one sensor with a constant amount of state and returns the new state; only `FAIL`
makes a value missing. Tests and their meaning are those of QARTOD as `ioos_qc` has them, made incremental:

- gross range, rate of change, flat line and stuck are known when the reading arrives;
- a spike is a reading that stands out from *both* neighbours on the same side (the "differential" method: its
  neighbours are not blamed for it), so it is known one reading later: `step` then
  returns the revised verdict of the previous reading. `judge` applies that within a list of readings, so only
  the last reading of a window waits for the next window; the rate of change speaks for it at once;
- a reading that fails the gross range, or is missing, is no neighbour for the other tests, and neither is one
  further away than `gap_s`. (ioos_qc lets an error code spoil both its neighbours.)

Tests that need another reading (of the twin, of the stations around) are in `aqi.comparisons`, the limits
that come with the package in `aqi.quality_defaults`; `aqi.flags` has the flags, and merges verdicts.
"""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from aqi.flags import (
    FAIL,
    FLAT_LINE,
    GAP,
    GOOD,
    GROSS_RANGE,
    MISSING,
    NOT_EVALUATED,
    RATE_OF_CHANGE,
    SPIKE,
    STUCK,
    SUSPECT,
    TIME,
    UNIT,
    Verdict,
)
from aqi.limits import Limits

#: Most readings that the flat-line test remembers; beyond, it starts again (it then objects later, never
#: wrongly).
_FLAT_MEMORY: Final = 64


class SensorState(NamedTuple):
    """What the tests remember of one sensor's past. Times in ms, -1 where there is none yet.

    Stored by position (`schemas.state`): another field goes to the end, with a default.
    """

    t_ms: int = -1  # newest reading of any kind
    last_ms: int = -1  # newest usable reading and its value
    last: float = 0.0
    follows: bool = False  # whether that is the newest reading: nothing missing or failed came after it
    before_ms: int = -1  # the usable reading right before it, -1 where that was missing or failed
    before: float = 0.0
    last_flag: int = 0  # verdict of the newest reading, to be revised by the spike test
    last_tests: int = 0
    stuck_ms: int = -1  # since when the value has been the same
    flat_ms: int = -1  # newest reading that was out of tolerance of the present run
    lows: tuple[tuple[int, float], ...] = ()  # candidates for the lowest and highest of the run, oldest first
    highs: tuple[tuple[int, float], ...] = ()
    tiny_ms: int = -1  # since when no reading has been other than zero or tiny


#: State of a sensor that has not been heard yet.
FRESH: Final = SensorState()


class JudgedReading(NamedTuple):
    """Verdict of a reading, the state to keep, and the new verdict of the reading before if that changed."""

    flag: int
    tests: int
    state: SensorState
    revised: Verdict | None


def step(
    limits: Limits, state: SensorState, t_ms: int, value: float | None, received_ms: int | None = None
) -> JudgedReading:
    """Judges the reading `value` (ug/m3; None or NaN is missing) at event time `t_ms`.

    With `received_ms` the time test compares event time with reception; without (replay) only order is
    tested. A reading not after the newest one is suspect and changes no state: other tests cannot say
    anything about it.
    """
    if value is None or value != value:
        return JudgedReading(
            MISSING, 0, state if t_ms <= state.t_ms else _after_unusable(state, t_ms, MISSING, 0), None
        )
    (
        fail_low, fail_high, low, high, flag, rate, rate_floor, spike, spike_fail, tolerance, flat_suspect,
        flat_fail, flat_longest, stuck_above, stuck_suspect, stuck_fail, gap, future, stale, tiny_below,
        tiny_suspect,
    ) = limits.plan  # fmt: skip
    (
        newest_ms, last_ms, last, follows, before_ms, before, last_flag, last_tests, stuck_ms, flat_ms,
        lows, highs, tiny_ms,
    ) = state  # fmt: skip

    tests = 0
    if not low <= value <= high:
        flag, tests = SUSPECT, GROSS_RANGE
    if not fail_low <= value <= fail_high:
        flag, tests = FAIL, GROSS_RANGE
    if t_ms <= newest_ms:
        return JudgedReading(max(flag, SUSPECT), tests | TIME, state, None)
    if received_ms is not None:
        if t_ms - received_ms > future:
            # Its time is wrong, so it must not become the newest: all that follows would look old.
            return JudgedReading(FAIL, tests | TIME, state, None)
        if received_ms - t_ms > stale:
            flag, tests = max(flag, SUSPECT), tests | TIME
    if flag == FAIL:
        return JudgedReading(FAIL, tests, _after_unusable(state, t_ms, FAIL, tests), None)
    if newest_ms >= 0 and t_ms - newest_ms > gap:
        tests |= GAP  # says that the reading follows a gap; it does not speak against the reading
        flag = flag or GOOD
    if last_ms >= 0 and t_ms - last_ms > gap:
        follows, before_ms, stuck_ms, lows, highs, tiny_ms = False, -1, -1, (), (), -1

    revised: Verdict | None = None
    if follows:
        change = value - last
        if change < 0:
            change = -change
        if change > rate_floor and change > rate * (t_ms - last_ms) / 1000.0:
            flag, tests = SUSPECT, tests | RATE_OF_CHANGE
        elif flag == 0 and limits.rate is not None:
            flag = GOOD
        if before_ms >= 0:
            rise, fall = last - before, last - value
            if rise * fall > 0:
                height = min(abs(rise), abs(fall))
                if height > spike_fail:
                    revised = Verdict(FAIL, last_tests | SPIKE)
                elif height > spike:
                    revised = Verdict(max(last_flag, SUSPECT), last_tests | SPIKE)
            if revised is None and last_flag == NOT_EVALUATED and limits.spike is not None:
                revised = Verdict(GOOD, last_tests)

    if stuck_ms < 0 or value != last:
        stuck_ms = t_ms
    elif value > stuck_above:
        flag, tests = _lasting(flag, tests, STUCK, t_ms - stuck_ms, stuck_suspect, stuck_fail)
    elif value <= 0.0:  # a dead sensor or very clean air: suspect, but not thrown away
        flag, tests = _lasting(flag, tests, STUCK, t_ms - stuck_ms, stuck_suspect, math.inf)
    if tolerance is not None:
        run = _FlatRun(flat_ms, lows, highs)
        flat_ms, lows, highs = _flat_run(tolerance, flat_longest, run, t_ms, value)
        if value > stuck_above:
            flag, tests = _lasting(flag, tests, FLAT_LINE, t_ms - flat_ms - 1, flat_suspect, flat_fail)
    if 0.0 < value < tiny_below:
        tiny_ms = t_ms if tiny_ms < 0 else tiny_ms
    elif value != 0.0:  # a zero among them is one that was rounded
        tiny_ms = -1
    if tiny_ms >= 0:
        flag, tests = _lasting(flag, tests, UNIT, t_ms - tiny_ms, tiny_suspect, math.inf)
    flag = flag or NOT_EVALUATED
    return JudgedReading(
        flag,
        tests,
        SensorState(
            t_ms,
            t_ms,
            value,
            True,
            last_ms if follows else -1,
            last,
            flag,
            tests,
            stuck_ms,
            flat_ms,
            lows,
            highs,
            tiny_ms,
        ),
        revised,
    )


def _lasting(
    flag: int, tests: int, bit: int, lasted_ms: int, suspect_ms: float, fail_ms: float
) -> tuple[int, int]:
    if lasted_ms >= fail_ms:
        return FAIL, tests | bit
    if lasted_ms >= suspect_ms:
        return max(flag, SUSPECT), tests | bit
    return flag, tests


def _after_unusable(state: SensorState, t_ms: int, flag: int, tests: int) -> SensorState:
    # The run of equal or flat values goes on behind a missing reading: a dead sensor that also drops packets.
    return state._replace(t_ms=t_ms, follows=False, before_ms=-1, last_flag=flag, last_tests=tests)


Points = tuple[tuple[int, float], ...]


class _FlatRun(NamedTuple):
    """The longest run of readings, ending now, with a range below the tolerance.

    `flat_ms` is the time of the newest reading outside the run (or just before the first reading ever): the
    run has lasted since then. `lows`, `highs`: queues of its extremes.
    """

    flat_ms: int
    lows: Points
    highs: Points


def _flat_run(tolerance: float, longest_ms: int, run: _FlatRun, t_ms: int, value: float) -> _FlatRun:
    """The run after a reading. Same verdict as ioos_qc's rolling window, without keeping the window."""
    flat_ms, lows, highs = run
    point = (t_ms, value)
    alone = (point,)
    if not lows:
        return _FlatRun(t_ms - 1, alone, alone)
    if value - lows[-1][1] >= tolerance or highs[-1][1] - value >= tolerance:
        # The newest reading is in both queues, at the end: nothing before it can be in the run either.
        return _FlatRun(max(lows[-1][0], highs[-1][0]), alone, alone)
    low, high = len(lows), len(highs)
    while low and lows[low - 1][1] >= value:
        low -= 1
    while high and highs[high - 1][1] <= value:
        high -= 1
    lows, highs = (*lows[:low], point), (*highs[:high], point)
    while highs[0][1] - lows[0][1] >= tolerance:
        if highs[0][0] < lows[0][0]:
            flat_ms, highs = max(flat_ms, highs[0][0]), highs[1:]
        else:
            flat_ms, lows = max(flat_ms, lows[0][0]), lows[1:]
    while lows[0][0] < t_ms - longest_ms:
        lows = lows[1:]
    while highs[0][0] < t_ms - longest_ms:
        highs = highs[1:]
    if len(lows) > _FLAT_MEMORY or len(highs) > _FLAT_MEMORY:
        return _FlatRun(t_ms - 1, alone, alone)
    return _FlatRun(flat_ms, lows, highs)


def judge(
    limits: Limits,
    state: SensorState,
    readings: Iterable[tuple[int, float | None]],
    received_ms: int | None = None,
) -> tuple[list[Verdict], SensorState]:
    """Verdicts of the readings (t_ms, value) of a window, in order of time, and the state after them.

    A spike inside the window is in its verdict already; the last reading is judged without the spike test.

    Examples:
        >>> from aqi.flags import tests_in
        >>> from aqi.quality_defaults import defaults
        >>> minute = 60_000
        >>> readings = [(0, 12.0), (minute, 13.0), (2 * minute, 900.0), (3 * minute, 12.5)]
        >>> verdicts, state = judge(defaults().limits["pm25"], FRESH, readings)
        >>> [(verdict.flag, tests_in(verdict.tests)) for verdict in verdicts[:3]]
        [(1, ()), (1, ()), (3, ('rate_of_change', 'spike'))]
        >>> state.last  # and goes on in the next window
        12.5
    """
    verdicts: list[Verdict] = []
    #: Place of the reading that the state holds as its last; -1 while that is of an earlier window.
    newest = -1
    for t_ms, value in readings:
        before = state
        flag, tests, state, revised = step(limits, state, t_ms, value, received_ms)
        if revised is not None and newest >= 0:
            verdicts[newest] = revised
        if state is not before:
            newest = len(verdicts)
        verdicts.append(Verdict(flag, tests))
    return verdicts, state
