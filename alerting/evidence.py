"""What one window, or forecast, says about one rule: an interval of the rule's number, or why nothing."""

from collections.abc import Collection
from typing import NamedTuple

from alerting.rules import KINDS, STATUSES, Rule
from aqi import standards
from aqi.flags import TESTS
from schemas.base import to_ms
from schemas.estimate import Estimate, IndexBlock
from schemas.forecast import Forecast
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS


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
        case "drift":
            if estimate.drift is None:
                return "no region watches its sensors"
            shares = [1.0 if one.kind == "stuck" else abs(one.share) for one in estimate.drift.values()]
            return Evidence.exact(max(shares, default=0.0))
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
        case "forecast" | "forecast_index":
            raise ValueError("what is to come is told from forecasts")
        case "trouble":
            raise ValueError("troubles are told from the fleet's health")


def foresee(rule: Rule, forecast: Forecast) -> Evidence | str:
    """The evidence in a forecast for a rule about what is to come, or in words why there is none.

    It is the highest value that one of the next hours, `rule.within`, reaches with `rule.probability`: of
    each hour the quantile of level 1 - p. That some hour reaches it is at least as probable.
    """
    hours = rule.within // HOUR_MS
    if rule.what == "forecast":
        assert rule.parameter in POLLUTANTS
        one = forecast.pollutants.get(rule.parameter)
        if one is None:
            return f"{rule.parameter} is not foretold at this station"
        if one.imputed_share >= 1:
            return f"{rule.parameter} was not measured in the last 24 hours: what is foretold is a guess"
        return Evidence.exact(max(one.quantiles[KINDS[rule.what].chances.index(rule.probability)][:hours]))
    edition = _edition(rule, to_ms(forecast.issued_at))
    block = next((one for one in forecast.indices if one.standard == edition), None)
    if block is None:
        return f"{rule.standard} is not foretold for this station"
    if all(one.imputed_share >= 1 for one in forecast.pollutants.values()):
        return "no pollutant was measured in the last 24 hours: what is foretold is a guess"
    by_chance = (block.lo, block.index, block.hi)
    said = by_chance[KINDS[rule.what].chances.index(rule.probability)][:hours]
    highest = max((one for one in said if one is not None), default=None)
    return f"{rule.standard} gives no index" if highest is None else Evidence.exact(float(highest))


def block_of(rule: Rule, estimate: Estimate) -> IndexBlock | None:
    """The index block that an index rule looks at: of an alias (`us-epa`), the edition in force then."""
    edition = _edition(rule, to_ms(estimate.window.end))
    return next((block for block in estimate.indices if block.standard == edition), None)


def _edition(rule: Rule, at: int) -> str:
    """The edition of the rule's standard that is in force at a time, ms."""
    assert rule.standard is not None
    return standards.load(rule.standard, at).id


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
