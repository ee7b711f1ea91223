"""Why the alerts of a station are or are not open: for people who ask, by a command or on the page. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from alerting.machine import RuleProgress
from alerting.rules import AlertRules, Rule
from alerting.station import StationAlerts
from alerting.watch import Watch
from alerting.words import Explanation, explain, explain_told, state_of
from schemas.alert import Alert, Severity
from schemas.estimate import Estimate


def explain_station(
    rules: AlertRules, estimates: list[Estimate], station: str, cut: int = 0
) -> list[Explanation]:
    """For each rule of `station` why its alert is or is not open, given estimates (of all stations).

    `cut`: time in ms before which estimates were left out.
    """
    watch = Watch(rules, horizon=2**53)  # nothing is folded: whatever the store has is final anyway
    watch.feed(sorted(estimates, key=lambda one: (one.window.end, one.station)))
    state = watch.states().get(station)
    if state is None:
        return []
    last = state.windows[-1]
    return [
        explain(rule, state.progress(rule), last.evidence.get(rule.id), last.end, watch.now, cut)
        for rule in rules.of(station)
    ]


def explain_worker(
    rules: AlertRules, states: Mapping[str, StationAlerts], told: list[Alert], station: str
) -> list[Explanation]:
    """The same as the alert worker sees it: its `states`, and the newest events that it told of each alert.

    Also alerts that are open by rules which are not among `rules`.
    """
    active = {one.rule: one for one in told if one.station == station and one.event in ("open", "update")}
    state = states.get(station)
    now = max((max(one.now, one.watermark) for one in states.values()), default=0)
    explained = []
    for rule in rules.of(station):
        words = "the alert worker knows nothing of the station"
        if state is not None:
            last = state.windows[-1] if state.windows else None
            words = state_of(
                rule, state.progress(rule), last and last.evidence.get(rule.id), last and last.end, now
            )
        explained.append(explain_told(rule.id, active.pop(rule.id, None), words))
    others = "the rules here have no such rule for this station"
    return explained + [explain_told(name, one, others) for name, one in sorted(active.items())]


class PendingAlert(NamedTuple):
    """An alert that opens, or rises, at a time (ms) if what is seen now lasts."""

    rule: str
    severity: Severity
    at: int


def pending(rules: AlertRules, state: StationAlerts) -> list[PendingAlert]:
    """The alerts of a station that are on their way, the next one first."""
    found = [
        one
        for rule in rules.of(state.station)
        if rule.what != "silence" and (one := _next(rule, state.progress(rule))) is not None
    ]
    return sorted(found, key=lambda one: one.at)


def _next(rule: Rule, progress: RuleProgress) -> PendingAlert | None:
    step = progress.level + 1
    if step >= len(rule.steps) or (since := progress.above[step]) is None:
        return None
    return PendingAlert(rule.id, rule.steps[step].severity, since + rule.open_after)
