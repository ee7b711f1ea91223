"""All alerts of one station: windows in, in any order and revised, events out; immutable state.

Windows that may still be revised are kept with their evidence. Whenever one arrives or changes, each rule is
run again over them from a checkpoint (`machine.Progress`), and the episodes that come out are compared with
what was told before. What is told therefore never depends on the order in which windows arrived, and a
revision mends what it changes:

* an episode has grown: the new entries are told, as ``open``, ``update``, ``clear``;
* an entry that was told is different now (other numbers, other windows): one ``update``, or ``clear`` if the
  episode is over;
* an episode that was told does not exist any more: ``retract``.

An event's id is ``station/rule/end of the window that opened the alert`` and its `sequence` grows by one with
every event of that alert, so the same windows in the same order give the same events, byte for byte.
Windows further back than `horizon` are final; the checkpoint moves over them.
"""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from agents.alerting.evidence import Evidence, weigh
from agents.alerting.machine import Entry, Episode, Progress, hear, miss, observe
from agents.alerting.membership import membership
from agents.alerting.rules import Rule, Rules
from agents.alerting.words import reason_of, retired, retracted
from aqi import standards
from schemas.alert import Alert, Severity
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate


class Window(NamedTuple):
    """What is kept of a window that may still be revised. Times in ms; evidence by rule id, or why none."""

    end: int
    size: int
    revision: int
    evidence: Mapping[str, Evidence | str]


class Told(NamedTuple):
    """What the world knows of one alert. `entries` is empty after a retraction."""

    sequence: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class RuleState:
    """One rule: the checkpoint before the kept windows, and what was told of episodes that are not final, by
    their opening, in order.
    """

    digest: str
    base: Progress
    told: tuple[tuple[int, Told], ...] = ()


