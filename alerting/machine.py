"""One rule at one station: from evidence, window by window, to episodes. Pure; times are ms, window ends.

An *episode* is one alert from its opening to its clearing; the window that opened it names it for ever. It is
what is true given the windows known now. What was already told to the world is compared with it elsewhere
(`alerting.station`).
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from alerting.evidence import Evidence
from alerting.rules import Rule

#: Usual spacings without data before a station is silent, where that is more than a rule's windows.
MARGIN: Final = 3
#: Usual spacings of evidence that may lie between two pieces of one stretch.
_GAP: Final = 2
#: Distances between pieces of evidence from which their usual spacing (the median) is taken.
_GAPS: Final = 5


class Entry(NamedTuple):
    """One thing that happened in an episode.

    `at`: end of the window (for silence: of the missing window) that caused it; `since`: from when the
    condition held; `level`: index into the rule's steps after it (of a clear: the step that was left).
    """

    event: Literal["open", "update", "clear"]
    at: int
    since: int
    level: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert: what happened since it opened, in order of event time."""

    entries: tuple[Entry, ...]

    @property
    def opened(self) -> int:
        """End of the window that opened it; its name."""
        return self.entries[0].at

    @property
    def active(self) -> bool:
        """Whether it is not cleared."""
        return self.entries[-1].event != "clear"


@dataclass(frozen=True, slots=True)
class RuleProgress:
    """What a rule remembers of the windows before the next one.

    `above[k]`: end of the window from which the number has been at step k or more without interruption,
    `below[k]`: from which it has been below `leave` of step k. `last`: end of the last window with evidence
    (for silence: with data). `gaps`: distances between the last pieces of evidence, oldest first.

    For silence, of the last window with data: `size`, its length; `spacing`, how far apart the station's data
    usually come then (0: as its windows).
    """

    above: tuple[int | None, ...]
    below: tuple[int | None, ...]
    last: int | None = None
    size: int = 0
    episode: Episode | None = None
    spacing: int = 0
    gaps: tuple[int, ...] = ()

    @classmethod
    def fresh(cls, rule: Rule) -> "RuleProgress":
        """Nothing seen yet."""
        nothing = (None,) * len(rule.steps)
        return cls(nothing, nothing)

    @property
    def level(self) -> int:
        """Step at which the alert is open; -1 where it is not."""
        return self.episode.entries[-1].level if self.episode else -1


def observe(
    rule: Rule, progress: RuleProgress, end: int, evidence: Evidence, size: int = 0
) -> tuple[RuleProgress, Episode | None]:
    """The progress after the window of `size` ms that ends at `end`, and the episode that it cleared, if any.

    Evidence that is more than `max_gap` apart is not one stretch, unless this rule's evidence, or a window,
    usually is that far apart: then the double is allowed. A window longer than a dwell outlasts it alone.

    Examples:
        PM2.5 above 50 ug/m3 for two minutes opens, below 40 clears:

        >>> minute, step = 60_000, {"severity": "severe", "enter": 50.0, "leave": 40.0}
        >>> rule = Rule(id="smoke", what="concentration", parameter="pm25", open_after="2m", steps=(step,))
        >>> progress = RuleProgress.fresh(rule)
        >>> for end, value in enumerate([20.0, 60.0, 70.0, 65.0]):
        ...     progress, cleared = observe(rule, progress, end * minute, Evidence.exact(value), minute)
        >>> progress.level, progress.episode.opened // minute
        (0, 3)
        >>> progress, cleared = observe(rule, progress, 4 * minute, Evidence.exact(30.0), minute)
        >>> progress.episode is None, cleared.active
        (True, False)
    """
    apart = None if progress.last is None else end - progress.last
    broken = apart is not None and apart > allowed_gap(rule, progress, size)
    above = tuple(
        _held(evidence.low >= step.enter, None if broken else since, end)
        for step, since in zip(rule.steps, progress.above, strict=True)
    )
    below = tuple(
        _held(evidence.high < step.left_below, None if broken else since, end)
        for step, since in zip(rule.steps, progress.below, strict=True)
    )
    gaps = progress.gaps if apart is None else (*progress.gaps, apart)[-_GAPS:]
    progress = replace(progress, above=above, below=below, last=end, gaps=gaps)
    level = progress.level
    reached = max(
        (k for k, since in enumerate(above) if _lasted(since, end, rule.open_after, size)), default=-1
    )
    if reached > level:
        since = above[reached]
        assert since is not None
        return _append(
            progress, Entry("update" if level >= 0 else "open", end, since, reached, evidence)
        ), None
    if level >= 0 and _lasted(below[level], end, rule.clear_after, size):
        since = below[level]
        assert since is not None
        kept = max(
            (k for k in range(level) if not _lasted(below[k], end, rule.clear_after, size)), default=-1
        )
        if kept >= 0:
            return _append(progress, Entry("update", end, since, kept, evidence)), None
        return _finish(progress, Entry("clear", end, since, level, evidence))
    return progress, None


