"""What an estimate rests on, in sentences. Pure."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from schemas.estimate import Estimate, PollutantEstimate
from schemas.parameters import LABELS
from web.documents import Sentence

_METHODS: Final = {
    "camera": "its camera, by what it has learned beside its own sensors",
    "last": "its last measurement",
    "global": "the model that was trained on other cities",
    "head": "the model alone",
    "network": "its neighbours",
    "neighbours": "its neighbours",
    "own": "its other pollutants",
    "past": "its own past",
}
#: Who may have taught a camera.
_TEACHERS: Final = {"sensor": "its own sensor", "network": "its neighbours"}
#: Of what a standard lacks it is said at the end of the list that means have to be valid.
_VALID: Final = r"(?P<valid> with a valid mean)?"
#: The most frequent reasons of an index, as `aqi` words them: code, and what stands in them.
_REASONS: Final[Mapping[str, re.Pattern[str]]] = {
    "hours": re.compile(r"(?P<measure>\w+): (?P<count>\d+) of (?P<of>\d+) hours, (?P<needed>\d+) needed"),
    "quarters": re.compile(
        r"(?P<measure>\w+): (?P<count>\d+) of (?P<of>\d+) quarter hours, (?P<needed>\d+) needed"
    ),
    "no_hour": re.compile(r"(?P<measure>\w+): no complete hour yet"),
    "no_quarter": re.compile(r"(?P<measure>\w+): no complete quarter hour yet"),
    "newest_imputed": re.compile(r"(?P<pollutant>\w+) NowCast: its newest hours are imputed"),
    "no_data": re.compile(r"no data for any pollutant of (?P<standard>[\w.-]+)"),
    "nothing_asked": re.compile(r"nothing that (?P<standard>[\w.-]+) has a table for was measured here"),
    "lacks_count": re.compile(rf"(?P<count>\d+) of at least (?P<of>\d+) pollutants{_VALID}"),
    "lacks_any": re.compile(rf"none of (?P<pollutants>\w+(?: or \w+)*){_VALID}"),
    "lacks_all": re.compile(rf"no (?P<pollutants>\w+(?: and no \w+)*){_VALID}"),
    "only_imputed": re.compile(
        r"(?P<measure>\w+): complete only with imputed values \((?P<percent>\d+)% of its input\)"
    ),
    "not_met": re.compile(r"(?P<standard>[\w.-]+) is not met: (?P<why>.+)"),
    "not_counted": re.compile(r"not counted: (?P<why>.+)"),
    "in_doubt": re.compile(r"in doubt: (?P<why>.+)"),
}
_VALUE: Final = r"(?P<subject>[\w.-]+(?: index)?) is (?P<value>-?[\d.]+)(?: (?P<unit>ug/m3))?"
_SINCE: Final = r"(?P<bound>[\d.]+)(?: ug/m3)? since (?P<at>[\d:TZ.-]+) \([^()]+\)"
_BETWEEN: Final = r" \((?P<lo>-?[\d.]+) to (?P<hi>-?[\d.]+), imputed\)"
#: Likewise of an alert, as `alerting` words it.
_ALERTS: Final[Mapping[str, re.Pattern[str]]] = {
    "above": re.compile(f"{_VALUE}, at or above {_SINCE}"),
    "above_imputed": re.compile(f"{_VALUE}{_BETWEEN}, at or above {_SINCE}"),
    "below": re.compile(f"{_VALUE}, below {_SINCE}"),
    "nodata": re.compile(r"no data for (?P<count>\d+) windows?, since (?P<at>[\d:TZ.-]+) \([^()]+\)"),
}
_NUMBERS: Final = frozenset({"value", "bound", "lo", "hi", "count"})


def sentences(estimate: Estimate) -> tuple[Sentence, ...]:
    """What an estimate rests on: its sides, who carried what was imputed, what was left out, the index."""
    return tuple(_sentences(estimate))


def _sentences(estimate: Estimate) -> Iterator[Sentence]:
    frames = estimate.inputs.frames
    usable, readings = sum(frame.usable for frame in frames), estimate.inputs.readings
    yield said(
        "window", f"The window rests on {readings} readings and on {usable} of {len(frames)} pictures.",
        readings=readings, usable=usable, pictures=len(frames),
    )  # fmt: skip
    reasons = sorted({reason for frame in frames if not frame.usable for reason in frame.reasons})
    if reasons:
        yield said("pictures", f"Pictures were left out because of: {', '.join(reasons)}.", reasons=reasons)
    for name, one in estimate.pollutants.items():
        if one.kind == "imputed":
            yield _carried(name, one)
            yield from _taught(name, one)
        for sensor, why in one.refused.items():
            text = f"{LABELS[name]}: {sensor} was left out: {why}"
            yield said("left_out", text, pollutant=name, sensor=sensor, why=why)
    for left in (estimate.drift or {}).values():
        text = f"The drift watch says: {left.reason}. Its neighbours do not listen to it."
        yield said("drift", text, why=left.reason)
    for name, lost in estimate.missing.items():
        for sensor, why in lost.refused.items():
            text = f"{LABELS[name]} is missing: {sensor} was left out: {why}"
            yield said("missing", text, pollutant=name, sensor=sensor, why=why)
    if estimate.inputs.withheld:
        count = sum(estimate.inputs.withheld.values())
        yield said("withheld", f"{count} values were declared invalid and do not count.", count=count)
    for block in estimate.indices:
        index = "no index" if block.index is None else f"index {block.index}"
        because = f": {block.reason}" if block.reason else ""
        yield Sentence(
            code="no_index" if block.index is None else "index",
            text=f"{block.standard}: {index}, {block.status}{because}",
            values={"standard": block.standard, "index": block.index, "status": block.status},
            parts=reasons_of(block.reason),
        )


def said(code: str, text: str, **values: Any) -> Sentence:
    """A sentence of a code with its values."""
    return Sentence(code=code, text=text, values=values)


def of_alert(reason: str) -> Sentence | None:
    """Why an alert is open, as `alerting` words it; None where it is not of the frequent forms."""
    for code, pattern in _ALERTS.items():
        found = pattern.fullmatch(reason)
        if found is not None:
            given = found.groupdict(default="")
            values = {name: float(one) if name in _NUMBERS else one for name, one in given.items()}
            return said(code, reason, **values)
    return None


def reasons_of(reason: str) -> tuple[Sentence, ...]:
    """The reasons of an index one by one; `other` is one that is not among the frequent ones."""
    return tuple(_reason(one) for one in reason.split("; ") if one)


def _reason(text: str) -> Sentence:
    for code, pattern in _REASONS.items():
        found = pattern.fullmatch(text)
        if found is not None:
            values: dict[str, Any] = {
                name: int(one) if one.isdigit() else one
                for name, one in found.groupdict(default="").items()
                if name != "valid"
            }
            if "pollutants" in values:
                values["pollutants"] = re.split(r" or | and no ", values["pollutants"])
            if code == "not_met":
                parts = tuple(_reason(one) for one in values["why"].split(", "))
                return Sentence(code=code, text=text, values=values, parts=parts)
            if "measure" in values:
                pollutant, _, span = str(values.pop("measure")).rpartition("_")
                values |= {"pollutant": pollutant, "span": span}
            if "percent" in values:
                values["share"] = int(values.pop("percent")) / 100
            return said(code, text, **values)
    return said("other", text)


def carriers(one: PollutantEstimate) -> tuple[tuple[float, str], ...]:
    """Who carries an imputed value: shares, the greatest first, and their names in words; empty: not told."""
    return tuple((share, _METHODS.get(name, name)) for share, name in _shares(one))


def mainly(one: PollutantEstimate) -> str:
    """Who carries most of an imputed value, and how much of it where others do, too."""
    found = carriers(one)
    if not found:
        return _METHODS.get(one.method, one.method)
    share, words = found[0]
    return words if len(found) == 1 else f"{words}, by {share:.0%}"


def main_carrier(one: PollutantEstimate) -> dict[str, Any]:
    """The same as values: who, and its share."""
    found = _shares(one)
    share, name = found[0] if found else (1.0, one.method)
    return {"method": name, "share": round(share, 3)}


def _shares(one: PollutantEstimate) -> list[tuple[float, str]]:
    return sorted(((share, name) for name, share in one.weights.items() if share > 0), reverse=True)


def _taught(name: str, one: PollutantEstimate) -> Iterator[Sentence]:
    """Who taught the camera that has a share in an imputed value."""
    for teacher, hours in one.taught_by.items():
        who = _TEACHERS.get(teacher, teacher)
        text = f"{LABELS[name]}: {who} taught its camera, in {hours} h with a picture."
        yield said(f"taught_{teacher}", text, pollutant=name, hours=hours)


def percents(shares: Sequence[float]) -> list[str]:
    """Shares that make a whole as whole per cents that do, too: the largest remainders are rounded up.

    Examples:
        >>> percents([0.755, 0.245])
        ['76%', '24%']
    """
    parts = [round(100 * share, 4) for share in shares]
    whole = [math.floor(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda place: whole[place] - parts[place])
    for place in order[: round(sum(parts)) - sum(whole)]:
        whole[place] += 1
    return [f"{part}%" for part in whole]


def _carried(name: str, one: PollutantEstimate) -> Sentence:
    begin, found = f"{LABELS[name]} was not measured", carriers(one)
    if not found:
        text = f"{begin}: {_METHODS.get(one.method, one.method)} stands in for it."
        return said("stands_in", text, pollutant=name, method=one.method)
    parts = percents([share for share, _ in found])
    words = ", ".join(f"{part} {name}" for part, (_, name) in zip(parts, found, strict=True))
    shares = {who: round(share, 3) for share, who in _shares(one)}
    if one.coverage is None:
        return said("carried", f"{begin}: {words} stand in for it.", pollutant=name, shares=shares)
    held = f"lately {one.coverage:.0%} of such intervals held"
    return said(
        "carried_held", f"{begin}: {words} stand in for it; {held}.", pollutant=name, shares=shares,
        coverage=round(one.coverage, 3),
    )  # fmt: skip