@dataclass(frozen=True)
class StationAlerts:
    """The state of one station. Times in ms.

    `folded`: windows that end here or earlier are final. `watermark`: end of the latest window that had been
    seen at any station when this state was made. `due`: the watermark above which silence opens or escalates.
    """

    station: str
    windows: tuple[Window, ...] = ()
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    folded: int = 0
    watermark: int = 0
    due: int | None = None

    def take(
        self, rules: Rules, estimate: Estimate, watermark: int, horizon: int
    ) -> tuple["StationAlerts", list[Alert]]:
        """The state and the events after `estimate`.

        `watermark`: end of the latest window seen at any station; `horizon`: how far back windows may be
        revised, ms. A revision that is not newer, or of a final window, changes nothing.
        """
        end = to_ms(estimate.window.end)
        ends = [window.end for window in self.windows]
        place = bisect.bisect_left(ends, end)
        known = place < len(ends) and ends[place] == end
        final = max(self.folded, watermark - horizon)
        if end <= final or (known and self.windows[place].revision >= estimate.revision):
            return self, []
        window = Window(
            end,
            end - to_ms(estimate.window.start),
            estimate.revision,
            {rule.id: weigh(rule, estimate) for rule in rules.of(self.station) if rule.what != "silence"},
        )
        state = replace(self, windows=(*self.windows[:place], window, *self.windows[place + known :]))
        return state._retell(rules, max(self.watermark, watermark, end), horizon, end)

    def advance(self, rules: Rules, watermark: int, horizon: int) -> tuple["StationAlerts", list[Alert]]:
        """The state and the events when the latest window seen at any station ends at `watermark`."""
        if watermark <= self.watermark:
            return self, []
        return self._retell(rules, watermark, horizon, watermark)

    def without(self, rules: Rules) -> tuple["StationAlerts", list[Alert]]:
        """The state and the events when rules that `rules` has no more for this station are gone.

        Unlike a change of a rule, which waits for the station's next window, this needs none: alerts of a
        rule that was removed would stay open for ever at a station that is never heard again.
        """
        current = {rule.id for rule in rules.of(self.station)}
        gone = sorted(self.rules.keys() - current)
        if not gone:
            return self, []
        events = [event for name in gone for event in self._retire(name, self.rules[name], self.watermark)[1]]
        return replace(self, rules={k: state for k, state in self.rules.items() if k in current}), events

    def _retire(
        self, name: str, state: RuleState, at: int
    ) -> tuple[tuple[tuple[int, Told], ...], list[Alert]]:
        """What the world knows, and the events that end open alerts, when a rule was changed or removed."""
        told, events = [], []
        for opened, before in state.told:
            if before.entries and before.entries[-1].event != "clear":
                before = Told(before.sequence + 1, ())
                events.append(self._over("clear", name, opened, before, "info", at, retired(name)))
            told.append((opened, before))
        return tuple(told), events

    def active(self) -> int:
        """How many alerts are open, as far as the world was told."""
        return sum(
            bool(told.entries) and told.entries[-1].event != "clear"
            for state in self.rules.values()
            for _, told in state.told
        )

    def progress(self, rule: Rule) -> Progress:
        """Where `rule` stands after all windows known now."""
        state = self.rules.get(rule.id)
        base = state.base if state and state.digest == rule.digest else Progress.fresh(rule)
        return _run(rule, base, self.windows, self.watermark)[0]

    def _retell(
        self, rules: Rules, watermark: int, horizon: int, cause: int
    ) -> tuple["StationAlerts", list[Alert]]:
        events: list[Alert] = []
        states: dict[str, RuleState] = {}
        current = {rule.id: rule for rule in rules.of(self.station)}
        windows = self.windows
        for name, state in self.rules.items():
            if name in current and state.digest == current[name].digest:
                states[name] = state
                continue
            told, ended = self._retire(name, state, cause)
            events += ended
            if name in current:
                # The numbers of its sequence go on; evidence that the old rule weighed is worth nothing.
                states[name] = RuleState(current[name].digest, Progress.fresh(current[name]), told)
                windows = tuple(
                    window._replace(
                        evidence={
                            k: e for k, e in window.evidence.items() if k != name or window.end == cause
                        }
                    )
                    for window in windows
                )
        folded = max(self.folded, watermark - horizon)
        final = bisect.bisect_right([window.end for window in windows], folded)
        due = []
        for rule in current.values():
            state = states.get(rule.id) or RuleState(rule.digest, Progress.fresh(rule))
            progress, closed = _run(rule, state.base, windows, watermark)
            episodes = {episode.opened: episode for episode in closed}
            if progress.episode is not None:
                episodes[progress.episode.opened] = progress.episode
            known = dict(state.told)
            for opened in sorted(episodes.keys() | known.keys()):
                entries = episodes[opened].entries if opened in episodes else ()
                for after, event in self._tell(
                    rules, rule, opened, known.get(opened, Told(-1, ())), entries, cause
                ):
                    known[opened] = after
                    events.append(event)
            # What a final window opened and a final window closed can never change again.
            kept = tuple(
                (opened, after)
                for opened, after in sorted(known.items())
                if opened > folded
                or (after.entries and (after.entries[-1].event != "clear" or after.entries[-1].at > folded))
            )
            base, _ = _run(rule, state.base, windows[:final], 0)
            states[rule.id] = RuleState(rule.digest, base, kept)
            due.append(_due(rule, progress))
        return StationAlerts(
            self.station,
            windows[final:],
            states,
            folded,
            watermark,
            min((one for one in due if one is not None), default=None),
        ), events

    def _tell(
        self, rules: Rules, rule: Rule, opened: int, told: Told, entries: tuple[Entry, ...], cause: int
    ) -> Iterator[tuple[Told, Alert]]:
        """What has to be said so that the world, which was told `told`, knows `entries`."""
        if entries == told.entries:
            return
        if not entries:
            severity = rule.steps[told.entries[-1].level].severity
            told = Told(told.sequence + 1, ())
            yield told, self._over("retract", rule.id, opened, told, severity, cause, retracted())
            return
        if entries[: len(told.entries)] == told.entries:
            for count in range(len(told.entries) + 1, len(entries) + 1):
                told = Told(told.sequence + 1, entries[:count])
                yield told, self._event(rules, rule, opened, told, revised=False)
            return
        told = Told(told.sequence + 1, entries)
        yield told, self._event(rules, rule, opened, told, revised=True)

    def _over(
        self,
        event: Literal["clear", "retract"],
        rule: str,
        opened: int,
        told: Told,
        severity: Severity,
        at: int,
        reason: str,
    ) -> Alert:
        """The end of an alert that no evidence cleared."""
        id = _id(self.station, rule, opened)
        return Alert(
            id=id, sequence=told.sequence, supersedes=_superseded(id, told.sequence), event=event,
            station=self.station, rule=rule, severity=severity, at=from_ms(at), since=from_ms(opened),
            reason=reason,
        )  # fmt: skip

    def _event(self, rules: Rules, rule: Rule, opened: int, told: Told, *, revised: bool) -> Alert:
        """The newest of `told.entries` as an event."""
        entry, sequence = told.entries[-1], told.sequence
        lowered = len(told.entries) > 1 and entry.level < told.entries[-2].level
        step = rule.steps[entry.level]
        id = _id(self.station, rule.id, opened)
        values = {"value": entry.evidence.value, "enter": step.enter}
        if rule.what != "silence":
            values["leave"] = step.left_below
        for name in ("low", "high"):
            bound = getattr(entry.evidence, name)
            if bound != entry.evidence.value and abs(bound) != float("inf"):
                values[name] = bound
        shares = {}
        if rule.what in ("index", "nowcast"):
            assert rule.standard is not None
            shares = membership(standards.load(rule.standard, entry.at), entry.evidence.value)
        at = from_ms(entry.at)
        filling = {"station": self.station, "rule": rule.id, "at": format_time(at)}
        return Alert(
            id=id,
            sequence=sequence,
            supersedes=_superseded(id, sequence),
            event="update" if revised and entry.event == "open" else entry.event,
            station=self.station,
            rule=rule.id,
            severity=step.severity,
            at=at,
            since=from_ms(entry.since),
            reason=reason_of(rule, entry, lowered=lowered, revised=revised),
            values=values,
            membership=shares,
            links={name: template.format(**filling) for name, template in rules.links.items()},
        )


def _run(
    rule: Rule, progress: Progress, windows: tuple[Window, ...], watermark: int
) -> tuple[Progress, list[Episode]]:
    """`rule` over `windows`: where it stands then, and the episodes that ended in them."""
    closed = []
    for window in windows:
        episode = None
        if rule.what == "silence":
            progress, episode = hear(rule, progress, window.end, window.size)
        else:
            evidence = window.evidence.get(rule.id, "")
            if isinstance(evidence, Evidence):
                progress, episode = observe(rule, progress, window.end, evidence)
        if episode is not None:
            closed.append(episode)
    if rule.what == "silence":
        progress = miss(rule, progress, watermark)
    return progress, closed


def _id(station: str, rule: str, opened: int) -> str:
    return f"{station}/{rule}/{format_time(from_ms(opened))}"


def _superseded(id: str, sequence: int) -> str | None:
    return f"{id}/{sequence - 1}" if sequence else None


def _due(rule: Rule, progress: Progress) -> int | None:
    """The watermark above which silence opens or escalates next."""
    if rule.what != "silence" or progress.last is None or progress.level + 1 >= len(rule.steps):
        return None
    return progress.last + int(rule.steps[progress.level + 1].enter) * progress.size
