"""What is said of an alert: the events that tell the world what it does not know of an episode yet."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from alerting.machine import Entry
from alerting.rules import AlertRules, Rule
from alerting.words import reason_of, retracted
from aqi import standards
from aqi.membership import membership
from schemas.alert import Alert, Severity, alert_id
from schemas.base import format_time, from_ms


class PublishedAlert(NamedTuple):
    """What the world knows of one alert. `entries` is empty after a retraction."""

    sequence: int
    entries: tuple[Entry, ...]


def tell(
    station: str,
    rules: AlertRules,
    rule: Rule,
    opened: int,
    told: PublishedAlert,
    entries: tuple[Entry, ...],
    cause: int,
) -> Iterator[tuple[PublishedAlert, Alert]]:
    """What has to be said so that the world, which was told `told`, knows `entries`."""
    if entries == told.entries:
        return
    if not entries:
        severity = rule.steps[told.entries[-1].level].severity
        last = max(cause, told.entries[-1].at)
        told = PublishedAlert(told.sequence + 1, ())
        yield told, over(station, rule.id, opened, told, Ending("retract", severity, last, retracted()))
        return
    if entries[: len(told.entries)] == told.entries:
        for count in range(len(told.entries) + 1, len(entries) + 1):
            told = PublishedAlert(told.sequence + 1, entries[:count])
            yield told, _event(station, rules, rule, opened, told, revised=False)
        return
    told = PublishedAlert(told.sequence + 1, entries)
    yield told, _event(station, rules, rule, opened, told, revised=True)


class Ending(NamedTuple):
    """How an alert ends that no evidence cleared, and when (ms)."""

    event: Literal["clear", "retract"]
    severity: Severity
    at: int
    reason: str


def over(station: str, rule: str, opened: int, told: PublishedAlert, end: Ending) -> Alert:
    """The end of an alert that no evidence cleared."""
    id = alert_id(station, rule, from_ms(opened))
    return Alert(
        id=id, sequence=told.sequence, supersedes=_superseded(id, told.sequence), event=end.event,
        station=station, rule=rule, severity=end.severity, at=from_ms(end.at), since=from_ms(opened),
        reason=end.reason,
    )  # fmt: skip


def _event(
    station: str, rules: AlertRules, rule: Rule, opened: int, told: PublishedAlert, *, revised: bool
) -> Alert:
    """The newest of `told.entries` as an event."""
    entry, sequence = told.entries[-1], told.sequence
    lowered = len(told.entries) > 1 and entry.level < told.entries[-2].level
    step = rule.steps[entry.level]
    id = alert_id(station, rule.id, from_ms(opened))
    values = {"value": entry.evidence.value, "enter": step.enter}
    if rule.what != "silence":
        values["leave"] = step.left_below
    for name in ("low", "high"):
        bound = getattr(entry.evidence, name)
        if bound != entry.evidence.value and abs(bound) != float("inf"):
            values[name] = bound
    shares = {}
    if rule.what in ("index", "nowcast", "forecast_index"):
        assert rule.standard is not None
        shares = membership(standards.load(rule.standard, entry.at), entry.evidence.value)
    at = from_ms(entry.at)
    filling = {"station": station, "rule": rule.id, "at": format_time(at)}
    return Alert(
        id=id,
        sequence=sequence,
        supersedes=_superseded(id, sequence),
        event="update" if revised and entry.event == "open" else entry.event,
        station=station,
        rule=rule.id,
        severity=step.severity,
        at=at,
        since=from_ms(entry.since),
        reason=reason_of(rule, entry, lowered=lowered, revised=revised),
        values=values,
        membership=shares,
        links={name: template.format(**filling) for name, template in rules.links.items()},
    )


def _superseded(id: str, sequence: int) -> str | None:
    return f"{id}/{sequence - 1}" if sequence else None
