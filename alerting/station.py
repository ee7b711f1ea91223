"""All alerts of one station: windows in, in any order and revised, events out; immutable state.

Windows that may still be revised are kept with their evidence. Whenever one arrives or changes, each rule is
run again over them from a checkpoint (`machine.RuleProgress`), and the episodes that come out are compared
with what was told before. What is told therefore never depends on the order in which windows arrived, and a
revision mends what it changes:

* an episode has grown: the new entries are told, as ``open``, ``update``, ``clear``;
* an entry that was told is different now (other numbers, other windows): one ``update``, or ``clear`` if the
  episode is over;
* an episode that was told does not exist any more: ``retract``.

An event's id is ``station/rule/end of the window that opened the alert`` and its `sequence` grows by one with
every event of that alert, so the same windows in the same order give the same events, byte for byte.
Windows further back than `horizon` are final; the checkpoint moves over them, all but the newest.

Silence alone depends on when windows came: it is judged by how often the station usually speaks, as that was
known when its last window arrived (`alerting.rhythm`).
"""

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from alerting.evidence import Evidence, foresee, weigh
from alerting.machine import Episode, RuleProgress, hear, miss, observe, patience
from alerting.rhythm import UNHEARD, Rhythm
from alerting.rules import AlertRules, Rule
from alerting.telling import Ending, PublishedAlert, over, tell
from alerting.words import withdrawn
from schemas.alert import Alert
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate
from schemas.forecast import Forecast
from schemas.times import DAY_MS, HOUR_MS

#: A station that was not heard for so long is retired: its alerts end, its state goes.
UNHEARD_MS: Final = 30 * DAY_MS
#: The same for one that was never heard often enough to know how often it speaks: a misspelt id, a test.
UNKNOWN_UNHEARD_MS: Final = DAY_MS
#: A pollutant that was not measured for so long is not measured at the station any more.
MEASURED_MS: Final = 30 * DAY_MS
#: Windows may end so long after the record that retires their station: readings stand for up to an hour.
STRAGGLE_MS: Final = 3_600_000
#: What the world knows of a rule's alerts, by their opening.
ToldOf = tuple[tuple[int, PublishedAlert], ...]


class KeptWindow(NamedTuple):
    """What is kept of a window that may still be revised. Times in ms; evidence by rule id, or why none.

    `spacing`: how far apart the station's data usually came when it arrived; `heard`: whether anything came.
    """

    end: int
    size: int
    revision: int
    evidence: Mapping[str, Evidence | str]
    spacing: int = 0
    heard: bool = True


@dataclass(frozen=True, slots=True)
class RuleState:
    """One rule: the checkpoint before the kept windows, and what was told of episodes that are not final, by
    their opening, in order. The digest of a rule that was removed is empty: only the numbers of its sequences
    are kept.
    """

    digest: str
    base: RuleProgress
    told: ToldOf = ()


