"""Why the alerts of a station are or are not open: for people who ask, by a command or on the page. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from alerting.machine import RuleProgress
from alerting.rules import AlertRules, Rule
from alerting.station import StationAlerts
from alerting.stored import FORESEEN
from alerting.watch import Watch
from alerting.words import UNFORESEEN, Explanation, explain, explain_told, state_of
from schemas.alert import Alert, Severity
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.forecast import Forecast

#: Of rules about what is wrong with a station itself.
_WATCHED: Final = "the fleet is watched for it (skyfuse fleet)"


def explain_station(
    rules: AlertRules,
    estimates: list[Estimate],
    station: str,
    cut: int = 0,
    forecasts: Sequence[Forecast] = (),
) -> list[Explanation]:
    """For each rule of `station` why its alert is or is not open, given estimates (of all stations).

    `cut`: time in ms before which estimates were left out; `forecasts`: of `station`, in order.
    """
    # Nothing is folded: whatever the store has is final anyway.
    watch, ahead = Watch(rules.on_estimates, horizon=2**53), Watch(rules.on_forecasts, horizon=2**53)
    watch.feed(sorted(estimates, key=lambda one: (one.window.end, one.station)))
    ahead.foresee(forecasts)
    if station not in watch.states() and not forecasts:
        return []
    explained = []
    for rule in rules.of(station):
        of = ahead if rule.foretells else watch
        state = of.states().get(station) or StationAlerts(station)
        last = state.windows[-1] if state.windows else None
        began = to_ms(forecasts[0].issued_at) if rule.foretells and forecasts else cut
        explained.append(
            explain(
                rule, state.progress(rule), last and last.evidence.get(rule.id), last and last.end, of.now,
                began,
            )
        )  # fmt: skip
    others = f"not told by estimates: {_WATCHED}"
    return explained + [Explanation(rule.id, False, "", others) for rule in rules.of_fleet(station)]


def explain_worker(
    rules: AlertRules, states: Mapping[str, StationAlerts], told: list[Alert], station: str
) -> list[Explanation]:
    """The same as the alert worker sees it: its `states`, and the newest events that it told of each alert.

    Also alerts that are open by rules which are not among `rules`.
    """
    active = {one.rule: one for one in told if one.station == station and one.event in ("open", "update")}
    now = max((max(one.now, one.watermark) for one in states.values()), default=0)
    explained = []
    for rule in rules.of(station):
        state = states.get(FORESEEN + station if rule.foretells else station)
        words = UNFORESEEN if rule.foretells else "the alert worker knows nothing of the station"
        if state is not None:
            last = state.windows[-1] if state.windows else None
            words = state_of(
                rule, state.progress(rule), last and last.evidence.get(rule.id), last and last.end, now
            )
        explained.append(explain_told(rule.id, active.pop(rule.id, None), words))
    explained += [
        explain_told(rule.id, active.pop(rule.id, None), _WATCHED) for rule in rules.of_fleet(station)
    ]
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