def allowed_gap(rule: Rule, progress: RuleProgress, size: int) -> int:
    """How far apart, in ms, the next evidence may lie to go on with the stretch."""
    usual = sorted(progress.gaps)[len(progress.gaps) // 2] if progress.gaps else 0
    return max(rule.max_gap, _GAP * size, _GAP * usual)


def patience(rule: Rule, level: int, size: int, spacing: int) -> int:
    """How long, in ms, no data may come before silence reaches step `level`.

    As many windows of `size` ms as the step says. A station whose data are usually `spacing` ms apart, more
    than a window, has at least `MARGIN` of those for the first step, and in proportion for the others.
    """
    enter, first = rule.steps[level].enter, rule.steps[0].enter
    windows = int(enter) * size
    return windows if spacing <= size else max(windows, int(MARGIN * spacing * enter / first))


def hear(
    rule: Rule, progress: RuleProgress, end: int, size: int, spacing: int = 0
) -> tuple[RuleProgress, Episode | None]:
    """`observe` for silence: a window of `size` ms with data ends at `end`, after `progress.last`.

    `spacing`: how far apart the station's data usually come, as far as is known now, ms. Where that is longer
    than `clear_after`, the first data end the silence.
    """
    progress = miss(rule, progress, end)
    gap = progress.last is not None and end - progress.last > patience(
        rule, 0, progress.size, progress.spacing
    )
    resumed = end if gap or progress.below[0] is None else progress.below[0]
    progress = replace(progress, below=(resumed,) * len(rule.steps), last=end, size=size, spacing=spacing)
    if progress.episode is not None and (
        end - resumed >= rule.clear_after or max(size, spacing) > rule.clear_after
    ):
        return _finish(progress, Entry("clear", end, resumed, progress.level, Evidence.exact(0.0)))
    return progress, None


def miss(rule: Rule, progress: RuleProgress, now: int) -> RuleProgress:
    """`progress` when event time has reached `now` and nothing came: silence opens or escalates.

    A window is missing once a later one has been seen, `now` being the end of the latest. The evidence is how
    many windows were missing then.
    """
    if progress.last is None:
        return progress
    for level in range(len(rule.steps)):
        waited = patience(rule, level, progress.size, progress.spacing)
        at = progress.last + waited
        if level > progress.level and now > at:
            event: Literal["open", "update"] = "update" if progress.episode else "open"
            missing = Evidence.exact(waited / progress.size)
            progress = _append(progress, Entry(event, at, progress.last, level, missing))
    return progress


def _held(holds: bool, since: int | None, end: int) -> int | None:
    if not holds:
        return None
    return end if since is None else since


def _lasted(since: int | None, end: int, dwell: int, size: int) -> bool:
    return since is not None and (end - since >= dwell or size > dwell)


def _append(progress: RuleProgress, entry: Entry) -> RuleProgress:
    before = progress.episode.entries if progress.episode else ()
    return replace(progress, episode=Episode((*before, entry)))


def _finish(progress: RuleProgress, entry: Entry) -> tuple[RuleProgress, Episode]:
    closed = _append(progress, entry).episode
    assert closed is not None
    return replace(progress, episode=None), closed