@dataclass(frozen=True)
class StationAlerts:
    """The state of one station. Times in ms.

    `folded`: windows that end here or earlier are final. `watermark`: end of the latest window that had been
    seen at any station when this state was made; `now`: time that is known to have passed, which may be more
    (`Watch.pass_time`). `due`: the time above which something happens without a word of the station: silence
    opens or escalates, or the station is retired. `measured`: per pollutant the end of the last window in
    which it was measured.
    """

    station: str
    windows: tuple[KeptWindow, ...] = ()
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    folded: int = 0
    watermark: int = 0
    due: int | None = None
    now: int = 0
    rhythm: Rhythm = UNHEARD
    measured: Mapping[str, int] = field(default_factory=dict)

    def take(
        self, rules: AlertRules, estimate: Estimate, watermark: int, horizon: int, now: int = 0
    ) -> tuple["StationAlerts", list[Alert]]:
        """The state and the events after `estimate`.

        `watermark`: end of the latest window seen at any station; `horizon`: how far back windows may be
        revised, ms; `now`: time that is known to have passed. A revision that is not newer, or of a final
        window, changes nothing.
        """
        end = to_ms(estimate.window.end)
        place, known = self._place(end)
        if self._has(end, estimate.revision, watermark - horizon):
            return self, []
        watermark = max(self.watermark, watermark, end)
        now = max(self.now, now, watermark)
        size = end - to_ms(estimate.window.start)
        # A window that only stands on what others heard does not say that the station still speaks.
        heard = not 0 < estimate.inputs.standing == estimate.inputs.readings or bool(estimate.inputs.frames)
        rhythm = self.rhythm.after(end, now) if heard else self.rhythm
        measured = dict(self.measured)
        for name, pollutant in estimate.pollutants.items():
            # One whose readings all failed quality control is measured too, and missed.
            if pollutant.kind != "imputed" or pollutant.n or pollutant.raw is not None:
                measured[name] = max(end, measured.get(name, end))
        for name in estimate.missing:
            measured[name] = max(end, measured.get(name, end))
        window = KeptWindow(
            end,
            size,
            estimate.revision,
            {
                rule.id: weigh(
                    rule, estimate, [name for name, last in measured.items() if end - last <= MEASURED_MS]
                )
                for rule in rules.of(self.station)
                if rule.what != "silence" and not rule.foretells
            },
            # A revision changes what was in the window, not when it was heard.
            self.windows[place].spacing if known else max(size, rhythm.usual()),
            heard,
        )
        state = replace(
            self,
            windows=(*self.windows[:place], window, *self.windows[place + known :]),
            rhythm=rhythm,
            measured=measured,
        )
        return state._retell(rules, watermark, now, horizon, end, end)

    def foresee(
        self, rules: AlertRules, forecast: Forecast, watermark: int, horizon: int
    ) -> tuple["StationAlerts", list[Alert]]:
        """The state and the events after a forecast, of rules about what is to come; see `take`.

        It counts as the window of the hour that was the last one known.
        """
        end = to_ms(forecast.issued_at)
        if self._has(end, forecast.revision, watermark - horizon):
            return self, []
        place, known = self._place(end)
        watermark = max(self.watermark, watermark, end)
        window = KeptWindow(
            end,
            HOUR_MS,
            forecast.revision,
            {rule.id: foresee(rule, forecast) for rule in rules.of(self.station)},
        )
        state = replace(
            self,
            windows=(*self.windows[:place], window, *self.windows[place + known :]),
            rhythm=self.rhythm.after(end, watermark),
        )
        return state._retell(rules, watermark, max(self.now, watermark), horizon, end, end)

    def _place(self, end: int) -> tuple[int, bool]:
        """Where the window that ends at `end` stands among those that are kept, and whether it is there."""
        place = bisect.bisect_left(self.windows, end, key=lambda window: window.end)
        return place, place < len(self.windows) and self.windows[place].end == end

    def _has(self, end: int, revision: int, final: int) -> bool:
        """Whether a window changes nothing: it is final, or no newer revision."""
        place, known = self._place(end)
        return end <= max(self.folded, final) or (known and self.windows[place].revision >= revision)

    def advance(
        self, rules: AlertRules, watermark: int, horizon: int, now: int = 0
    ) -> tuple["StationAlerts | None", list[Alert]]:
        """The state and the events when time has reached `now` (or `watermark`) and the station said nothing.

        `watermark`: end of the latest window seen at any station. No state: the station is retired.
        """
        now = max(now, watermark)
        retires = self._retires()
        if now <= max(self.now, self.watermark):
            return self, []
        state: StationAlerts = self
        events: list[Alert] = []
        if self.rules:
            watermark = max(self.watermark, watermark)
            state, events = self._retell(
                rules, watermark, max(self.now, min(now, retires)), horizon, watermark, None
            )
        if now <= retires:
            return state, events
        reason = f"retired: nothing has been heard of it since {format_time(from_ms(self.rhythm.newest))}"
        return None, events + state._end_all(retires, reason)

    def retire(self, at: int) -> tuple["StationAlerts", list[Alert]]:
        """What is left of the state, and the events, when the station is taken out of service at `at`, ms.

        Windows that were on their way then do not bring it back.
        """
        until = at + STRAGGLE_MS
        return StationAlerts(self.station, folded=until, due=until), self._end_all(at, "retired")

    def with_rhythm(self) -> "StationAlerts":
        """This state; one of before there were cadences knows only when the station was heard last."""
        if self.rhythm.newest or not self.rules:
            return self
        ends = [window.end for window in self.windows]
        heard = max([*ends, *(state.base.last or 0 for state in self.rules.values())], default=0)
        return replace(self, rhythm=Rhythm(heard))

    def _retires(self) -> int:
        """When a station of which nothing more is heard is retired, ms."""
        if not self.rhythm.newest:
            return self.folded  # taken out of service, see `retire`
        # A state of before there were cadences, without a window, is that of a station heard long ago.
        known = self.rhythm.known or not self.windows
        return self.rhythm.newest + (UNHEARD_MS if known else UNKNOWN_UNHEARD_MS)

    def _end_all(self, at: int, reason: str) -> list[Alert]:
        """Clear every open alert."""
        return [
            event
            for name in sorted(self.rules)
            for event in self._retire(name, self.rules[name], at, reason)[1]
        ]

    def under(self, rules: AlertRules, horizon: int) -> tuple["StationAlerts", list[Alert]]:
        """The state and the events when `rules` are in force from now on.

        A change of a rule about the air waits for the station's next window. What a station that is never
        heard again needs is done at once: rules that are gone end their alerts, and silence is judged by the
        rule that there is now.
        """
        state, events = self._without(rules)
        unlike = any(
            rule.what == "silence"
            and (rule.id not in state.rules or state.rules[rule.id].digest != rule.digest)
            for rule in rules.of(self.station)
        )
        if unlike and state.windows:
            now = max(state.now, state.watermark)
            state, news = state._retell(rules, state.watermark, now, horizon, state.watermark, None)
            events += news
        return state, events

    def _without(self, rules: AlertRules) -> tuple["StationAlerts", list[Alert]]:
        current = {rule.id for rule in rules.of(self.station)}
        gone = sorted(name for name, state in self.rules.items() if name not in current and state.digest)
        if not gone:
            return self, []
        states = dict(self.rules)
        events: list[Alert] = []
        for name in gone:
            # Put back, the rule goes on with the numbers of its sequences; but on evidence of its own.
            told, ended = self._retire(name, states[name], self.watermark, withdrawn(name))
            states[name] = RuleState("", RuleProgress((), ()), told)
            events += ended
        windows = tuple(
            window._replace(evidence={k: e for k, e in window.evidence.items() if k not in gone})
            for window in self.windows
        )
        return replace(self, rules=states, windows=windows), events

    def _retire(self, name: str, state: RuleState, at: int, reason: str) -> tuple[ToldOf, list[Alert]]:
        """What the world knows, and the events that end open alerts, when a rule or the station goes."""
        told, events = [], []
        for opened, before in state.told:
            if before.entries and before.entries[-1].event != "clear":
                # Nothing ends before the last that was told of it.
                last = max(at, before.entries[-1].at)
                before = PublishedAlert(before.sequence + 1, ())
                end = Ending("clear", "info", last, reason)
                events.append(over(self.station, name, opened, before, end))
            told.append((opened, before))
        return tuple(told), events

    def active(self) -> int:
        """How many alerts are open, as far as the world was told."""
        return sum(
            bool(alert.entries) and alert.entries[-1].event != "clear"
            for state in self.rules.values()
            for _, alert in state.told
        )

    def progress(self, rule: Rule) -> RuleProgress:
        """Where `rule` stands after all windows known now."""
        state = self.rules.get(rule.id)
        base = state.base if state and state.digest == rule.digest else RuleProgress.fresh(rule)
        return _run(rule, base, self.windows, max(self.now, self.watermark))[0]

    def _retell(
        self, rules: AlertRules, watermark: int, now: int, horizon: int, cause: int, weighed: int | None
    ) -> tuple["StationAlerts", list[Alert]]:
        """`cause`: end of the window, or time, that events are put down to; `weighed`: end of the window that
        `rules` have just weighed, if any was.
        """
        events: list[Alert] = []
        states: dict[str, RuleState] = {}
        current = {rule.id: rule for rule in rules.of(self.station)}
        windows = self.windows
        for name, state in self.rules.items():
            if name in current and state.digest == current[name].digest:
                states[name] = state
                continue
            told, ended = self._retire(name, state, cause, withdrawn(name))
            events += ended
            if name not in current:
                states[name] = RuleState("", RuleProgress((), ()), told)
            else:
                # The numbers of its sequence go on; evidence that the old rule weighed is worth nothing.
                states[name] = RuleState(current[name].digest, RuleProgress.fresh(current[name]), told)
                windows = tuple(
                    window._replace(
                        evidence={
                            k: e for k, e in window.evidence.items() if k != name or window.end == weighed
                        }
                    )
                    for window in windows
                )
        folded = max(self.folded, watermark - horizon)
        # The newest window is kept: it says what the station said last, and since when it is silent.
        final = min(bisect.bisect_right([window.end for window in windows], folded), max(0, len(windows) - 1))
        settled = min(folded, self.rhythm.newest - 1)
        due = [self._retires()]
        for name in states.keys() - current.keys():
            states[name] = replace(states[name], told=_unsettled(states[name].told, settled))
        for rule in current.values():
            state = states.get(rule.id) or RuleState(rule.digest, RuleProgress.fresh(rule))
            progress, closed = _run(rule, state.base, windows, now)
            episodes = {episode.opened: episode for episode in closed}
            if progress.episode is not None:
                episodes[progress.episode.opened] = progress.episode
            known = dict(state.told)
            for opened in sorted(episodes.keys() | known.keys()):
                entries = episodes[opened].entries if opened in episodes else ()
                before = known.get(opened, PublishedAlert(-1, ()))
                for after, event in tell(self.station, rules, rule, opened, before, entries, cause):
                    known[opened] = after
                    events.append(event)
            base, _ = _run(rule, state.base, windows[:final], 0)
            states[rule.id] = RuleState(rule.digest, base, _unsettled(known.items(), settled))
            due += _due(rule, progress)
        return replace(
            self,
            windows=windows[final:],
            rules={name: state for name, state in states.items() if state.digest or state.told},
            folded=folded,
            watermark=watermark,
            now=now,
            due=min(due),
        ), events


