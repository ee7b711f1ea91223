"""What one window says about one rule: an interval of the rule's number, or why it says nothing."""

from collections.abc import Collection
from typing import NamedTuple

from alerting.rules import STATUSES, Rule
from aqi import standards
from aqi.flags import TESTS
from schemas.base import to_ms
from schemas.estimate import Estimate, IndexBlock
from schemas.parameters import POLLUTANTS


class Evidence(NamedTuple):
    """The number of a rule in a window. It is surely at least `low` and at most `high`.

    For measured values, and where a rule rests on any value, all three are equal. A bound that is not known
    is infinite.
    """

    low: float
    value: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Evidence":
        """A value that is taken as it is."""
        return cls(value, value, value)


def weigh(rule: Rule, estimate: Estimate, measured: Collection[str] | None = None) -> Evidence | str:
    """The evidence in `estimate` for `rule`, or in words why there is none.

    `measured`: pollutants that the station measures (None: all): of the others none is missed where it is
    imputed. Silence is not weighed: it is the absence of estimates.
    """
    match rule.what:
        case "index" | "nowcast":
            return _index(rule, estimate)
        case "concentration":
            return _concentration(rule, estimate)
        case "imputed_share":
            kinds = [
                pollutant.kind
                for name, pollutant in estimate.pollutants.items()
                if measured is None or name in measured
            ]
            if not estimate.pollutants:
                return "no pollutant has a value"
            if not kinds:
                return "no pollutant that this station measures has a value"
            return Evidence.exact(kinds.count("imputed") / len(kinds))
        case "flagged":
            mask = sum(TESTS[name] for name in rule.tests)
            read = [p.qc_tests for p in estimate.pollutants.values() if p.n or p.raw is not None]
            read += [p.qc_tests for p in estimate.missing.values()]
            if not read:
                return "no sensor was read"
            return Evidence.exact(float(sum(bool(tests & mask) for tests in read)))
        case "frames":
            frames = estimate.inputs.frames
            if not frames:
                return "no frame was taken"
            hit = sum(
                not frame.usable and not set(rule.reasons).isdisjoint(frame.reasons) for frame in frames
            )
            return Evidence.exact(hit / len(frames))
        case "silence":
            raise ValueError("silence is told from the absence of estimates")


def block_of(rule: Rule, estimate: Estimate) -> IndexBlock | None:
    """The index block that an index rule looks at: of an alias (`us-epa`), the edition in force then."""
    assert rule.standard is not None
    edition = standards.load(rule.standard, to_ms(estimate.window.end)).id
    return next((block for block in estimate.indices if block.standard == edition), None)


def _index(rule: Rule, estimate: Estimate) -> Evidence | str:
    block = block_of(rule, estimate)
    if block is None:
        return f"{rule.standard} is not computed for this station"
    index = block.index if rule.what == "index" else block.nowcast
    if index is None:
        return f"{rule.standard} gives no {rule.what}: {block.reason or block.status}"
    if rule.what == "index" and STATUSES.index(block.status) < STATUSES.index(rule.min_status):
        return f"{rule.standard} is {index}, but {block.status}: {block.reason}"
    if rule.what == "index":
        low, high, measured = block.lo, block.hi, block.imputed_share == 0
    else:
        low, high, measured = block.nowcast_lo, block.nowcast_hi, block.nowcast_lo is None
    if rule.rests_on == "any" or (measured and (low is None or rule.rests_on == "measured")):
        return Evidence.exact(float(index))
    if rule.rests_on == "measured":
        return f"the {rule.what} rests on imputed values"
    return Evidence(
        float("-inf") if low is None else float(low),
        float(index),
        float("inf") if high is None else float(high),
    )


def _concentration(rule: Rule, estimate: Estimate) -> Evidence | str:
    assert rule.parameter in POLLUTANTS
    pollutant = estimate.pollutants.get(rule.parameter)
    if pollutant is None:
        return f"{rule.parameter} has no value"
    if rule.rests_on == "any" or pollutant.kind != "imputed":
        return Evidence.exact(pollutant.value)
    if rule.rests_on == "measured":
        return f"{rule.parameter} was imputed"
    return Evidence(
        float("-inf") if pollutant.lo is None else pollutant.lo,
        pollutant.value,
        float("inf") if pollutant.hi is None else pollutant.hi,
    )
