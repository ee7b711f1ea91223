"""Alerts of what is wrong with a station itself, as the fleet's health has it: clocks, batteries … Pure.

The same machine as for rules about estimates, over another log: whatever a record says of a trouble is
evidence at the broker's time of that record, and holds until a record says otherwise. So the events are a
function of the log; what is read again after a crash tells the same ones, under the same ids.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from alerting.evidence import Evidence
from alerting.machine import Entry, Episode, RuleProgress, observe
from alerting.rules import AlertRules, Rule
from alerting.telling import Ending, PublishedAlert, over, tell
from alerting.words import withdrawn
from schemas.alert import Alert
from schemas.health import Trouble, TroubleAlert


class TroubleNews(NamedTuple):
    """Where the rules stand after a record, by id, and what is told of it."""

    alerts: dict[str, TroubleAlert]
    events: list[Alert]


def judge(
    rules: AlertRules,
    station: str,
    alerts: Mapping[str, TroubleAlert],
    said: Collection[Trouble],
    there: Collection[Trouble],
    at: int,
) -> TroubleNews:
    """Where the rules stand after a record of `station` that came to the broker at `at`, ms.

    Args:
        alerts: where they stood before, under these rules (`under`).
        said: the troubles that the record says something of.
        there: those of them that are there.

    Examples:
        >>> step = {"severity": "minor", "enter": 1}
        >>> rule = Rule(id="off", what="trouble", trouble="clock", open_after="2m", steps=(step,))
        >>> rules, alerts, clock, noon = AlertRules(rule=(rule,)), {}, ["clock"], 1_787_313_600_000
        >>> for n in range(4):
        ...     alerts, events = judge(rules, "roof", alerts, clock, clock, noon + n * 60_000)
        ...     print(n, [event.event for event in events])
        0 []
        1 []
        2 ['open']
        3 []
    """
    after, events = dict(alerts), []
    for rule in rules.of_fleet(station):
        if rule.trouble not in said:
            continue
        known = after.pop(rule.id, None)
        moment = at if known is None else max(at, known.last_ms)
        evidence = Evidence.exact(float(rule.trouble in there))
        progress, cleared = observe(rule, _progress(rule, known), moment, evidence)
        episode = cleared or progress.episode
        if episode is not None:
            told = PublishedAlert(-1, ()) if known is None or known.opened_ms is None else _told(known)
            news = tell(station, rules, rule, episode.opened, told, episode.entries, moment)
            events += [event for _, event in news]
        [above], [below] = progress.above, progress.below
        open_now = progress.episode.entries[0] if progress.episode is not None else None
        if above is not None or open_now is not None:
            after[rule.id] = TroubleAlert(
                rule=rule.id, digest=rule.digest, above_ms=above, below_ms=below, last_ms=moment,
                opened_ms=None if open_now is None else open_now.at,
                since_ms=None if open_now is None else open_now.since,
            )  # fmt: skip
    return TroubleNews(after, events)


def under(rules: AlertRules, station: str, alerts: Mapping[str, TroubleAlert]) -> TroubleNews:
    """Where the rules stand when `rules` are in force from now on: alerts of others end."""
    digests = {rule.id: rule.digest for rule in rules.of_fleet(station)}
    gone = [one for one in alerts.values() if digests.get(one.rule) != one.digest]
    kept = {name: one for name, one in alerts.items() if digests.get(name) == one.digest}
    events = [event for one in gone for event in _ended(station, one, one.last_ms, withdrawn(one.rule))]
    return TroubleNews(kept, events)


def ended(station: str, alerts: Mapping[str, TroubleAlert], at: int) -> list[Alert]:
    """What is told when a station leaves the fleet at `at`, ms: its alerts end."""
    return [event for _, one in sorted(alerts.items()) for event in _ended(station, one, at, "retired")]


def _ended(station: str, one: TroubleAlert, at: int, reason: str) -> list[Alert]:
    if one.opened_ms is None:
        return []
    end = Ending("clear", "info", max(at, one.last_ms), reason)
    return [over(station, one.rule, one.opened_ms, PublishedAlert(1, ()), end)]


def _progress(rule: Rule, known: TroubleAlert | None) -> RuleProgress:
    """The machine's state; it is told of no last evidence, since what was said of a trouble holds."""
    if known is None:
        return RuleProgress.fresh(rule)
    episode = None if known.opened_ms is None else Episode(_told(known).entries)
    return RuleProgress((known.above_ms,), (known.below_ms,), episode=episode)


def _told(known: TroubleAlert) -> PublishedAlert:
    """What the world knows of an alert that is open."""
    assert known.opened_ms is not None
    assert known.since_ms is not None
    return PublishedAlert(0, (Entry("open", known.opened_ms, known.since_ms, 0, Evidence.exact(1.0)),))
