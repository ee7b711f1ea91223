"""Alerts in words, with the numbers: the reason of an event, and why an alert is or is not open now."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from alerting.evidence import Evidence
from alerting.machine import Entry, RuleProgress, patience
from alerting.rules import KINDS, Rule
from schemas.alert import Alert
from schemas.base import format_time, from_ms
from schemas.health import Trouble
from schemas.times import HOUR_MS

#: Of a station of which nothing was foretold.
UNFORESEEN: Final = "no forecast has been seen"
#: A trouble that is there, and one that is gone.
_TROUBLES: Final[Mapping[Trouble, tuple[str, str]]] = {
    "clock": ("its clock is off, or its way here long", "its clock is right again"),
    "battery": ("its battery is low", "its battery is charged again"),
    "two_addresses": ("two addresses send for it in turns", "one address sends for it again"),
    "camera": ("a camera of it gives nothing, or nothing new", "its cameras give pictures again"),
    "payload": ("nothing of what it sends can be used", "what it sends can be used again"),
    "pull": ("an address that is asked for it gives nothing", "the addresses asked for it answer again"),
}


def subject(rule: Rule) -> str:
    """What the rule looks at."""
    match rule.what:
        case "index":
            return f"{rule.standard} index"
        case "nowcast":
            return f"{rule.standard} NowCast"
        case "concentration":
            return str(rule.parameter)
        case "imputed_share":
            return "share of pollutants imputed"
        case "flagged":
            return f"number of pollutants that fail {' or '.join(rule.tests)}"
        case "drift":
            return "how far a sensor is off its neighbours"
        case "frames":
            return f"share of frames unusable ({', '.join(rule.reasons)})"
        case "silence":
            return "windows without data"
        case "forecast" | "forecast_index":
            what = str(rule.parameter) if rule.what == "forecast" else f"{rule.standard} index"
            return (
                f"{what} that an hour of the next {rule.within // HOUR_MS} reaches with a probability of"
                f" {_short(100 * rule.probability)} %"
            )
        case "trouble":
            assert rule.trouble is not None
            return _TROUBLES[rule.trouble][0]


def number(rule: Rule, value: float) -> str:
    """A number of the rule with its unit. Shares are 0 to 1 in rules and events; people read per cent."""
    unit = KINDS[rule.what].unit
    return " ".join([_short(100 * value if unit == "%" else value), unit]).rstrip()


def _short(value: float) -> str:
    """Up to two decimals, and no power of ten."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def seen(rule: Rule, evidence: Evidence) -> str:
    """The evidence with its interval, where it is one."""
    if evidence.low == evidence.value == evidence.high:
        return number(rule, evidence.value)
    if evidence.low == float("-inf"):
        return f"{number(rule, evidence.value)} (imputed, nothing is sure)"
    if evidence.high == evidence.value or evidence.high == float("inf"):
        return f"{number(rule, evidence.value)} (surely {number(rule, evidence.low)} or more)"
    return f"{number(rule, evidence.value)} ({_short(evidence.low)} to {_short(evidence.high)}, imputed)"


def _windows(number: float) -> str:
    """1 window, 2 windows."""
    return "1 window" if round(number) == 1 else f"{number:.0f} windows"


