"""One rule at one station: from evidence, window by window, to episodes. Pure; times are ms, window ends.

An *episode* is one alert from its opening to its clearing; the window that opened it names it for ever. It is
what is true given the windows known now. What was already told to the world is compared with it elsewhere
(`agents.alerting.station`).
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from agents.alerting.evidence import Evidence
from agents.alerting.rules import Rule


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
class Progress:
    """What a rule remembers of the windows before the next one.

    `above[k]`: end of the window from which the number has been at step k or more without interruption,
    `below[k]`: from which it has been below `leave` of step k. `last`: end of the last window with evidence
    (for silence: with data). `size`: its length, for counting missing windows.
    """

    above: tuple[int | None, ...]
    below: tuple[int | None, ...]
    last: int | None = None
    size: int = 0
    episode: Episode | None = None

    @classmethod
    def fresh(cls, rule: Rule) -> "Progress":
        """Nothing seen yet."""
        nothing = (None,) * len(rule.steps)
        return cls(nothing, nothing)

    @property
    def level(self) -> int:
        """Step at which the alert is open; -1 where it is not."""
        return self.episode.entries[-1].level if self.episode else -1


def observe(rule: Rule, progress: Progress, end: int, evidence: Evidence) -> tuple[Progress, Episode | None]:
    """The progress after the window that ends at `end`, and the episode that it cleared, if it did."""
    broken = progress.last is not None and end - progress.last > rule.max_gap
    above = tuple(
        _held(evidence.low >= step.enter, None if broken else since, end)
        for step, since in zip(rule.steps, progress.above, strict=True)
    )
    below = tuple(
        _held(evidence.high < step.left_below, None if broken else since, end)
        for step, since in zip(rule.steps, progress.below, strict=True)
    )
    progress = replace(progress, above=above, below=below, last=end)
    level = progress.level
    reached = max((k for k, since in enumerate(above) if _lasted(since, end, rule.open_after)), default=-1)
    if reached > level:
        since = above[reached]
        assert since is not None
        return _append(
            progress, Entry("update" if level >= 0 else "open", end, since, reached, evidence)
        ), None
    if level >= 0 and _lasted(below[level], end, rule.clear_after):
        since = below[level]
        assert since is not None
        kept = max((k for k in range(level) if not _lasted(below[k], end, rule.clear_after)), default=-1)
        if kept >= 0:
            return _append(progress, Entry("update", end, since, kept, evidence)), None
        return _finish(progress, Entry("clear", end, since, level, evidence))
    return progress, None


def hear(rule: Rule, progress: Progress, end: int, size: int) -> tuple[Progress, Episode | None]:
    """`observe` for silence: a window of `size` ms with data ends at `end`, after `progress.last`."""
    progress = miss(rule, progress, end)
    gap = progress.last is not None and end - progress.last > rule.steps[0].enter * progress.size
    resumed = end if gap or progress.below[0] is None else progress.below[0]
    progress = replace(progress, below=(resumed,) * len(rule.steps), last=end, size=size)
    if progress.episode is not None and end - resumed >= rule.clear_after:
        return _finish(progress, Entry("clear", end, resumed, progress.level, Evidence.exact(0.0)))
    return progress, None


def miss(rule: Rule, progress: Progress, watermark: int) -> Progress:
    """`progress` when event time has reached `watermark` and nothing came: silence opens or escalates.

    The n-th missing window is the one that ends n sizes after the last one with data; it is missing once a
    later window has been seen, `watermark` being the end of the latest.
    """
    if progress.last is None:
        return progress
    for level, step in enumerate(rule.steps):
        at = progress.last + int(step.enter) * progress.size
        if level > progress.level and watermark > at:
            event: Literal["open", "update"] = "update" if progress.episode else "open"
            entry = Entry(event, at, progress.last, level, Evidence.exact(step.enter))
            progress = _append(progress, entry)
    return progress


def _held(holds: bool, since: int | None, end: int) -> int | None:
    if not holds:
        return None
    return end if since is None else since


def _lasted(since: int | None, end: int, dwell: int) -> bool:
    return since is not None and end - since >= dwell


def _append(progress: Progress, entry: Entry) -> Progress:
    before = progress.episode.entries if progress.episode else ()
    return replace(progress, episode=Episode((*before, entry)))


def _finish(progress: Progress, entry: Entry) -> tuple[Progress, Episode]:
    closed = _append(progress, entry).episode
    assert closed is not None
    return replace(progress, episode=None), closed