def _run(
    rule: Rule, progress: RuleProgress, windows: tuple[KeptWindow, ...], now: int
) -> tuple[RuleProgress, list[Episode]]:
    """`rule` over `windows`, up to `now`: where it stands then, and the episodes that ended in them."""
    closed = []
    for window in windows:
        episode = None
        if rule.what == "silence":
            if not window.heard:
                continue
            progress, episode = hear(rule, progress, window.end, window.size, window.spacing)
        else:
            evidence = window.evidence.get(rule.id, "")
            if isinstance(evidence, Evidence):
                progress, episode = observe(rule, progress, window.end, evidence, window.size)
        if episode is not None:
            closed.append(episode)
    if rule.what == "silence":
        progress = miss(rule, progress, now)
    return progress, closed


def _unsettled(told: Iterable[tuple[int, PublishedAlert]], settled: int) -> ToldOf:
    """Without what a final window opened and a final window closed, which can never change again."""
    return tuple(
        (opened, after)
        for opened, after in sorted(told)
        if opened > settled
        or (after.entries and (after.entries[-1].event != "clear" or after.entries[-1].at > settled))
    )


def _due(rule: Rule, progress: RuleProgress) -> list[int]:
    """The time above which silence opens or escalates next, if it does."""
    level = progress.level + 1
    if rule.what != "silence" or progress.last is None or level >= len(rule.steps):
        return []
    return [progress.last + patience(rule, level, progress.size, progress.spacing)]
