"""What an estimate rests on, in sentences. Pure."""

from typing import Final

from schemas.estimate import Estimate, PollutantEstimate
from schemas.parameters import LABELS

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


def sentences(estimate: Estimate) -> tuple[str, ...]:
    """What an estimate rests on: its sides, who carried what was imputed, what was left out, the index."""
    told = []
    frames = estimate.inputs.frames
    usable = sum(frame.usable for frame in frames)
    told.append(
        f"The window rests on {estimate.inputs.readings} readings and on {usable} of {len(frames)} pictures."
    )
    reasons = sorted({reason for frame in frames if not frame.usable for reason in frame.reasons})
    if reasons:
        told.append(f"Pictures were left out because of: {', '.join(reasons)}.")
    for name, one in estimate.pollutants.items():
        if one.kind == "imputed":
            told.append(f"{LABELS[name]} was not measured: {_carried(one)}.")
        for sensor, why in one.refused.items():
            told.append(f"{LABELS[name]}: {sensor} was left out: {why}")
    told.extend(
        f"The drift watch says: {left.reason}. Its neighbours do not listen to it."
        for left in (estimate.drift or {}).values()
    )
    for name, lost in estimate.missing.items():
        for sensor, why in lost.refused.items():
            told.append(f"{LABELS[name]} is missing: {sensor} was left out: {why}")
    if estimate.inputs.withheld:
        count = sum(estimate.inputs.withheld.values())
        told.append(f"{count} values were declared invalid and do not count.")
    for block in estimate.indices:
        index = "no index" if block.index is None else f"index {block.index}"
        because = f": {block.reason}" if block.reason else ""
        told.append(f"{block.standard}: {index}, {block.status}{because}")
    return tuple(told)


def carriers(one: PollutantEstimate) -> tuple[tuple[float, str], ...]:
    """Who carries an imputed value: shares, the greatest first, and their names in words; empty: not told."""
    shares = sorted(((share, name) for name, share in one.weights.items() if share > 0), reverse=True)
    return tuple((share, _METHODS.get(name, name)) for share, name in shares)


def mainly(one: PollutantEstimate) -> str:
    """Who carries most of an imputed value, and how much of it where others do, too."""
    found = carriers(one)
    if not found:
        return _METHODS.get(one.method, one.method)
    share, words = found[0]
    return words if len(found) == 1 else f"{words}, by {share:.0%}"


def _carried(one: PollutantEstimate) -> str:
    found = carriers(one)
    if not found:
        return f"{_METHODS.get(one.method, one.method)} stands in for it"
    words = ", ".join(f"{share:.0%} {name}" for share, name in found)
    held = "" if one.coverage is None else f"; lately {one.coverage:.0%} of such intervals held"
    return f"{words} stand in for it{held}"