def lasting(ms: int) -> str:
    """A length of time: 90 s, 15 min, 2 h 30 min, 3 d 4 h, 20 d, 4 y."""
    seconds = ms // 1000
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    if days < 14:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{days} d" if days < 730 else f"{days // 365.25:.0f} y"


def reason_of(rule: Rule, entry: Entry, *, lowered: bool, revised: bool) -> str:
    """Why an event happened. `lowered`: the severity fell; `revised`: late data changed what was told."""
    step = rule.steps[entry.level]
    since = f"since {format_time(from_ms(entry.since))} ({lasting(entry.at - entry.since)})"
    after = "after late data: " if revised else ""
    if rule.what == "silence":
        if entry.event == "clear":
            return f"{after}data has been coming again {since}"
        return f"{after}no data for {_windows(entry.evidence.value)}, {since}"
    if rule.what == "trouble":
        assert rule.trouble is not None
        return f"{_TROUBLES[rule.trouble][entry.event == 'clear']} {since} (skyfuse fleet)"
    what = f"{subject(rule)} is {seen(rule, entry.evidence)}"
    if entry.event == "clear":
        return f"{after}{what}, below {number(rule, step.left_below)} {since}"
    if lowered:
        bound = number(rule, rule.steps[entry.level + 1].left_below)
        return f"{after}{what}, below {bound} {since}: {step.severity} now"
    return f"{after}{what}, at or above {number(rule, step.enter)} {since}"


def retracted() -> str:
    """Why an alert is withdrawn."""
    return "withdrawn: late data changed the windows this alert rested on, and they do not open it any more"


def withdrawn(rule: str) -> str:
    """Why the alert of a rule that is no more is withdrawn."""
    return f"withdrawn: the rule {rule} was changed or removed"


class Explanation(NamedTuple):
    """Why the alert of a rule is or is not open."""

    rule: str
    open: bool
    severity: str
    text: str


def explain(
    rule: Rule, progress: RuleProgress, latest: Evidence | str | None, end: int | None, now: int, cut: int = 0
) -> Explanation:
    """The state of `rule` in words.

    `latest`, `end`: evidence and end of the last window; `now`: end of the latest window anywhere; `cut`:
    time before which no window was looked at (ms).
    """
    level = progress.level
    severity = rule.steps[level].severity if level >= 0 else ""
    text = state_of(rule, progress, latest, end, now)
    if progress.episode is not None:
        # What held from the first windows on may have held before them.
        uncertain = rule.what != "silence" and progress.episode.entries[0].since - cut <= rule.max_gap
        earlier = " or earlier" if uncertain else ""
        since = format_time(from_ms(progress.episode.entries[-1].since))
        text = f"open since {since}{earlier}, {severity}: {text}"
    else:
        text = f"not open: {text}"
    return Explanation(rule.id, level >= 0, severity, text)


def explain_told(rule: str, told: Alert | None, state: str) -> Explanation:
    """An alert as the world was told of it (None: it is not open), and in words how things are now."""
    if told is None:
        return Explanation(rule, False, "", f"not open: {state}")
    text = f"open since {format_time(told.since)}, {told.severity}: {told.reason}. Now: {state}"
    return Explanation(rule, True, told.severity, text)


def state_of(
    rule: Rule, progress: RuleProgress, latest: Evidence | str | None, end: int | None, now: int
) -> str:
    """What the rule looks at is, and what happens next; see `explain`."""
    if rule.what == "silence":
        return _silence(rule, progress, now)
    if end is None:
        return UNFORESEEN if rule.foretells else "no window has been seen"
    return _threshold(rule, progress, latest, end)


def _for(dwell: int) -> str:
    return f" for {lasting(dwell)}" if dwell else ""


def _silence(rule: Rule, progress: RuleProgress, now: int) -> str:
    if progress.last is None:
        return "no window has been seen"
    # The newest window anywhere may be on its way here still: it is not missing yet.
    missing = max(0, (now - progress.last) // progress.size - 1)
    last = format_time(from_ms(progress.last))
    text = f"no data for {_windows(missing)}, the last is of {last}" if missing else f"data come, last {last}"
    if progress.spacing > progress.size:
        text += f", usually every {lasting(progress.spacing)}"
    if progress.level + 1 < len(rule.steps):
        waited = patience(rule, progress.level + 1, progress.size, progress.spacing)
        severity = rule.steps[progress.level + 1].severity
        text += f"; {severity} after {_windows(waited / progress.size)} without data"
    if progress.episode is not None:
        first = not rule.clear_after or max(progress.size, progress.spacing) > rule.clear_after
        back = "with the first data" if first else f"{lasting(rule.clear_after)} after data came back"
        text += f"; clears {back}"
    return text


def _threshold(rule: Rule, progress: RuleProgress, latest: Evidence | str | None, end: int) -> str:
    if not isinstance(latest, Evidence):
        said = "forecast" if rule.foretells else "window"
        text = f"the last {said} says nothing: {latest or 'the rule is new'}"
        if progress.last is not None:
            text += f"; the last evidence is of {format_time(from_ms(progress.last))}"
        return text
    parts = [f"{subject(rule)} is {seen(rule, latest)}"]
    level = progress.level
    if level + 1 < len(rule.steps):
        step = rule.steps[level + 1]
        since = progress.above[level + 1]
        if since is None:
            needs = "needs its lower end at" if latest.low < latest.value else "needs"
            parts.append(f"{step.severity} {needs} {number(rule, step.enter)} or more{_for(rule.open_after)}")
        else:
            left = rule.open_after - (end - since)
            parts.append(
                f"at or above {number(rule, step.enter)} since {format_time(from_ms(since))};"
                f" {step.severity} in {lasting(left)} if it lasts"
            )
    if level >= 0:
        step = rule.steps[level]
        since = progress.below[level]
        if since is None:
            whole = "its upper end is " if latest.high > latest.value else ""
            parts.append(f"clears once {whole}below {number(rule, step.left_below)}{_for(rule.clear_after)}")
        else:
            left = rule.clear_after - (end - since)
            parts.append(
                f"below {number(rule, step.left_below)} since {format_time(from_ms(since))};"
                f" clears in {lasting(left)} if it lasts"
            )
    return "; ".join(parts)
