"""QARTOD's primary flags, the tests of quality control as bits, and verdicts made of both."""

from typing import Final, NamedTuple

GOOD: Final = 1
NOT_EVALUATED: Final = 2
SUSPECT: Final = 3
FAIL: Final = 4
MISSING: Final = 9

GROSS_RANGE: Final = 1
RATE_OF_CHANGE: Final = 2
SPIKE: Final = 4
FLAT_LINE: Final = 8
STUCK: Final = 16
GAP: Final = 32
TIME: Final = 64
CHANNELS: Final = 128
NEIGHBOURS: Final = 256
FILL_VALUE: Final = 512
PARTICLES: Final = 1024
UNIT: Final = 2048
ZERO: Final = 4096
DRIFT: Final = 8192

#: Bit of each test, by name.
TESTS: Final[dict[str, int]] = {
    "gross_range": GROSS_RANGE,
    "rate_of_change": RATE_OF_CHANGE,
    "spike": SPIKE,
    "flat_line": FLAT_LINE,
    "stuck": STUCK,
    "gap": GAP,
    "time": TIME,
    "channels": CHANNELS,
    "neighbours": NEIGHBOURS,
    "fill_value": FILL_VALUE,
    "particles": PARTICLES,
    "unit": UNIT,
    "zero": ZERO,
    "drift": DRIFT,
}


def tests_in(bits: int) -> tuple[str, ...]:
    """Names of the tests whose bits are set."""
    return tuple(name for name, bit in TESTS.items() if bits & bit)


class Verdict(NamedTuple):
    """Flag of a reading, and the bits of the tests that found it suspect or failed it."""

    flag: int
    tests: int


#: Worst last; a flag of one test only ever makes the whole worse. (Missing is decided before any test runs.)
_PRECEDENCE: Final[dict[int, int]] = {MISSING: 0, NOT_EVALUATED: 1, GOOD: 2, SUSPECT: 3, FAIL: 4}


def combine(*verdicts: Verdict) -> Verdict:
    """Verdict of several groups of tests on one reading: the worst (fail, suspect, good, not evaluated)."""
    flag, tests = MISSING, 0
    for verdict in verdicts:
        tests |= verdict.tests
        if _PRECEDENCE[verdict.flag] > _PRECEDENCE[flag]:
            flag = verdict.flag
    return Verdict(flag, tests)
