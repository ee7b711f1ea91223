"""Whether a value is meant in the unit in which it came."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from aqi.flags import FAIL, GOOD, SUSPECT, UNIT, Verdict


class UnitRule(NamedTuple):
    """Below `lowest` and above `high` (in `unit`) there is hardly such air: it was meant in another unit.

    Above `highest` there is none.
    """

    parameter: str
    unit: str
    lowest: float = 0.0
    high: float = math.inf
    highest: float = math.inf


def unit_doubt(parameter: str, value: float, unit: str, rules: Sequence[UnitRule]) -> Verdict:
    """Whether a value above zero is so low, or so high, for its unit that the unit is in doubt."""
    for rule in rules:
        if (parameter, unit) == (rule.parameter, rule.unit) and value > 0.0:
            if value > rule.highest:
                return Verdict(FAIL, UNIT)
            if value < rule.lowest or value > rule.high:
                return Verdict(SUSPECT, UNIT)
    return Verdict(GOOD, 0)
